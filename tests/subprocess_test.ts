/** Subprocesses of a program that holds signals: their mask, and the signals that arrive meanwhile. */
import { assert, assertEquals, assertNotMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import {
  processState,
  run,
  scratch,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** Returns the signals that a process blocks. */
function blockedBy(pid: number): number[] {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`).match(/^SigBlk:\s*(\w+)/m)![1];
  return [...BigInt(`0x${text}`).toString(2)].reverse()
    .flatMap((bit, i) => bit === "1" ? [i + 1] : []);
}

Deno.test("a subprocess blocks what the program blocks, not what it holds, and SIGTERM ends it", async () => {
  await using folder = scratch();
  const script = writeApp(folder.path, "process.on('message', () => {});", "child.mjs");
  const output = await run(
    async () => {
      const { spawn, exec, execFile, fork } = await import("node:child_process");
      const held = [tine.SIGTERM, tine.SIGINT, tine.SIGCHLD, tine.SIGUSR2];
      tine.becomeForkable({ signals: held });
      tine.sigprocmask(tine.SIG_BLOCK, [tine.SIGUSR1, tine.SIGUSR2]);
      const maskIn = (text: string) => parseInt(text.match(/SigBlk:.*(\w{8})$/m)![1]!, 16);
      const maskOf = (pid: number | string) => maskIn(Deno.readTextFileSync(`/proc/${pid}/status`));
      const seen: Record<string, unknown> = {};
      const grep = new Deno.Command("grep", { args: ["SigBlk", "/proc/self/status"] });
      const text = ({ stdout }: Deno.CommandOutput) => new TextDecoder().decode(stdout);
      seen.outputSync = [maskIn(text(grep.outputSync()))];
      seen.output = [maskIn(text(await grep.output()))];
      const sleep = (options: Deno.CommandOptions = {}) =>
        new Deno.Command("sleep", { args: ["60"], ...options }).spawn();
      const piped = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
      const starts: Record<string, () => { pid?: number | undefined }> = {
        spawn: () => sleep(),
        piped: () => sleep(piped),
        detached: () => sleep({ detached: true }),
        nodeSpawn: () => spawn("sleep", ["60"]),
        nodePipe: () => spawn("sleep", ["60"], { stdio: ["ignore", "pipe", "pipe", "pipe"] }),
        nodeExec: () => exec("exec sleep 60"),
        nodeExecFile: () => execFile("sleep", ["60"]),
        nodeFork: () => fork(Deno.args[0]!),
      };
      for (const [name, start] of Object.entries(starts)) {
        const pid = start().pid!;
        const mask = maskOf(pid);
        const isBlocked = (mask & (1 << (tine.SIGTERM - 1))) !== 0;
        tine.kill(pid, isBlocked ? tine.SIGKILL : tine.SIGTERM);
        const { status } = tine.waitpid(pid);
        seen[name] = [mask, status?.kind === "signaled" ? status.signal : status?.kind];
      }
      try {
        new Deno.Command("/missing").spawn();
      } catch (error) {
        seen.missing = (error as Error).name;
      }
      // Neither this thread nor another one receives what is held.
      seen.threads = [...Deno.readDirSync("/proc/self/task")]
        .map(({ name }) => maskOf(`self/task/${name}`))
        .every((mask) => held.every((signum) => mask & (1 << (signum - 1))));
      console.log(JSON.stringify(seen));
      Deno.exit();
    },
    [script],
    { flags: ["-A"] },
  );
  const programs = (1 << (tine.SIGUSR1 - 1)) | (1 << (tine.SIGUSR2 - 1));
  const ended = [programs, tine.SIGTERM];
  assertEquals(JSON.parse(output), {
    outputSync: [programs],
    output: [programs],
    spawn: ended,
    piped: ended,
    detached: ended,
    nodeSpawn: ended,
    nodePipe: ended,
    nodeExec: ended,
    nodeExecFile: ended,
    nodeFork: ended,
    missing: "NotFound",
    threads: true,
  });
});

Deno.test("Deno.spawn() and the like start subprocesses as Deno.Command does", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable({ signals: [tine.SIGTERM] });
      const args = ["grep", ["SigBlk", "/proc/self/status"]] as const;
      // deno-lint-ignore no-explicit-any
      const { spawn, spawnAndWait, spawnAndWaitSync } = Deno as any;
      const outputs = [
        spawnAndWaitSync(...args),
        await spawnAndWait(...args),
        await spawn(...args, { stdout: "piped" }).output(),
      ];
      for (const { stdout } of outputs) console.log(new TextDecoder().decode(stdout).trim());
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "SigBlk:\t0000000000000000\n".repeat(3));
});

Deno.test("signals that are pending or arrive while a subprocess is started are handled afterwards, once", async () => {
  const output = await run(
    () => {
      const { SIGCHLD, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2 } = tine;
      tine.becomeForkable({ signals: [SIGCHLD, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2] });
      const handled: string[] = [];
      const handle = (signum: number) => void handled.push(tine.signalName(signum));
      for (const signum of [SIGCHLD, SIGTERM, SIGUSR1]) tine.signal(signum, handle);
      tine.sigprocmask(tine.SIG_BLOCK, [SIGUSR1]);
      const send = (signum: number) => tine.kill(tine.getpid(), signum);
      const children: number[] = [];
      const start = (during: () => void) => {
        // Deno reads the arguments immediately before it starts the process.
        const text = {
          toString() {
            during();
            return "60";
          },
        };
        children.push(new Deno.Command("sleep", { args: [text as string] }).spawn().pid);
      };
      const handleAll = () => {
        try {
          tine.sleep(0);
          tine.poll([], 0);
        } catch (error) {
          if (!(error instanceof tine.SyscallError)) throw error;
        }
        console.log(handled.splice(0).sort().join(" "));
      };
      send(SIGTERM); // is pending
      send(SIGUSR2); // would end the process
      start(() => {
        for (const signum of [SIGCHLD, SIGTERM, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]) send(signum);
        if (handled.length > 0) console.log("a handler ran");
      });
      handled.push("started");
      tine.signal(SIGHUP, handle);
      tine.signal(SIGUSR2, handle);
      handleAll();
      tine.sigprocmask(tine.SIG_UNBLOCK, [SIGUSR1]); // it was pending, too
      handleAll();
      // The next one has nothing left of that.
      start(() => {});
      send(SIGTERM);
      handleAll();
      for (const pid of children) tine.kill(pid, tine.SIGKILL);
      Deno.exit();
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "SIGCHLD SIGHUP SIGTERM SIGUSR2 started\nSIGUSR1\nSIGTERM\n");
});

Deno.test("a subprocess ignores what the program ignores, and such a signal stays pending", async () => {
  const output = await run(
    () => {
      const { SIGHUP, SIGKILL } = tine;
      tine.becomeForkable({ signals: [SIGHUP] });
      const text = {
        toString() {
          tine.kill(tine.getpid(), SIGHUP);
          return "60";
        },
      };
      const { pid } = new Deno.Command("sleep", { args: [text as string] }).spawn();
      const ignored = Deno.readTextFileSync(`/proc/${pid}/status`).match(/SigIgn:.*(.)/)![1];
      console.log("ignored", ignored === "1");
      tine.kill(pid, SIGKILL);
      tine.waitpid(pid);
      tine.signal(SIGHUP, () => console.log("handled"));
      tine.sleep(0.001);
      Deno.exit();
    },
    [],
    { flags: ["-A"], shell: "trap '' HUP;" },
  );
  assertEquals(output, "ignored true\nhandled\n");
});

Deno.test("a handler that the runtime sets while a subprocess is started stays", async () => {
  const output = await run(
    () => {
      tine.becomeForkable({ signals: [tine.SIGUSR1, tine.SIGUSR2] });
      const caught = () => Deno.readTextFileSync("/proc/self/status").match(/SigCgt:\s*(.*)/)![1]!;
      const bits = () => {
        const all = parseInt(caught().slice(-4), 16);
        return [tine.SIGUSR1, tine.SIGUSR2].map((signum) => (all >> (signum - 1)) & 1);
      };
      const before = bits();
      const text = {
        toString() {
          Deno.addSignalListener("SIGUSR2", () => {});
          return "0";
        },
      };
      new Deno.Command("sleep", { args: [text as string] }).outputSync();
      console.log(JSON.stringify([before, bits()]));
      Deno.exit();
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(JSON.parse(output), [[0, 0], [0, 1]]);
});

Deno.test("a subprocess that an app starts at its top level is ended by SIGTERM, and the server serves on", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `import { spawn } from "node:child_process";
    const options = { args: ["1000"], stdin: "null", stdout: "null", stderr: "null" };
    const children = [
      new Deno.Command("sleep", options).spawn(),
      spawn("sleep", ["1000"], { stdio: "ignore" }),
    ];
    const pids = children.map(({ pid }) => pid);
    export default { fetch: () => Response.json(pids) };`,
    "app.js",
  );
  await using server = await startServer([], { app });
  const pids: number[] = JSON.parse(await server.get("/"));
  using stack = new DisposableStack();
  for (const pid of pids) {
    stack.defer(() => processState(pid)?.ppid === server.pid && Deno.kill(pid, "SIGKILL"));
  }
  for (const pid of pids) {
    assertEquals(processState(pid)?.ppid, server.pid);
    assertEquals(blockedBy(pid), []);
    Deno.kill(pid, "SIGTERM");
    await until(() => processState(pid) === undefined, "its end");
  }
  assertEquals(JSON.parse(await server.get("/")), pids);
});

Deno.test("SIGTERM while an app starts a subprocess ends the server gracefully", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `const text = {
      toString() {
        Deno.kill(Deno.pid, "SIGTERM");
        return "0";
      },
    };
    new Deno.Command("sleep", { args: [text] }).outputSync();
    console.log("started");
    await new Promise(() => {});`,
    "app.js",
  );
  await using server = spawnServer([], { app });
  assertEquals(await server.ended(), { code: 0, signal: null });
  assertStringIncludes(server.stdout, "started");
});

Deno.test("a subprocess of the old code gets SIGTERM once the last old worker has ended, not before, and no other", async () => {
  await using folder = scratch();
  const source = (version: string) =>
    `import { spawn } from "node:child_process";
    const options = { args: ["1000"], stdin: "null", stdout: "null", stderr: "null" };
    const start = (more) => new Deno.Command("sleep", { ...options, ...more }).spawn().pid;
    const subprocesses = [start(), spawn("sleep", ["1000"], { stdio: "ignore" }).pid];
    const detached = start({ detached: true });
    const ended = start();
    export default {
      async fetch(request) {
        if (request.url.endsWith("/slow")) {
          while (true) {
            try {
              Deno.statSync("${folder.path}/go");
              break;
            } catch {
              await new Promise((resolve) => setTimeout(resolve, 10));
            }
          }
        }
        return Response.json({ version: "${version}", subprocesses, detached, ended });
      },
    };`;
  const app = writeApp(folder.path, source("1"), "app.js");
  const isRunning = (pid: number) => ![undefined, "Z"].includes(processState(pid)?.state);
  using stack = new DisposableStack();
  await using server = await startServer([], { app });
  type Answer = { version: string; subprocesses: number[]; detached: number; ended: number };
  const all = new Set<number>();
  const ask = async (path = "/"): Promise<Answer> => {
    const answer: Answer = JSON.parse(await server.get(path));
    for (const pid of [...answer.subprocesses, answer.detached]) all.add(pid);
    if (isRunning(answer.ended)) Deno.kill(answer.ended, "SIGKILL");
    return answer;
  };
  stack.defer(() => {
    for (const pid of all) if (isRunning(pid)) Deno.kill(pid, "SIGKILL");
  });
  const first = await ask();
  const slow = ask("/slow");
  slow.catch(() => {}); // of a test that fails before
  await until(() => server.inFlight === 1, "the request");
  writeApp(folder.path, source("2"), "app.js");
  await server.restarted();
  const second = await ask();
  assertEquals(second.version, "2");
  // The worker that answers the slow request may use them.
  assertEquals(first.subprocesses.map(isRunning), [true, true]);
  // Code that does not load changes nothing, and neither does another restart.
  writeApp(folder.path, "throw new Error('broken')", "app.js");
  server.kill("SIGHUP");
  await server.logged(/The new code cannot be loaded/);
  writeApp(folder.path, source("3"), "app.js");
  await server.restarted();
  const third = await ask();
  for (const { subprocesses } of [first, second]) {
    assertEquals(subprocesses.map(isRunning), [true, true]);
  }
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  assertEquals((await slow).version, "1");
  for (const pid of [...first.subprocesses, ...second.subprocesses]) {
    await until(() => processState(pid) === undefined, `the end of ${pid}`);
  }
  assertEquals(third.subprocesses.map(isRunning), [true, true]);
  assert([first, second, third].every(({ detached }) => isRunning(detached)));
  assertEquals(server.stderr.match(/SIGTERM sent to a subprocess of the old code/g)?.length, 4);
  assertNotMatch(server.stderr, /Cannot end a subprocess/);
  assertEquals(await ask(), third);
});
