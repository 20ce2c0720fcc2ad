import { isSyscallError, SyscallError } from "../errno.ts";
import { compile, errno, libc } from "../libc.ts";
import { retryOnEintr } from "../interruption.ts";
import { _exit, getpid, kill } from "../process.ts";
import { SIGKILL } from "../signals.ts";
import { SOCK_SEQPACKET, type Socket, socketpair } from "../socket.ts";
import {
  type ChildSignals,
  lendSignals,
  planChildSignals,
  regainSignals,
  takeSignals,
} from "./child_signals.ts";
import { isForkable } from "./become_forkable.ts";
import {
  forkAndTest,
  forkOnTrial,
  needsTest,
  reap,
  TESTED,
  UnsupportedRuntimeError,
} from "./self_check.ts";
import { ASSUMPTIONS } from "../runtime/assumptions.ts";
import { discardStock, makeEntropyForkSafe } from "../runtime/entropy.ts";
import { renewFetch } from "../runtime/fetch.ts";
import {
  checkModuleWatcher,
  leaveModuleWatcher,
  refuseFileWatchers,
} from "../runtime/file_watcher.ts";
import { replaceGetter, replaceGlobal } from "../runtime/globals.ts";
import { forkWithHeap } from "../runtime/heap.ts";
import { findFixedIds } from "../runtime/id_pools.ts";
import { allowWayBack, leaveNoWayBack } from "./no_way_back.ts";
import { hasNodeProcess, redirectNodeKill, renewNodePid } from "../runtime/node_process.ts";
import {
  haveSlept,
  parkPool,
  poolRoom,
  releaseGrowingPool,
  releasePoolNow,
  setPoolRoom,
  tryToParkPool,
  unparkedThreads,
} from "../runtime/pool.ts";
import {
  type EpollInstance,
  hasWork,
  rebuildEventLoop,
  surveyEventLoop,
} from "../runtime/event_loop.ts";
import "../runtime/subprocess_mask.ts";
import { abandonTimers, watchTimers } from "../runtime/timers.ts";
import { awaitV8Workers, describeV8Workers, restartV8Workers } from "../runtime/v8_workers.ts";

/**
 * A process cannot fork because one of V8's worker threads does not go to sleep. They have almost
 * nothing to do, so it may never do so.
 */
export class AwakeThreadsError extends Error {
  /** The class's name. */
  override name = "AwakeThreadsError";

  /** Describes what the threads are doing. */
  constructor() {
    super(
      "Cannot fork: V8's worker threads did not go to sleep within 2 seconds (they were last seen " +
        `in: ${describeV8Workers()})`,
    );
  }
}

/** What the child gets in addition to memory and descriptors. */
export interface ForkOptions {
  /**
   * Whether the child gets a working event loop: timers, promises, `fetch`, `Deno.serve`. A child
   * without one is cheaper; it may call anything that is synchronous.
   */
  readonly runtime?: boolean;
}

/**
 * Creates a child: a copy of this process that continues at the same line, with all of its memory
 * and duplicates of its descriptors.
 *
 * The child ends with `_exit()`. It has its own random state, `Deno.pid` and `process.pid`. Its
 * signal mask is the mask before `becomeForkable()`; signals that have a handler stay blocked
 * outside interruption points, as in the parent.
 *
 * With `{ runtime: true }` the child has an event loop of its own. Work that the parent has in
 * progress (timers, Deno's sockets and requests, subprocesses) remains the parent's: it never
 * continues in the child. Such a child does not end when nothing is left to do: call `_exit()`.
 *
 * @param options Options of the child.
 * @returns 0 in the child; the child's pid in the parent.
 * @throws {UnsupportedRuntimeError} If a self-check, made with the first children, fails: Deno works
 *   differently inside from what tine relies on. No child is left then.
 * @throws {Error} If the process is not forkable, or if V8's worker threads do not go to sleep in
 *   time; with `{ runtime: true }` also if the runtime could not be brought to a safe point in time,
 *   or if its pool has too many threads for a child to create any. Nothing was forked then.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, `ENOMEM`; with `{ runtime:
 *   true }`, or in a child, also `EMFILE` if no descriptor is left, and `EACCES` after `setuid()`,
 *   until `prctl(PR_SET_DUMPABLE, 1)` allows the process to inspect its own threads again.
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
  checkForkable();
  const withRuntime = options.runtime === true;
  const fork = withRuntime ? forkWithRuntime : forkProcess;
  return needsTest(withRuntime) ? forkAndTest(fork, withRuntime) : fork();
}

/**
 * `fork({ runtime: true })` that does not wait for the self-check of the first children: a child that
 * fails it ends, and {@linkcode concludeTest} tells its parent why.
 *
 * @returns 0 in the child; the child's pid in the parent.
 * @throws As {@linkcode fork} does.
 */
export function forkWithoutWaiting(): number {
  checkForkable();
  return needsTest(true) ? forkOnTrial(forkWithRuntime, true) : forkWithRuntime();
}

/**
 * `fork()` without the self-check, for a child that only executes another program: it has no use for
 * most of what is checked.
 *
 * @returns 0 in the child; the child's pid in the parent.
 * @throws As {@linkcode fork} does.
 */
export function forkUntested(): number {
  checkForkable();
  return forkProcess();
}

/**
 * Makes the self-check ahead of the first fork, with children that end at once. If it cannot be
 * made now (no process is free, a thread is busy), it is made with the next children.
 *
 * @param options Options of the children to come.
 * @throws {UnsupportedRuntimeError} If the test fails.
 * @throws {Error} If the process is not forkable.
 */
export function testFork(options: ForkOptions = {}): void {
  checkForkable();
  for (let i = 0; i < TESTED && needsTest(options.runtime === true); i++) {
    let pid: number;
    try {
      pid = fork(options);
    } catch (error) {
      if (error instanceof UnsupportedRuntimeError) throw error;
      return;
    }
    if (pid === 0) _exit(0);
    reap(pid);
  }
}

function checkForkable(): void {
  if (isForkable()) return;
  throw new Error(
    "Cannot fork: this process is not forkable. Call becomeForkable() on the program's first " +
      "line after its imports",
  );
}

// How long the runtime's pool may take to become idle, in milliseconds.
const PATIENCE = 2000;
// A child without a runtime needs the pool only to report an uncaught exception.
const LITTLE_PATIENCE = 10;
/** How often a fork is tried at most that threads of the program's own disturb. */
const MOST_ATTEMPTS = 10;
/** The number of threads that a child with a runtime must be able to create. */
export const LEAST_ROOM = 4;
/** With fewer, the pool is not left parked: new work of the program would make it grow. */
const ENOUGH_ROOM = 24;

/**
 * Forks without a runtime, which is cheap: the child does nothing before it returns, because every
 * page it writes to is copied.
 */
function forkProcess(): number {
  prepare();
  // Compile all functions at once: otherwise each short-lived child would compile its own.
  compile();
  leaveNoWayBack(tryToParkPool(LITTLE_PATIENCE));
  const pid = forkAndPart(planChildSignals());
  if (pid !== 0) releaseGrowingPool();
  return pid;
}

/** @param known What the event loop watches, if that is known. */
function forkWithRuntime(known?: readonly EpollInstance[]): number {
  prepare();
  checkModuleWatcher();
  // Check before the threads are given work, which would keep them alive.
  if (poolRoom() < LEAST_ROOM) {
    throw new Error(
      "Cannot fork with a runtime: this process has so many threads in the runtime's pool that a " +
        "child could not start any. Idle threads end after " +
        `${ASSUMPTIONS.poolIdleSeconds.value} seconds: fork then, or read fewer files at a time`,
    );
  }
  bringToRest();
  const room = poolRoom();
  const survey = known ?? surveyEventLoop();
  const signals = planChildSignals();
  const pid = unparkedThreads().length === 0 ? forkAndPart(signals) : forkUndisturbed(signals);
  if (pid !== 0) {
    if (room < ENOUGH_ROOM) releasePoolNow();
    return pid;
  }
  try {
    setPoolRoom(room);
    allowWayBack();
    restartV8Workers();
    rebuildEventLoop(survey);
    if (hasWork(survey)) renewFetch();
    if (signals.foreign.length > 0) refuseSignalListeners();
    leaveModuleWatcher();
    abandonTimers();
    return 0;
  } catch (error) {
    // The caller assumes that an error of fork() occurred in the parent: a child must not throw
    // one.
    console.error(`error: forked child ${getpid()} cannot start its runtime: ${error}`);
    _exit(1);
  }
}

function bringToRest(): void {
  const busy = parkPool(PATIENCE);
  if (busy.length === 0) return;
  throw new Error(
    `Cannot fork with a runtime: ${busy.length} of its threads did not become idle within ` +
      `${PATIENCE / 1000} seconds. Fork when no file operation or other blocking work is in ` +
      `progress (they were last seen in: ${busy.join("; ")})`,
  );
}

/**
 * Forks while threads are in calls of the program's own. If one of these ends meanwhile, the child
 * may lack a lock that the thread held: it ends before it does anything, and there is another.
 */
function forkUndisturbed(signals: ChildSignals): number {
  for (let attempt = 1;; attempt++) {
    const asleep = unparkedThreads();
    const [ours, theirs] = socketpair(SOCK_SEQPACKET);
    using end = ours;
    let pid: number;
    try {
      pid = forkAndPart(signals);
      if (pid === 0) return awaitLeave(ours, theirs);
    } finally {
      theirs.close();
    }
    if (haveSlept(asleep) || attempt === MOST_ATTEMPTS) {
      letBegin(end);
      return pid;
    }
    kill(pid, SIGKILL);
    reap(pid);
    bringToRest();
  }
}

function letBegin(end: Socket): void {
  try {
    end.send(Uint8Array.of(1));
  } catch (error) {
    if (!isSyscallError(error, "EPIPE", "ECONNRESET")) throw error; // it has been killed
  }
}

/** Waits in a child until its parent lets it begin. */
function awaitLeave(ours: Socket, theirs: Socket): 0 {
  try {
    ours.close();
    if (retryOnEintr(() => theirs.read(1)).length === 1) return 0;
  } catch {
    // It has no parent.
  }
  _exit(1);
}

/** Calls fork(2), and first handles signals and random numbers on each side. */
function forkAndPart(signals: ChildSignals): number {
  // Read here, not in the child: V8 optimizes code that the parent runs often. If the child runs a
  // branch that the parent never ran, V8 must first discard that code: 60 page faults.
  const { childsWork } = signals;
  const hasNodePid = hasNodeProcess();
  lendSignals(signals);
  const isSafe = awaitV8Workers(); // directly before: a collection would wake them
  const pid = isSafe ? forkWithHeap() : -1;
  if (pid === 0) {
    if (childsWork) takeSignals(signals);
    if (hasNodePid) renewNodePid();
    return 0;
  }
  // If it failed, errno must be read before anything else.
  const failure = !isSafe
    ? new AwakeThreadsError()
    : pid === -1
    ? new SyscallError("fork", errno())
    : undefined;
  regainSignals(signals);
  if (failure !== undefined) throw failure;
  discardStock(needsTest(false));
  return pid;
}

// Deno creates one thread for all listeners, with the first one. The child does not inherit it.
function refuseSignalListeners(): void {
  replaceGlobal("Deno.addSignalListener", () => (signum) => {
    throw new Error(
      `Cannot listen to ${signum} in this child: Deno started its thread for signals before the ` +
        `fork. Fork within ${ASSUMPTIONS.signalsAfter.value} seconds of the start, or from a loop ` +
        "that does not await",
    );
  });
}

const M_MXFAST = 1;

let prepared = false;

/** Prepares, before the first fork, everything that a copy of this process would get wrong. */
function prepare(): void {
  makeEntropyForkSafe();
  const fixed = findFixedIds();
  if (fixed !== undefined) console.error(`warning: ${fixed}. Make the first one in each child`);
  if (prepared) return;
  prepared = true;
  watchTimers();
  // Nothing may be allocated between these two.
  compile(["madvise", "fork"]);
  // glibc collects small free blocks and merges them all in a later call. If a child made that
  // call, it would have to copy every page that contains one of them.
  libc().mallopt(M_MXFAST, 0);
  replaceGetter("Deno.pid", getpid);
  redirectNodeKill();
  refuseFileWatchers();
}
