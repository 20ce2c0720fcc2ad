import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { APPS } from "./prefork/apps.ts";
import { Load } from "./prefork/load.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import {
  ask,
  childrenOf,
  descriptorsOf,
  freePort,
  isPortFree,
  limitDescriptors,
  lowerLimit,
  processState,
  ROOT,
  scratch,
  type Server,
  type ServerOptions,
  spawnServer,
  startFunction,
  startServer,
  until,
  within,
  writeApp,
  zombiesOf,
} from "./support.ts";

for (const [name, options] of Object.entries(APPS)) {
  Deno.test(`servePrefork() loses only a killed worker's own requests to ${name}, 50 times under load`, async () => {
    await killWorkers([], options);
  });
}

Deno.test("servePrefork() loses only a killed fresh worker's own requests, 50 times under load", async () => {
  await killWorkers(["--no-preload"]);
});

async function killWorkers(kind: readonly string[], options: ServerOptions = {}): Promise<void> {
  await using server = await startServer(kind, options);
  const target = { hostname: "127.0.0.1", port: server.port };
  await using fresh = new Load(target, { clients: 4, pause: 1 });
  await using kept = new Load(target, { clients: 4, pause: 1, keepAlive: true });
  const deaths: { pid: number; before: number; after: number }[] = [];
  const times: number[] = [];
  for (let i = 0; i < 50; i++) {
    const { workers } = server;
    const pid = workers[Math.floor(Math.random() * workers.length)]!;
    const before = performance.now();
    Deno.kill(pid, "SIGKILL");
    deaths.push({ pid, before, after: performance.now() });
    await server.replaced([pid]);
    times.push(performance.now() - before);
  }
  await Promise.all([fresh.stop(), kept.stop()]);
  // Nobody waits for a fork; a fresh one has to start first. A busy machine may delay some.
  const half = times.sort((a, b) => a - b)[25]!;
  assert(half < (kind.length === 0 ? 1000 : 5000), `half took over ${half} ms to be replaced`);
  // Its own: sent before it died; and, on a connection that it had, before the client knew.
  const unexplained = [...fresh.failures, ...kept.failures].filter(({ sent, at, worker }) =>
    !deaths.some(({ pid, before, after }) =>
      at >= before && (worker === undefined ? sent <= after : worker === pid)
    )
  );
  assertEquals(unexplained, [], `${fresh}, ${kept}, ${server.stderr}`);
  assert(fresh.ok > 100 && kept.ok > 100, `${fresh}, ${kept}`);
  // A connection for which a worker was woken that then died waits for the master's next look.
  assert(Math.max(fresh.slowest, kept.slowest) < 10_000, `${fresh.slowest}, ${kept.slowest} ms`);
  assertEquals(zombiesOf(server.pid), []);
}

Deno.test("servePrefork() loses no client if the worker that was woken is killed", async () => {
  await using folder = scratch();
  // No other worker comes and accepts while there is a file of that name.
  const hold = `${folder.path}/hold`;
  const app = writeApp(
    folder.path,
    `export { default } from "${new URL("prefork/app.ts", import.meta.url)}";
     export async function onWorkerStart() {
       const names = () => [...Deno.readDirSync("${folder.path}")].map(({ name }) => name);
       while (names().includes("hold")) await new Promise((resolve) => setTimeout(resolve, 10));
     }`,
  );
  await using server = await startServer([], { app });
  for (let i = 0; i < 4; i++) {
    const { workers } = server;
    Deno.writeTextFileSync(hold, "");
    for (const pid of workers) Deno.kill(pid, "SIGSTOP");
    await until(() => workers.every((pid) => processState(pid)?.state === "T"), "both to stop");
    const answer = server.get("/pid");
    await until(() => backlog(server.port) === 1, "the connection to wait");
    Deno.kill(workers[i % 2]!, "SIGKILL");
    Deno.kill(workers[1 - i % 2]!, "SIGCONT");
    assertEquals(await within(answer, 10_000, "the answer"), `${workers[1 - i % 2]}`);
    Deno.removeSync(hold);
    await server.replaced([workers[i % 2]!]);
  }
});

/** How many connections wait to be accepted: the receive queue of a listening socket. */
function backlog(port: number): number {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const line = Deno.readTextFileSync("/proc/net/tcp").match(
    new RegExp(`:${hex} \\S+ 0A \\w+:(\\w+)`),
  );
  return parseInt(line?.[1] ?? "", 16);
}

withEachKindOfWorker(
  "servePrefork() loses one worker and one client to a handler that never returns",
  async (kind) => {
    await using server = await startServer([...kind, "--timeout", "3"]);
    await using others = new Load({ hostname: "127.0.0.1", port: server.port }, {
      clients: 2,
      pause: 5,
    });
    await until(() => others.ok > 50, "some load");
    const { workers } = server;
    const spinning = await server.get("/spin").catch((error) => error);
    assert(spinning instanceof Error);
    const [, pid] = await server.logged(
      /Worker \d \(pid (\d+)\) ended: killed because its event loop was blocked for 3 s, 1 in flight, last request GET http:\/\/127\.0\.0\.1:\d+\/spin$/m,
    );
    const after = await server.replaced([Number(pid)]);
    assertEquals(after.filter((pid) => workers.includes(pid)).length, 1);
    await others.stop();
    // Whoever came to that worker at the same moment hangs with it.
    assert(others.failures.length <= 2, `${others}`);
    assert(others.slowest < 3000, `another client waited ${others.slowest} ms`);
  },
);

Deno.test("servePrefork() kills no worker if the whole server was suspended for longer than --timeout", async () => {
  await using server = await startServer(["--timeout", "2"]);
  const slow = server.get("/sleep?ms=2000");
  const all = [server.pid, ...server.workers];
  for (const pid of all) Deno.kill(pid, "SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  // The master looks at its workers before they can give a sign of life.
  const looks = () => {
    const status = Deno.readTextFileSync(`/proc/${server.pid}/status`);
    return Number(status.match(/^voluntary_ctxt_switches:\t(\d+)$/m)![1]);
  };
  const before = looks();
  Deno.kill(server.pid, "SIGCONT");
  await until(() => looks() >= before + 2, "a look at the workers");
  for (const pid of server.workers) Deno.kill(pid, "SIGCONT");
  assert(all.includes(Number(await slow)));
  assertEquals([server.pid, ...server.workers], all, server.stderr);
});

Deno.test("servePrefork() answers 500 when the handler throws, and continues", async () => {
  await using server = await startServer();
  const { workers } = server;
  assertEquals(await server.get("/throw"), "Internal Server Error");
  await server.logged(/Error: thrown by the handler/);
  assertEquals(await server.get("/"), "Hello, World!\n");
  assertEquals(server.workers, workers);
});

withEachKindOfWorker(
  "servePrefork() replaces a worker that exits, runs out of memory or crashes",
  async (kind) => {
    await using server = await startServer(kind, {
      flags: ["--v8-flags=--max-old-space-size=80"],
      shell: "ulimit -c 0;",
    });
    await using others = new Load({ hostname: "127.0.0.1", port: server.port }, {
      clients: 2,
      pause: 5,
    });
    const ends = {
      "/exit": /ended: exit 3/,
      "/reject-later": /ended: exit 1/,
      "/oom": /ended: killed by SIG(TRAP|ABRT|ILL|SEGV)/,
      "/crash": /ended: killed by SIGSEGV/,
    };
    for (const [path, end] of Object.entries(ends)) {
      const { workers } = server;
      await server.get(path).catch(() => "gone");
      await server.logged(end);
      const after = await until(() => server.workers.length === 2 && server.workers, "two workers");
      assertEquals(after.filter((pid) => workers.includes(pid)).length, 1, path);
    }
    await others.stop();
    // A worker that dies may lose at most one request of each other client.
    assert(others.failures.length <= 2 * Object.keys(ends).length, `${others}`);
    assertStringIncludes(server.stderr, "Error: rejected later");
    assertEquals(server.stderr.match(/ended:/g)?.length, 4, server.stderr);
  },
);

Deno.test("servePrefork() ends with the app's error when no worker can start", async () => {
  await using folder = scratch();
  const broken = {
    "no-preload": `throw new Error("no database");`,
    "preload": `export default { fetch: () => new Response() };
      export function onWorkerStart() { throw new Error("no database"); }`,
  };
  for (const [flag, source] of Object.entries(broken)) {
    const args = flag === "no-preload" ? ["--no-preload"] : [];
    await using server = spawnServer(args, { app: writeApp(folder.path, source) });
    assertEquals(await server.ended(), { code: 1, signal: null });
    const forks = new Set(server.stderr.match(/(?<=Worker \d \(pid )\d+/g));
    if (flag === "no-preload") {
      // It cannot be loaded: no worker is started again.
      assertMatch(server.stderr, /failed to start: exit 1: Cannot load .*no database/);
      assert(forks.size <= 2, `${forks.size} forks`);
    } else {
      assertMatch(server.stderr, /workers in a row failed to start, the last one: .*no database/);
      assert(forks.size >= 3 && forks.size <= 12, `${forks.size} forks`);
    }
  }
});

withEachKindOfWorker(
  "servePrefork() waits for slow workers, and stops while they start",
  async (kind) => {
    await using folder = scratch();
    const app = writeApp(
      folder.path,
      `export default { fetch: () => new Response("ready") };
     export const onWorkerStart = () => new Promise((resolve) => setTimeout(resolve, 700));`,
    );
    {
      await using server = await startServer(kind, { app });
      assertEquals(await server.get("/"), "ready");
    }
    writeApp(
      folder.path,
      `export default { fetch: () => new Response() };
     export const onWorkerStart = () => new Promise(() => setInterval(() => {}, 1000));`,
    );
    await using server = spawnServer(kind, { app });
    await until(() => childrenOf(server.pid).length === 2, "both workers");
    server.kill(); // which those that start do not hear
    assertEquals(await server.ended(15_000), { code: 0, signal: null });
  },
);

withEachKindOfWorker(
  "servePrefork() kills workers that are not ready within --boot-timeout",
  async (kind) => {
    await using folder = scratch();
    const app = writeApp(
      folder.path,
      `export default { fetch: () => new Response() };
     export function onWorkerStart({ number }) {
       if (number === 1) for (;;);
       return new Promise(() => setInterval(() => {}, 1000));
     }`,
    );
    await using server = spawnServer([...kind, "--boot-timeout", "0.3"], { app });
    assertEquals(await server.ended(15_000), { code: 1, signal: null });
    for (const number of [1, 2]) {
      assertMatch(
        server.stderr,
        new RegExp(`Worker ${number} .*: killed because it was not ready within 0.3 s`),
      );
    }
  },
);

withEachKindOfWorker(
  "servePrefork() leaves nothing behind when its master is killed",
  async (kind) => {
    await using server = await startServer([...kind, "--timeout", "4", "--grace", "4"]);
    const { workers } = server;
    const slow = server.get("/sleep?ms=1000");
    const endless = server.get("/stream?count=1000&ms=100").catch(() => "cut");
    await until(() => server.inFlight === 2, "both requests");
    server.kill("SIGKILL");
    assert(workers.includes(Number(await slow)));
    assertEquals(await endless, "cut");
    await until(() => workers.every((pid) => processState(pid) === undefined), "the end");
    await server.ended(); // and what the workers have written
    // There is nobody else to tell why the server has ended.
    const said = /\[worker \d (\d+)\] The master has ended unexpectedly: stopping, within 4 s/g;
    const pids = [...server.stderr.matchAll(said)].map(([, pid]) => Number(pid));
    assertEquals(pids.sort(), [...workers].sort());
    assert(isPortFree(server.port));
  },
);

withEachKindOfWorker(
  "servePrefork() leaves no spinning worker behind when its master is killed",
  async (kind) => {
    await using server = await startServer([...kind, "--timeout", "2", "--workers", "1"]);
    const { workers } = server;
    const spinning = server.get("/spin").catch(() => "cut");
    await until(() => server.inFlight === 1, "the request");
    await until(() => processState(workers[0]!)?.state === "R", "the worker to spin");
    server.kill("SIGKILL");
    assertEquals(await spinning, "cut");
    await until(() => processState(workers[0]!) === undefined, "the worker's end");
    assert(isPortFree(server.port));
  },
);

Deno.test("servePrefork() keeps supervising when the master has no descriptor left", async () => {
  await using server = await startServer();
  const [first, second] = server.workers;
  const raise = await lowerLimit(server.pid, "nofile", 8); // which are all in use
  Deno.kill(first!, "SIGKILL");
  await server.logged(/Cannot start a worker, trying again in a second: .*(EMFILE|open files)/);
  assertEquals(await server.get("/pid"), `${second}`);
  server.kill("SIGHUP"); // needs descriptors too
  server.kill("SIGUSR2");
  server.kill("SIGTTIN");
  await server.logged(/3 workers from now on/);
  assertEquals(await server.get("/pid"), `${second}`);
  await raise();
  await until(() => server.workers.length === 3, "all workers");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("servePrefork() accepts again when a worker had no descriptor left for a while", async () => {
  await using server = await startServer(["--workers", "1"]);
  const [worker] = server.workers;
  await limitDescriptors(worker!, 12);
  const clients: Deno.Conn[] = [];
  try {
    for (let i = 0; i < 20; i++) clients.push(await Deno.connect({ port: server.port }));
    await server.logged(/Cannot accept: .*Too many open files.* Trying again/);
  } finally {
    for (const client of clients) client.close();
  }
  assertEquals(await server.get("/pid"), `${worker}`);
  assertEquals(server.workers, [worker]);
});

Deno.test("servePrefork() keeps supervising when fork() fails", async () => {
  await using server = startFunction(
    async () => {
      // As root there would be no limit. All modules are loaded before the user changes.
      tine.becomeForkable({
        signals: [tine.SIGCHLD, tine.SIGTERM, tine.SIGINT, tine.SIGQUIT, tine.SIGHUP]
          .concat([tine.SIGUSR1, tine.SIGUSR2, tine.SIGTTIN, tine.SIGTTOU]),
      });
      const { servePrefork } = await import(Deno.args[0]!);
      if (tine.getuid() === 0) {
        tine.setgid(54321);
        tine.setuid(54321);
        tine.prctl(tine.PR_SET_DUMPABLE, 1); // keep /proc/self readable
      }
      const app = { fetch: () => new Response(`${tine.getpid()}`) };
      Deno.exit(await servePrefork(app, { port: 0, hostname: "127.0.0.1", workers: 2 }));
    },
    [new URL("../server/prefork.ts", import.meta.url).href],
    { flags: ["--allow-all"] },
  );
  const [, port] = await server.logged(/Serving \S+:(\d+)\/ with/);
  const [first, second] = childrenOf(server.pid);
  const descriptors = descriptorsOf(server.pid).size;
  const { hard } = tine.getrlimit(tine.RLIMIT_NPROC);
  const limit = async (soft: number) => {
    const uid = Deno.statSync(`/proc/${server.pid}`).uid!;
    const user = uid === tine.getuid()
      ? []
      : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
    const [command, ...args] = [...user, "prlimit", "--pid", `${server.pid}`, `--nproc=${soft}:`];
    const { success } = await new Deno.Command(command!, { args }).output();
    assert(success, "prlimit failed");
  };
  await limit(0);
  Deno.kill(first!, "SIGKILL");
  await server.logged(/Cannot start a worker, trying again in a second: .*EAGAIN/);
  assertEquals(await ask(Number(port), "/"), `${second}`);
  await limit(hard);
  await until(() => childrenOf(server.pid).length === 2, "another worker");
  // A child can be seen before the parent has done with its fork.
  await until(() => descriptorsOf(server.pid).size <= descriptors, "the descriptors from before");
  const attempts = [...server.stderr.matchAll(/^(\S+) .*Cannot start a worker/gm)]
    .map(([, time]) => Date.parse(time!));
  attempts.slice(1).forEach((time, i) => assert(time - attempts[i]! >= 998, server.stderr));
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
});

/** Whether the kernel refuses to copy more memory than there is: it depends on a setting. */
const limitsMemory = Deno.readTextFileSync("/proc/sys/vm/overcommit_memory").trim() === "0";

Deno.test({
  name: "servePrefork() keeps supervising when there is no memory for fork() (needs overcommit 0)",
  ignore: !limitsMemory,
  fn: async () => {
    await using folder = scratch();
    const full = `${folder.path}/full`;
    const app = writeApp(
      folder.path,
      `import * as tine from "${new URL("mod.ts", ROOT)}";
       const { symbols: { mmap, munmap } } = Deno.dlopen("libc.so.6", {
         mmap: { parameters: ["u64", "usize", "i32", "i32", "i32", "i64"], result: "u64" },
         munmap: { parameters: ["u64", "usize"], result: "i32" },
       });
       const [PROT_READ_WRITE, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS] = [3, 2, 0x10, 0x20];
       // The kernel grants each half, and joins them. It does not grant the whole to a child.
       const page = 2n ** 12n;
       const half = BigInt(Deno.systemMemoryInfo().total) * 6n / 10n / page * page;
       const master = tine.getpid();
       let start;
       const now = performance.now.bind(performance);
       // The only thing of the program's that the master calls.
       performance.now = () => {
         if (tine.getpid() !== master) return now();
         let isFull = true;
         try {
           Deno.statSync("${full}");
         } catch {
           isFull = false;
         }
         if (isFull && start === undefined) {
           start = mmap(0n, 2n * half, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0n);
           for (const from of [start, start + half]) {
             mmap(from, half, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0n);
           }
         } else if (!isFull && start !== undefined) {
           munmap(start, 2n * half);
           start = undefined;
         }
         return now();
       };
       export default { fetch: () => new Response(String(tine.getpid())) };`,
    );
    await using server = await startServer([], { app });
    const [first, second] = server.workers;
    const descriptors = descriptorsOf(server.pid).size;
    Deno.writeTextFileSync(full, "");
    Deno.kill(first!, "SIGKILL");
    await server.logged(/(Cannot start a worker, trying again in a second: .*ENOMEM[^]*){2}/);
    server.kill("SIGHUP");
    await server.logged(/Cannot fork: ENOMEM .*, the old code stays in use/);
    assertEquals(await server.get("/"), `${second}`);
    Deno.removeSync(full);
    await until(() => childrenOf(server.pid).length === 2, "another worker");
    assert(childrenOf(server.pid).includes(second!));
    await until(
      () => descriptorsOf(server.pid).size === descriptors,
      "the descriptors from before",
    );
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  },
});

Deno.test("servePrefork() keeps serving and supervising when nothing can be logged", async () => {
  const places = { closed: "exec 1>&- 2>&-;", full: "exec 1>/dev/full 2>/dev/full;" };
  for (const [place, shell] of Object.entries(places)) {
    const port = freePort();
    await using server: Server = spawnServer(["--port", `${port}`], { shell });
    server.port = port;
    const ready = () => {
      try {
        return server.workers.length === 2 && server.workers;
      } catch {
        return false; // no server yet
      }
    };
    const [first] = await until(ready, `the workers of the server with ${place} output`);
    assertEquals(await server.get("/throw"), "Internal Server Error");
    Deno.kill(first!, "SIGKILL");
    const workers = await server.replaced([first!]);
    server.kill("SIGHUP");
    await server.replaced(workers);
    assertEquals(await server.get("/"), "Hello, World!\n");
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  }
});
