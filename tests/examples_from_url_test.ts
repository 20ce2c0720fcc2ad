/**
 * What docs/learn.md says of the ladder: each stage is one file that imports nothing but `mod.ts`, so
 * it also runs from a URL.
 */
import { assertEquals, assertMatch } from "@std/assert";
import {
  exchange,
  HELLO,
  portOf,
  type Program,
  readAll,
  ROOT,
  scratch,
  serveRepository,
  start,
  within,
} from "./support.ts";

interface Stage {
  readonly args?: string[];
  /** Whether it needs all permissions, not `--allow-ffi` only. */
  readonly all?: boolean;
  /** What shows that it works. */
  works(program: Program): Promise<void>;
}

/** A program that runs to its end. */
function printing(pattern: RegExp, ...args: string[]): Stage {
  return {
    args,
    async works(program) {
      assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
      assertMatch(program.stdout, pattern);
    },
  };
}

/** A server that answers and closes. */
function answering(
  reply: RegExp,
  args = ["0"],
  request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
): Stage {
  return {
    args,
    async works(program) {
      assertMatch(await exchange(await portOf(program), request), reply);
    },
  };
}

/** A server that echoes until its client closes the connection. */
const ECHO: Stage = {
  args: ["0"],
  async works(program) {
    using connection = await Deno.connect({ port: await portOf(program) });
    await connection.write(new TextEncoder().encode("hello"));
    await connection.closeWrite();
    assertEquals(await within(readAll(connection), 15_000, "the echo"), "hello");
  },
};

const LEAK: Stage = {
  args: ["0"],
  async works(program) { // it never closes
    using connection = await Deno.connect({ port: await portOf(program) });
    await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
    const reply = new Uint8Array(HELLO.length);
    await within(connection.read(reply), 15_000, "the reply");
    assertEquals(new TextDecoder().decode(reply), HELLO);
  },
};

const ARTICLE = answering(/^HTTP\/1\.1 200 OK\n\nHello, World!\n$/);
const SHORT_SLEEP = answering(/Hello, World!\n$/, ["0", "0.1"]);

const APP = new URL("examples/apps/hello.ts", ROOT).pathname;

const STAGES: Record<string, Stage> = {
  "part3/webserver3a.ts": ARTICLE,
  "part3/webserver3b.ts": SHORT_SLEEP,
  "part3/webserver3c.ts": SHORT_SLEEP,
  "part3/webserver3d.ts": LEAK,
  "part3/webserver3e.ts": SHORT_SLEEP,
  "part3/webserver3f.ts": ARTICLE,
  "part3/webserver3g.ts": ARTICLE,
  "part3/webserver3h.ts": {
    ...answering(/^HTTP\/1\.1 200 OK\r\n[^]*Hello, World!\n$/, [APP, "0"]),
    all: true,
  },
  "part3/client3.ts": printing(/^Test client/, "--help"),
  "part3/socket_pair.ts": printing(/^server: /m),
  "part3/processes.ts": printing(/^Child PID: /m, "0"),
  "part3/descriptors.ts": printing(/^hello$/m),
  "part3/from_scratch.ts": answering(/Hello, World!$/),
  "chapter20/zombieprob.ts": printing(/^Sleep done\.$/m, "0", "0.1"),
  "chapter20/zombiesol.ts": printing(/^Sleep done\.$/m, "0", "0.1"),
  "chapter20/zombiepoll.ts": printing(/^Parent sleep done\.$/m, "0", "0.1"),
  "chapter20/echoserver.ts": ECHO,
  "chapter20/errorserver.ts": ECHO,
  "chapter20/lockingserver.ts": answering(/^Welcome, 127\.0\.0\.1\.\n/, ["0"], ""),
};

Deno.test("every stage of the ladder runs from a URL, without an import map", async (test) => {
  const files = ["part3", "chapter20"].flatMap((folder) =>
    [...Deno.readDirSync(new URL(`examples/${folder}`, ROOT))].map(({ name }) =>
      `${folder}/${name}`
    )
  );
  assertEquals(files.toSorted(), Object.keys(STAGES).toSorted());

  await using site = serveRepository();
  await using folder = scratch(); // with nothing in Deno's cache
  for (const [file, { args, all, works }] of Object.entries(STAGES)) {
    await test.step(file, async () => {
      await using program = start(`${site.url}examples/${file}`, args, {
        flags: ["--no-config", ...all ? ["-A"] : ["--allow-ffi", `--allow-import=${site.host}`]],
        cwd: folder.path,
        env: { DENO_DIR: `${folder.path}/deno` },
      });
      await works(program);
    });
  }
});
