/**
 * Facts 2 and 3, seen from outside: which threads this process has, and which signals they block.
 * The source is `/proc` instead of memory: a flag or a mask may come from anywhere, and the
 * kernel's state is what counts.
 */
import { libc } from "../libc.ts";
import { architecture, SYSTEM_CALLS } from "../platform.ts";
import { readNumbers, readText } from "../proc.ts";
import { SyscallError } from "../errno.ts";
import { signalsIn } from "../signal_mask.ts";
import { ASSUMPTIONS } from "./assumptions.ts";

/** A thread of this process. */
export interface Thread {
  /** The thread id; that of the main thread is the pid. */
  readonly tid: number;
  /** The thread's name, at most 15 bytes. */
  readonly name: string;
}

/** A snapshot of a thread. */
export interface ThreadStatus extends Thread {
  /** The signals that the thread blocks. */
  readonly blocked: Set<number>;
}

/** Whether the caller runs on the process's main thread. */
export function onMainThread(): boolean {
  const { getpid, gettid } = libc();
  return BigInt(getpid()) === gettid(SYSTEM_CALLS[architecture()].gettid);
}

/**
 * Returns the current threads of this process.
 *
 * @param tids Those to look at. The default is all.
 */
export function threads(tids: readonly number[] = readNumbers("/proc/self/task")): Thread[] {
  return tids.flatMap((tid) => {
    const name = ofThread(tid, "comm");
    return name === undefined ? [] : [{ tid, name: name.trim() }];
  });
}

/**
 * Returns a thread's name and mask, which are in the same file; `undefined` if the thread has
 * ended.
 */
export function threadStatus(tid: number): ThreadStatus | undefined {
  const status = ofThread(tid, "status");
  if (status === undefined) return undefined;
  const name = status.match(/^Name:\t(.*)$/m)?.[1] ?? "";
  const bits = BigInt(`0x${status.match(/^SigBlk:\s*([0-9a-f]+)$/m)?.[1] ?? "0"}`);
  return { tid, name, blocked: new Set(signalsIn(new Uint8Array(BigUint64Array.of(bits).buffer))) };
}

/** Returns the signals that a thread blocks; empty if it has ended. */
export function blockedSignals(tid: number): Set<number> {
  return threadStatus(tid)?.blocked ?? new Set();
}

/** Reads a thread's file in `/proc`; `undefined` if the thread has ended. */
export function ofThread(tid: number, file: string): string | undefined {
  try {
    return readText(`/proc/self/task/${tid}/${file}`);
  } catch (error) {
    if (error instanceof SyscallError && /ENOENT|ESRCH/.test(error.code)) return undefined;
    throw error;
  }
}

/** Whether a thread is one that Deno created for V8. */
export function isV8Worker({ name }: Thread): boolean {
  return name.startsWith(ASSUMPTIONS.v8WorkerName.value);
}

/** Whether this process has such threads. */
export function hasV8Worker(): boolean {
  return readNumbers("/proc/self/task")
    .some((tid) => isV8Worker({ tid, name: ofThread(tid, "comm") ?? "" }));
}

/** Whether Deno has created its thread for watching files, which lasts as long as the process. */
export function hasFileWatcher(): boolean {
  return threads().some(isFileWatcher);
}

/** Whether a thread is the one that Deno has created to watch files. */
export function isFileWatcher({ name }: Thread): boolean {
  return name.startsWith(ASSUMPTIONS.fileWatcherName.value);
}

/** Whether a thread belongs to the runtime's blocking pool. */
export function isPoolThread({ name }: Thread): boolean {
  return ASSUMPTIONS.poolThreadNames.value.some((beginning) => name.startsWith(beginning));
}

const IDLE_CALLS = Object.values(SYSTEM_CALLS)
  .map((numbers) => String(numbers[ASSUMPTIONS.idleCall.value]));

/**
 * Whether a thread of the pool is waiting for work.
 *
 * @param call The contents of its file `syscall`: the number and the arguments.
 */
export function isIdle(call: string): boolean {
  // Under emulation the number is the host's.
  const [number, address] = call.split(" ");
  return IDLE_CALLS.includes(number!) && /^0x[0-9a-f]{5,}$/.test(address ?? "");
}
