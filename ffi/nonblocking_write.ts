/**
 * Functions for writing logs: they do not throw, so that a full disk costs no more than a line;
 * they do not wait without a time limit; and no signal handler runs.
 */
import { errno, libc } from "./libc.ts";
import { POLLOUT } from "./poll.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "./socket_calls.ts";
import { pollfd, timespec } from "./structs.ts";

/**
 * Calls write(2) once.
 *
 * @param fd The descriptor.
 * @param data The bytes.
 * @param byteLength The number of bytes to write.
 * @returns The number of bytes accepted; on failure, the negative error number.
 */
export function tryWrite(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  const count = Number(libc().write(fd, data, BigInt(byteLength)));
  return count === -1 ? -errno() : count;
}

/**
 * Calls send(2) once, without waiting.
 *
 * @param fd The socket's descriptor.
 * @param data The bytes.
 * @param byteLength The number of bytes to write.
 * @returns The number of bytes accepted; on failure, the negative error number.
 */
export function trySend(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  const count = Number(libc().send(fd, data, BigInt(byteLength), MSG_DONTWAIT | MSG_NOSIGNAL));
  return count === -1 ? -errno() : count;
}

/**
 * Waits until a descriptor accepts data.
 *
 * @param fd The descriptor.
 * @param milliseconds The time limit.
 * @returns Whether a write would not wait: it succeeds, or fails immediately.
 */
export function isWritable(fd: number, milliseconds: number): boolean {
  // Without a mask, the held signals stay blocked: not an interruption point.
  return libc().ppoll(pollfd(fd, POLLOUT), 1n, timespec(milliseconds / 1000), null) === 1;
}
