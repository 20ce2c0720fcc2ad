import type { Address } from "../ffi/address.ts";
import type { Socket } from "../ffi/socket.ts";
import { SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET } from "../ffi/socket_calls.ts";
import { acceptOne } from "./accept.ts";
import { formatClient, formatSince, type Log, reliable } from "./log.ts";
import { timeLimit } from "./options.ts";

/** Serves one connection. The server closes it afterwards. */
export type IterativeHandler = (connection: Socket, address: Address) => void;

/** Options of an iterative server. */
export interface IterativeOptions {
  /**
   * How long one `recv` or `send` of a connection may wait for the client, in seconds, while all
   * other clients wait. After that, it fails with `EAGAIN`. The default is 10; 0 or `Infinity`
   * means no limit.
   */
  readonly timeout?: number;
  /**
   * Stops the server when aborted. Only a signal handler can do that: no other code runs meanwhile.
   */
  readonly signal?: AbortSignal;
  /** Receives log lines. The default is standard error. */
  readonly log?: Log;
}

/**
 * Serves one client at a time; the others wait in the kernel's backlog. This is the complete form
 * of the article's webserver3a.
 *
 * A handler that throws ends only its connection; a failing accept ends none. Each connection is
 * one line in the log.
 *
 * @param listenSocket A listening socket. It is closed when the server stops.
 * @param handle Serves one connection.
 * @param options Options of the server.
 * @throws {RangeError} If an option is out of range.
 * @throws {SyscallError} If the socket does not listen.
 *
 * @example An echo server
 * ```ts ignore
 * import { AF_INET, serveIterative, SOCK_STREAM, Socket } from "@tine/tine";
 *
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 8888]);
 * listenSocket.listen(128);
 * serveIterative(listenSocket, (connection) => {
 *   for (let data; (data = connection.recv(4096)).length > 0;) connection.sendall(data);
 * });
 * ```
 */
export function serveIterative(
  listenSocket: Socket,
  handle: IterativeHandler,
  options: IterativeOptions = {},
): void {
  const { signal } = options;
  const timeout = timeLimit("timeout", options.timeout ?? 10);
  const log = reliable(options.log);
  try {
    while (!signal?.aborted) {
      const accepted = acceptOne(listenSocket, log);
      if (accepted !== undefined) serve(...accepted, handle, timeout, log);
    }
  } finally {
    listenSocket.close();
  }
}

function serve(
  connection: Socket,
  address: Address,
  handle: IterativeHandler,
  timeout: number,
  log: Log,
): void {
  const start = performance.now();
  let outcome = "ok";
  try {
    connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeout);
    connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeout);
    handle(connection, address);
  } catch (error) {
    outcome = String(error);
  } finally {
    connection.close();
  }
  log(`${formatClient(address)} ${outcome} ${formatSince(start)}`);
}
