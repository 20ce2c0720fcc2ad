/**
 * Fact 2, at the fork: V8's worker threads, which a child does not inherit.
 *
 * A single-threaded V8 gives them no work that it waits for. But each collection of the young
 * generation wakes one of them, which finds that the work is already done. For a child to do the
 * same:
 *
 * - The process forks while all of them sleep. If one held the lock of their queue at the fork, the
 *   child could never acquire it.
 * - A child with a runtime removes them from the lists of sleeping threads. Otherwise it would wake
 *   them through records on their stacks, which glibc gives to the child's new threads, and abort. A
 *   child without a runtime creates no threads.
 * - A child with a runtime starts them again, with their function and argument. Otherwise the tasks
 *   in their queue would accumulate.
 *
 * Where a thread sleeps and how it was started is read from memory. Every value is checked against
 * what the kernel says. If one does not fit, the threads count as unknown (see
 * {@linkcode knowsV8Workers}), and `becomeForkable()` lets V8 do without them.
 */
import { SyscallError } from "../errno.ts";
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { architecture, SYSTEM_CALLS } from "../platform.ts";
import { readlink, readText } from "../proc.ts";
import { kernelMask, setKernelMask, SIGSET_BYTES } from "../signal_mask.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isIdle, isV8Worker, ofThread, threads } from "./threads.ts";

/** One of V8's worker threads. */
interface Worker {
  /**
   * The word that identifies the thread that sleeps there, in two halves: those of this thread are
   * `low` and `high`.
   */
  readonly sleeper: Uint32Array<ArrayBuffer>;
  readonly low: number;
  readonly high: number;
  /** The lock of their queue, in two halves: 0 if nobody holds it or waits for it. */
  readonly lock: Uint32Array<ArrayBuffer>;
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
/** How much of a thread's stack is searched, in bytes. */
const STACK_BYTES = 1024;
/** The alignment of the records that identify sleeping threads, in bytes. */
const IDENTITY_BYTES = 256n;
/** What a thread that sleeps has on its stack before the lock: it has no time limit. */
const NO_TIMEOUT = 0xffff_ffff_ffff_ffffn;

let workers: readonly Worker[] | undefined;
// The process that has them: a child without a runtime does not.
let owner = 0;
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
  owner = libc().getpid();
  return workers !== undefined;
}

/**
 * Waits until V8's worker threads sleep. Only the main thread wakes them.
 *
 * @returns Whether they sleep: `false` after two seconds in which they did not.
 */
export function awaitV8Workers(): boolean {
  if (!knowsV8Workers()) return false;
  if (areV8WorkersAsleep() || libc().getpid() !== owner) return true;
  const end = performance.now() + PATIENCE;
  while (!areV8WorkersAsleep()) {
    if (performance.now() > end) return false;
    pauseBriefly();
  }
  return true;
}

/** Describes what V8's worker threads are doing, and what their two words in memory are. */
export function describeV8Workers(): string {
  const calls = threads().filter(isV8Worker).map(({ tid }) =>
    `thread ${tid} ${ofThread(tid, "syscall")?.trim() ?? "ended"}`
  );
  const words = workers?.map(({ sleeper, low, high, lock }) =>
    `${[...sleeper, low, high, ...lock].map((half) => half.toString(16))}`
  );
  return [...calls, ...words ?? ["not recognized"]].join("; ");
}

/**
 * In a child, starts the threads again that it lacks. They block all signals.
 *
 * @throws {SyscallError} `EAGAIN` if the user has too many processes and threads.
 */
export function restartV8Workers(): void {
  if (workers === undefined) return;
  const mask = kernelMask();
  const allSignals = new Uint8Array(new ArrayBuffer(SIGSET_BYTES)).fill(0xff);
  setKernelMask(allSignals);
  const id = new BigUint64Array(1);
  for (const { sleeper, lock } of workers) for (const word of [sleeper, lock]) word.fill(0);
  for (const { start, argument } of workers) {
    const number = libc().pthread_create(id, null, start, argument); // an errno
    if (number !== 0) throw new SyscallError("pthread_create", number, "V8's worker threads");
  }
  setKernelMask(mask);
  workers = undefined; // the new threads have other ids
}

/** Returns V8's threads; `undefined` if one is not recognized, or does not sleep at the moment. */
function findWorkers(): Worker[] | undefined {
  const found = threads().filter(isV8Worker);
  if (count !== undefined && found.length !== count) return undefined;
  if (found.length === 0) return [];
  const records = found.flatMap(({ tid }) => recordOf(tid) ?? []);
  if (records.length !== found.length) return undefined;
  const index = startIndex(records);
  if (index === undefined) return undefined;
  const list = found.flatMap(({ tid }, i) => {
    return workerOf(tid, records[i]![index]!, records[i]![index + 1]!) ?? [];
  });
  return list.length === found.length ? list : undefined;
}

/**
 * Returns libc's record of a thread, from its list of robust mutexes, whose address the kernel
 * knows. The thread id precedes it.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/get_robust_list.2.html get_robust_list(2)}
 */
function recordOf(tid: number): BigUint64Array | undefined {
  const head = new BigUint64Array(1);
  const number = SYSTEM_CALLS[architecture()].get_robust_list;
  if (libc().get_robust_list(number, tid, head, new BigUint64Array(1)) !== 0n) return undefined;
  const address = Deno.UnsafePointer.create(head[0]!);
  if (address === null) return undefined;
  const id = new Deno.UnsafePointerView(address).getInt32(ASSUMPTIONS.threadRecord.value);
  return id === tid ? wordsAt(address, RECORD_BYTES) : undefined;
}

/**
 * Returns the index in the records of the function that the threads run: the only one where all of
 * them have the same address in the program's code. Its argument follows.
 */
function startIndex([first, ...others]: readonly BigUint64Array[]): number | undefined {
  const isCode = programCode();
  const indexes: number[] = [];
  for (let i = 0; i < first!.length - 1; i++) {
    const word = first![i]!;
    if (isCode(word) && others.every((other) => other[i] === word)) indexes.push(i);
  }
  return indexes.length === 1 ? indexes[0] : undefined;
}

/** Returns a function that tells whether an address is in the code of Deno's executable. */
function programCode(): (address: bigint) => boolean {
  const file = readlink("/proc/self/exe");
  const ranges = [...readText("/proc/self/maps").matchAll(/^(\w+)-(\w+) r-xp .*?(\/.*)$/gm)]
    .filter(([, , , path]) => path === file)
    .map(([, from, to]) => [BigInt(`0x${from}`), BigInt(`0x${to}`)] as const);
  return (address) => ranges.some(([from, to]) => from <= address && address < to);
}

/**
 * Returns a thread that sleeps, with the two words that it shares with those that wake it. One is
 * in V8's object for the thread: the address of a record in which the thread waits for a futex. The
 * other is the lock, whose address is on the thread's stack, before that of the record.
 */
function workerOf(tid: number, start: bigint, argument: bigint): Worker | undefined {
  const call = ofThread(tid, "syscall") ?? "";
  if (!isIdle(call)) return undefined;
  const [, futex, , , , , , stackPointer] = call.split(" ").map(BigInt);
  const object = Deno.UnsafePointer.create(argument);
  const stack = Deno.UnsafePointer.create(stackPointer!);
  if (object === null || stack === null) return undefined;
  const identity = futex! & ~(IDENTITY_BYTES - 1n);
  // Copies: the thread may wake up at any time.
  const sleepers = indexesOf(wordsAt(object, OBJECT_BYTES), (words, i) => words[i] === identity);
  const words = wordsAt(stack, STACK_BYTES);
  const locks = indexesOf(words, (words, i) => {
    return words[i] === identity && words[i - 2] === NO_TIMEOUT && words[i + 1] === 0n;
  });
  if (sleepers.length !== 1 || locks.length !== 1) return undefined;
  const lock = Deno.UnsafePointer.create(words[locks[0]! - 1]!);
  if (lock === null) return undefined;
  return {
    sleeper: halvesAt(object, 8 * sleepers[0]!),
    low: Number(identity & 0xffff_ffffn),
    high: Number(identity >> 32n),
    lock: halvesAt(lock, 0),
    start: Deno.UnsafePointer.create(start),
    argument: object,
  };
}

/** Returns a copy of memory, in words. */
function wordsAt(memory: Deno.PointerObject, bytes: number): BigUint64Array {
  return new BigUint64Array(Deno.UnsafePointerView.getArrayBuffer(memory, bytes)).slice();
}

function indexesOf(
  words: BigUint64Array,
  fits: (words: BigUint64Array, index: number) => boolean,
): number[] {
  const indexes: number[] = [];
  for (let i = 0; i < words.length; i++) if (fits(words, i)) indexes.push(i);
  return indexes;
}

function halvesAt(memory: Deno.PointerObject, offset: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(Deno.UnsafePointerView.getArrayBuffer(memory, 8, offset));
}

/** Whether each of V8's threads is on its list of sleeping threads, and has released the lock. */
export function areV8WorkersAsleep(): boolean {
  for (let i = 0; i < workers!.length; i++) {
    const { sleeper, low, high, lock } = workers![i]!;
    if (sleeper[0] !== low || sleeper[1] !== high || lock[0] !== 0 || lock[1] !== 0) return false;
  }
  return true;
}
