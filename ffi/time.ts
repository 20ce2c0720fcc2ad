import { check, isSyscallError } from "./errno.ts";
import { waitInterruptibly } from "./interruption.ts";
import { libc } from "./libc.ts";
import { itimerval, secondsOfTimespec, secondsOfTimeval, timespec } from "./structs.ts";

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

/** `setitimer()`: real time, and SIGALRM at its end, as {@linkcode alarm}. */
export const ITIMER_REAL = 0;
/** `setitimer()`: processor time that the process spends in its own code; SIGVTALRM. */
export const ITIMER_VIRTUAL = 1;
/** `setitimer()`: the same, and what the kernel spends on its behalf; SIGPROF. */
export const ITIMER_PROF = 2;

/** What a timer of {@linkcode setitimer} was set to; in seconds. */
export interface IntervalTimer {
  /** The time that is left, 0 when the timer is not set. */
  readonly value: number;
  /** The time from each signal to the next, 0 for a single one. */
  readonly interval: number;
}

/**
 * Has the kernel send a signal to this process after a time: SIGALRM, SIGVTALRM or
 * SIGPROF, each of which ends it by default. Needs no JavaScript to run meanwhile.
 * Timers of processor time count all threads, and stand still while the process is
 * stopped. fork() does not pass them on; execve() does.
 *
 * @param which `ITIMER_REAL`, `ITIMER_VIRTUAL` or `ITIMER_PROF`.
 * @param value Seconds to the first signal; a microsecond is 1e-6, 0 cancels the timer.
 * @param interval Seconds from each signal to the next; 0 for a single one.
 * @returns What the timer was set to before.
 * @throws {RangeError} When a time is negative or not a number.
 * @throws {SyscallError} `EINVAL` when there is no such timer.
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

/** `clock_gettime()`: the time since some moment in the past; a clock that nobody sets. */
export const CLOCK_MONOTONIC = 1;
/** `clock_gettime()`: the processor time that this process has used, in all its threads. */
export const CLOCK_PROCESS_CPUTIME_ID = 2;

/**
 * Reads a clock.
 *
 * @param clock `CLOCK_MONOTONIC` or `CLOCK_PROCESS_CPUTIME_ID`.
 * @returns Seconds.
 * @throws {SyscallError} `EINVAL` when there is no such clock.
 *
 * @example How long the processor worked
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
