import { check, isSyscallError } from "./errno.ts";
import { waitInterruptibly } from "./interruption.ts";
import { libc } from "./libc.ts";
import { itimerval, secondsOfTimespec, secondsOfTimeval, timespec } from "./structs.ts";

/**
 * Waits until a signal handler has run. An interruption point.
 *
 * @returns Never: pause(2) always ends with an error.
 * @throws {SyscallError} `EINTR` after a handler has run.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/pause.2.html pause(2)}
 */
export function pause(): never {
  waitInterruptibly("pause", "", null, undefined);
  throw new Error("pause() returned without a signal");
}

/**
 * Blocks the process for a time, or until a signal handler has run. An interruption point, but as
 * in C, an interruption is not an error: the result tells how much time was left.
 *
 * @param seconds The time, which may have a fraction.
 * @returns The seconds left; 0 if the whole time has passed.
 * @throws {RangeError} If the time is negative or not a number.
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
 * @param seconds The time; a nanosecond is 1e-9.
 * @throws {SyscallError} `EINTR` if a handler ran before the time had passed.
 * @throws {RangeError} If the time is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/nanosleep.2.html nanosleep(2)}
 */
export function nanosleep(seconds: number): void {
  checkSeconds("nanosleep", seconds);
  waitFor("nanosleep", seconds);
}

function waitFor(syscall: string, seconds: number): void {
  // ppoll() without descriptors is nanosleep() with a signal mask.
  waitInterruptibly(
    syscall,
    "",
    null,
    seconds === Infinity ? undefined : seconds * 1000,
  );
}

/**
 * Makes the kernel send SIGALRM to this process after a time. It does not depend on JavaScript, so
 * it also ends an endless loop: by default, SIGALRM terminates the process. A forked child does not
 * inherit the alarm; it is preserved across execve().
 *
 * @param seconds Whole seconds; 0 cancels the alarm.
 * @returns The seconds that were left of the previous alarm, or 0.
 * @throws {RangeError} If it is not a whole number from 0 to 2^32 - 1.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/alarm.2.html alarm(2)}
 */
export function alarm(seconds: number): number {
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 0xffff_ffff) {
    throw new RangeError(
      `Cannot set an alarm in ${seconds} seconds: expected a whole number from 0 to 4294967295`,
    );
  }
  return check(libc().alarm(seconds), "alarm");
}

function checkSeconds(syscall: string, seconds: number): void {
  if (!(seconds >= 0)) {
    throw new RangeError(`Cannot ${syscall} ${seconds} seconds: expected a number of at least 0`);
  }
}

/** `setitimer()`: real time; SIGALRM, like {@linkcode alarm}. */
export const ITIMER_REAL = 0;
/** `setitimer()`: processor time used in user mode; SIGVTALRM. */
export const ITIMER_VIRTUAL = 1;
/** `setitimer()`: processor time used in user and kernel mode; SIGPROF. */
export const ITIMER_PROF = 2;

/** The setting of a timer of {@linkcode setitimer}, in seconds. */
export interface IntervalTimer {
  /** The time left; 0 if the timer is not set. */
  readonly value: number;
  /** The time between two signals; 0 for a single one. */
  readonly interval: number;
}

/**
 * Makes the kernel send a signal to this process after a time: SIGALRM, SIGVTALRM or SIGPROF, each
 * of which terminates it by default. It does not depend on JavaScript. Timers of processor time
 * count all threads, and do not advance while the process is stopped. A forked child does not
 * inherit timers; they are preserved across execve().
 *
 * @param which `ITIMER_REAL`, `ITIMER_VIRTUAL` or `ITIMER_PROF`.
 * @param value The seconds until the first signal; a microsecond is 1e-6, 0 cancels the timer.
 * @param interval The seconds between two signals; 0 for a single one.
 * @returns The previous setting of the timer.
 * @throws {RangeError} If a time is negative or not a number.
 * @throws {SyscallError} `EINVAL` if there is no such timer.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setitimer.2.html setitimer(2)}
 */
export function setitimer(which: number, value: number, interval = 0): IntervalTimer {
  checkSeconds("setitimer", value);
  checkSeconds("setitimer", interval);
  const before = itimerval(0, 0);
  check(libc().setitimer(which, itimerval(interval, value), before), "setitimer", `${which}`);
  return {
    value: secondsOfTimeval(before.subarray(2)),
    interval: secondsOfTimeval(before),
  };
}

/** `clock_gettime()`: the time since an unspecified moment; this clock cannot be set. */
export const CLOCK_MONOTONIC = 1;
/** `clock_gettime()`: the processor time used by all threads of this process. */
export const CLOCK_PROCESS_CPUTIME_ID = 2;

/**
 * Reads a clock.
 *
 * @param clock `CLOCK_MONOTONIC` or `CLOCK_PROCESS_CPUTIME_ID`.
 * @returns The time in seconds.
 * @throws {SyscallError} `EINVAL` if there is no such clock.
 *
 * @example Measure processor time
 * ```ts
 * import { CLOCK_PROCESS_CPUTIME_ID, clock_gettime } from "@tine/tine";
 *
 * const before = clock_gettime(CLOCK_PROCESS_CPUTIME_ID);
 * for (let i = 0; i < 1e6; i++);
 * console.log(clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - before);
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man3/clock_gettime.3.html clock_gettime(3)}
 */
export function clock_gettime(clock: number): number {
  const time = timespec(0);
  check(libc().clock_gettime(clock, time), "clock_gettime", `${clock}`);
  return secondsOfTimespec(time);
}
