import { check, isSyscallError } from "./errno.ts";
import { waitInterruptibly } from "./interruption.ts";
import { libc } from "./libc.ts";

/**
 * Waits until a signal handler has run. An interruption point.
 *
 * @returns Never: there is only one way out of pause(2), and it is an error.
 * @throws {SyscallError} `EINTR` after a handler has run.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/pause.2.html pause(2)}
 */
export function pause(): never {
  waitInterruptibly("pause", "", null, undefined);
  throw new Error("pause() returned without a signal");
}

/**
 * Blocks the process for a time, or until a signal handler has run. An
 * interruption point, but as in C not an error: what is left says it all.
 *
 * @param seconds How long; fractions count.
 * @returns The seconds left: 0 when the whole time went by.
 * @throws {RangeError} When the time is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/sleep.3.html sleep(3)}
 */
export function sleep(seconds: number): number {
  checkSeconds("sleep", seconds);
  const end = performance.now() + seconds * 1000;
  try {
    waitFor("sleep", seconds);
    return 0;
  } catch (error) {
    if (!isSyscallError(error, "EINTR")) throw error;
    return Math.max(0, (end - performance.now()) / 1000);
  }
}

/**
 * Blocks the process for a time. An interruption point.
 *
 * @param seconds How long; a nanosecond is 1e-9.
 * @throws {SyscallError} `EINTR` when a handler ran before the time was over.
 * @throws {RangeError} When the time is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/nanosleep.2.html nanosleep(2)}
 */
export function nanosleep(seconds: number): void {
  checkSeconds("nanosleep", seconds);
  waitFor("nanosleep", seconds);
}

function waitFor(syscall: string, seconds: number): void {
  // ppoll with no descriptors is nanosleep with a signal mask.
  waitInterruptibly(
    syscall,
    "",
    null,
    seconds === Infinity ? undefined : seconds * 1000,
  );
}

/**
 * Has the kernel send SIGALRM to this process after a time. Needs no JavaScript
 * to run meanwhile, so it also ends an endless loop: SIGALRM kills by default.
 * fork() does not pass the alarm on; execve() does.
 *
 * @param seconds Whole seconds; 0 cancels the alarm.
 * @returns The seconds that were left of the alarm before, or 0.
 * @throws {RangeError} When it is not a whole number from 0 to 2^32 - 1.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/alarm.2.html alarm(2)}
 */
export function alarm(seconds: number): number {
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 0xffff_ffff) {
    throw new RangeError(`Cannot set an alarm in ${seconds} seconds: it takes whole seconds`);
  }
  return check(libc().alarm(seconds), "alarm");
}

function checkSeconds(syscall: string, seconds: number): void {
  if (!(seconds >= 0)) {
    throw new RangeError(`Cannot ${syscall} ${seconds} seconds: it takes a number from 0`);
  }
}

const ITIMER_PROF = 2;

/**
 * Has SIGPROF, whose default action ends the process, sent to it after it has used so
 * much more processor time, in all its threads: {@linkcode alarm} for a process that may
 * be stopped and go on.
 *
 * @param seconds The processor time; fractions count, 0 cancels.
 * @throws {RangeError} When the time is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setitimer.2.html setitimer(2)}, `ITIMER_PROF`
 */
export function alarmAfterCpuTime(seconds: number): void {
  checkSeconds("setitimer", seconds);
  const whole = Math.floor(seconds);
  // struct itimerval: the interval, which is none, and the first time, as struct timeval.
  const timer = BigInt64Array.of(
    0n,
    0n,
    BigInt(whole),
    BigInt(Math.floor((seconds - whole) * 1e6)),
  );
  check(libc().setitimer(ITIMER_PROF, timer, null), "setitimer");
}

const CLOCK_MONOTONIC = 1;
const CLOCK_PROCESS_CPUTIME_ID = 2;

/**
 * The processor time that this process has used, in all its threads.
 *
 * @returns Seconds.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/clock_gettime.3.html clock_gettime(3)},
 *   `CLOCK_PROCESS_CPUTIME_ID`
 */
export function cpuTime(): number {
  return clock(CLOCK_PROCESS_CPUTIME_ID);
}

/**
 * The time since some moment in the past, the same for all processes: a clock that
 * nobody sets.
 *
 * @returns Seconds.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/clock_gettime.3.html clock_gettime(3)},
 *   `CLOCK_MONOTONIC`
 */
export function monotonicTime(): number {
  return clock(CLOCK_MONOTONIC);
}

function clock(id: number): number {
  const time = new BigInt64Array(2);
  check(libc().clock_gettime(id, time), "clock_gettime");
  return Number(time[0]) + Number(time[1]) / 1e9;
}
