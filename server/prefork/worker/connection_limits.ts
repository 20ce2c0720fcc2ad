/**
 * Limits on connections: how many clients a worker has at a time, and how long one may be
 * silent. Deno accepts them, reads requests and writes responses; it has no timeout and no
 * limit, and shows a program nothing but whole requests. Yet each connection is a
 * descriptor that the event loop watches, and the kernel knows when something passed there
 * last, and in which direction.
 *
 * A connection whose time is up is shut down: to Deno it looks as if the client had
 * gone. Connections of a UNIX socket are counted only. The kernel keeps no such
 * clocks for them, and its clients are proxies with timeouts of their own.
 */
import { type Address, formatAddress } from "../../../ffi/address.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { type Watched, watchedDescriptors } from "../../../ffi/runtime/event_loop.ts";
import { after } from "../../../ffi/runtime/timers.ts";
import { getrlimit, RLIMIT_NOFILE } from "../../../ffi/process.ts";
import {
  getpeername,
  getsockname,
  getsockopt,
  MSG_DONTWAIT,
  send,
  SHUT_RDWR,
  shutdown,
  SO_ACCEPTCONN,
  SOL_SOCKET,
} from "../../../ffi/socket_calls.ts";
import { resetOnClose, socketCookie, type TcpInfo, tcpInfo } from "../../../ffi/socket_options.ts";

/** Which connections there are, and how long one may be open for nothing. Times are in seconds. */
export interface ConnectionOptions {
  /** Where clients connect: the listening sockets' own addresses. */
  readonly addresses: readonly Address[];
  /** Whether the connections speak TLS: then none gets an answer in plain text. */
  readonly secure: boolean;
  /**
   * How long a client may take for a request's header; 0 for ever. Over TLS, where the kernel
   * cannot tell what passes, a client that has stopped sending gets the idle time.
   */
  readonly headerTimeout: number;
  /** How long a client may do nothing between requests, or not read its response; 0 for ever. */
  readonly idleTimeout: number;
  /**
   * How many may be open before no more are accepted; `Infinity` for as many as there is room.
   * Deno accepts up to 128 at a time: when many connect at once, some hundreds more get in.
   */
  readonly maxConnections: number;
  /** The requests that have no complete response yet. */
  readonly inFlight: ReadonlyMap<unknown, Deno.ServeHandlerInfo>;
  /** One for each listening socket. */
  readonly acceptors: readonly Acceptor[];
}

/** The connections of clients to this worker. */
export interface Connections {
  /** How many are open, as of the last look. */
  readonly open: number;
  /**
   * To be called when a connection has become a WebSocket: from then on it may be silent.
   *
   * @param client As {@linkcode clientOf} tells it before.
   */
  upgraded(client: string): void;
  /**
   * Says for how many milliseconds a client has sent nothing. Of HTTP/2 that is all that it
   * sends, for whatever request.
   *
   * @param info What belongs to a request that is under way.
   * @returns Nothing when the connection is not known.
   */
  silence(info: Deno.ServeHandlerInfo): number | undefined;
  /**
   * To be called before a request is refused whose client may go on sending: its
   * connection ends a second later, time for the client to read why.
   *
   * @param info What belongs to the request.
   */
  refused(info: Deno.ServeHandlerInfo): void;
  /**
   * To be called when a request cannot go on whose response has begun: its connection
   * ends with the next look.
   *
   * @param info What belongs to the request.
   */
  broken(info: Deno.ServeHandlerInfo): void;
  /**
   * Looks now: counts connections, and ends those whose time is up.
   *
   * @returns How many are open.
   */
  sweep(): number;
  /** Looks no more, and leaves the acceptors as they are. */
  stop(): void;
}

/** One that is open. Times are in milliseconds, of the watch's own clock. */
interface Connection {
  readonly fd: number;
  /** What tells it from the next one of that descriptor. */
  readonly cookie: number;
  /** The client's address; empty where it has none. */
  readonly client: string;
  /** Whether it may be silent for ever. */
  upgraded: boolean;
  /** Since when a header has been incomplete, and how much of it was there then. */
  header: { since: number; received: number } | undefined;
  /** What the client has acknowledged, and since when no more. */
  progress: { acked: number; since: number };
  /** When to end it whatever it does. */
  deadline: number;
}

/** The longest time between two looks, in milliseconds. */
const INTERVAL = 1000;
/** How long a client whose request was refused may read the answer, in milliseconds. */
const LINGER = 1000;
/** How many connections a worker can accept in a millisecond. */
const RATE = 100;
/** The shortest time between two counts, in milliseconds. */
const TICK = 5;
/** The share of its time that a worker may count in. */
const COUNTING = 1 / 50;
/** Descriptors that are left for the app, and for what is accepted before a pause. */
const RESERVE = 512;

const REQUEST_TIMEOUT = new TextEncoder().encode(
  "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
);

/**
 * Watches this worker's connections from now on. To be called when it accepts.
 *
 * @param options Which they are, and what they may.
 * @returns What the worker tells of its requests, and may ask.
 */
export function watchConnections(options: ConnectionOptions): Connections {
  const { addresses, secure, inFlight, acceptors } = options;
  const headerTimeout = options.headerTimeout * 1000 || Infinity;
  const idleTimeout = options.idleTimeout * 1000 || Infinity;
  const limit = Math.min(options.maxConnections, room());
  const interval = Math.max(10 * TICK, Math.min(INTERVAL, headerTimeout / 4, idleTimeout / 4));

  let connections = new Map<number, Connection>();
  // Descriptors that are no client's connection, by their cookies.
  let others = new Map<number, number>();
  const upgraded = new Set<string>();
  const refused = new Map<string, number>();
  const broken = new Set<string>();

  // It stops while the event loop is blocked: clients were not heard then.
  let clock = 0;
  let sweptAt = performance.now();
  let countCost = 0;
  // How many descriptors are open: at the last look, and at the last count.
  let descriptors = openDescriptors();
  let counted = descriptors;
  let growing = false;
  let paused = false;
  let timer = after(Math.min(interval, untilCount()), tick);

  function tick(): void {
    if (performance.now() >= sweptAt + interval - 1) sweep();
    else count();
    timer = after(Math.min(sweptAt + interval - performance.now(), untilCount()), tick);
  }

  /** No more can be accepted in this time than there is room for. */
  function untilCount(): number {
    const wait = Math.max((limit - connections.size) / RATE, countCost / COUNTING);
    // Many come at once, before the limit or after a pause: look at every turn.
    return !paused && growing ? wait : Math.max(TICK, wait);
  }

  function sweep(): number {
    const now = performance.now();
    clock += Math.min(now - sweptAt, 2 * interval);
    sweptAt = now;
    if (!look()) return connections.size;
    const busy = new Set([...inFlight.values()].map(clientOf));
    for (const connection of connections.values()) {
      if (upgraded.has(connection.client)) connection.upgraded = true;
      connection.deadline = refused.get(connection.client) ?? connection.deadline;
      if (broken.has(connection.client)) end(connection);
      else enforceTimeouts(connection, busy);
    }
    for (const news of [upgraded, refused, broken]) news.clear();
    return connections.size;
  }

  /** Sees which connections there are, and pauses or resumes accepting. Says whether it could. */
  function look(): boolean {
    const start = performance.now();
    const watched = whatIsWatched();
    if (watched === undefined) return false;
    const [known, knownOthers] = [connections, others];
    [connections, others] = [new Map(), new Map()];
    for (const { fd } of watched) {
      const cookie = socketCookie(fd);
      if (cookie === undefined || knownOthers.get(fd) === cookie) {
        if (cookie !== undefined) others.set(fd, cookie);
        continue;
      }
      const connection = known.get(fd);
      if (connection?.cookie === cookie) {
        connections.set(fd, connection);
        continue;
      }
      const client = clientAt(fd, addresses);
      if (client === undefined) others.set(fd, cookie);
      else connections.set(fd, begin(fd, cookie, client));
    }
    counted = descriptors = openDescriptors();
    // Where descriptors cannot be counted, every count is a look.
    countCost = counted === 0 ? performance.now() - start : 0;
    const full = connections.size >= limit;
    if (full) { for (const acceptor of acceptors) acceptor.pause(); }
    else if (paused) { for (const acceptor of acceptors) acceptor.resume(); }
    growing ||= paused && !full;
    paused = full;
    return true;
  }

  /** What the event loop watches; nothing when that cannot be seen now. */
  function whatIsWatched(): Watched[] | undefined {
    try {
      return watchedDescriptors();
    } catch (error) {
      // EMFILE: the app has all descriptors. There will be another look.
      if (isSyscallError(error)) return undefined;
      throw error;
    }
  }

  function begin(fd: number, cookie: number, client: string): Connection {
    return {
      fd,
      cookie,
      client,
      upgraded: false,
      header: undefined,
      progress: { acked: 0, since: clock },
      deadline: Infinity,
    };
  }

  /** Looks when the number of open descriptors says that it may be time to pause or resume. */
  function count(): void {
    const now = openDescriptors();
    growing = now > counted;
    counted = now;
    const estimate = connections.size + (now === 0 ? 0 : now - descriptors);
    if (now === 0 || (estimate >= limit) !== paused) look();
  }

  function enforceTimeouts(
    connection: Connection,
    busy: ReadonlySet<string | undefined>,
  ): void {
    const info = tcpInfo(connection.fd);
    if (info === undefined) return;
    if (clock >= connection.deadline) {
      // HTTP/2: only that one request was refused.
      if (!busy.has(connection.client)) return end(connection);
      connection.deadline = Infinity;
    }
    if (isStuck(connection, info)) {
      ifThere(() => resetOnClose(connection.fd));
      return end(connection);
    }
    if (connection.upgraded || busy.has(connection.client) || info.unacked) {
      connection.header = undefined;
    } else if (isFresh(info) || info.sinceReceived < info.sinceSent) {
      // In the same tick of the kernel's clock, it was a request and its response.
      connection.header ??= { since: clock, received: info.bytesReceived };
      if (isHeaderLate(connection.header, info)) {
        if (!secure && info.bytesReceived > 0) say(connection, REQUEST_TIMEOUT);
        end(connection);
      }
    } else {
      connection.header = undefined;
      if (info.sinceSent >= idleTimeout) end(connection);
    }
  }

  /** Whether the client has not read what was sent to it. */
  function isStuck({ progress }: Connection, info: TcpInfo): boolean {
    if (!info.unacked || info.bytesAcked !== progress.acked) {
      progress.acked = info.bytesAcked;
      progress.since = clock;
    }
    return clock - progress.since >= idleTimeout;
  }

  function isHeaderLate(header: { since: number; received: number }, info: TcpInfo): boolean {
    // A client of HTTP/2 may acknowledge something after the last response. It is idle then.
    const mayBeIdle = secure && !isFresh(info) && info.bytesReceived === header.received;
    return mayBeIdle ? info.sinceReceived >= idleTimeout : clock - header.since >= headerTimeout;
  }

  return {
    get open() {
      return connections.size;
    },
    upgraded(client): void {
      upgraded.add(client);
    },
    silence(info): number | undefined {
      const client = clientOf(info);
      if (client === undefined) return undefined;
      const found = [...connections.values()].find((one) => one.client === client);
      if (found === undefined || socketCookie(found.fd) !== found.cookie) return undefined;
      return tcpInfo(found.fd)?.sinceReceived;
    },
    refused(info): void {
      const client = clientOf(info);
      if (client !== undefined) refused.set(client, clock + LINGER);
    },
    broken(info): void {
      const client = clientOf(info);
      if (client !== undefined) broken.add(client);
    },
    sweep,
    stop(): void {
      timer.cancel();
    },
  };
}

/**
 * The client of a request that is under way.
 *
 * @param request The request as Deno keeps it, or what its handler is told of it.
 * @returns The address; nothing where the request is over, or the client has no address.
 */
export function clientOf(request: { readonly remoteAddr?: Deno.Addr }): string | undefined {
  try {
    const address = request.remoteAddr;
    return address !== undefined && "hostname" in address
      ? formatAddress([address.hostname, address.port])
      : undefined;
  } catch (error) {
    // "Request closed", or turned into a WebSocket.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** The client of a connection that was made to one of the addresses. */
function clientAt(fd: number, addresses: readonly Address[]): string | undefined {
  try {
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 0) return undefined;
    const own = getsockname(fd);
    if (!addresses.some((address) => includes(address, own))) return undefined;
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
  try {
    return formatAddress(getpeername(fd));
  } catch (error) {
    // ENOTCONN: it is gone, and Deno has not noticed yet.
    if (isSyscallError(error)) return "";
    throw error;
  }
}

/** Whether a socket that listens at one address accepts connections to another. */
function includes(listening: Address, own: Address): boolean {
  if (typeof listening === "string" || typeof own === "string") return listening === own;
  const [host, port] = listening;
  return port === own[1] && (host === "0.0.0.0" || host === "::" || host === own[0]);
}

/** Whether nothing has been sent yet. */
function isFresh(info: TcpInfo): boolean {
  return info.bytesAcked === 0 && !info.unacked;
}

function say({ fd, cookie }: Connection, bytes: Uint8Array<ArrayBuffer>): void {
  ifThere(() => {
    if (socketCookie(fd) === cookie) send(fd, bytes, MSG_DONTWAIT);
  });
}

/** Both directions, for Deno to find: it closes the descriptor. */
function end({ fd, cookie }: Connection): void {
  ifThere(() => {
    if (socketCookie(fd) === cookie) shutdown(fd, SHUT_RDWR);
  });
}

function ifThere(call: () => void): void {
  try {
    call();
  } catch (error) {
    // ENOTCONN, EPIPE, ECONNRESET: the client was faster.
    if (!isSyscallError(error)) throw error;
  }
}

/** How many connections there are descriptors for. After EMFILE, Deno never accepts again. */
function room(): number {
  const { soft } = getrlimit(RLIMIT_NOFILE);
  return Math.max(soft - RESERVE, Math.floor(soft / 2), 1);
}

/** How many descriptors are open; 0 where the kernel does not say, before Linux 6.2. */
function openDescriptors(): number {
  try {
    return Deno.statSync("/proc/self/fd").size;
  } catch {
    return 0; // may not be read
  }
}
