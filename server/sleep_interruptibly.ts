import { isSyscallError } from "../ffi/errno.ts";
import { poll, type PollRequest } from "../ffi/poll.ts";

/**
 * Sleeps until a signal handler has run, a descriptor is ready, or the time has elapsed.
 *
 * @param milliseconds The maximum time. The default is no limit.
 * @param requests The descriptors, and the events that end the sleep.
 */
export function sleepInterruptibly(
  milliseconds?: number,
  requests: readonly PollRequest[] = [],
): void {
  try {
    poll(requests, milliseconds);
  } catch (error) {
    if (!isSyscallError(error, "EINTR")) throw error;
  }
}
