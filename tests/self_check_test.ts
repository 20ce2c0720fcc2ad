/** What a fork does where Deno, V8 or tokio works differently inside from what tine relies on. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import {
  applyChange,
  type Change,
  copySource,
  ROOT,
  run,
  scratch,
  spawnServer,
  start,
  startFunction,
  startServer,
  writeApp,
} from "./support.ts";

/** A change after which something is not as tine takes it to be. */
interface Difference extends Change {
  readonly what: string;
  /** What the error says. */
  readonly problem: string;
  readonly kinds: readonly ("plain" | "runtime")[];
}

const ASSUMPTIONS = "ffi/runtime/assumptions.ts";
const BOTH = ["plain", "runtime"] as const;

const CHANGES: readonly Difference[] = [
  {
    what: "children do not inherit the heap",
    file: "ffi/runtime/heap.ts",
    text: "MADV_DOFORK = 11",
    replacement: "MADV_DOFORK = 0",
    problem: "a child ends at once, of SIG",
    kinds: BOTH,
  },
  {
    what: "V8's threads have other names",
    file: ASSUMPTIONS,
    text: '"V8 "',
    replacement: '"v8_"',
    problem: 'it has a thread called "V8 ',
    kinds: BOTH,
  },
  {
    what: "the pool's threads have other names",
    file: ASSUMPTIONS,
    text: '["tokio-runtime", "tokio-rt"]',
    replacement: '["pool"]',
    problem: 'the threads of its pool are called "tokio-r',
    kinds: BOTH,
  },
  {
    what: "an epoll instance is called something else",
    file: ASSUMPTIONS,
    text: "anon_inode:[eventpoll]",
    replacement: "anon_inode:[epoll]",
    problem: "it has no epoll instance that can be recognized",
    kinds: ["runtime"],
  },
  {
    what: "the event loop's waker is called something else",
    file: ASSUMPTIONS,
    text: "anon_inode:[eventfd]",
    replacement: "anon_inode:[waker]",
    problem: "0 wakers instead of 1",
    kinds: ["runtime"],
  },
  {
    what: "there is no fdinfo",
    file: "ffi/runtime/event_loop.ts",
    text: "/proc/self/fdinfo/",
    replacement: "/proc/self/fdinfos/",
    problem: "ENOENT",
    kinds: ["runtime"],
  },
  {
    what: "fdinfo has another form",
    file: "ffi/runtime/event_loop.ts",
    text: "/^tfd:",
    replacement: "/^target:",
    problem: "0 wakers instead of 1",
    kinds: ["runtime"],
  },
  {
    what: "a child counts on threads that it has not",
    file: "ffi/runtime/pool.ts",
    text: "(calls.length === 0 || settled)",
    replacement: "(calls.length >= 0 || settled)",
    problem: "the pool of threads does nothing in a child",
    kinds: ["runtime"],
  },
  {
    what: "Deno's generator does not notice a fork",
    file: "ffi/libc.ts",
    text: "fork: { parameters",
    // It runs no handlers, so the generator does not hear of it.
    replacement: 'fork: { name: "_Fork", parameters',
    problem: "the same numbers from crypto.getRandomValues()",
    kinds: BOTH,
  },
  {
    what: "Deno draws more UUIDs at once",
    file: ASSUMPTIONS,
    text: "value: 128",
    replacement: "value: 64",
    problem: "the same numbers from crypto.randomUUID()",
    kinds: BOTH,
  },
  {
    what: "V8's Math.random() looks different",
    file: ASSUMPTIONS,
    text: "function random() { [native code] }",
    replacement: "function random() {\\n  [native code]\\n}",
    problem: "the same numbers from Math.random()",
    kinds: BOTH,
  },
];

/** Forks a child of a kind, and prints what becomes of it. */
async function forkOne(): Promise<void> {
  const tine = await import(Deno.args[1]!);
  // With no signals to block, the program does not run again where it need not.
  tine.becomeForkable({ signals: [] });
  await Deno.readTextFile("/etc/passwd"); // the pool has an idle thread
  try {
    const pid = tine.fork({ runtime: Deno.args[0] === "runtime" });
    if (pid === 0) {
      console.log("a child continues");
      tine._exit(0);
    }
    tine.waitpid(pid);
  } catch (error) {
    console.log(String(error));
  }
  try {
    console.log("left over", tine.waitpid(-1));
  } catch (error) {
    console.log((error as { code: string }).code);
  }
  tine._exit(0);
}

/** Whether a text has the error, with all that it is to say, and how often. */
function countErrors(text: string, problem: string): number {
  const { deno, v8 } = Deno.version;
  const lines = text.split("\n").filter((line) => line.includes(problem));
  for (const line of lines) {
    assertStringIncludes(line, `Cannot fork with Deno ${deno} (V8 ${v8}): `);
    assertMatch(
      line,
      /\(fact [1-6], [^)]+\)\. Use a version of Deno that docs\/measured\.md of tine lists/,
    );
    assertStringIncludes(line, "doctor");
  }
  return lines.length;
}

for (const change of CHANGES) {
  for (const kind of change.kinds) {
    Deno.test(`the first ${kind} fork throws where ${change.what}`, async () => {
      await using folder = scratch();
      copySource(folder.path, change);
      const program = writeApp(folder.path, `await (${forkOne})();`);
      await using running = start(program, [kind, `${folder.path}/mod.ts`], { flags: ["-A"] });
      await running.ended();
      assertEquals(countErrors(running.stdout, change.problem), 1, running.stdout + running.stderr);
      assertMatch(running.stdout, /^UnsupportedRuntimeError: .*\nECHILD\n$/, running.stderr);
    });
  }
}

const OF_SERVERS = CHANGES.filter(({ kinds }) => kinds.length > 0)
  .filter(({ what }) => !what.startsWith("V8's threads")); // with which the server runs again

for (const change of OF_SERVERS) {
  Deno.test(`the preforking server serves nothing where ${change.what}`, async () => {
    await using folder = scratch();
    copySource(folder.path, change);
    // An app without tine of its own, which would not be changed.
    const app = writeApp(folder.path, "export default { fetch: () => new Response() };");
    await using server = spawnServer([], { app, cli: `${folder.path}/server/cli.ts` });
    const { code } = await server.ended();
    assertEquals(code, 1, server.stderr);
    assertEquals(countErrors(server.stderr, change.problem), 1, server.stderr);
    // It may load the app again first: on a busy machine, loading all files takes many threads.
    const rest = server.stderr.replace(/^.*Loading it again$/m, "");
    assert(!/Serving|again/.test(rest), server.stderr);
  });
}

const UUIDS = CHANGES.find(({ what }) => what === "Deno draws more UUIDs at once")!;

Deno.test("the forking model serves nothing where V8's threads have other names", async () => {
  const change = CHANGES.find(({ what }) => what === "V8's threads have other names")!;
  await using folder = scratch();
  copySource(folder.path, change);
  const args = ["--model", "forking"];
  await using server = spawnServer(args, { cli: `${folder.path}/server/cli.ts` });
  assertEquals((await server.ended()).code, 1, server.stderr);
  assertEquals(countErrors(server.stderr, change.problem), 1, server.stderr);
});

for (const kind of BOTH) {
  Deno.test(`the second ${kind} fork throws where Deno draws more UUIDs at once and few are left at the first`, async () => {
    await using folder = scratch();
    copySource(folder.path, UUIDS);
    const program = writeApp(
      folder.path,
      `import * as tine from "./mod.ts";
tine.becomeForkable();
for (let drawn = 0; drawn < 100; drawn++) crypto.randomUUID();
for (let i = 0; i < 2; i++) {
  const child = Deno.args[0] === "plain"
    ? tine.forkChild(() => console.log(crypto.randomUUID()))
    : await tine.forkRuntimeChild(() => Promise.resolve(console.log(crypto.randomUUID())));
  tine.waitpid(child);
}`,
    );
    await using running = start(program, [kind], { flags: ["-A"] });
    assertEquals((await running.ended()).code, 1, running.stdout);
    assertEquals(countErrors(running.stderr, UUIDS.problem), 1, running.stderr);
    assertMatch(running.stdout, /^[0-9a-f-]{36}\n$/);
  });
}

Deno.test("children share no UUID where Deno draws up to twice as many at once, and no test finds that", async () => {
  await using folder = scratch();
  // As if it drew 128 instead of 100, and were newer than those that are known.
  copySource(folder.path, { ...UUIDS, replacement: "value: 100" });
  applyChange(folder.path, { ...UUIDS, text: '"2.9.6"', replacement: '"2.9.5"' });
  // The children that are tested find 68 and 94 left, the third one 121: after 100 it would draw
  // the same as the fourth.
  const program = writeApp(
    folder.path,
    `import * as tine from "./mod.ts";
tine.becomeForkable();
for (let drawn = 1; drawn < 60; drawn++) crypto.randomUUID();
for (let i = 0; i < 6; i++) {
  tine.waitpid(tine.forkChild(() => {
    console.log(Array.from({ length: 130 }, () => crypto.randomUUID()).join("\\n"));
  }));
}`,
  );
  await using running = start(program);
  assertEquals((await running.ended()).code, 0, running.stderr);
  const ids = running.stdout.trim().split("\n");
  assertEquals([ids.length, new Set(ids).size], [780, 780]);
});

Deno.test("serveForking() throws before it accepts where Deno draws more UUIDs at once", async () => {
  await using folder = scratch();
  copySource(folder.path, UUIDS);
  const program = writeApp(
    folder.path,
    `import * as tine from "./mod.ts";
tine.becomeForkable();
const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
listenSocket.bind(["127.0.0.1", 0]);
listenSocket.listen(1);
tine.serveForking(listenSocket, () => {});`,
  );
  await using running = start(program);
  assertEquals((await running.ended()).code, 1, running.stdout);
  assertEquals(countErrors(running.stderr, UUIDS.problem), 1, running.stderr);
});

Deno.test("a server keeps its code and its workers where the new Deno cannot fork", async () => {
  await using folder = scratch();
  const cli = `${folder.path}/server/cli.ts`;
  const unchanged = { ...UUIDS, replacement: UUIDS.text };
  copySource(folder.path, unchanged);
  await using server = await startServer([], { cli });
  const { workers } = server;
  // As a new Deno would be: the canary finds other insides than this server did.
  applyChange(folder.path, UUIDS);
  server.kill("SIGHUP");
  await server.logged(/The new code cannot be loaded \(exit 1\)/);
  assertEquals(countErrors(server.stderr, UUIDS.problem), 1, server.stderr);
  assertEquals(server.workers, workers);
  assertEquals(await server.get("/hello"), await server.get("/hello"));
});

for (const kind of BOTH) {
  Deno.test(`the self-check leaves the program the ${kind} child that it asked for, and nothing else`, async () => {
    const output = await run(
      () => {
        tine.becomeForkable();
        let signals = 0;
        tine.signal(tine.SIGCHLD, () => signals++);
        const isOpen = (fd: number) => {
          try {
            return tine.fcntl(fd, tine.F_GETFD) >= 0;
          } catch {
            return false;
          }
        };
        const count = () => Array.from({ length: 200 }, (_, fd) => fd).filter(isOpen).length;
        const before = count();
        const pid = tine.fork({ runtime: Deno.args[0] === "runtime" });
        console.log(pid === 0 ? "child:" : "parent:", count() - before, "descriptors more");
        if (pid === 0) tine._exit(7);
        console.log(JSON.stringify(tine.waitpid(pid).status));
        tine.sleep(0); // lets a handler in
        console.log("signals:", signals);
        try {
          tine.waitpid(-1);
        } catch (error) {
          console.log((error as { code: string }).code);
        }
        tine._exit(0);
      },
      [kind],
      { flags: ["-A"] },
    );
    const lines = output.trim().split("\n");
    assertEquals(lines.sort(), [
      "ECHILD",
      "child: 0 descriptors more",
      "parent: 0 descriptors more",
      "signals: 1",
      '{"kind":"exited","code":7,"raw":1792}',
    ]);
  });
}

Deno.test("the self-check lets a program repeat its numbers if it wants to: --seed", async () => {
  const program = () => {
    tine.becomeForkable();
    tine.waitpid(tine.forkChild(() => console.log(crypto.randomUUID())));
  };
  const flags = ["-A", "--seed=7"];
  assertMatch(await run(program, [], { flags }), /^[0-9a-f-]{36}\n$/);
});

Deno.test("the self-check lets a program repeat its numbers if it wants to: a generator of its own", async () => {
  const output = await run(() => {
    let state = 7;
    Math.random = () => (state = state * 48_271 % 0x7fff_ffff) / 0x7fff_ffff;
    tine.becomeForkable();
    tine.waitpid(tine.forkChild(() => console.log(Math.random() < 1)));
  });
  assertEquals(output, "true\n");
});

Deno.test("a child without a runtime ends where an epoll instance cannot be recognized, and its parent goes on", async () => {
  await using folder = scratch();
  copySource(folder.path, CHANGES.find(({ text }) => text === "anon_inode:[eventpoll]")!);
  const program = writeApp(
    folder.path,
    `import * as tine from "./mod.ts";
tine.becomeForkable();
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, () => new Response("here"));
const url = \`http://127.0.0.1:\${server.addr.port}/\`;
await (await fetch(url)).text();
const pid = tine.fork();
if (pid !== 0) {
  console.log(JSON.stringify(tine.waitpid(pid).status));
  for (let i = 0; i < 5; i++) console.log(await (await fetch(url)).text());
  tine._exit(0);
}
await fetch(url); // in the child: its way back to the event loop`,
  );
  await using running = start(program, [], { flags: ["-A"] });
  assertEquals((await running.ended()).code, 0, running.stderr);
  assertEquals(running.stdout, '{"kind":"exited","code":1,"raw":256}\n' + "here\n".repeat(5));
  assertStringIncludes(running.stderr, "returned to the event loop");
});

Deno.test("a child whose parent is killed during its self-check ends, and never runs its parent's code", async () => {
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      const { forkWithoutWaiting } = await import(Deno.args[0]!);
      const { concludeTest } = await import(Deno.args[1]!);
      const forkChild = () => {
        const pid = forkWithoutWaiting();
        if (pid === 0) tine._exit(0);
        return pid;
      };
      const [first] = [forkChild(), forkChild()];
      concludeTest(first); // one has passed, and the other is still on trial
      const main = tine.getpid();
      const { stringify } = JSON;
      // The parent ends before it tells the third child anything.
      JSON.stringify = (value: unknown) => {
        if (tine.getpid() === main) tine.kill(main, tine.SIGKILL);
        return stringify(value);
      };
      try {
        forkChild();
      } catch {
        // a master would log it and continue
      }
      console.log(tine.getpid() === main ? "the parent lives" : "the child runs the parent's code");
      tine._exit(0);
    },
    ["fork.ts", "self_check.ts"].map((name) => new URL(`ffi/forking/${name}`, ROOT).href),
    { flags: ["-A"] },
  );
  assertEquals(await program.ended(), { code: 137, signal: "SIGKILL" });
  assertEquals(program.stdout, "");
});
