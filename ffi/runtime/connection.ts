/**
 * Fact 6, for one connection: a Deno server can serve a connection that it has not accepted. The
 * server is created with a throw-away address and accepts a stand-in there. Before a byte has been
 * transferred, the connection replaces the stand-in, in the descriptor table and in the epoll
 * instance.
 */
import { type Address, AF_UNIX } from "../address.ts";
import { O_NONBLOCK } from "../descriptor.ts";
import { close, F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, fcntl } from "../descriptor_calls.ts";
import { isSyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { getpid } from "../process.ts";
import { Socket } from "../socket.ts";
import {
  getpeername,
  getsockname,
  getsockopt,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  MSG_PEEK,
  SHUT_RDWR,
  shutdown,
  SO_ACCEPTCONN,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../socket_calls.ts";
import { resetOnClose, socketCookie, type TcpInfo, tcpInfo } from "../socket_options.ts";
import {
  deadSocket,
  duplicateOnto,
  register,
  unregister,
  type Watched,
  watchedDescriptors,
} from "./event_loop.ts";
import { nextTurn } from "./timers.ts";

/** A connection that a Deno server owns and closes. */
export interface TakenConnection {
  /** Whether the server has not closed the connection yet. */
  isOpen(): boolean;
  /** Whether data has arrived that the server has not read yet. */
  hasInput(): boolean;
  /** Returns the connection's counters; `undefined` for a UNIX socket, or if it is closed. */
  tcpInfo(): TcpInfo | undefined;
  /** Whether the client has stopped sending, which usually means that it has disconnected. */
  isHalfClosed(): boolean;
  /** Shuts down both directions: to the server, the client has closed the connection. */
  shutdown(): void;
  /** Does the same, and drops what the client has not read. */
  reset(): void;
}

// How long the server may take to accept the stand-in, in milliseconds.
const PATIENCE = 5000;
/** How many turns of the event loop it takes until all requests of strangers have been refused. */
const STRANGERS_TURNS = 2;
/** The option that returns who connected a UNIX socket, unix(7). */
const SO_PEERCRED = 17;

/**
 * Makes a Deno server serve one connection, and accept no other.
 *
 * @param connection The connection. The server owns it from here on.
 * @param listen Creates the server synchronously, on an address that is not used for anything else:
 *   a path for a UNIX socket, a loopback port for any other.
 * @returns The return value of `listen`; the client's address as the server sees it, which
 *   distinguishes the connection from others made to the throw-away address; and a view of the
 *   connection.
 * @throws {Error} If `listen` created no server, or it does not accept.
 * @throws {SyscallError} If the kernel refuses.
 */
export async function takeOverConnection<T extends { readonly addr: Deno.Addr }>(
  connection: Socket,
  listen: () => T,
): Promise<{ server: T; standIn: Deno.Addr; connection: TakenConnection }> {
  try {
    const server = listen();
    const listener = socketsAt(server.addr).find(({ fd }) => option(fd, SO_ACCEPTCONN));
    if (listener === undefined) {
      throw new Error("Cannot take over a connection: no server is listening");
    }
    try {
      // Connecting takes a turn of the event loop, in which the server accepts.
      using client = await connect(server.addr);
      const accepted = await findAccepted(server.addr, client.localAddr);
      if (connection.family === AF_UNIX) {
        // The server cannot tell their requests from the connection's.
        endStrangers(server.addr, listener, accepted.fd);
        for (let i = 0; i < STRANGERS_TURNS; i++) await nextTurn();
      }
      adopt(connection, accepted);
      return { server, standIn: client.localAddr, connection: view(accepted.fd) };
    } finally {
      endStrangers(server.addr, listener);
    }
  } finally {
    connection.close();
  }
}

/**
 * Returns the socket of a connection that a Deno listener has accepted.
 *
 * @param accepted The connection. It is closed, and continues in the socket.
 * @returns The socket.
 * @throws {Error} If the connection has already ended.
 * @throws {SyscallError} `EMFILE` if no descriptor is left.
 */
export function socketOf(accepted: Deno.Conn): Socket {
  using connection = accepted;
  const found = socketsAt(connection.localAddr).find(({ fd }) =>
    option(fd, SO_ACCEPTCONN) === 0 && isFrom(fd, connection.remoteAddr)
  );
  if (found === undefined) throw new Error("The connection has already ended");
  const socket = Socket.fromDescriptor(fcntl(found.fd, F_DUPFD_CLOEXEC));
  // Deno does not just close its descriptor: it shuts down the stream.
  takeAway(found.fd);
  return socket;
}

/** Stops listening, and ends the connections of others who connected to the throw-away address. */
function endStrangers(address: Deno.Addr, listener: Watched, standIn?: number): void {
  const sockets = socketsAt(address);
  if (sockets.some(({ fd }) => fd === listener.fd)) {
    unregister(listener.epoll, listener.fd);
    takeAway(listener.fd);
  }
  for (const { fd } of sockets) {
    if (fd === listener.fd || fd === standIn) continue;
    shutDown(fd);
    // What was sent before that could still be read.
    const rest = new Uint8Array(65536);
    while (libc().recv(fd, rest, BigInt(rest.length), MSG_DONTWAIT) > 0n);
  }
}

function connect(address: Deno.Addr): Promise<Deno.Conn> {
  if (address.transport === "unix") return Deno.connect({ ...address, transport: "unix" });
  return Deno.connect(address as Deno.NetAddr & { transport: "tcp" });
}

/** Returns the connection that the server accepted from the stand-in. */
async function findAccepted(address: Deno.Addr, standIn: Deno.Addr): Promise<Watched> {
  const start = performance.now();
  while (performance.now() - start < PATIENCE) {
    const accepted = socketsAt(address).find(({ fd }) =>
      option(fd, SO_ACCEPTCONN) === 0 && isFrom(fd, standIn) && isOwn(fd)
    );
    if (accepted !== undefined) return accepted;
    await nextTurn();
  }
  throw new Error("Cannot take over a connection: the server does not accept it");
}

function adopt(connection: Socket, { fd, epoll, ...registration }: Watched): void {
  connection.fcntl(F_SETFL, connection.fcntl(F_GETFL) | O_NONBLOCK);
  if (connection.family !== AF_UNIX) connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
  duplicateOnto(connection.fileno(), fd);
  register(epoll, { fd, ...registration });
}

/** Takes a socket away from its owner in Deno, which is left with a dead socket. */
function takeAway(fd: number): void {
  const dead = deadSocket();
  duplicateOnto(dead, fd);
  close(dead);
}

/** Returns the open sockets that have the given local address. */
function socketsAt(address: Deno.Addr): Watched[] {
  return watchedDescriptors()
    .filter(({ fd }) => isSame(nameOf(fd, getsockname), address));
}

function isFrom(fd: number, client: Deno.Addr): boolean {
  // A UNIX client has no name.
  return client.transport === "unix" || isSame(nameOf(fd, getpeername), client);
}

/** Whether this process is the client of an accepted UNIX socket; true for any other socket. */
function isOwn(fd: number): boolean {
  const pid = option(fd, SO_PEERCRED); // struct ucred begins with it
  return pid === 0 || pid === getpid();
}

/**
 * Returns a socket's name; `undefined` if it is not a socket, or the other end has disconnected.
 */
function nameOf(fd: number, call: (fd: number) => Address): Address | undefined {
  try {
    return call(fd);
  } catch (error) {
    if (isSyscallError(error)) return undefined; // ENOTSOCK, ENOTCONN
    throw error;
  }
}

function isSame(name: Address | undefined, address: Deno.Addr): boolean {
  if (typeof name === "string") return "path" in address && address.path === name;
  return "hostname" in address && address.hostname === name?.[0] && address.port === name[1];
}

function view(fd: number): TakenConnection {
  const cookie = socketCookie(fd);
  const byte = new Uint8Array(1);
  const isOpen = () => socketCookie(fd) === cookie;
  const look = () => libc().recv(fd, byte, 1n, MSG_PEEK | MSG_DONTWAIT);
  return {
    isOpen,
    hasInput: () => isOpen() && look() > 0n,
    tcpInfo: () => isOpen() ? tcpInfo(fd) : undefined,
    isHalfClosed: () => isOpen() && look() === 0n,
    shutdown(): void {
      if (isOpen()) shutDown(fd);
    },
    reset(): void {
      if (!isOpen()) return;
      resetOnClose(fd);
      shutDown(fd);
    },
  };
}

function shutDown(fd: number): void {
  try {
    shutdown(fd, SHUT_RDWR);
  } catch (error) {
    // ENOTCONN: the other end disconnected first.
    if (!isSyscallError(error)) throw error;
  }
}

/** Returns a socket option; `undefined` if the descriptor is not a socket. */
function option(fd: number, name: number): number | undefined {
  try {
    return getsockopt(fd, SOL_SOCKET, name);
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}
