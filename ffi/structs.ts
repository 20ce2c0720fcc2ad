/**
 * C structs that several calls use, in the layout of 64-bit Linux. It is the same on x86-64 and
 * aarch64, which are both little-endian.
 */

/**
 * `struct timespec { time_t tv_sec; long tv_nsec; }`
 *
 * @param seconds The seconds, truncated to nanoseconds.
 */
export function timespec(seconds: number): BigInt64Array<ArrayBuffer> {
  return secondsAndParts(seconds, 1e9);
}

/** Returns the seconds in a `struct timespec`. */
export function secondsOfTimespec(time: BigInt64Array): number {
  return Number(time[0]) + Number(time[1]) / 1e9;
}

/**
 * `struct timeval { time_t tv_sec; suseconds_t tv_usec; }`
 *
 * @param seconds The seconds, truncated to microseconds. Less than one is one: 0 means no time limit.
 */
export function timeval(seconds: number): BigInt64Array<ArrayBuffer> {
  return secondsAndParts(seconds > 0 ? Math.max(seconds, 1e-6) : 0, 1e6);
}

/** Returns the seconds in a `struct timeval`. */
export function secondsOfTimeval(time: BigInt64Array): number {
  return Number(time[0]) + Number(time[1]) / 1e6;
}

function secondsAndParts(seconds: number, parts: number): BigInt64Array<ArrayBuffer> {
  const whole = Math.floor(seconds);
  const time = new BigInt64Array(2);
  time[0] = BigInt(whole);
  time[1] = BigInt(Math.floor((seconds - whole) * parts));
  return time;
}

/**
 * `struct itimerval { struct timeval it_interval, it_value; }`
 *
 * @param interval The seconds between two expirations; 0 for a single one.
 * @param value The seconds until the first expiration; 0 for none.
 */
export function itimerval(interval: number, value: number): BigInt64Array<ArrayBuffer> {
  const timer = new BigInt64Array(4);
  timer.set(timeval(interval));
  timer.set(timeval(value), 2);
  return timer;
}

/** The size of a `struct pollfd`, in bytes. */
export const POLLFD_BYTES = 8;

/** Creates a `struct pollfd { int fd; short events; short revents; }`. */
export function pollfd(fd: number, events: number): Int32Array<ArrayBuffer> {
  return pollfds([{ fd, events }]);
}

/** Creates an array of them. */
export function pollfds(
  requests: readonly { readonly fd: number; readonly events: number }[],
): Int32Array<ArrayBuffer> {
  const fds = new Int32Array(2 * requests.length);
  requests.forEach(({ fd, events }, i) => {
    fds[2 * i] = fd;
    fds[2 * i + 1] = events; // and no revents
  });
  return fds;
}

/** Returns the `revents` of one of them. */
export function revents(fds: Int32Array, index: number): number {
  return fds[2 * index + 1]! >>> 16;
}
