/**
 * Fact 2, at the fork: V8's worker threads, which a child does not inherit.
 *
 * A single-threaded V8 gives them no work that it waits for. But each collection of the young
 * generation wakes one of them, which finds that the work is already done. For a child to do the
 * same:
 *
 * - The process forks while all of them sleep. If one held the lock of their queue at the fork, the
 *   child could never acquire it.
 * - The child removes them from the lists of sleeping threads. Otherwise it would wake them through
 *   records on stacks that glibc gives to other threads, and abort.
 * - A child with a runtime starts them again, with their function and argument. Otherwise the tasks
 *   in their queue would accumulate.
 *
 * Where a thread sleeps and how it was started is read from memory. Every value is checked against
 * what the kernel says. If one does not fit, the threads count as unknown (see
 * {@linkcode knowsV8Workers}), and `becomeForkable()` lets V8 do without them.
 */
import { cString } from "../c_string.ts";
import { O_CLOEXEC, O_RDONLY } from "../descriptor.ts";
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { architecture, SYSTEM_CALLS } from "../platform.ts";
import { readlink, readText } from "../proc.ts";
import { kernelMask, setKernelMask, SIGSET_BYTES } from "../signal_mask.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isIdle, isV8Worker, ofThread, threads } from "./threads.ts";

/** One of V8's worker threads. */
interface Worker {
  /** The file that shows in which system call it is: the number comes first. */
  readonly file: Uint8Array<ArrayBuffer>;
  /**
   * The word that identifies the thread that sleeps there, in two halves: those of this thread are
   * `low` and `high`.
   */
  readonly sleeper: Uint32Array<ArrayBuffer>;
  readonly low: number;
  readonly high: number;
  /** The function that it runs, and that function's argument. */
  readonly start: Deno.PointerValue;
  readonly argument: Deno.PointerValue;
}

/**
 * The time limit for them to go to sleep, in milliseconds. They usually sleep; otherwise they take
 * 10 µs to 3 ms, and longer where other processes keep all processors busy.
 */
const PATIENCE = 2000;

/** How much of libc's record of a thread is searched, from the list of robust mutexes, in bytes. */
const RECORD_BYTES = 1200;
/** How much of V8's object for a thread is searched, in bytes. */
const OBJECT_BYTES = 128;
/** The alignment of the records that identify sleeping threads, in bytes. */
const IDENTITY_BYTES = 256n;

// Created in advance: once the threads sleep, nothing may be allocated.
const LENGTH = 3;
const size = BigInt(LENGTH);
const call = new Uint8Array(new ArrayBuffer(LENGTH));
const sleeping = new Uint8Array(new ArrayBuffer(LENGTH));
let workers: readonly Worker[] | undefined;
// A thread that has just been started does not have its name yet, but there are always as many.
let count: number | undefined;

/**
 * Finds V8's worker threads, and waits until they have gone to sleep once.
 *
 * @returns Whether all of them were found and recognized.
 */
export function knowsV8Workers(): boolean {
  if (workers !== undefined) return true;
  const end = performance.now() + PATIENCE;
  do {
    workers = findWorkers();
    if (workers === undefined) pauseBriefly();
  } while (workers === undefined && performance.now() < end);
  count ??= workers?.length;
  return workers !== undefined;
}

/** Waits until V8's worker threads sleep. Only the main thread wakes them. */
export function awaitV8Workers(): void {
  if (!knowsV8Workers()) return;
  const end = performance.now() + PATIENCE;
  while (!areAsleep(workers!) && performance.now() < end) pauseBriefly();
}

/**
 * In a child, removes the missing threads from the lists of sleeping threads. A parent writes the
 * values that are already there: if only children ran this branch, V8 would first have to discard
 * optimized code in each of them.
 */
export function removeSleepers(isChild: boolean): void {
  if (workers === undefined) return;
  for (let i = 0; i < workers.length; i++) {
    const { sleeper } = workers[i]!;
    sleeper[0] = isChild ? 0 : sleeper[0]!;
    sleeper[1] = isChild ? 0 : sleeper[1]!;
  }
}

/** In a child, starts the threads again. They block all signals. */
export function restartV8Workers(): void {
  if (workers === undefined) return;
  const mask = kernelMask();
  const allSignals = new Uint8Array(new ArrayBuffer(SIGSET_BYTES)).fill(0xff);
  setKernelMask(allSignals);
  const id = new BigUint64Array(1);
  for (const { start, argument } of workers) libc().pthread_create(id, null, start, argument);
  setKernelMask(mask);
  workers = undefined; // the new threads have other ids
}

/** Returns V8's threads; `undefined` if one is not recognized, or does not sleep at the moment. */
function findWorkers(): Worker[] | undefined {
  const number = SYSTEM_CALLS[architecture()][ASSUMPTIONS.idleCall.value];
  new TextEncoder().encodeInto(`${number} `, sleeping);
  const found = threads().filter(isV8Worker);
  if (count !== undefined && found.length !== count) return undefined;
  if (found.length === 0) return [];
  const records = found.map(({ tid }) => recordOf(tid));
  const offset = startOffset(records);
  if (offset === undefined) return undefined;
  const list = found.flatMap(({ tid }, i) => workerOf(tid, records[i]!, offset) ?? []);
  return list.length === found.length ? list : undefined;
}

/**
 * Returns libc's record of a thread, from its list of robust mutexes, whose address the kernel
 * knows. The thread id precedes it.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/get_robust_list.2.html get_robust_list(2)}
 */
function recordOf(tid: number): Deno.UnsafePointerView | undefined {
  const head = new BigUint64Array(1);
  const number = SYSTEM_CALLS[architecture()].get_robust_list;
  if (libc().get_robust_list(number, tid, head, new BigUint64Array(1)) !== 0n) return undefined;
  const address = Deno.UnsafePointer.create(head[0]!);
  if (address === null) return undefined;
  const record = new Deno.UnsafePointerView(address);
  return record.getInt32(ASSUMPTIONS.threadRecord.value) === tid ? record : undefined;
}

/**
 * Returns the offset in the records of the function that the threads run: the only one where all of
 * them have the same address in the program's code. Its argument follows.
 */
function startOffset(records: readonly (Deno.UnsafePointerView | undefined)[]): number | undefined {
  const isCode = programCode();
  const offsets: number[] = [];
  for (let offset = 0; offset < RECORD_BYTES; offset += 8) {
    const [start, ...others] = records.map((record) => record?.getBigUint64(offset) ?? 0n);
    if (isCode(start!) && others.every((other) => other === start)) offsets.push(offset);
  }
  return offsets.length === 1 ? offsets[0] : undefined;
}

/** Returns a function that tells whether an address is in the code of Deno's executable. */
function programCode(): (address: bigint) => boolean {
  const file = readlink("/proc/self/exe");
  const ranges = readText("/proc/self/maps").split("\n")
    .filter((line) => line.endsWith(` ${file}`) && /^\S+ r-xp /.test(line))
    .map((line) => line.match(/^\S+/)![0].split("-").map((address) => BigInt(`0x${address}`)));
  return (address) => ranges.some(([from, to]) => from! <= address && address < to!);
}

/**
 * Returns a thread with the word of V8's object for it that identifies the thread that sleeps there:
 * the address of a record in which the thread waits for a futex.
 */
function workerOf(
  tid: number,
  record: Deno.UnsafePointerView,
  offset: number,
): Worker | undefined {
  const start = record.getPointer(offset);
  const argument = record.getPointer(offset + 8);
  const call = ofThread(tid, "syscall") ?? "";
  if (argument === null || !isIdle(call)) return undefined;
  const identity = BigInt(call.split(" ")[1]!) & ~(IDENTITY_BYTES - 1n);
  const object = new Deno.UnsafePointerView(argument);
  const offsets: number[] = [];
  for (let offset = 0; offset < OBJECT_BYTES; offset += 8) {
    if (object.getBigUint64(offset) === identity) offsets.push(offset);
  }
  if (offsets.length !== 1) return undefined;
  const memory = Deno.UnsafePointerView.getArrayBuffer(argument, 8, offsets[0]!);
  const sleeper = new Uint32Array(memory);
  const file = cString(`/proc/self/task/${tid}/syscall`);
  return { file, sleeper, low: sleeper[0]!, high: sleeper[1]!, start, argument };
}

function areAsleep(workers: readonly Worker[]): boolean {
  const { close, open, read_few } = libc();
  for (let i = 0; i < workers.length; i++) {
    const { file, sleeper, low, high } = workers[i]!;
    if (sleeper[0] === 0 && sleeper[1] === 0) continue; // a child without a runtime
    if (sleeper[0] !== low || sleeper[1] !== high) return false;
    const fd = open(file, O_RDONLY | O_CLOEXEC, 0);
    const count = read_few(fd, call, size);
    close(fd);
    // -1 after setuid(2), when a process may not inspect its own threads.
    if (count !== -1 && !isSame(call, sleeping)) return false;
  }
  return true;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
