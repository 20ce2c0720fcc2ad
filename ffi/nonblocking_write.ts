/**
 * Writing as logs need it: nothing here throws, so that a full disk costs no more
 * than a line; nothing waits without an end; and no signal handler runs.
 */
import { errno, libc } from "./libc.ts";
import { POLLOUT } from "./poll.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "./socket_calls.ts";
import { pollfd, timespec } from "./structs.ts";

/**
 * write(2), once.
 *
 * @param fd The descriptor.
 * @param data The bytes.
 * @param byteLength How many of them.
 * @returns How many were taken; the error's number, negative, if none.
 */
export function tryWrite(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  const count = Number(libc().write(fd, data, BigInt(byteLength)));
  return count === -1 ? -errno() : count;
}

/**
 * send(2), once, where the socket takes it at once.
 *
 * @param fd The socket's descriptor.
 * @param data The bytes.
 * @param byteLength How many of them.
 * @returns How many were taken; the error's number, negative, if none.
 */
export function trySend(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  const count = Number(libc().send(fd, data, BigInt(byteLength), MSG_DONTWAIT | MSG_NOSIGNAL));
  return count === -1 ? -errno() : count;
}

/**
 * Waits until a descriptor takes data.
 *
 * @param fd The descriptor.
 * @param milliseconds How long at most.
 * @returns Whether it does, or will tell at once why not.
 */
export function isWritable(fd: number, milliseconds: number): boolean {
  // Without a mask the held signals stay blocked: no interruption point.
  return libc().ppoll(pollfd(fd, POLLOUT), 1n, timespec(milliseconds / 1000), null) === 1;
}
