/**
 * How a server handles a failed accept(2). As its manual page says, few of the errors are a reason
 * to end.
 */
import type { Address } from "../ffi/address.ts";
import { isSyscallError } from "../ffi/errno.ts";
import type { Socket } from "../ffi/socket.ts";
import { SO_ACCEPTCONN, SOL_SOCKET } from "../ffi/socket_calls.ts";
import type { Log } from "./log.ts";
import { sleepInterruptibly } from "./sleep_interruptibly.ts";

/**
 * How long a server pauses after a failure that may last, such as no free descriptor, in
 * milliseconds.
 */
export const BACK_OFF = 100;

/**
 * Errors of the connection itself, which failed before it was accepted: continue with the next one.
 */
const LOST = new Set([
  "ECONNABORTED",
  "ENETDOWN",
  "EPROTO",
  "ENOPROTOOPT",
  "EHOSTDOWN",
  "ENONET",
  "EHOSTUNREACH",
  "EOPNOTSUPP",
  "ENETUNREACH",
  "ETIMEDOUT",
  "EPERM", // forbidden by a firewall rule
]);

/**
 * Waits for a connection with one call of accept(2).
 *
 * @returns The connection; `undefined` if a signal handler ran, or the attempt failed in a way that
 *   a server survives. Such a failure is logged.
 * @throws {SyscallError} If the socket does not listen.
 */
export function acceptOne(
  listenSocket: Socket,
  log: Log,
): [connection: Socket, address: Address] | undefined {
  try {
    return listenSocket.accept();
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    if (error.code === "EINTR" || error.code === "EAGAIN") return undefined;
    // Any further attempt would fail too.
    if (!listens(listenSocket)) throw error;
    if (LOST.has(error.code)) {
      log(error.message);
    } else {
      log(`${error.message}. Trying again in ${BACK_OFF} ms`);
      sleepInterruptibly(BACK_OFF);
    }
    return undefined;
  }
}

/** Whether a socket is open and listens. */
export function listens(socket: Socket): boolean {
  try {
    return socket.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) === 1;
  } catch {
    return false;
  }
}
