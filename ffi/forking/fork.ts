import { check } from "../errno.ts";
import { handlerOf } from "../interruption.ts";
import { libc } from "../libc.ts";
import { heldSignals, holdSignals, programMask, setKernelMask, signalsIn } from "../signal_mask.ts";
import { isForkable } from "./become_forkable.ts";
import { renewEntropy } from "./entropy.ts";
import { shareHeap } from "./heap.ts";
import { abandonTimers, leaveNoWayBack } from "./no_way_back.ts";
import { isPoolParked, parkPool } from "./pool.ts";
import { renewFetch } from "./fetch.ts";
import { rebuildEventLoop } from "./runtime.ts";

/** What the child gets besides memory and descriptors. */
export interface ForkOptions {
  /**
   * Whether the child gets a live event loop: timers, promises, `fetch`, `Deno.serve`. A
   * child without one is cheaper; it may call anything that is synchronous.
   */
  readonly runtime?: boolean;
}

/**
 * Makes a child: a copy of this process that goes on in the same line, with all
 * of its memory and duplicates of its descriptors.
 *
 * The child leaves with `_exit()`. Its random state and `Deno.pid` are its own.
 * Its signal mask is what it was before `becomeForkable()`; the signals that
 * have a handler stay blocked outside interruption points, as in the parent.
 *
 * With `{ runtime: true }` the child has an event loop of its own. What the
 * parent had under way (timers, sockets and requests of Deno's, subprocesses)
 * stays the parent's: in the child it never goes on.
 *
 * @param options What the child gets.
 * @returns 0 in the child; the child's pid in the parent.
 * @throws {Error} When the process is not forkable, or with `{ runtime: true }` when the
 *   runtime could not be brought to a safe point in time; nothing was forked then.
 * @throws {SyscallError} `EAGAIN` when the user has too many processes, `ENOMEM`.
 *
 * @example
 * ```ts no-run
 * import { _exit, becomeForkable, fork, getpid, getppid, waitpid } from "@tine/tine";
 *
 * becomeForkable();
 * const pid = fork();
 * if (pid === 0) { // child
 *   console.log(`Child PID: ${getpid()}. Parent PID ${getppid()}`);
 *   _exit(0);
 * }
 * waitpid(pid); // parent
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/fork.2.html fork(2)}
 */
export function fork(options: ForkOptions = {}): number {
  if (!isForkable()) {
    throw new Error(
      "Cannot fork: this process is not forkable. Make this the program's first line after its " +
        "imports: becomeForkable();",
    );
  }
  return options.runtime ? forkWithRuntime() : forkProcess();
}

// How long the runtime's pool may take to come to rest, in milliseconds.
const PATIENCE = 2000;
// A child without a runtime needs the pool only to tell of an uncaught exception.
const LITTLE_PATIENCE = 10;

function forkProcess(): number {
  const poolAtRest = isPoolParked() || parkPool(LITTLE_PATIENCE).length === 0;
  shareHeap();
  const pid = check(libc().fork(), "fork");
  if (pid !== 0) return pid;
  becomeChild();
  leaveNoWayBack(poolAtRest);
  return 0;
}

function forkWithRuntime(): number {
  const busy = parkPool(PATIENCE);
  if (busy.length > 0) {
    throw new Error(
      `Cannot fork with a runtime: ${busy.length} of its threads did not come to rest within ` +
        `${PATIENCE / 1000} seconds. Fork when no file operation or other blocking work is ` +
        `under way (they were last seen in: ${busy.join("; ")})`,
    );
  }
  shareHeap();
  const pid = check(libc().fork(), "fork");
  if (pid !== 0) return pid;
  becomeChild();
  if (rebuildEventLoop()) renewFetch();
  abandonTimers();
  return 0;
}

/** What every child must have of its own before any other code runs in it. */
function becomeChild(): void {
  const handled = [...heldSignals()].filter(handlerOf);
  if (handled.length < heldSignals().size) {
    const mask = signalsIn(programMask());
    holdSignals(handled, mask);
    setKernelMask([...mask, ...handled]);
  }
  renewEntropy();
  Object.defineProperty(Deno, "pid", {
    get: libc().getpid,
    enumerable: true,
    configurable: true,
  });
}
