/**
 * What a server does when accept(2) fails. Its manual page and every server that
 * lasts agree: few of its errors are a reason to end.
 */
import type { Address } from "../ffi/address.ts";
import { isSyscallError } from "../ffi/errno.ts";
import type { Socket } from "../ffi/socket.ts";
import { SO_ACCEPTCONN, SOL_SOCKET } from "../ffi/socket_calls.ts";
import type { Log } from "./log.ts";
import { sleepInterruptibly } from "./sleep_interruptibly.ts";

/** How long a server rests after a failure that may last, in milliseconds: no descriptor is left. */
export const BACK_OFF = 100;

/** The connection itself failed, before it was accepted: on to the next. */
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
  "EPERM", // a firewall rule forbids it
]);

/**
 * Waits for a connection, for one call of accept(2).
 *
 * @returns The connection, or nothing when a signal handler ran or the attempt failed in a way
 *   that a server survives; the latter is logged.
 * @throws {SyscallError} When the socket does not listen.
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
    // It would fail for ever.
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
