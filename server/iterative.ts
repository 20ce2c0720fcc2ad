import type { Address } from "../ffi/address.ts";
import type { Socket } from "../ffi/socket.ts";
import { SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET } from "../ffi/socket_calls.ts";
import { acceptOne } from "./accept.ts";
import { formatClient, formatSince, type Log, reliable } from "./log.ts";
import { timeLimit } from "./options.ts";

/** Serves one connection; the server closes it afterwards. */
export type IterativeHandler = (connection: Socket, address: Address) => void;

/** How an iterative server runs. */
export interface IterativeOptions {
  /**
   * Seconds that one `recv` or `send` of a connection may wait for the client, who keeps all
   * others waiting meanwhile; then it fails with `EAGAIN`. 10 if left out, 0 or `Infinity` for ever.
   */
  readonly timeout?: number;
  /** Stops the server when it is aborted, by a signal handler: nothing else runs meanwhile. */
  readonly signal?: AbortSignal;
  /** Where log lines go; standard error if left out. */
  readonly log?: Log;
}

/**
 * Serves one client at a time, the others wait in the kernel's backlog. The
 * finished form of the article's webserver3a.
 *
 * A handler that throws costs its connection, and so does a failing accept. Each
 * connection is one line in the log.
 *
 * @param listenSocket A listening socket; it is closed when the server stops.
 * @param handle Serves one connection.
 * @param options How it runs.
 * @throws {RangeError} When an option is out of its range.
 * @throws {SyscallError} When the socket does not listen.
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
