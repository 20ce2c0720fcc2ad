import { letSignalsIn, waitInterruptibly } from "./interruption.ts";
import { SIG_SETMASK, sigprocmask } from "./signal_mask.ts";
import { pollfds, revents } from "./structs.ts";

/** Data can be read, or a connection can be accepted. */
export const POLLIN = 0x001;
/** There is urgent data to read. */
export const POLLPRI = 0x002;
/** Writing will not block. */
export const POLLOUT = 0x004;
/** Returned only: there is an error. */
export const POLLERR = 0x008;
/** Returned only: the other end has hung up. */
export const POLLHUP = 0x010;
/** Returned only: the descriptor is not open. */
export const POLLNVAL = 0x020;
/** The other end will send no more data. */
export const POLLRDHUP = 0x2000;

/** A descriptor and the events to wait for. */
export interface PollRequest {
  /** The descriptor. A negative one is ignored. */
  readonly fd: number;
  /** `POLLIN`, `POLLOUT`, ..., OR-ed together. */
  readonly events: number;
}

/** A descriptor and the events that have occurred. */
export interface PollResult {
  /** The descriptor. */
  readonly fd: number;
  /** The events: `POLLIN`, `POLLHUP`, ..., OR-ed together. */
  readonly revents: number;
}

/**
 * Waits until one of the descriptors is ready. An interruption point.
 *
 * @param requests The descriptors and the events to wait for.
 * @param timeout The time limit in milliseconds. 0 does not wait; if omitted, there is no limit.
 * @returns The descriptors that are ready; empty if the time limit expired.
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws {RangeError} If the timeout is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/poll.2.html poll(2)}
 */
export function poll(requests: readonly PollRequest[], timeout?: number): PollResult[] {
  if (timeout !== undefined && !(timeout >= 0)) {
    throw new RangeError(
      `Cannot poll for ${timeout} milliseconds: expected a number of at least 0`,
    );
  }
  const fds = pollfds(requests);
  letSignalsIn("poll");
  waitInterruptibly("poll", "", fds, timeout === Infinity ? undefined : timeout);
  return requests
    .map(({ fd }, i) => ({ fd, revents: revents(fds, i) }))
    .filter(({ revents }) => revents !== 0);
}

/**
 * Waits until one of the descriptors is ready, with a timeout in seconds and, while it waits,
 * another signal mask.
 *
 * @param requests The descriptors and the events to wait for.
 * @param timeout The time limit in seconds, which may have a fraction. If omitted, there is no
 *   limit.
 * @param blocked The signals to block while it waits. The default is the program's mask.
 * @returns The descriptors that are ready; empty if the time limit expired.
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws {RangeError} If the timeout is negative or not a number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/ppoll.2.html ppoll(2)}
 */
export function ppoll(
  requests: readonly PollRequest[],
  timeout?: number,
  blocked?: readonly number[],
): PollResult[] {
  const before = blocked && sigprocmask(SIG_SETMASK, blocked);
  try {
    return poll(requests, timeout === undefined ? undefined : timeout * 1000);
  } finally {
    if (before) sigprocmask(SIG_SETMASK, before);
  }
}
