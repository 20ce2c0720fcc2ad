import { isSyscallError } from "../ffi/errno.ts";
import { poll, type PollRequest } from "../ffi/poll.ts";

/**
 * Sleeps until a signal handler has run, a descriptor is ready, or the time is over.
 *
 * @param milliseconds How long at most; without a limit if left out.
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
