import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { DENO, Program, ROOT, run, start, startFunction } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;

/** Runs a program that is given by its text, in a folder of its own. */
async function runText(
  text: string,
  args: (file: string) => string[],
  options: Deno.CommandOptions & { input?: string; files?: Record<string, string> } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const folder = await Deno.makeTempDir();
  try {
    const { input, files = {}, ...command } = options;
    for (const [name, content] of Object.entries(files)) {
      await Deno.writeTextFile(`${folder}/${name}`, content);
    }
    await Deno.writeTextFile(`${folder}/program.ts`, text);
    const child = new Deno.Command(DENO, {
      args: args(`${folder}/program.ts`),
      stdin: input === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      cwd: folder,
      ...command,
      env: { NO_COLOR: "1", ...command.env },
    }).spawn();
    if (input !== undefined) {
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(input));
      await writer.close();
    }
    const { code, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const FORKS = `import { becomeForkable, fork, _exit, waitpid } from ${JSON.stringify(MOD)};
console.log("first line");
becomeForkable();
const pid = fork();
if (pid === 0) _exit(9);
console.log(waitpid(pid).status?.code, Deno.args.join(","));
`;
const FORKED = "first line\nfirst line\n9 ";

Deno.test("becomeForkable() preserves pid, arguments, environment, folder, streams and descriptors", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await using program = startFunction(
      () => {
        const pid = tine.getpid();
        console.error(`run ${pid}`);
        tine.becomeForkable();
        const inherited = new TextDecoder().decode(tine.read(7, 100));
        const input = new TextDecoder().decode(tine.read(0, 100));
        console.log(JSON.stringify({
          pid: tine.getpid(),
          args: Deno.args,
          env: Deno.env.toObject(),
          cwd: Deno.cwd(),
          inherited,
          input,
        }));
      },
      ["one", "two words", "", "--three"],
      {
        flags: ["--allow-ffi", "--allow-env", "--allow-read"],
        cwd: folder,
        env: { TINE_TEST: "a=b\nc", EMPTY: "" },
        shell: "exec 7<<<'from descriptor 7' 0<<<'from standard input';",
      },
    );
    assertEquals((await program.ended()).code, 0, program.stderr);
    assertEquals(program.stderr, `run ${program.pid}\n`.repeat(2));
    const seen = JSON.parse(program.stdout);
    assertEquals(seen.pid, program.pid);
    assertEquals(seen.args, ["one", "two words", "", "--three"]);
    assertEquals([seen.env.TINE_TEST, seen.env.EMPTY], ["a=b\nc", ""]);
    assertEquals(seen.env.DENO_V8_FLAGS, undefined);
    assertEquals(Object.keys(seen.env).filter((name) => /^TINE_RE/.test(name)), []);
    assertEquals(await Deno.realPath(seen.cwd), await Deno.realPath(folder));
    assertEquals(seen.inherited, "from descriptor 7\n");
    assertEquals(seen.input, "from standard input\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Asserts that these are threads, all of which block exactly those signals. */
function assertThreadsBlock(lines: readonly string[], signals: readonly number[]): void {
  const threads = lines.map((line) => line.match(/^(.*) ([0-9a-f]{16})$/)!);
  assert(threads.length > 1, lines.join("\n"));
  const blocked = signals.reduce((sum, signum) => sum | (1n << BigInt(signum - 1)), 0n);
  for (const [line, , mask] of threads) {
    assertEquals(BigInt("0x" + mask), blocked, line);
  }
}

Deno.test("becomeForkable() blocks the signals in every thread", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
      for (const { name } of Deno.readDirSync("/proc/self/task")) {
        const status = Deno.readTextFileSync(`/proc/self/task/${name}/status`);
        console.log(status.match(/Name:\t(.*)/)![1], status.match(/SigBlk:\t(.*)/)![1]);
      }
    },
    [],
    { flags: ["-A"] },
  );
  assertThreadsBlock(output.trim().split("\n"), [tine.SIGCHLD, tine.SIGTERM]);
});

Deno.test("becomeForkable() does not run the program again if V8 is single-threaded", async () => {
  // Spelled with a hyphen, V8 has no threads, and the mask can be set later. Else V8 has some,
  // which run nothing and take no orders: the mask must be there from the start.
  const shell = "exec env --block-signal=CHLD,USR1,TERM sh -c '\"$@\"' --";
  for (
    const options of [
      { flags: ["-A", "--v8-flags=--single-threaded"] },
      { env: { DENO_V8_FLAGS: "--single-threaded" } },
      { shell, flags: ["-A", "--v8-flags=--single_threaded"] },
      { shell, env: { DENO_V8_FLAGS: "--single_threaded" } },
    ]
  ) {
    const output = await run(
      () => {
        const printThreads = () => {
          for (const { name } of Deno.readDirSync("/proc/self/task")) {
            const status = Deno.readTextFileSync(`/proc/self/task/${name}/status`);
            console.log(status.match(/Name:\t(.*)/)![1], status.match(/SigBlk:\t(.*)/)![1]);
          }
        };
        console.log("the only run");
        tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
        printThreads();
        tine.becomeForkable({ signals: [tine.SIGTERM] }); // one more
        console.log("--");
        printThreads();
        console.log("--");
        tine.signal(tine.SIGUSR1, () => console.log("handled"));
        tine.kill(tine.getpid(), tine.SIGUSR1);
        try {
          tine.pause();
        } catch (error) {
          console.log((error as tine.SyscallError).code);
        }
        console.log(tine.waitpid(tine.forkChild(() => 3)).status?.raw);
      },
      [],
      { flags: ["-A"], ...options },
    );
    const [first, second, rest] = output.split("--\n").map((part) => part.trim().split("\n"));
    assertEquals(first!.shift(), "the only run");
    const isBlocked = "shell" in options; // SIGTERM, which is not asked for yet
    assertThreadsBlock(first!, [tine.SIGCHLD, tine.SIGUSR1, ...isBlocked ? [tine.SIGTERM] : []]);
    assertThreadsBlock(second!, [tine.SIGCHLD, tine.SIGUSR1, tine.SIGTERM]);
    assertEquals(rest, ["handled", "EINTR", "768"]);
  }
});

Deno.test("becomeForkable() reports what overrides V8's flag", async () => {
  for (
    const overruled of ["--no-single-threaded", "--nosingle_threaded", "--no-single-threaded-gc"]
  ) {
    await using program = startFunction(() => tine.becomeForkable(), [], {
      flags: ["--allow-ffi", `--v8-flags=${overruled}`],
    });
    assertEquals(await program.ended(), { code: 1, signal: null });
    assertMatch(
      program.stderr,
      /Cannot become forkable: even after the program was run again, .*--v8-flags disables --single_threaded/,
    );
  }
});

Deno.test("FinalizationRegistry and Atomics.waitAsync() live in parents and children", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const live = async () => {
        let finalized = 0;
        const registry = new FinalizationRegistry(() => finalized++);
        for (let i = 0; i < 100; i++) registry.register({ i }, i);
        const cell = new Int32Array(new SharedArrayBuffer(4));
        const { value } = Atomics.waitAsync(cell, 0, 0, 1);
        const settled = await Promise.race([
          value,
          new Promise((resolve) => setTimeout(() => resolve("never"), 5000)),
        ]);
        for (let i = 0; i < 100 && finalized < 100; i++) {
          (globalThis as unknown as { gc(): void }).gc();
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        return `${settled} ${finalized}`;
      };
      console.log(await live());
      const pid = await tine.forkRuntimeChild(async () => console.log(await live()));
      tine.waitpid(pid);
      console.log(await live());
    },
    [],
    { flags: ["-A", "--v8-flags=--expose-gc"] },
  );
  assertEquals(output, "timed-out 100\n".repeat(3));
});

Deno.test("becomeForkable() runs the program again if its start used most of the pool's threads", async () => {
  const output = await run(
    async () => {
      const read = () => Deno.readTextFile("/proc/self/smaps");
      await Promise.all(Array.from({ length: 500 }, read));
      console.log("run");
      tine.becomeForkable();
      console.log(tine.waitpid(tine.forkChild(() => 3)).status?.raw);
    },
    [],
    { flags: ["-A", "--v8-flags=--single-threaded"] },
  );
  assertEquals(output, "run\nrun\n768\n");
});

Deno.test("becomeForkable() returns immediately the second time, and in a child", async () => {
  const output = await run(() => {
    tine.becomeForkable();
    tine.becomeForkable();
    const child = tine.forkChild(() => {
      tine.becomeForkable();
      tine.becomeForkable({ signals: [tine.SIGTERM] }); // a child has one thread, so it can still hold more
      tine.signal(tine.SIGTERM, () => tine._exit(3));
      tine.kill(tine.getpid(), tine.SIGTERM);
      tine.pause();
    });
    console.log(JSON.stringify(tine.waitpid(child).status));
  });
  assertEquals(output, '{"kind":"exited","code":3,"raw":768}\n');
});

Deno.test("becomeForkable() works with the user's own V8 flags", async () => {
  const withFlags = await runText(
    FORKS + `console.log(typeof gc, Deno.env.get("DENO_V8_FLAGS"));`,
    (file) => ["run", "-A", "--v8-flags=--max-old-space-size=300", file, "x"],
    { env: { DENO_V8_FLAGS: "--expose-gc,--stack-size=900" } },
  );
  assertEquals(
    withFlags.stdout,
    FORKED + "x\nfunction --expose-gc,--stack-size=900\n",
    withFlags.stderr,
  );
});

Deno.test("becomeForkable() works from a URL, under deno task and under npx", async () => {
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (request) => {
      const path = new URL("." + new URL(request.url).pathname, ROOT);
      if (path.pathname.endsWith("/program.ts")) {
        return new Response(FORKS.replace(JSON.stringify(MOD), '"./mod.ts"'), {
          headers: { "content-type": "application/typescript" },
        });
      }
      return new Response(await Deno.readTextFile(path), {
        headers: { "content-type": "application/typescript" },
      });
    },
  );
  const { port } = server.addr as Deno.NetAddr;
  const url = `http://127.0.0.1:${port}/program.ts`;
  await using program = start(url, ["x"], {
    flags: ["--allow-ffi", `--allow-import=127.0.0.1:${port}`, "--reload"],
  });
  assertEquals((await program.ended()).code, 0, program.stderr);
  assertEquals(program.stdout, FORKED + "x\n");

  const task = await runText(FORKS, () => ["task", "--quiet", "go", "x", "y z"], {
    files: { "deno.json": '{ "tasks": { "go": "deno run --allow-ffi program.ts" } }' },
  });
  assertEquals(task.stdout, FORKED + "x,y z\n", task.stderr);
});

Deno.test("becomeForkable() works when a launcher starts Deno, as npx does", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/program.ts`, FORKS);
    // npx's own launcher: a Node program that runs the binary with its arguments and streams.
    await using program = new Program("node", [
      "-e",
      `process.exit(require("child_process").spawnSync(process.argv[1], process.argv.slice(2), { stdio: "inherit" }).status)`,
      DENO,
      "run",
      "--allow-ffi",
      `${folder}/program.ts`,
      "x",
    ]);
    assertEquals((await program.ended()).code, 0, program.stderr);
    assertEquals(program.stdout, FORKED + "x\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("becomeForkable() reports that standard input and the REPL cannot be run again", async () => {
  const piped = await runText(FORKS, () => ["run", "--allow-ffi", "-"], { input: FORKS });
  assertEquals(piped.code, 1);
  assertStringIncludes(
    piped.stderr,
    "Cannot become forkable: this program was read from standard input and cannot be run again. " +
      "Save it in a file and run that file",
  );
  const repl = await runText("", () => ["repl", "-A", "-q"], {
    input: `const tine = await import(${JSON.stringify(MOD)});\ntine.becomeForkable();\n`,
  });
  assertStringIncludes(repl.stdout + repl.stderr, "this program was read from the REPL");
});

Deno.test("becomeForkable() works under deno eval", async () => {
  const result = await runText("", () => ["eval", FORKS]);
  assertEquals(result.stdout.trimEnd(), FORKED.trimEnd(), result.stderr);
});

Deno.test("becomeForkable() throws in a worker, and for signals that are named too late", async () => {
  const worker = await runText(
    `import { becomeForkable } from ${JSON.stringify(MOD)};
     if (typeof Deno.args === "undefined" || import.meta.url.includes("#worker")) {
       try { becomeForkable(); } catch (error) { self.postMessage(error.message); }
     } else {
       const worker = new Worker(import.meta.url + "#worker", { type: "module" });
       worker.onmessage = ({ data }) => { console.log(data); worker.terminate(); };
     }`,
    (file) => ["run", "-A", file],
  );
  assertStringIncludes(
    worker.stdout,
    "Cannot become forkable in a worker or a test",
    worker.stderr,
  );

  const late = await runText(
    `import { becomeForkable, SIGTERM } from ${JSON.stringify(MOD)};
     becomeForkable();
     const thread = new Worker("data:text/javascript,postMessage(1)", { type: "module" });
     await new Promise((resolve) => thread.onmessage = resolve);
     becomeForkable({ signals: [SIGTERM] });`,
    (file) => ["run", "-A", file],
  );
  assertEquals(late.code, 1);
  assertStringIncludes(late.stderr, "does not block SIGTERM");
});

Deno.test("becomeForkable() rejects signals that no process can handle", async () => {
  const output = await run(() => {
    for (const signum of [tine.SIGKILL, 0, 65]) {
      try {
        tine.becomeForkable({ signals: [signum] });
      } catch (error) {
        console.log(String(error));
      }
    }
  });
  assertEquals(output.split("\n").filter((line) => line.startsWith("RangeError")).length, 3);
});

Deno.test("fork() throws in a process that is not forkable, and names the line to add", async () => {
  await using program = startFunction(() => tine.fork());
  assertEquals((await program.ended()).code, 1);
  assertStringIncludes(program.stderr, "Call becomeForkable() on the program's first line");
});

Deno.test("fork() works without becomeForkable() if V8 was started single-threaded", async () => {
  const output = await run(
    () => {
      const child = tine.fork();
      if (child === 0) tine._exit(4);
      console.log(JSON.stringify(tine.waitpid(child).status));
    },
    [],
    { flags: ["--allow-ffi", "--v8-flags=--single-threaded"] },
  );
  assertEquals(output, '{"kind":"exited","code":4,"raw":1024}\n');
});

Deno.test("becomeForkable() leaves nothing in the environment, even without signals", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [] });
      console.log(Deno.env.get("DENO_V8_FLAGS"), Deno.env.get("TINE_REEXECUTED"));
      console.log(tine.waitpid(tine.forkChild(() => 3)).status?.raw);
    },
    [],
    { flags: ["--allow-ffi", "--allow-env"] },
  );
  assertEquals(output, "undefined undefined\n768\n");
});

Deno.test("becomeForkable() lets children be waited for where a shell ignores SIGCHLD", async () => {
  for (const flags of [["--allow-ffi"], ["--allow-ffi", "--v8-flags=--single-threaded"]]) {
    const output = await run(
      () => {
        tine.becomeForkable({ signals: [] });
        tine.waitpid(tine.forkChild(() => console.log("child")));
        // What the program itself ignores stays ignored.
        tine.signal(tine.SIGCHLD, tine.SIG_IGN);
        tine.becomeForkable({ signals: [] });
        try {
          tine.waitpid(tine.forkChild(() => {}));
        } catch (error) {
          console.log((error as tine.SyscallError).code);
        }
      },
      [],
      { flags, shell: "trap '' CHLD;" },
    );
    assertEquals(output, "child\nECHILD\n");
  }
});

// Where this process may not hide /proc, the test is ignored.
const HIDE_PROC = ["--mount", ...(Deno.uid() === 0 ? [] : ["--map-root-user"]), "/bin/bash", "-c"];
const MOUNT = "mount -t tmpfs none /proc";
const canHideProc = new Deno.Command("unshare", {
  args: [...HIDE_PROC, MOUNT],
  stdout: "null",
  stderr: "null",
}).outputSync().success;

Deno.test({
  name: "becomeForkable() and fork() say in one line that /proc is not mounted",
  ignore: !canHideProc,
  fn: async () => {
    for (const flags of [["--allow-ffi"], ["--allow-ffi", "--v8-flags=--single-threaded"]]) {
      const output = await run(
        () => {
          for (const call of [tine.becomeForkable, tine.fork]) {
            try {
              call();
            } catch (error) {
              console.log(String(error));
            }
          }
        },
        [],
        { flags, shell: `exec unshare ${HIDE_PROC.join(" ")} '${MOUNT}; shift; exec "$@"' bash` },
      );
      const message = /^UnsupportedPlatformError: tine needs .*: \/proc is not mounted$/;
      const lines = output.trimEnd().split("\n");
      assertEquals(lines.length, 2);
      for (const line of lines) assertMatch(line, message);
    }
  },
});
