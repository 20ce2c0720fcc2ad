/**
 * C structs that several calls take, as 64-bit Linux lays them out: the same on x86-64 and
 * aarch64, both little-endian.
 */

/**
 * `struct timespec { time_t tv_sec; long tv_nsec; }`
 *
 * @param seconds Fractions count, cut off after the nanosecond.
 */
export function timespec(seconds: number): BigInt64Array<ArrayBuffer> {
  return secondsAndParts(seconds, 1e9);
}

/** The seconds in a `struct timespec`. */
export function secondsOfTimespec(time: BigInt64Array): number {
  return Number(time[0]) + Number(time[1]) / 1e9;
}

/**
 * `struct timeval { time_t tv_sec; suseconds_t tv_usec; }`
 *
 * @param seconds Fractions count, cut off after the microsecond.
 */
export function timeval(seconds: number): BigInt64Array<ArrayBuffer> {
  return secondsAndParts(seconds, 1e6);
}

/** The seconds in a `struct timeval`. */
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
 * @param interval Seconds from each time to the next; 0 for one time only.
 * @param value Seconds to the first time; 0 for never.
 */
export function itimerval(interval: number, value: number): BigInt64Array<ArrayBuffer> {
  const timer = new BigInt64Array(4);
  timer.set(timeval(interval));
  timer.set(timeval(value), 2);
  return timer;
}

/** The bytes of a `struct pollfd`. */
export const POLLFD_BYTES = 8;

/** A `struct pollfd { int fd; short events; short revents; }` */
export function pollfd(fd: number, events: number): Int32Array<ArrayBuffer> {
  return pollfds([{ fd, events }]);
}

/** The same for several descriptors, one after the other. */
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

/** The `revents` of one of them. */
export function revents(fds: Int32Array, index: number): number {
  return fds[2 * index + 1]! >>> 16;
}
