import { SyscallError } from "../errno.ts";
import { compile, errno, libc } from "../libc.ts";
import { _exit, getpid } from "../process.ts";
import {
  type ChildSignals,
  lendSignals,
  planChildSignals,
  regainSignals,
  takeSignals,
} from "./child_signals.ts";
import { isForkable } from "./become_forkable.ts";
import { ASSUMPTIONS } from "../runtime/assumptions.ts";
import { discardStock, makeEntropyForkSafe } from "../runtime/entropy.ts";
import { renewFetch } from "../runtime/fetch.ts";
import { replaceGetter, replaceGlobal } from "../runtime/globals.ts";
import { forkWithHeap } from "../runtime/heap.ts";
import { allowWayBack, leaveNoWayBack } from "./no_way_back.ts";
import { hasNodeProcess, renewNodePid } from "../runtime/node_process.ts";
import { parkPool, poolRoom, releasePool, setPoolRoom, tryToParkPool } from "../runtime/pool.ts";
import { hasWork, rebuildEventLoop, surveyEventLoop } from "../runtime/event_loop.ts";
import { abandonTimers, watchTimers } from "../runtime/timers.ts";

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
 * The child leaves with `_exit()`. Its random state, `Deno.pid` and `process.pid` are its own.
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
 *   runtime could not be brought to a safe point in time, or its pool has too many threads for
 *   a child to have any; nothing was forked then.
 * @throws {SyscallError} `EAGAIN` when the user has too many processes, `ENOMEM`; with
 *   `{ runtime: true }` also `EMFILE` when no descriptor is left, and `EACCES` after `setuid()`, until
 *   `prctl(PR_SET_DUMPABLE, 1)` lets the process look at its own threads again.
 *
 * @example
 * ```ts ignore
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
/** How many threads of its own a child with a runtime must be able to have. */
const LEAST_ROOM = 4;
/** With fewer, the pool is not left parked: what the program begins now would make it grow. */
const ENOUGH_ROOM = 24;

/** The cheap kind: the child has nothing to do before it returns, for all it touches is copied. */
function forkProcess(): number {
  prepare();
  // All at once, for a short-lived child would make its own each time.
  compile();
  leaveNoWayBack(tryToParkPool(LITTLE_PATIENCE));
  return forkAndPart(planChildSignals());
}

function forkWithRuntime(): number {
  prepare();
  // Before they are given anything to do, which would keep them.
  if (poolRoom() < LEAST_ROOM) {
    throw new Error(
      "Cannot fork with a runtime: too many threads of its pool are in use here for a child to " +
        `make any. An idle one ends after ${ASSUMPTIONS.poolIdleSeconds.value} seconds: fork then, ` +
        "or read fewer files at a time",
    );
  }
  const busy = parkPool(PATIENCE);
  if (busy.length > 0) {
    throw new Error(
      `Cannot fork with a runtime: ${busy.length} of its threads did not come to rest within ` +
        `${PATIENCE / 1000} seconds. Fork when no file operation or other blocking work is ` +
        `under way (they were last seen in: ${busy.join("; ")})`,
    );
  }
  const room = poolRoom();
  const survey = surveyEventLoop();
  const signals = planChildSignals();
  const pid = forkAndPart(signals);
  if (pid !== 0) {
    if (room < ENOUGH_ROOM) releasePool();
    return pid;
  }
  try {
    setPoolRoom(room);
    allowWayBack();
    rebuildEventLoop(survey);
    if (hasWork(survey)) renewFetch();
    if (signals.foreign.length > 0) refuseSignalListeners();
    abandonTimers();
    return 0;
  } catch (error) {
    // The caller takes an error of fork() for the parent's: a child may not throw one.
    console.error(`error: forked child ${getpid()} cannot have a runtime: ${error}`);
    _exit(1);
  }
}

/** fork(2), and what each side does first about signals and random numbers. */
function forkAndPart(signals: ChildSignals): number {
  // Read here, not in the child: V8 optimizes what the parent does often, and where the child does
  // anything that the parent never did, it must give that code up first: 60 page faults.
  const { childsWork } = signals;
  const hasNodePid = hasNodeProcess();
  lendSignals(signals);
  const pid = forkWithHeap();
  if (pid === 0) {
    if (childsWork) takeSignals(signals);
    if (hasNodePid) renewNodePid();
    return 0;
  }
  // errno, if it failed, is read before anything else.
  const failure = pid === -1 ? new SyscallError("fork", errno()) : undefined;
  regainSignals(signals);
  if (failure !== undefined) throw failure;
  discardStock();
  return pid;
}

// Deno has one thread for all listeners, made with the first. The parent's did not come along.
function refuseSignalListeners(): void {
  replaceGlobal("Deno.addSignalListener", () => (signum) => {
    throw new Error(
      `Cannot listen to ${signum} in this child: Deno made its thread for signals before the fork. ` +
        `Fork within ${ASSUMPTIONS.signalsAfter.value} seconds of the start, or from a loop that ` +
        "does not await",
    );
  });
}

const M_MXFAST = 1;

let prepared = false;

/** Before the first fork: what a copy of this process would get wrong. */
function prepare(): void {
  makeEntropyForkSafe();
  if (prepared) return;
  prepared = true;
  watchTimers();
  // Between these two nothing may be allocated.
  compile(["madvise", "fork", "open", "read_few", "close"]);
  // glibc lets small free blocks pile up and merges them all at some later call. Were
  // that a child's, it would have to copy every page that one of them lies in.
  libc().mallopt(M_MXFAST, 0);
  replaceGetter("Deno.pid", getpid);
}
