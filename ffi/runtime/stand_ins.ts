/**
 * Fact 6, for the connections of a server: a Deno server can serve connections that it has not
 * accepted, as in `connection.ts`, any number of them. For each it accepts a stand-in, on a loopback
 * address of its own, which the connection then replaces. Deno goes on calling the client by the
 * stand-in's address.
 *
 * Between two stand-ins, connection requests to the server are dropped, so that nobody else gets in.
 */
import { AF_INET, AF_UNIX, type InetAddress } from "../address.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../descriptor.ts";
import { F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, fcntl } from "../descriptor_calls.ts";
import { check, isSyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { POLLOUT } from "../poll.ts";
import { SOCK_STREAM, Socket } from "../socket.ts";
import { getpeername, getsockname, IPPROTO_TCP, TCP_NODELAY } from "../socket_calls.ts";
import {
  allowConnectionRequests,
  dropConnectionRequests,
  socketCookie,
} from "../socket_options.ts";
import { pollfd, timespec } from "../structs.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import {
  duplicateOnto,
  isListening,
  register,
  unregister,
  type Watched,
  watchedDescriptors,
} from "./event_loop.ts";
import { nextTurn } from "./timers.ts";

/** A connection that has been given to a server. */
export interface Placement {
  /** The client's address, as the server sees it. No other open connection of the process has it. */
  readonly address: Deno.NetAddr;
  /** The connection's descriptor, which the server owns; `undefined` until it has it. */
  fd: number | undefined;
  /** Whether the server has closed the connection, or not taken it. */
  isClosed(): boolean;
}

/** A connection that Deno has accepted. */
export interface Accepted {
  readonly fd: number;
  /** Distinguishes the connection from a later one with the same descriptor. */
  readonly cookie: number;
  /** Takes the connection away from Deno, unless it has ended. To Deno it is closed then. */
  take(): Socket | undefined;
}

/** Gives connections to a server. */
export interface StandIns {
  /** Whether connections wait that the server does not have yet. */
  isAnyWaiting(): boolean;
  /** Waits until few connections wait. */
  whenFewWait(): Promise<void>;
  /**
   * Finds a connection that Deno has accepted elsewhere.
   *
   * @param connection The connection.
   * @param isKnown Returns whether a descriptor is that of another connection.
   * @returns The connection; `undefined` if it has ended.
   */
  find(
    connection: Deno.Conn,
    isKnown: (fd: number, cookie: number) => boolean,
  ): Accepted | undefined;
  /**
   * Gives a connection to the server, which takes it in one of the next turns of the event loop.
   *
   * @param connection The connection. The server owns it from here on.
   * @param onPlaced Called when the server has it, before it reads from it.
   * @throws {SyscallError} `ECONNREFUSED` if the server does not listen, ...
   */
  place(connection: Socket, onPlaced: (placement: Placement) => void): Placement;
}

/** A connection that waits until its stand-in has been accepted. */
interface Waiting {
  readonly placement: Placement;
  readonly connection: Socket;
  readonly standIn: Socket;
  readonly since: number;
  readonly onPlaced: (placement: Placement) => void;
}

/** How long a stand-in may take to connect, in which this process waits. */
const SHORT = timespec(1);
/** How many connections wait for the server at the same time: fewer than it has a backlog for. */
const MOST_WAITING = 100;
/** How long a server may take to accept a stand-in, in milliseconds. */
const PATIENCE = 5000;

// The last three bytes of a stand-in's address. It begins anywhere, and is not soon the same again.
let lastAddress = Math.floor(Math.random() * 2 ** 24);

function nextAddress(): string {
  // Neither 127.0.0.x nor an address that ends in 0 or 255.
  do lastAddress = (lastAddress + 1) % 2 ** 24; while (
    lastAddress < 256 || [0, 255].includes(lastAddress % 256)
  );
  const bytes = [lastAddress >>> 16, (lastAddress >>> 8) & 255, lastAddress & 255];
  return `127.${bytes.join(".")}`;
}

/**
 * Prepares a server to be given connections, and to accept no others.
 *
 * @param server The server, which listens at a loopback address.
 * @throws {SyscallError} If the kernel refuses.
 */
export function standInsFor(server: { readonly addr: Deno.Addr }): StandIns {
  const { hostname, port } = server.addr as Deno.NetAddr;
  const listener = watchedDescriptors().find(({ fd }) =>
    isListening(fd) && isAt(getsockname(fd), hostname, port)
  );
  if (listener === undefined) throw new Error("Cannot place connections: no server is listening");
  const { fd: listening, epoll } = listener;
  const cookie = socketCookie(listening);
  dropConnectionRequests(listening);
  const waiting = new Map<string, Waiting>();
  const queue: (() => void)[] = [];
  // The descriptors whose other end is known, with their cookies.
  const known = new Map<number, number>();
  let isRunning = false;

  function connect(): Socket {
    const standIn = new Socket(AF_INET, SOCK_STREAM);
    try {
      standIn.fcntl(F_SETFL, O_NONBLOCK);
      standIn.bind([nextAddress(), 0]);
      const isThere = socketCookie(listening) === cookie;
      if (isThere) allowConnectionRequests(listening);
      try {
        standIn.connect([hostname, port]);
      } catch (error) {
        if (!isSyscallError(error, "EINPROGRESS")) throw error;
        // Over loopback it is connected by now, unless the processor is busy.
        libc().ppoll(pollfd(standIn.fileno(), POLLOUT), 1n, SHORT, null);
        standIn.getpeername();
      } finally {
        if (isThere) dropConnectionRequests(listening);
      }
      return standIn;
    } catch (error) {
      standIn.close();
      throw error;
    }
  }

  async function run(): Promise<void> {
    isRunning = true;
    while (waiting.size > 0) {
      await nextTurn();
      try {
        adoptAccepted();
      } catch (error) {
        if (!isSyscallError(error)) throw error; // EMFILE: the next turn tries again
      }
      for (const [name, one] of waiting) {
        if (performance.now() - one.since > PATIENCE) forget(name, one);
      }
    }
    isRunning = false;
  }

  function adoptAccepted(): void {
    for (const watched of watchedDescriptors()) {
      const { fd } = watched;
      const cookie = socketCookie(fd);
      if (cookie === undefined || known.get(fd) === cookie) continue;
      const name = peerOf(fd);
      const one = name === undefined ? undefined : waiting.get(name);
      if (one === undefined) {
        known.set(fd, cookie);
        continue;
      }
      adopt(one.connection, watched);
      known.set(fd, socketCookie(fd)!);
      one.placement.fd = fd;
      forget(name!, one);
      one.onPlaced(one.placement);
    }
  }

  function forget(name: string, { connection, standIn }: Waiting): void {
    waiting.delete(name);
    queue.shift()?.();
    connection.close();
    standIn.close();
  }

  return {
    find(connection, isKnown): Accepted | undefined {
      const fd = descriptorOf(connection, isKnown);
      const cookie = fd === undefined ? undefined : socketCookie(fd);
      if (fd === undefined || cookie === undefined) return undefined;
      return {
        fd,
        cookie,
        take: () => socketCookie(fd) === cookie ? take(connection, epoll, fd) : undefined,
      };
    },
    isAnyWaiting: () => waiting.size > 0 || queue.length > 0,
    whenFewWait(): Promise<void> {
      if (waiting.size < MOST_WAITING) return Promise.resolve();
      return new Promise((resolve) => queue.push(resolve));
    },
    place(connection, onPlaced): Placement {
      const own = socketCookie(connection.fileno());
      let standIn: Socket;
      try {
        standIn = connect();
      } catch (error) {
        connection.close();
        throw error;
      }
      const [hostname, port] = standIn.getsockname() as InetAddress;
      const name = `${hostname}:${port}`;
      const placement: Placement = {
        address: { transport: "tcp", hostname, port },
        fd: undefined,
        isClosed: () =>
          placement.fd === undefined ? !waiting.has(name) : socketCookie(placement.fd) !== own,
      };
      waiting.set(name, { placement, connection, standIn, since: performance.now(), onPlaced });
      if (!isRunning) run();
      return placement;
    },
  };
}

/** Returns the descriptor of a connection that Deno has accepted. */
function descriptorOf(
  connection: Deno.Conn,
  isKnown: (fd: number, cookie: number) => boolean,
): number | undefined {
  return toldDescriptor(connection) ?? watchedDescriptors().find(({ fd }) => isNew(fd))?.fd;

  /** Deno does not tell the descriptor of a UNIX socket, and older versions not that of any. */
  function isNew(fd: number): boolean {
    const cookie = socketCookie(fd);
    if (cookie === undefined || isListening(fd) || isKnown(fd, cookie)) return false;
    const { localAddr } = connection;
    const name = getsockname(fd);
    return localAddr.transport === "unix"
      ? name === localAddr.path
      : "hostname" in localAddr && isAt(name, localAddr.hostname, localAddr.port);
  }
}

function toldDescriptor(connection: Deno.Conn): number | undefined {
  const symbol = Object.getOwnPropertySymbols(connection)
    .find(({ description }) => description === ASSUMPTIONS.connectionDescriptor.value);
  const fd = symbol && (connection as unknown as Record<symbol, unknown>)[symbol];
  return typeof fd === "number" ? fd : undefined;
}

function take(connection: Deno.Conn, epoll: number, fd: number): Socket {
  const socket = Socket.fromDescriptor(fcntl(fd, F_DUPFD_CLOEXEC));
  // Deno does not just close its descriptor: it shuts down the stream, and it takes the descriptor
  // out of its epoll instance, without which it keeps memory. So it gets another one instead, which
  // is in the instance and never has an event.
  unregister(epoll, fd);
  duplicateOnto(inert(), fd);
  register(epoll, { fd, events: 0, data: 0n });
  connection.close();
  return socket;
}

let inertDescriptor: number | undefined;

function inert(): number {
  return inertDescriptor ??= check(libc().eventfd(0, O_CLOEXEC | O_NONBLOCK), "eventfd");
}

function adopt(connection: Socket, { fd, epoll, ...registration }: Watched): void {
  connection.fcntl(F_SETFL, connection.fcntl(F_GETFL) | O_NONBLOCK);
  if (connection.family !== AF_UNIX) connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
  duplicateOnto(connection.fileno(), fd);
  register(epoll, { fd, ...registration });
}

function isAt(name: unknown, hostname: string, port: number): boolean {
  return Array.isArray(name) && name[0] === hostname && name[1] === port;
}

function peerOf(fd: number): string | undefined {
  try {
    const name = getpeername(fd);
    return typeof name === "string" ? undefined : `${name[0]}:${name[1]}`;
  } catch (error) {
    if (isSyscallError(error)) return undefined; // ENOTCONN
    throw error;
  }
}
