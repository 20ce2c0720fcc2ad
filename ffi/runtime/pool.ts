/**
 * Fact 4, before the fork: the threads of tokio's blocking pool do not come
 * along, but the pool's count of idle ones does, and the child would wait for
 * them. With every thread at work, the copy counts none and starts its own. So
 * each gets work: to read from a pipe that is empty.
 *
 * After a fork without a runtime they stay there until the parent's code returns to
 * the event loop: a parent that forks in a loop parks its pool once.
 */
import { O_CLOEXEC, pipe } from "../descriptor.ts";
import { write } from "../descriptor_calls.ts";
import { isSyscallError } from "../errno.ts";
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isIdle, isPoolThread, ofThread, threads } from "./threads.ts";

/** How long a thread must sit in one system call of the parent's to be at rest, in milliseconds. */
const SETTLED = 50;

/** Where the threads are parked: in reads from the first of two pipes. */
interface Parking {
  readonly pid: number;
  /**
   * In use and last in use, taking turns: a thread that was released but has not
   * moved yet must not be taken for one that is parked. They last as long as the
   * process, for a read that came late would take a byte from another file.
   */
  pipes: [Pipe, Pipe];
  /** How many threads were sent to the first. */
  reads: number;
}

// Numbers, which nothing ever closes: in a child they are not its to use, but must stay taken.
interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

let parking: Parking | undefined;
const byte = new Uint8Array(new ArrayBuffer(1));

/**
 * Brings every thread of the blocking pool to rest in a system call, until the
 * caller's code returns to the event loop.
 *
 * A thread in a long call of the program's own (a read of standard input, a
 * lock) is at rest too, once it was seen there for a while.
 *
 * @param patience How long it may take, in milliseconds.
 * @returns What is not at rest: the system calls that threads were last seen in; none on success.
 * @throws {SyscallError} `EACCES` where the process may not look at its own threads: after
 *   setuid(2), until `prctl(PR_SET_DUMPABLE, 1)`. `EMFILE` when no descriptor is left.
 */
export function parkPool(patience: number): string[] {
  const start = performance.now();
  let seen = "";
  let since = start;
  for (;;) {
    const calls = threadCalls();
    if (calls.length === 0) return [];
    const { pipes: [{ readEnd }], reads } = parking ??= makeParking();
    const others = calls.filter((call) => !isReadOf(call, readEnd));
    const queued = reads - (calls.length - others.length);
    const now = performance.now();
    if (others.join() !== seen) [seen, since] = [others.join(), now];
    const settled = now - since > SETTLED &&
      !others.some((call) => isIdle(call) || !isInCall(call));
    if (queued <= 0 && (others.length === 0 || settled)) return [];
    if (now - start > patience) return others;
    park(others.filter(isIdle).length - queued);
    pauseBriefly();
  }
}

/**
 * {@linkcode parkPool} where it need not succeed, and must not stand in the way.
 *
 * @returns Whether every thread is at rest.
 */
export function tryToParkPool(patience: number): boolean {
  if (parking !== undefined && parking.reads > 0) return true;
  try {
    return parkPool(patience).length === 0;
  } catch (error) {
    // No descriptor left to look with, or no permission.
    if (isSyscallError(error)) return false;
    throw error;
  }
}

const POOL_SIZE = ASSUMPTIONS.poolSize.value;

/** Threads of this process's ancestors, which its copy of the pool counts for ever. */
let lost = 0;

/**
 * How many threads a child with a runtime could make for file operations and other blocking
 * work: its copy of the pool counts the parent's threads, which it has not. An idle thread ends
 * after some seconds.
 */
export function poolRoom(): number {
  return POOL_SIZE - lost - threads().filter(isPoolThread).length;
}

/** Says in a child what {@linkcode poolRoom} was at the fork. */
export function setPoolRoom(room: number): void {
  lost = POOL_SIZE - room;
}

/** The parent's pipes, in a child: not the child's to use, and their numbers must stay taken. */
export function leaveParking(): number[] {
  const left = parking?.pipes.flatMap(({ readEnd, writeEnd }) => [readEnd, writeEnd]) ?? [];
  parking = undefined;
  return left;
}

/**
 * Makes the pipes before the first fork needs them, so that this one costs no descriptor more than
 * the others. Without enough descriptors it is left to the fork.
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
  if (parking.reads === 0) queueMicrotask(releasePool);
  parking.reads += count;
  for (let i = 0; i < count; i++) libc().read_on_pool(parking.pipes[0].readEnd, byte, 1n);
}

/**
 * Lets the threads go on. It happens by itself when the caller's code returns to the event
 * loop; but a file operation that the code begins before that would find no idle thread, and
 * have another one made.
 */
export function releasePool(): void {
  // Runs in every child too that was forked meanwhile, and has nothing to release there.
  if (parking === undefined || parking.reads === 0 || parking.pid !== libc().getpid()) return;
  write(parking.pipes[0].writeEnd, new Uint8Array(parking.reads));
  parking.pipes.reverse();
  parking.reads = 0;
}

/**
 * What the threads that matter are doing: the system call's number and arguments.
 * Those are the pool's; and any other while it is not waiting for something, for
 * a thread that has only just been made does not have its name yet.
 */
function threadCalls(): string[] {
  return threads().flatMap((thread) => {
    if (thread.tid === libc().getpid()) return [];
    const call = ofThread(thread.tid, "syscall")?.trim();
    if (call === undefined || (!isPoolThread(thread) && isWaiting(call))) return [];
    return [call];
  });
}

// Read by its arguments, since the number is the architecture's (and under
// emulation the host's): the descriptor, an address, one byte.
function isReadOf(call: string, fd: number): boolean {
  const [, descriptor, , count] = call.split(" ");
  return descriptor === `0x${fd.toString(16)}` && count === "0x1";
}

const WAITING: ReadonlySet<number> = new Set(ASSUMPTIONS.waitingCalls.value);

/** Whether a thread waits for something to happen, in any call that does. */
function isWaiting(call: string): boolean {
  return WAITING.has(Number(call.split(" ")[0]));
}

/** Not "running", and not in a page fault ("-1"). */
function isInCall(call: string): boolean {
  return /^\d/.test(call);
}
