import { _exit } from "../process.ts";
import { fork, LEAST_ROOM } from "./fork.ts";
import { ASSUMPTIONS } from "../runtime/assumptions.ts";
import { poolRoom } from "../runtime/pool.ts";
import { awaitModuleWatcher } from "../runtime/file_watcher.ts";
import { delay, nextTurn } from "../runtime/timers.ts";

/**
 * Forks a child that runs a function and ends. The child never continues in the caller's code,
 * whatever the function does: `_exit()` is called in a `finally`.
 *
 * @param child Runs in the child. Its return value is the exit code, 0 if `undefined`. If it
 *   throws, the error is printed and the exit code is 1.
 * @returns The child's pid.
 * @throws {Error} If the process is not forkable.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, `ENOMEM`.
 *
 * @example
 * ```ts ignore
 * import { becomeForkable, forkChild, waitpid } from "@tine/tine";
 *
 * becomeForkable();
 * const pid = forkChild(() => console.log("in the child"));
 * console.log(waitpid(pid).status);
 * ```
 */
export function forkChild(child: () => number | void): number {
  const pid = fork();
  if (pid !== 0) return pid;
  let code = 1;
  try {
    code = child() ?? 0;
  } catch (error) {
    report(error);
  } finally {
    _exit(exitCode(code));
  }
}

/**
 * How long {@linkcode forkRuntimeChild} waits for threads of the pool to end, in milliseconds: a
 * little longer than it takes an idle one.
 */
const ROOM_PATIENCE = 1000 * ASSUMPTIONS.poolIdleSeconds.value + 5000;

/**
 * Forks a child that has an event loop of its own, runs an asynchronous function and ends. The
 * child continues neither in the caller's code nor in other code that is pending in the parent: the
 * fork happens when none is pending.
 *
 * If the runtime's pool has so many threads that the child could not start any, this function waits
 * until the idle ones end, about 10 seconds. (`fork()` does not: meanwhile, nothing else would
 * run.)
 *
 * @param child Runs in the child. The value it resolves to is the exit code, 0 if `undefined`. If
 *   it rejects, the error is printed and the exit code is 1.
 * @returns The child's pid.
 * @throws {Error} If the process is not forkable, or the runtime could not be brought to a safe
 *   point in time.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, `ENOMEM`.
 *
 * @example
 * ```ts ignore
 * import { becomeForkable, forkRuntimeChild, waitpid } from "@tine/tine";
 *
 * becomeForkable();
 * const pid = await forkRuntimeChild(async () => {
 *   console.log(await (await fetch("data:,in the child")).text());
 * });
 * console.log(waitpid(pid).status);
 * ```
 */
export async function forkRuntimeChild(child: () => Promise<number | void>): Promise<number> {
  let pid: number | undefined;
  for (const end = performance.now() + ROOM_PATIENCE; pid === undefined;) {
    await awaitModuleWatcher();
    // No promise job is pending when a turn of the event loop begins.
    await nextTurn();
    try {
      pid = fork({ runtime: true });
    } catch (error) {
      if (poolRoom() >= LEAST_ROOM || performance.now() > end) throw error;
      await delay(200);
    }
  }
  if (pid !== 0) return pid;
  let code = 1;
  try {
    code = await child() ?? 0;
  } catch (error) {
    report(error);
  } finally {
    _exit(exitCode(code));
  }
}

function report(error: unknown): void {
  console.error("error: Uncaught", error);
}

// _exit() rejects an invalid exit code, but in a `finally` the child must end in any case.
function exitCode(code: number): number {
  if (Number.isInteger(code) && code >= 0 && code <= 255) return code;
  console.error(`error: A child returned ${code}: expected an exit code from 0 to 255`);
  return 1;
}
