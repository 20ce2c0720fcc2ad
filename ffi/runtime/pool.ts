/**
 * Fact 4, before the fork: a child does not inherit the threads of tokio's blocking pool, but it
 * does inherit the count of idle threads, and would wait for them. If every thread is busy, the
 * copy counts no idle thread and starts its own. Each thread is therefore given work: to read from
 * an empty pipe.
 *
 * After a fork without a runtime, the threads stay there until the parent's code returns to the
 * event loop: a parent that forks in a loop parks its pool once.
 */
import { O_CLOEXEC, pipe } from "../descriptor.ts";
import { write } from "../descriptor_calls.ts";
import { isSyscallError } from "../errno.ts";
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isIdle, isPoolThread, isV8Worker, ofThread, type Thread, threads } from "./threads.ts";

/**
 * How long a thread must stay in one of the parent's system calls to count as at rest, in
 * milliseconds.
 */
const SETTLED = 50;

/** The pipes in which the threads are parked: they read from the first of two. */
interface Parking {
  readonly pid: number;
  /**
   * The pipe in use and the one last in use, alternately: a thread that was released but has not
   * moved yet must not be mistaken for a parked one. They last as long as the process, because a
   * late read would take a byte from another file.
   */
  pipes: [Pipe, Pipe];
  /** The number of threads that were sent to the first pipe. */
  reads: number;
}

// Plain numbers, which nothing ever closes: a child must not use them, but they must stay in use.
interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

let parking: Parking | undefined;
/** The threads that were at rest in calls of the program's own when the pool was last parked. */
let unparked: readonly ThreadCall[] = [];
const byte = new Uint8Array(new ArrayBuffer(1));

/**
 * Brings every thread of the blocking pool to rest in a system call, until the caller's code
 * returns to the event loop.
 *
 * A thread in a long call of the program's own (a read of standard input, a lock) is at rest too,
 * once it has been seen there for a while. Its call may end all the same before the fork, or during
 * it: see {@linkcode unparkedThreads}.
 *
 * @param patience The time limit, in milliseconds.
 * @returns The system calls in which threads that are not at rest were last seen; empty on success.
 * @throws {SyscallError} `EACCES` if the process may not inspect its own threads: after setuid(2),
 *   until `prctl(PR_SET_DUMPABLE, 1)`. `EMFILE` if no descriptor is left.
 */
export function parkPool(patience: number): string[] {
  const start = performance.now();
  let seen = "";
  let since = start;
  let before: readonly Sleep[] = [];
  for (;;) {
    const threads = threadCalls();
    unparked = [];
    if (threads.length === 0) return [];
    const { pipes: [{ readEnd }], reads } = parking ??= makeParking();
    const others = threads.filter(({ call }) => !isReadOf(call, readEnd));
    const queued = reads - (threads.length - others.length);
    if (queued <= 0 && leaveOtherPools(before, threads, others)) continue;
    const calls = others.map(({ call }) => call);
    const now = performance.now();
    if (calls.join() !== seen) [seen, since] = [calls.join(), now];
    const settled = now - since > SETTLED &&
      !calls.some((call) => isIdle(call) || !isInCall(call));
    if (queued <= 0 && (calls.length === 0 || settled)) {
      unparked = others;
      return [];
    }
    if (now - start > patience) return calls;
    const missing = calls.filter(isIdle).length - queued;
    if (missing > 0) before = queued <= 0 ? threads.map(sleepOf) : [];
    park(missing);
    pauseBriefly();
  }
}

/** The idle threads of other pools, such as a Web Worker's, and the calls in which they wait. */
const otherPools = new Map<number, string>();

/** A thread in a system call, and how often it had gone to sleep when it was found there. */
export interface Sleep extends ThreadCall {
  readonly switches: string | undefined;
}

/**
 * Returns the threads that are at rest and not parked, since {@linkcode parkPool} has succeeded. In
 * a child, the pool would count for ever as idle what became idle just before the fork, or wait for
 * a lock that the thread held.
 */
export function unparkedThreads(): Sleep[] {
  const others = Array.from(otherPools, ([tid, call]) => ({ tid, call }));
  return [...unparked, ...others].map(sleepOf);
}

/** Whether threads have slept since {@linkcode unparkedThreads} returned them. */
export function haveSlept(sleeps: readonly Sleep[]): boolean {
  return sleeps.every(({ tid, call, switches: before }) =>
    ofThread(tid, "syscall")?.trim() === call && switches(tid) === before
  );
}

function sleepOf(thread: ThreadCall): Sleep {
  return { ...thread, switches: switches(thread.tid) };
}

function switches(tid: number): string | undefined {
  return ofThread(tid, "status")?.match(/^voluntary_ctxt_switches:\s*(\d+)/m)?.[1];
}

/**
 * Finds the threads of other pools, which are called the same. A pool starts a thread only if none
 * of its own is idle: if a new one does some of the work, those that have slept all the time belong
 * to another pool, or wait for a lock.
 *
 * A thread that does not seem to have moved may have: it waited for a lock before, and for work now.
 * Whether it has slept all the time is known from the kernel's count.
 *
 * @param before The threads when the work was given to them; none if that is not known.
 * @param after The threads when all of it is being done.
 * @param others Those of them that do none of it.
 * @returns Whether there are any.
 */
function leaveOtherPools(
  before: readonly Sleep[],
  after: readonly ThreadCall[],
  others: readonly ThreadCall[],
): boolean {
  if (before.length === 0 || others.length === 0) return false;
  const isNew = ({ tid }: ThreadCall) => !before.some((one) => one.tid === tid);
  if (!after.some((one) => isNew(one) && !others.includes(one))) return false;
  const asleep = others.filter(({ tid, call }) =>
    isIdle(call) &&
    before.some((one) => one.tid === tid && one.call === call && one.switches === switches(tid))
  );
  for (const { tid, call } of asleep) otherPools.set(tid, call);
  return asleep.length > 0;
}

/**
 * Calls {@linkcode parkPool}, but ignores a failure.
 *
 * @returns Whether every thread is at rest.
 */
export function tryToParkPool(patience: number): boolean {
  if (parking !== undefined && parking.reads > 0) return true;
  try {
    const isAtRest = parkPool(patience).length === 0;
    noticeGrowth();
    return isAtRest;
  } catch (error) {
    // No descriptor is left to check with, or no permission.
    if (isSyscallError(error)) return false;
    throw error;
  }
}

/**
 * Checks that the threads of the pool can be told from others. If none is known by its name, one is
 * given work, and is looked for.
 *
 * @param present The threads of this process.
 * @param patience The time limit, in milliseconds.
 * @returns What was found instead; `undefined` if all is as expected.
 * @throws {SyscallError} As {@linkcode parkPool}.
 */
export function findStrangePool(
  present: readonly Thread[],
  patience: number,
): string | undefined {
  if (present.some(isPoolThread)) return undefined;
  parking ??= makeParking();
  park(1);
  const { readEnd } = parking.pipes[0];
  const end = performance.now() + patience;
  do {
    const found = threads()
      .filter(({ tid }) => isReadOf(ofThread(tid, "syscall")?.trim() ?? "", readEnd));
    if (found.some(isPoolThread)) return undefined;
    if (found.length > 0) return `the threads of its pool are called "${found[0]!.name}"`;
    pauseBriefly();
  } while (performance.now() < end);
  return "no thread was seen that does the work of its pool";
}

const POOL_SIZE = ASSUMPTIONS.poolSize.value;

/** The number of threads of this process's ancestors, which its copy of the pool counts forever. */
let lost = 0;

/**
 * Returns how many threads a child with a runtime could create for file operations and other
 * blocking work. Its copy of the pool counts the parent's threads, which do not exist in the child.
 * An idle thread ends after some seconds.
 */
export function poolRoom(): number {
  return POOL_SIZE - lost - threads().filter(isPoolThread).length;
}

/**
 * Returns the system calls of the pool's threads that are at work; none if the process may not
 * inspect its own threads, after setuid(2).
 */
export function busyThreads(): string[] {
  try {
    return threads().filter(isPoolThread)
      .map(({ tid }) => ofThread(tid, "syscall")?.trim())
      .filter((call) => call !== undefined && !isIdle(call)) as string[];
  } catch (error) {
    if (isSyscallError(error, "EACCES")) return [];
    throw error;
  }
}

/** Sets, in a child, the value of {@linkcode poolRoom} at the fork. */
export function setPoolRoom(room: number): void {
  lost = POOL_SIZE - room;
}

/**
 * Returns the parent's pipes, in a child. The child must not use them, and their numbers must stay
 * in use.
 */
export function leaveParking(): number[] {
  const left = parking?.pipes.flatMap(({ readEnd, writeEnd }) => [readEnd, writeEnd]) ?? [];
  parking = undefined;
  return left;
}

/**
 * Creates the pipes before the first fork needs them, so that the first fork needs no more
 * descriptors than later ones. If too few descriptors are free, the fork creates them.
 */
export function prepareParking(): void {
  try {
    parking ??= makeParking();
  } catch (error) {
    if (!isSyscallError(error, "EMFILE", "ENFILE")) throw error;
  }
}

function makeParking(): Parking {
  return { pid: libc().getpid(), pipes: [makePipe(), makePipe()], reads: 0 };
}

function makePipe(): Pipe {
  const [readEnd, writeEnd] = pipe(O_CLOEXEC);
  return { readEnd: readEnd.fileno(), writeEnd: writeEnd.fileno() };
}

function park(count: number): void {
  if (parking === undefined || count <= 0) return;
  if (parking.reads === 0) queueMicrotask(endTurn);
  parking.reads += count;
  for (let i = 0; i < count; i++) libc().read_on_pool(parking.pipes[0].readEnd, byte, 1n);
}

/** How many times a released thread is checked for being idle: for some milliseconds at most. */
const ATTEMPTS = 50;

/**
 * Releases the threads. This happens automatically when the caller's code returns to the event
 * loop. But a file operation that the code starts before that would find no idle thread and make
 * the pool create another one.
 */
export function releasePool(): void {
  // This also runs in every child forked in the meantime, which has nothing to release.
  if (parking === undefined || parking.reads === 0 || parking.pid !== libc().getpid()) return;
  write(parking.pipes[0].writeEnd, new Uint8Array(parking.reads));
  parking.pipes.reverse();
  parking.reads = 0;
}

/** Calls {@linkcode releasePool}, and waits a moment until one of the threads is idle. */
export function releasePoolNow(): void {
  releasePool();
  const isThreadIdle = ({ tid }: Thread) => isIdle(ofThread(tid, "syscall") ?? "");
  for (let i = 0; i < ATTEMPTS && !threads().filter(isPoolThread).some(isThreadIdle); i++) {
    pauseBriefly();
  }
}

// How many threads were parked in the last turn of the event loop that forked.
let parkedBefore = 0;
let isGrowing = false;
let isReleasedEarly = false;

function noticeGrowth(): void {
  const parked = parking?.reads ?? 0;
  if (isReleasedEarly || parked === 0 || parked === parkedBefore) return;
  isGrowing = parkedBefore !== 0 && parked > parkedBefore;
  parkedBefore = parked;
}

/**
 * Releases the threads if the pool grows from one turn of the event loop to the next: the program
 * probably starts a file operation after each fork. If it forks again in the same turn, the threads
 * stay parked: it forks in a loop. Called in the parent, after a fork without a runtime.
 */
export function releaseGrowingPool(): void {
  if (!isGrowing || isReleasedEarly) return;
  isReleasedEarly = true;
  releasePoolNow();
}

function endTurn(): void {
  isReleasedEarly = false;
  releasePool();
}

/** A thread, and the number and the arguments of its system call. */
interface ThreadCall {
  readonly tid: number;
  readonly call: string;
}

/**
 * Returns what the relevant threads are doing. Relevant are the pool's threads, and any other thread while it is not waiting: a thread that has
 * just been created does not have its name yet. V8's threads are watched elsewhere
 * (`v8_workers.ts`).
 */
function threadCalls(): ThreadCall[] {
  const present = threads();
  for (const tid of otherPools.keys()) {
    if (!present.some((one) => one.tid === tid)) otherPools.delete(tid);
  }
  return present.flatMap((thread) => {
    const { tid } = thread;
    if (tid === libc().getpid() || isV8Worker(thread)) return [];
    const call = ofThread(tid, "syscall")?.trim();
    if (call === undefined || (!isPoolThread(thread) && isWaiting(call))) return [];
    // In another call it is not known any more: what waited for a lock may wait for work now.
    if (otherPools.get(tid) === call) return [];
    return [{ tid, call }];
  });
}

// Identified by its arguments, because the number depends on the architecture (and under emulation
// on the host's): the descriptor, an address, one byte.
function isReadOf(call: string, fd: number): boolean {
  const [, descriptor, , count] = call.split(" ");
  return descriptor === `0x${fd.toString(16)}` && count === "0x1";
}

const WAITING: ReadonlySet<number> = new Set(ASSUMPTIONS.waitingCalls.value);

/** Whether a thread is waiting for an event, in any call that does so. */
function isWaiting(call: string): boolean {
  return WAITING.has(Number(call.split(" ")[0]));
}

/** Not "running", and not in a page fault ("-1"). */
function isInCall(call: string): boolean {
  return /^\d/.test(call);
}
