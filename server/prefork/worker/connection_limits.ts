/**
 * Limits on connections: how many clients a worker has at a time, and how long a client may be
 * silent. Deno accepts connections, reads requests and writes responses; it has no timeouts and no
 * limits, and exposes only whole requests to a program. But each connection is a descriptor that
 * the event loop watches, and the kernel knows when data last passed in each direction.
 *
 * A connection that exceeds a limit is shut down: to Deno it looks as if the client had
 * disconnected. Connections of a UNIX socket are only counted: the kernel does not keep these times
 * for them, and their clients are proxies with timeouts of their own.
 */
import { type Address, formatAddress } from "../../../ffi/address.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { type Watched, watchedDescriptors } from "../../../ffi/runtime/event_loop.ts";
import { lacksHost } from "../../../ffi/runtime/http_internals.ts";
import { after } from "../../../ffi/runtime/timers.ts";
import { getrlimit, RLIMIT_NOFILE } from "../../../ffi/process.ts";
import {
  getpeername,
  getsockname,
  getsockopt,
  SHUT_RDWR,
  shutdown,
  SO_ACCEPTCONN,
  SOL_SOCKET,
} from "../../../ffi/socket_calls.ts";
import {
  isReadable,
  resetOnClose,
  socketCookie,
  type TcpInfo,
  tcpInfo,
} from "../../../ffi/socket_options.ts";
import { lateHeaders } from "./late_headers.ts";

/** Which connections to watch, and their limits. Times are in seconds. */
export interface ConnectionOptions {
  /** The addresses of the listening sockets. More may be added later. */
  readonly addresses: readonly ListeningAddress[];
  /**
   * How long a client may take for a request's header; 0 for no limit. Over TLS the kernel cannot
   * tell what is sent, and a client that has stopped sending gets the idle timeout. So does an
   * HTTP/2 client.
   */
  readonly headerTimeout: number;
  /** How long a client may be idle between requests, or not read its response; 0 for no limit. */
  readonly idleTimeout: number;
  /**
   * The number of open connections at which accepting stops; `Infinity` for as many as descriptors
   * allow. Deno accepts up to 128 at a time: if many clients connect at once, a few hundred more
   * get in.
   */
  readonly maxConnections: number;
  /**
   * Returns what Deno calls the client of a connection, if that is not its other end's address.
   *
   * @param fd The connection's descriptor.
   * @param cookie Distinguishes it from a later one with the same descriptor.
   */
  nameOf?(fd: number, cookie: number): string | undefined;
  /** The requests whose response or body is not complete. */
  readonly inFlight: { values(): Iterable<Client> };
  /** The acceptors, one for each listening socket. */
  readonly acceptors: readonly Acceptor[];
}

/** The address of a listening socket. */
export interface ListeningAddress {
  readonly address: Address;
  /** Whether the connections use TLS. If so, no answer is sent in plain text. */
  readonly secure: boolean;
  /**
   * Ends a connection whose client does not complete a request's header. If it is omitted, the
   * connection belongs to Deno's own server.
   *
   * @param client The client's address.
   */
  endLate?(client: string): void;
}

/** The client of a request. */
type Client = Pick<Deno.ServeHandlerInfo, "remoteAddr">;

/** The client connections of this worker. */
export interface Connections {
  /** The number of open connections, as of the last check. */
  readonly open: number;
  /** Must be called for each request, before the app gets it. */
  requested(request: Request, info: Client): void;
  /** Whether a client has sent bytes that have not been read. */
  hasInput(info: Client): boolean;
  /**
   * Must be called when a connection has become a WebSocket: it may be silent from then on.
   *
   * @param client The client, as {@linkcode clientOf} returned it before the upgrade.
   */
  upgraded(client: string): void;
  /**
   * Returns for how many milliseconds a client has sent nothing. For HTTP/2 this covers all
   * requests of the connection.
   *
   * @param info The info of a request in progress.
   * @returns `undefined` if the connection is not known.
   */
  silence(info: Client): number | undefined;
  /**
   * Must be called before a request is refused whose client may still be sending. Its connection
   * ends a second later, which leaves the client time to read the answer.
   *
   * @param info The info of the request.
   */
  refused(info: Client): void;
  /**
   * Must be called when a response asks its client to close the connection, which otherwise ends a
   * second later. HTTP/2 has no such response.
   *
   * @param info The info of the request.
   */
  shed(info: Client): void;
  /**
   * Must be called when a request fails after its response has begun. Its connection ends in the
   * next turn of the event loop.
   *
   * @param info What belongs to the request.
   */
  broken(info: Client): void;
  /**
   * Checks now: counts the connections, and ends those that exceed a limit.
   *
   * @returns The number of open connections.
   */
  sweep(): number;
  /**
   * Returns how many connections had a request in progress at the last check, and how many may be
   * silent because they have become something else.
   *
   * @param webSockets The number of WebSockets, which may have no address to be known by.
   */
  states(webSockets: number): { readonly active: number; readonly upgraded: number };
  /** Stops the checks, and leaves the acceptors as they are. */
  stop(): void;
}

/** An open connection. Times are in milliseconds of the watch's own clock. */
interface Connection {
  readonly fd: number;
  /** Distinguishes the connection from a later one with the same descriptor. */
  readonly cookie: number;
  /** The client's address; empty if it has none. */
  readonly client: string;
  /** Where it was accepted. */
  readonly listening: ListeningAddress;
  /** Whether the connection may be silent without limit. */
  upgraded: boolean;
  /** Whether the client uses HTTP/2, as far as is known. */
  isHttp2: boolean;
  /**
   * Since when nothing has been sent to the client while no request was in progress; whether the
   * client sent the last bytes, how many had been received by then, and how many acknowledged.
   */
  quiet: { since: number; sends: boolean; received: number; acked: number } | undefined;
  /** How many bytes the client has acknowledged, and since when it has acknowledged no more. */
  progress: { acked: number; since: number };
  /** When to end the connection, unless the client is still reading what was sent to it. */
  deadline: number;
}

/** The longest interval between two checks, in milliseconds. */
const INTERVAL = 1000;
/** How long a client whose request was refused may read the answer, in milliseconds. */
const LINGER = 1000;
/** The number of connections that a worker can accept per millisecond. */
const RATE = 100;
/** The shortest interval between two counts, in milliseconds. */
const TICK = 5;
/** The share of its time that a worker may spend counting. */
const COUNTING = 1 / 50;
/** Descriptors reserved for the app, and for connections accepted before a pause takes effect. */
const RESERVE = 512;
/** The number of requests between two checks whose protocol is determined. Each takes 0.2 µs. */
const LOOKS = 1000;

/**
 * Watches this worker's connections from now on. Must be called once the worker accepts.
 *
 * @param options Which connections to watch, and their limits.
 * @returns The interface through which the worker reports and queries its connections.
 */
export function watchConnections(options: ConnectionOptions): Connections {
  const { addresses, inFlight, acceptors } = options;
  const headerTimeout = options.headerTimeout * 1000 || Infinity;
  const idleTimeout = options.idleTimeout * 1000 || Infinity;
  const limit = Math.min(options.maxConnections, room());
  const interval = Math.max(10 * TICK, Math.min(INTERVAL, headerTimeout / 4, idleTimeout / 4));

  let connections = new Map<number, Connection>();
  // Descriptors that are not client connections, with their cookies.
  let others = new Map<number, number>();
  const upgraded = new Set<string>();
  const refused = new Map<string, number>();
  const shed = new Map<string, number>();
  const broken = new Set<string>();
  const http2 = new Set<string>();
  // The clients of the requests in progress, at the last check.
  let busy: ReadonlySet<string | undefined> = new Set();
  let unnamed = 0;
  let looks = LOOKS;
  const late = lateHeaders();

  // The clock stops while the event loop is blocked: clients were not read then. When it goes on,
  // the app has been given all requests that were waiting before.
  let clock = 0;
  let sweptAt = performance.now();
  let countCost = 0;
  // The number of open descriptors, at the last check and at the last count.
  let descriptors = openDescriptors();
  let counted = descriptors;
  let growing = false;
  let paused = false;
  let stopped = false;
  let timer = after(Math.min(interval, untilCount()), tick);

  function tick(): void {
    if (broken.size > 0 || performance.now() >= sweptAt + interval - 1) sweep();
    else count();
    timer = after(Math.min(sweptAt + interval - performance.now(), untilCount()), tick);
  }

  /** Returns the time in which the worker cannot accept more connections than it has room for. */
  function untilCount(): number {
    const wait = Math.max((limit - connections.size) / RATE, countCost / COUNTING);
    // Many connections arrive at once, below the limit or after a pause: check in every turn.
    return !paused && growing ? wait : Math.max(TICK, wait);
  }

  function sweep(): number {
    const now = performance.now();
    clock += Math.min(now - sweptAt, 2 * interval);
    sweptAt = now;
    if (!look()) return connections.size;
    const clients = [...inFlight.values()].map(clientOf);
    busy = new Set(clients);
    unnamed = clients.filter((client) => client === undefined).length;
    for (const connection of connections.values()) {
      if (upgraded.has(connection.client)) connection.upgraded = true;
      if (http2.has(connection.client)) connection.isHttp2 = true;
      connection.deadline = refused.get(connection.client) ??
        (connection.isHttp2 ? undefined : shed.get(connection.client)) ?? connection.deadline;
      if (broken.has(connection.client)) end(connection);
      else enforceTimeouts(connection);
    }
    for (const news of [upgraded, refused, shed, broken, http2]) news.clear();
    looks = LOOKS;
    late.decide(isOpen).forEach(end);
    return connections.size;
  }

  /** Finds the open connections, and pauses or resumes accepting. Returns whether it succeeded. */
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
      const listening = listeningAt(fd, addresses);
      if (listening === undefined) others.set(fd, cookie);
      else connections.set(fd, begin(fd, cookie, listening));
    }
    counted = descriptors = openDescriptors();
    // If descriptors cannot be counted, every count is a full check.
    countCost = counted === 0 ? performance.now() - start : 0;
    const full = connections.size >= limit;
    if (full) { for (const acceptor of acceptors) acceptor.pause(); }
    else if (paused) { for (const acceptor of acceptors) acceptor.resume(); }
    growing ||= paused && !full;
    paused = full;
    return true;
  }

  /** Returns what the event loop watches; `undefined` if that cannot be determined now. */
  function whatIsWatched(): Watched[] | undefined {
    try {
      return watchedDescriptors();
    } catch (error) {
      // EMFILE: the app has used up all descriptors. The next check tries again.
      if (isSyscallError(error)) return undefined;
      throw error;
    }
  }

  function begin(fd: number, cookie: number, listening: ListeningAddress): Connection {
    return {
      fd,
      cookie,
      client: options.nameOf?.(fd, cookie) ?? clientAt(fd),
      listening,
      upgraded: false,
      isHttp2: false,
      quiet: undefined,
      progress: { acked: 0, since: clock },
      deadline: Infinity,
    };
  }

  /** Runs a full check if the number of open descriptors suggests to pause or resume accepting. */
  function count(): void {
    const now = openDescriptors();
    growing = now > counted;
    counted = now;
    const estimate = connections.size + (now === 0 ? 0 : now - descriptors);
    if (now === 0 || (estimate >= limit) !== paused) look();
  }

  function isOpen(one: { readonly fd: number }): one is Connection {
    return connections.get(one.fd) === one;
  }

  function enforceTimeouts(connection: Connection): void {
    const info = tcpInfo(connection.fd);
    if (info === undefined || late.has(connection)) return;
    if (clock >= connection.deadline && !info.unacked) {
      // HTTP/2: only that request was refused.
      if (!busy.has(connection.client)) return cutOff(connection);
      connection.deadline = Infinity;
    }
    if (isStuck(connection, info)) {
      ifThere(() => resetOnClose(connection.fd));
      return end(connection);
    }
    if (connection.upgraded || busy.has(connection.client) || info.unacked) {
      connection.quiet = undefined;
    } else if (isOverdue(connection, info)) {
      const { quiet, listening: { secure, endLate }, isHttp2, client } = connection;
      const mayBeRequest = quiet?.sends && info.bytesReceived > 0 && !secure && !isHttp2 &&
        client !== "";
      if (mayBeRequest && endLate !== undefined) endLate(client);
      else if (!mayBeRequest || !late.add(connection)) end(connection);
    }
  }

  /**
   * Whether a client has kept the worker waiting for too long, for the rest of a header or a
   * request.
   */
  function isOverdue(connection: Connection, info: TcpInfo): boolean {
    const { bytesReceived: received, bytesAcked: acked } = info;
    // If both happened in the same tick of the kernel's clock, it was a request and its response.
    const sends = isFresh(info) || info.sinceReceived < info.sinceSent;
    const { quiet, isHttp2, listening: { secure } } = connection;
    if (
      quiet?.sends !== sends || quiet.acked !== acked || (isHttp2 && quiet.received !== received)
    ) {
      connection.quiet = { since: clock, sends, received, acked };
      return false;
    }
    // An HTTP/2 client may send an acknowledgment after the last response. It is idle then.
    const mayBeIdle = (secure || isHttp2) && !isFresh(info) && received === quiet.received;
    const limit = sends && !mayBeIdle ? headerTimeout : idleTimeout;
    return clock - quiet.since >= limit;
  }

  function connectionOf(info: Client): Connection | undefined {
    const client = clientOf(info);
    if (client === undefined) return undefined;
    const found = [...connections.values()].find((one) => one.client === client);
    return found !== undefined && socketCookie(found.fd) === found.cookie ? found : undefined;
  }

  /** Whether the client does not read what was sent to it. */
  function isStuck({ progress }: Connection, info: TcpInfo): boolean {
    if (!info.unacked || info.bytesAcked !== progress.acked) {
      progress.acked = info.bytesAcked;
      progress.since = clock;
    }
    return clock - progress.since >= idleTimeout;
  }

  return {
    get open() {
      return connections.size;
    },
    requested(request, info): void {
      if (looks > 0) {
        looks--;
        const client = lacksHost(request) ? clientOf(info) : undefined;
        if (client !== undefined) http2.add(client);
      }
      if (late.size > 0) late.requested(clientOf(info));
    },
    upgraded(client): void {
      upgraded.add(client);
    },
    hasInput(info): boolean {
      const found = connectionOf(info);
      return found !== undefined && isReadable(found.fd);
    },
    silence(info): number | undefined {
      const found = connectionOf(info);
      return found === undefined ? undefined : tcpInfo(found.fd)?.sinceReceived;
    },
    refused(info): void {
      const client = clientOf(info);
      if (client !== undefined) refused.set(client, clock + LINGER);
    },
    shed(info): void {
      const client = clientOf(info);
      if (client !== undefined) shed.set(client, clock + LINGER);
    },
    broken(info): void {
      const client = clientOf(info);
      if (client === undefined || stopped) return;
      broken.add(client);
      timer.cancel();
      timer = after(0, tick); // it may be sending
    },
    sweep,
    states(webSockets) {
      let [active, upgraded, withoutName] = [0, 0, 0];
      for (const connection of connections.values()) {
        if (connection.upgraded) upgraded++;
        else if (connection.client === "") withoutName++;
        else if (busy.has(connection.client)) active++;
      }
      upgraded = Math.min(Math.max(upgraded, webSockets), connections.size);
      active = Math.min(active + Math.min(withoutName, unnamed), connections.size - upgraded);
      return { active, upgraded };
    },
    stop(): void {
      stopped = true;
      timer.cancel();
      late.close();
    },
  };
}

/**
 * Returns the client of a request in progress.
 *
 * @param request Deno's internal request, or the info that its handler gets.
 * @returns The address; `undefined` if the request is over, or the client has no address.
 */
export function clientOf(request: { readonly remoteAddr?: Deno.Addr }): string | undefined {
  try {
    const address = request.remoteAddr;
    return address !== undefined && "hostname" in address
      ? formatAddress([address.hostname, address.port])
      : undefined;
  } catch (error) {
    // "Request closed", or upgraded to a WebSocket.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Returns to which of the addresses a connection was made; `undefined` if it is none. */
function listeningAt(
  fd: number,
  addresses: readonly ListeningAddress[],
): ListeningAddress | undefined {
  try {
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 0) return undefined;
    const own = getsockname(fd);
    return addresses.find(({ address }) => includes(address, own));
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}

/** Returns the client of a connection; empty if it has no address. */
function clientAt(fd: number): string {
  try {
    return formatAddress(getpeername(fd));
  } catch (error) {
    // ENOTCONN: the client has disconnected, and Deno has not noticed yet.
    if (isSyscallError(error)) return "";
    throw error;
  }
}

/** Whether a socket that listens on one address accepts connections to another. */
function includes(listening: Address, own: Address): boolean {
  if (typeof listening === "string" || typeof own === "string") return listening === own;
  const [host, port] = listening;
  // An IPv4 client of a socket for both has an address such as ::ffff:192.0.2.1.
  const any = own[0].includes(":") ? "::" : "0.0.0.0";
  return port === own[1] && (host === any || host === own[0]);
}

/** Whether nothing has been sent yet. */
function isFresh(info: TcpInfo): boolean {
  return info.bytesAcked === 0 && !info.unacked;
}

/**
 * Ends a connection whose client may still be sending. Without a reset, a client that only writes
 * would wait until its kernel gives up.
 */
function cutOff(connection: Connection): void {
  const { fd } = connection;
  if (isReadable(fd)) ifThere(() => resetOnClose(fd));
  end(connection);
}

/** Shuts down both directions. Deno notices that and closes the descriptor. */
function end({ fd, cookie }: Connection): void {
  ifThere(() => {
    if (socketCookie(fd) === cookie) shutdown(fd, SHUT_RDWR);
  });
}

function ifThere(call: () => void): void {
  try {
    call();
  } catch (error) {
    // ENOTCONN, EPIPE, ECONNRESET: the client disconnected first.
    if (!isSyscallError(error)) throw error;
  }
}

/**
 * Returns how many connections there are descriptors for. After EMFILE, Deno never accepts again.
 */
function room(): number {
  const { soft } = getrlimit(RLIMIT_NOFILE);
  return Math.max(soft - RESERVE, Math.floor(soft / 2), 1);
}

/**
 * Returns the number of open descriptors; 0 if the kernel does not report it (before Linux 6.2).
 */
function openDescriptors(): number {
  try {
    return Deno.statSync("/proc/self/fd").size;
  } catch {
    return 0; // not permitted
  }
}
