import { assert, assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import {
  childrenOf,
  descriptorsOf,
  isRunning,
  lowerLimit,
  processState,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** When the lines of the master's log were written that match, in milliseconds since 1970. */
function timesOf({ stderr }: Server, pattern: RegExp): number[] {
  return stderr.split("\n").filter((line) => pattern.test(line))
    .map((line) => Date.parse(line.split(" ")[0]!));
}

/** A file to which an app writes a line for each thing that happens. */
class Journal {
  readonly path: string;
  /** The app's side: `note(what)`. */
  readonly source: string;

  constructor(folder: string) {
    this.path = `${folder}/journal`;
    this.source = `
      const note = (what) =>
        Deno.writeTextFileSync("${this.path}", what + "\\n", { append: true });`;
    Deno.writeTextFileSync(this.path, "");
  }

  get lines(): string[] {
    return Deno.readTextFileSync(this.path).split("\n").slice(0, -1);
  }
}

/** Makes root one without the capability to signal whom it likes. */
const WITHOUT_CAP_KILL = `exec setpriv --inh-caps=-kill --bounding-set=-kill bash -c '"$@"' --`;

// Workers that cannot start

Deno.test("servePrefork() gives up after five failures in a row, with twice the delay after each", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `export default { fetch: () => new Response() };
     export function onWorkerStart({ number }) {
       if (number === 1) throw new Error("no database");
       return new Promise(() => setInterval(() => {}, 1000));
     }`,
  );
  await using server = spawnServer([], { app });
  assertEquals(await server.ended(), { code: 1, signal: null });
  const failures = timesOf(server, /Worker 1 .* failed to start: exit 1: no database$/);
  assertEquals(failures.length, 5, server.stderr);
  const end = server.stderr.split("\n").slice(-4).map((line) => line.replace(/.*] /, ""));
  assertEquals(end, [
    "5 workers in a row failed to start, the last one: no database",
    "Giving up: stopping 1 worker immediately",
    "Stopped",
    "",
  ]);
  const delays = failures.slice(1).map((time, i) => time - failures[i]!);
  for (const [i, least] of [100, 200, 400, 800].entries()) {
    assert(delays[i]! >= least - 2, `${delays} ms between the failures`);
  }
});

Deno.test("servePrefork() counts the failures since a worker was ready, and no earlier ones", async () => {
  await using folder = scratch();
  const journal = new Journal(folder.path);
  const app = writeApp(
    folder.path,
    `${journal.source}
     export default { fetch: () => Deno.exit(3) };
     export function onWorkerStart() {
       note("start");
       if (Deno.readTextFileSync("${journal.path}").length / 6 % 4 !== 0) {
         throw new Error("not\\nyet" + ", alas".repeat(100_000)); // more than fits into one message
       }
     }`,
  );
  await using server = await startServer(["--workers", "1"], { app });
  const [worker] = server.workers;
  await server.get("/").catch(() => "gone");
  await server.replaced([worker!], 1);
  assertEquals(journal.lines.length, 8);
  const failures = () => server.stderr.match(/failed to start: exit 1: not \| yet, alas/g)?.length;
  await until(() => failures() === 6, "six failures in the log");
});

Deno.test("servePrefork() delays the replacement of a worker that ended immediately, unless it has served", async () => {
  await using folder = scratch();
  const journal = new Journal(folder.path);
  const app = writeApp(
    folder.path,
    `${journal.source}
     const isPatient = () => Deno.readTextFileSync("${folder.path}/patience") === "yes";
     export default {
       fetch: () => Deno.exit(4),
       onListen: () => setTimeout(() => isPatient() || Deno.exit(3), 20),
     };
     export const onWorkerStart = ({ pid }) => note(pid + " " + Date.now());`,
  );
  const patience = (is: "yes" | "no") => Deno.writeTextFileSync(`${folder.path}/patience`, is);
  patience("no");
  await using server = await startServer(["--workers", "1"], { app });

  /** The times from the ends with an exit code to the starts of the next workers. */
  function delays(code: number): number[] {
    const ends = server.stderr.matchAll(
      new RegExp(`^(\\S+) .*\\(pid (\\d+)\\) ended: exit ${code}`, "gm"),
    );
    return [...ends].flatMap(([, time, pid]) => {
      const { lines } = journal;
      const next = lines[lines.findIndex((line) => line.startsWith(`${pid} `)) + 1];
      return next === undefined ? [] : [Number(next.split(" ")[1]) - Date.parse(time!)];
    });
  }

  await until(() => delays(3).length >= 5, "five workers that end at once");
  patience("yes");
  const waited = delays(3);
  assert(Math.min(...waited) >= 98, `${waited} ms until the next worker`);
  // Not the time between two looks at the clock.
  assert(Math.min(...waited) < 900, `${waited} ms until the next worker`);
  // On a busy machine not each one can be so quick.
  await until(async () => {
    await server.get("/").catch(() => "gone");
    return delays(4).some((delay) => delay < 98);
  }, "a worker that is replaced at once");
});

Deno.test("servePrefork() logs why a worker failed, even if the reason arrives after its end", async () => {
  await using folder = scratch();
  const flag = (name: string) => Deno.writeTextFileSync(`${folder.path}/${name}`, "");
  const app = writeApp(
    folder.path,
    `const has = (name) => [...Deno.readDirSync("${folder.path}")].some((file) => file.name === name);
     export default { fetch: () => new Response() };
     export async function onWorkerStart() {
       if (!has("broken")) return;
       while (!has("late")) await new Promise((resolve) => setTimeout(resolve, 10));
       throw new Error("no database");
     }`,
  );
  await using server = await startServer([], { app });
  const { workers } = server;
  flag("broken");
  Deno.kill(workers[0]!, "SIGKILL");
  const pid = await until(
    () => childrenOf(server.pid).find((child) => !workers.includes(child)),
    "the next worker",
  );
  server.kill("SIGSTOP");
  flag("late");
  await until(() => !isRunning(pid), "its end");
  server.kill("SIGCONT");
  await server.logged(new RegExp(`\\(pid ${pid}\\) failed to start: exit 1: no database`));
});

// Workers that hang

Deno.test("servePrefork() kills a single stopped worker, and replaces it", async () => {
  await using server = await startServer(["--timeout", "2", "--boot-timeout", "4"]);
  const [first, second] = server.workers;
  Deno.kill(first!, "SIGSTOP");
  await server.logged(
    new RegExp(
      `Worker \\d \\(pid ${first}\\) ended: killed because its event loop was blocked for 2 s$`,
      "m",
    ),
  );
  const workers = await server.replaced([first!]);
  assert(workers.includes(second!), server.stderr);
});

Deno.test("servePrefork() continues when it may not kill a hung worker (needs root)", {
  ignore: Deno.uid() !== 0,
}, async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `import { getpid, setuid } from "${new URL("../mod.ts", import.meta.url)}";
     export default {
       fetch(request) {
         if (new URL(request.url).pathname === "/spin") for (;;);
         return new Response(String(getpid()));
       },
     };
     export const onWorkerStart = () => setuid(65534);`,
  );
  await using server = await startServer(["--timeout", "1"], {
    app,
    shell: WITHOUT_CAP_KILL,
  });
  const spinning = server.get("/spin").catch(() => "cut");
  const [, pid] = await server.logged(/Cannot kill (\d+) with SIGKILL: EPERM/);
  assertEquals(Number(await server.get("/")) === Number(pid), false);
  // Its own watchdog can.
  await server.logged(new RegExp(`\\(pid ${pid}\\) ended: killed by SIG`));
  assertEquals(await spinning, "cut");
  await server.replaced([Number(pid)]);
  const attempts = timesOf(server, new RegExp(`Cannot kill ${pid} .*Trying again in 10 s`));
  attempts.slice(1).forEach((time, i) => assert(time - attempts[i]! >= 9998, server.stderr));
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
});

// The master itself

Deno.test("servePrefork() keeps serving when it may not kill its canary (needs root)", {
  ignore: Deno.uid() !== 0,
}, async () => {
  await using folder = scratch();
  const source = "export default { fetch: () => new Response('old') };";
  const app = writeApp(folder.path, source);
  await using server = await startServer(["--boot-timeout", "2"], { app, shell: WITHOUT_CAP_KILL });
  const { workers } = server;
  writeApp(
    folder.path,
    `import { setuid } from "${new URL("../mod.ts", import.meta.url)}";
     setuid(65534);
     for (;;); // its own time limit cannot end it`,
  );
  server.kill("SIGHUP");
  const refusal = /Cannot kill (\d+) with SIGKILL: EPERM/;
  const [, canary] = await server.logged(new RegExp(`${refusal.source}[^]*${refusal.source}`));
  const times = timesOf(server, refusal);
  times.slice(1).forEach((time, i) => assert(time - times[i]! >= 998, server.stderr));
  assertEquals(await server.get("/"), "old");
  assertEquals(server.workers, workers);
  Deno.kill(Number(canary), "SIGKILL");
  await server.logged(/The new code cannot be loaded \(killed by SIGKILL\)/);
  Deno.kill(workers[0]!, "SIGKILL");
  await server.replaced([workers[0]!]);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

withEachKindOfWorker(
  "servePrefork() leaves no booting worker behind when its master is killed",
  async (kind) => {
    await using folder = scratch();
    const booting = writeApp(
      folder.path,
      `export default { fetch: () => new Response() };
     export async function onWorkerStart() {
       console.log("booting");
       await new Promise(() => setInterval(() => {}, 1000));
     }`,
    );
    for (const timeout of ["30", "0"]) {
      await using server = spawnServer([...kind, "--workers", "1", "--timeout", timeout], {
        app: booting,
      });
      await server.printed(/booting/);
      const [worker] = childrenOf(server.pid);
      try {
        server.kill("SIGKILL");
        await until(() => !isRunning(worker!), "the worker's end");
      } finally {
        if (isRunning(worker!)) Deno.kill(worker!, "SIGKILL");
      }
    }
  },
);

// How many workers there are

Deno.test("servePrefork() replaces workers one by one, each once its replacement is ready", async () => {
  await using folder = scratch();
  const journal = new Journal(folder.path);
  const app = writeApp(
    folder.path,
    `${journal.source}
     export default { fetch: () => new Response(), onListen: () => note("ready") };
     export async function onWorkerStart({ number }) {
       note("start");
       await new Promise((resolve) => setTimeout(resolve, 300 + 100 * number));
     }
     export const onWorkerStop = () => note("stop");`,
  );
  const args = ["--workers", "3", "--max-requests", "10", "--admin", `${folder.path}/admin`];
  await using server = await startServer(args, { app });

  /** Has workers replaced; gives how many were starting at most, and serving at least. */
  async function watch(replace: () => unknown, count: number): Promise<[number, number]> {
    const { length } = journal.lines;
    const stops = () => journal.lines.slice(length).filter((line) => line === "stop").length;
    await replace();
    await until(() => stops() >= count, `${count} workers to stop`);
    let [starting, serving, most, least] = [0, 3, 0, 3];
    for (const line of journal.lines.slice(length)) {
      if (line === "start") starting++;
      if (line === "ready") [starting, serving] = [starting - 1, serving + 1];
      if (line === "stop") serving--;
      [most, least] = [Math.max(most, starting), Math.min(least, serving)];
    }
    await until(() => server.workers.length === 3 && childrenOf(server.pid).length === 4, "rest");
    return [most, least];
  }

  const admin = await until(() => readStatus(server.pid).admin?.pid, "the admin process");
  assertEquals(await watch(() => server.kill("SIGUSR2"), 3), [1, 3], `${journal.lines}`);
  assertEquals(readStatus(server.pid).admin?.pid, admin, "it is no worker");
  assertEquals(server.stderr.match(/Serving/g)?.length, 1, server.stderr);
  assertEquals(await watch(() => server.kill("SIGHUP"), 3), [3, 3], `${journal.lines}`);
  const ask = async () => {
    const { length } = journal.lines;
    await until(async () => {
      await server.get("/");
      return journal.lines.length > length;
    }, "a worker that has answered its last request");
  };
  const [, least] = await watch(ask, 1);
  assertEquals(least, 3, `${journal.lines}`);
});

Deno.test("servePrefork() has at most 128 workers, and at least 1", async () => {
  await using server = await startServer(["--workers", "1"]);
  const { workers } = server;
  server.kill("SIGTTOU");
  await server.logged(/1 worker from now on/);
  assertEquals(await server.get("/pid"), `${workers[0]}`);
  await lowerLimit(server.pid, "nofile", 8); // it can fork none
  for (let count = 2; count <= 128; count++) {
    server.kill("SIGTTIN");
    await server.logged(new RegExp(`\\] ${count} workers from now on`));
  }
  server.kill("SIGTTIN");
  await server.logged(/(128 workers from now on[^]*){2}/);
});

Deno.test("servePrefork() adds a worker in place of one that is still stopping", async () => {
  await using server = await startServer();
  await until(() => {
    server.get("/sleep?ms=60000").catch(() => "killed");
    return readStatus(server.pid).workers.every(({ inFlight }) => inFlight > 0);
  }, "both workers to be busy");
  const { workers } = server;
  server.kill("SIGTTOU");
  await until(() => server.workers.length === 1, "one to leave");
  server.kill("SIGTTIN");
  const later = await until(() => server.workers.length === 2 && server.workers, "another one");
  assertEquals(new Set([...workers, ...later]).size, 3);
  assertEquals(new Set(childrenOf(server.pid)), new Set([...workers, ...later]));
});

Deno.test("servePrefork() kills a worker that does not stop within --grace, even after a restart", async () => {
  await using server = await startServer(["--workers", "1", "--grace", "2"]);
  const [worker] = server.workers;
  const slow = server.get("/sleep?ms=60000").catch(() => "killed");
  await until(() => readStatus(server.pid).workers[0]?.inFlight === 1, "the request");
  server.kill("SIGUSR2");
  const [replacement] = await server.replaced([worker!], 1);
  server.kill("SIGHUP"); // which hands on how much time it has left
  await server.replaced([worker!, replacement!], 1);
  assertEquals(await slow, "killed");
  const pattern = new RegExp(
    `\\(pid ${worker}\\) ended: killed because it did not stop within 2 s`,
  );
  await server.logged(pattern);
  const [told, killed] = [/SIGUSR2/, pattern].map((line) => timesOf(server, line)[0]!);
  assert(killed! - told! >= 1998, server.stderr);
});

Deno.test("servePrefork() tells why it has killed a worker, even one whose end it sees after a restart", async () => {
  const PTRACE_SEIZE = 0x4206;
  const libc = Deno.dlopen("libc.so.6", {
    ptrace: { parameters: ["i32", "i32", "usize", "usize"], result: "i64" },
  });
  try {
    await using server = await startServer(["--workers", "1", "--grace", "1"]);
    const [worker] = server.workers;
    const slow = server.get("/sleep?ms=60000").catch(() => "killed");
    await until(() => server.inFlight === 1, "the request");
    // Its parent does not see the end of a process until its tracer has.
    assertEquals(libc.symbols.ptrace(PTRACE_SEIZE, worker!, 0n, 0n), 0n);
    server.kill("SIGUSR2");
    await until(() => processState(worker!)?.state === "Z", "the worker's end");
    server.kill("SIGHUP");
    await server.logged(/re-executing the master/);
    tine.waitpid(worker!);
    await server.logged(
      new RegExp(`\\(pid ${worker}\\) ended: killed because it did not stop within 1 s`),
    );
    assertEquals(await slow, "killed");
  } finally {
    libc.close();
  }
});

// What is left of workers

withEachKindOfWorker(
  "servePrefork() keeps no descriptors of workers that have ended",
  async (kind) => {
    await using server = await startServer(kind);
    const before = descriptorsOf(server.pid);
    for (let i = 0; i < 5; i++) {
      const { workers } = server;
      Deno.kill(workers[0]!, "SIGKILL");
      await server.replaced([workers[0]!]);
    }
    await server.restarted("SIGUSR2");
    await until(() => childrenOf(server.pid).length === 2, "the old workers' end");
    await until(() => descriptorsOf(server.pid).size <= before.size, "the descriptors from before");
  },
);
