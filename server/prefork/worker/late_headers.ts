/**
 * Ends connections whose client does not complete a request's header. Only Deno knows whether what
 * it has read is half a header or a request that the app will get, and a request that the app gets
 * must not be answered by anybody else. So Deno is told that the client sends no more. It then
 * passes on a request that is complete, or closes the connection without a word. A duplicate of the
 * descriptor keeps the connection open, and carries the answer.
 */
import { F_DUPFD_CLOEXEC, fcntl } from "../../../ffi/descriptor_calls.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { MSG_DONTWAIT, SHUT_RD, SHUT_RDWR } from "../../../ffi/socket_calls.ts";
import { Socket } from "../../../ffi/socket.ts";

/** A connection of a worker. */
interface Connection {
  readonly fd: number;
  /** The client's address, which is not empty. */
  readonly client: string;
}

/** The connections whose header is late. */
export interface LateHeaders {
  /** The number of connections that have not been decided. */
  readonly size: number;
  /**
   * Begins to end a connection.
   *
   * @returns Whether it succeeded. It does not if too many connections are undecided.
   */
  add(connection: Connection): boolean;
  /** Whether a connection is undecided. */
  has(connection: Connection): boolean;
  /** Must be called for each request that the app gets: Deno answers it. */
  requested(client: string | undefined): void;
  /**
   * Decides what can be decided. Must be called repeatedly, with turns of the event loop between
   * the calls.
   *
   * @param isOpen Returns whether Deno has not closed a connection.
   * @returns The connections that Deno does not close.
   */
  decide<C extends Connection>(isOpen: (connection: Connection) => connection is C): C[];
  /** Closes all connections. */
  close(): void;
}

/** An undecided connection. */
interface Undecided {
  readonly connection: Connection;
  /** A duplicate of the connection's descriptor. */
  readonly copy: Socket;
  /** How often Deno has been given the time to close the connection. */
  chances: number;
  /** Whether Deno had closed it at the last call of `decide()`. */
  isClosed: boolean;
}

/** The largest number of undecided connections: each takes another descriptor. */
const MOST = 256;
/** How often Deno is given the time to close a connection. A busy worker takes a while. */
const CHANCES = 10;

const REQUEST_TIMEOUT = new TextEncoder().encode(
  "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
);

/** Returns an empty list of connections whose header is late. */
export function lateHeaders(): LateHeaders {
  const undecided = new Map<string, Undecided>();

  function forget({ connection, copy }: Undecided): void {
    undecided.delete(connection.client);
    copy.close();
  }

  return {
    get size() {
      return undecided.size;
    },
    add(connection): boolean {
      if (undecided.size >= MOST) return false;
      try {
        const copy = Socket.fromDescriptor(fcntl(connection.fd, F_DUPFD_CLOEXEC));
        undecided.set(connection.client, { connection, copy, chances: CHANCES, isClosed: false });
        copy.shutdown(SHUT_RD);
        return true;
      } catch (error) {
        // EMFILE, or ENOTCONN: the client disconnected first.
        if (isSyscallError(error)) return false;
        throw error;
      }
    },
    has: ({ client }) => undecided.has(client),
    requested(client): void {
      const found = client === undefined ? undefined : undecided.get(client);
      if (found !== undefined) forget(found);
    },
    decide<C extends Connection>(isOpen: (connection: Connection) => connection is C): C[] {
      const stubborn: C[] = [];
      for (const one of [...undecided.values()]) {
        if (isOpen(one.connection)) {
          if (--one.chances > 0) continue;
          stubborn.push(one.connection);
          forget(one);
        } else if (one.isClosed) {
          answer(one.copy);
          forget(one);
        } else {
          // The app gets what Deno has passed on until now within a turn of the event loop.
          one.isClosed = true;
        }
      }
      return stubborn;
    },
    close(): void {
      for (const one of [...undecided.values()]) forget(one);
    },
  };
}

/** Sends the answer, and discards what has not been read: the client would lose the answer. */
function answer(copy: Socket): void {
  try {
    copy.send(REQUEST_TIMEOUT, MSG_DONTWAIT);
    copy.shutdown(SHUT_RDWR);
    while (copy.recv(65536, MSG_DONTWAIT).length > 0);
  } catch (error) {
    // EPIPE: Deno has ended an HTTP/2 connection. EAGAIN, ECONNRESET.
    if (!isSyscallError(error)) throw error;
  }
}
