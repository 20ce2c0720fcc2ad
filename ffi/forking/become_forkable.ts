import { commandLine, readNumbers } from "../proc.ts";
import {
  heldSignals,
  holdSignals,
  kernelMask,
  programSignals,
  setKernelMask,
} from "../signal_mask.ts";
import { isIgnored, SIG_DFL, signal } from "../signal.ts";
import { checkSignal, SIGCHLD, SIGKILL, signalName, SIGSTOP } from "../signals.ts";
import { blockInEveryThread } from "./block_signals.ts";
import { poolRoom, prepareParking } from "../runtime/pool.ts";
import { hasV8Worker, onMainThread, threadStatus } from "../runtime/threads.ts";
import { watchTimers } from "../runtime/timers.ts";
import { knowsV8Workers } from "../runtime/v8_workers.ts";
import { isSingleThreaded, SINGLE_THREADED } from "../runtime/v8_flags.ts";
import { runAgain, takeMarker, timesRunAgain } from "./run_again.ts";

/** Options for {@linkcode becomeForkable}. */
export interface ForkableOptions {
  /**
   * The signals that the program will handle with {@linkcode signal}. They stay pending until they
   * are handled, and outside interruption points: do not list SIGINT without handling it, or
   * Control-C has no effect. (Signals that are ignored by default, SIGCHLD in particular, may be
   * lost at a fork while nothing handles them.) The default is SIGCHLD.
   */
  readonly signals?: readonly number[];
}

/** The number of threads that children should be able to create. */
const ENOUGH_ROOM = 16;

/**
 * Makes this process forkable. Call it on the first line of a program. It runs the program again
 * from its start, in the same process, with a V8 that does not wait for other threads, and with the
 * signals that the program will handle blocked in every thread. Both can only be set when a process
 * starts. If both are set already, nothing runs again: `env --block-signal=CHLD deno run
 * --v8-flags=--single_threaded program.ts`.
 *
 * The pid, the command line, the arguments, the environment, the working directory, the standard
 * streams and inherited descriptors are preserved. Code before this line runs twice; all other code
 * runs once. In a process that is already forkable, the function returns immediately.
 *
 * If the program was started with SIGCHLD ignored (`trap '' CHLD`), SIGCHLD gets its default action
 * back: the kernel would discard the status of every child, and `waitpid()` would fail with ECHILD.
 *
 * @param options The signals that the program will handle.
 * @throws {Error} If the program cannot be run again (standard input, the REPL), if called in a
 *   worker, or if running it again did not help; the message gives the reason.
 * @throws {RangeError} If a number is not a signal, or is SIGKILL or SIGSTOP, which cannot be
 *   blocked.
 * @throws {SyscallError} If the kernel refuses to run it again.
 * @throws {UnsupportedPlatformError} If /proc is not mounted.
 *
 * @example
 * ```ts ignore
 * import { becomeForkable, forkChild, SIGCHLD, signal, SIGTERM, waitpid } from "@tine/tine";
 *
 * becomeForkable({ signals: [SIGCHLD, SIGTERM] });
 * signal(SIGTERM, () => console.log("told to stop"));
 * waitpid(forkChild(() => console.log("in the child")));
 * ```
 */
export function becomeForkable(options: ForkableOptions = {}): void {
  const wanted = new Set(options.signals ?? [SIGCHLD]);
  for (const signum of wanted) checkHandleable(signum);
  if (!onMainThread()) {
    throw new Error(
      "Cannot become forkable in a worker or a test: only a program's main thread survives " +
        "fork(). Call becomeForkable() in the main program, or start one with Deno.Command",
    );
  }
  commandLine(); // before the program can change it
  // Even if there is nothing else to do: no program may inherit the marker.
  const marker = takeMarker();
  if (isFirstCall && isIgnored(SIGCHLD)) signal(SIGCHLD, SIG_DFL);
  isFirstCall = false;
  // Checked now: at the first fork() there may be no free descriptor to check with.
  const canFork = isForkable();
  if (marker === undefined && wanted.isSubsetOf(heldSignals()) && canFork) return watchTimers();
  const mask = kernelMask();
  const isReady = canFork && !isCrowded() && blockInEveryThread(wanted);
  const obstacle = isReady ? undefined : findObstacle(wanted, canFork);
  if (obstacle === undefined) {
    prepareParking();
    const held = wanted.union(heldSignals());
    holdSignals(held, marker?.mask ?? programSignals().difference(held));
    return watchTimers();
  }
  setKernelMask(mask);
  // A second time only where V8 has threads that tine does not understand: it can do without them.
  const runs = timesRunAgain();
  if (runs > 0 && !(runs === 1 && isSingleThreaded() && !canFork)) {
    throw new Error(`Cannot become forkable: even after the program was run again, ${obstacle}`);
  }
  runAgain(wanted, { lacksWorkers: isSingleThreaded() && !hasUsableWorkers() });
}

/**
 * Whether the program took so many threads at its start (to compile all its modules, for example)
 * that running it again costs less than waiting until they end.
 */
function isCrowded(): boolean {
  return timesRunAgain() === 0 && heldSignals().size === 0 && poolRoom() < ENOUGH_ROOM;
}

/**
 * Whether {@linkcode fork} works here: on the main thread of a process whose V8 does not wait for
 * other threads.
 */
export function isForkable(): boolean {
  return forkable ||= onMainThread() &&
    (!hasV8Worker() || (isSingleThreaded() && knowsV8Workers()));
}

function hasUsableWorkers(): boolean {
  return hasV8Worker() && knowsV8Workers();
}

// A program may ignore SIGCHLD on purpose, with signal(), later.
let isFirstCall = true;

// These threads start with V8 or not at all: once true, this is always true.
let forkable = false;

function checkHandleable(signum: number): void {
  checkSignal(signum);
  if (signum === SIGKILL || signum === SIGSTOP) {
    throw new RangeError(
      `Cannot handle ${signalName(signum)}: a process can neither catch nor block it`,
    );
  }
}

/** Returns what keeps this process from being forkable; `undefined` if nothing does. */
function findObstacle(wanted: ReadonlySet<number>, canFork: boolean): string | undefined {
  if (!canFork) {
    return `V8 waits for threads of its own: --v8-flags disables ${SINGLE_THREADED}`;
  }
  for (const tid of readNumbers("/proc/self/task")) {
    const thread = threadStatus(tid);
    if (thread === undefined) continue; // it has ended in the meantime
    const missing = wanted.difference(thread.blocked);
    if (missing.size > 0) {
      return `thread "${thread.name}" does not block ${[...missing].map(signalName).join(", ")}: ` +
        "name all signals in the program's first becomeForkable(), and call it before any other " +
        "code starts a thread";
    }
  }
  return undefined;
}
