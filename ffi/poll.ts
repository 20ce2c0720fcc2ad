import { letSignalsIn, waitInterruptibly } from "./interruption.ts";
import { SIG_SETMASK, sigprocmask } from "./signal_mask.ts";
import { pollfds, revents } from "./structs.ts";

/** There is something to read, or a connection to accept. */
export const POLLIN = 0x001;
/** There is urgent data. */
export const POLLPRI = 0x002;
/** Writing will not block. */
export const POLLOUT = 0x004;
/** Returned only: an error is waiting. */
export const POLLERR = 0x008;
/** Returned only: the other end is gone. */
export const POLLHUP = 0x010;
/** Returned only: the descriptor is not open. */
export const POLLNVAL = 0x020;
/** The other end will send no more. */
export const POLLRDHUP = 0x2000;

/** A descriptor and the events to wait for. */
export interface PollRequest {
  /** The descriptor; a negative one is passed over. */
  readonly fd: number;
  /** `POLLIN`, `POLLOUT`, ... or-ed together. */
  readonly events: number;
}

/** A descriptor and the events that have come. */
export interface PollResult {
  /** The descriptor. */
  readonly fd: number;
  /** What is ready: `POLLIN`, `POLLHUP`, ... or-ed together. */
  readonly revents: number;
}

/**
 * Waits until one of the descriptors is ready. An interruption point.
 *
 * @param requests The descriptors and what to wait for.
 * @param timeout Milliseconds; 0 asks and returns, none waits for ever.
 * @returns The descriptors that are ready, none when the time is over.
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws {RangeError} When the timeout is negative or not a number.
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
 * Waits until one of the descriptors is ready, with a timeout in seconds and, for
 * just that time, another signal mask.
 *
 * @param requests The descriptors and what to wait for.
 * @param timeout Seconds; fractions count, none waits for ever.
 * @param blocked The signals to block meanwhile; the program's mask if left out.
 * @returns The descriptors that are ready, none when the time is over.
 * @throws {SyscallError} `EINTR` after a handler has run.
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
