/** A master whose V8 has a worker thread that never sleeps again: it cannot fork. */
import { assertMatch } from "@std/assert";
import { ask, startServer, until } from "./support.ts";

const PTRACE_DETACH = 17;
const PTRACE_SEIZE = 0x4206;
const PTRACE_INTERRUPT = 0x4207;
const WALL = 0x4000_0000; // wait for threads, too

Deno.test("servePrefork() re-executes a master in which one of V8's threads got stuck", async () => {
  const libc = Deno.dlopen("libc.so.6", {
    ptrace: { parameters: ["i32", "i32", "usize", "usize"], result: "i64" },
    waitpid: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  });
  const { ptrace, waitpid } = libc.symbols;
  await using server = await startServer();
  // A thread that is stopped while it sleeps has been woken, and does not run.
  const tids = [...Deno.readDirSync(`/proc/${server.pid}/task`)].map(({ name }) => Number(name))
    .filter((tid) => /V8/.test(Deno.readTextFileSync(`/proc/${server.pid}/task/${tid}/comm`)));
  for (const tid of tids) {
    ptrace(PTRACE_SEIZE, tid, 0n, 0n);
    ptrace(PTRACE_INTERRUPT, tid, 0n, 0n);
    waitpid(tid, null, WALL);
  }
  try {
    // Each new worker makes the master allocate, until V8 collects garbage and wakes a thread.
    await until(
      () => {
        if (/V8's worker threads did not go to sleep/.test(server.stderr)) return true;
        const [worker] = server.workers;
        if (worker !== undefined) Deno.kill(worker, "SIGKILL");
        return false;
      },
      "a fork that fails",
      30_000,
    );
    // execve() ends the threads, and then waits until their tracer has seen it.
    const seen = new Set<number>();
    await until(
      () => {
        for (const tid of tids) if (waitpid(tid, null, WALL | 1) === tid) seen.add(tid);
        return seen.size === tids.length;
      },
      "the end of the threads",
      30_000,
    );
  } finally {
    for (const tid of tids) ptrace(PTRACE_DETACH, tid, 0n, 0n);
    libc.close();
  }
  await server.logged(/This process can no longer fork: re-executing the master/);
  await until(() => server.workers.length === 2, "new workers");
  assertMatch(await ask(server.port, "/pid"), /^\d+/);
});
