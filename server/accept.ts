/**
 * What a server does when accept(2) fails. Its manual page and every server that
 * lasts agree: few of its errors are a reason to end.
 */
import type { Address } from "../ffi/address.ts";
import { SyscallError } from "../ffi/errno.ts";
import { poll } from "../ffi/poll.ts";
import type { Socket } from "../ffi/socket.ts";
import type { Log } from "./log.ts";

/** How long a server rests when it has run out of descriptors or memory, in milliseconds. */
const BACK_OFF = 100;

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

/** Nothing is left to accept with, until something is given back. */
const EXHAUSTED = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/**
 * Waits for a connection, for one call of accept(2).
 *
 * @returns The connection, or nothing when a signal handler ran or the attempt failed in a way
 *   that a server survives; the latter is logged.
 * @throws {SyscallError} When the listening socket is none.
 */
export function acceptOne(
  listenSocket: Socket,
  log: Log,
): [connection: Socket, address: Address] | undefined {
  try {
    return listenSocket.accept();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    if (error.code === "EINTR" || error.code === "EAGAIN") return undefined;
    if (EXHAUSTED.has(error.code)) {
      log(`${error.message}. Trying again in ${BACK_OFF} ms`);
      rest(BACK_OFF);
    } else if (LOST.has(error.code)) {
      log(error.message);
    } else {
      throw error;
    }
    return undefined;
  }
}

/**
 * Waits until a signal handler has run, or the time is over.
 *
 * @param milliseconds How long at most; without a limit if left out.
 */
export function rest(milliseconds?: number): void {
  try {
    poll([], milliseconds);
  } catch (error) {
    if (!(error instanceof SyscallError && error.code === "EINTR")) throw error;
  }
}
