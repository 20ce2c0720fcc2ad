/**
 * The gateway of stage 3h, between a connection and an app. Deno itself does the work that a WSGI
 * server does in Python: the connection is handed to Deno's HTTP server, the same that `deno serve`
 * uses.
 */
import { type Address, AF_INET, AF_UNIX } from "../../ffi/address.ts";
import { isSyscallError } from "../../ffi/errno.ts";
import { type TakenConnection, takeOverConnection } from "../../ffi/runtime/connection.ts";
import { after } from "../../ffi/runtime/timers.ts";
import { SOCK_STREAM, Socket } from "../../ffi/socket.ts";
import { SHUT_WR } from "../../ffi/socket_calls.ts";
import type { App } from "../app/load_app.ts";
import { addrOf, hostOf, hostRenamer } from "../app/request_host.ts";
import { limitRequests } from "../app/request_limits.ts";
import { checkSeconds } from "../options.ts";
import { serveAt, throwAwayAddress } from "../../ffi/runtime/throw_away_address.ts";

/** Options for serving a connection. */
export interface GatewayOptions {
  /** The certificate chain for HTTPS, as PEM text. Requires `key`. */
  readonly cert?: string;
  /** The certificate's private key, as PEM text. */
  readonly key?: string;
  /**
   * How long the connection may be without a request, and the client may pause within a request's
   * body that the app is reading, or not read its response, in seconds. The default is 75; 0 means
   * no limit.
   */
  readonly idleTimeout?: number;
  /** Ends the connection, once aborted, after the requests in progress. */
  readonly signal?: AbortSignal;
  /** Ends the connection immediately, once aborted. */
  readonly abandon?: AbortSignal;
  /**
   * The address that the server listens on. The default is the connection's own address. It is used
   * in the URL of a request without a host.
   */
  readonly address?: Address;
}

/** The longest interval between two checks for a connection's end, in milliseconds. */
const RARELY = 100;
/** How long a connection that must end may continue without a request, in milliseconds. */
const LINGER = 1000;

/**
 * Serves one connection with an app, over Deno's HTTP server: request after
 * request, HTTP/1.1 and HTTP/2, with streaming bodies and WebSockets.
 *
 * @param connection The connection. It is closed when serving is done.
 * @param app The app.
 * @param options Options of the connection.
 * @returns A promise that resolves when the connection has ended and all of the app's responses are
 *   done.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If only one of `cert` and `key` is given.
 * @throws {SyscallError} `EMFILE` if no descriptor is left, ...
 *
 * @example A child for each connection
 * ```ts ignore
 * import {
 *   _exit, AF_INET, becomeForkable, fork, SIG_IGN, SIGCHLD, signal, SOCK_STREAM, Socket,
 * } from "@tine/tine";
 * import { serveConnection, warmUp } from "@tine/tine/server";
 *
 * becomeForkable();
 * await warmUp();
 * signal(SIGCHLD, SIG_IGN); // the kernel reaps the children
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 8888]);
 * listenSocket.listen(1024);
 * for (;;) {
 *   const [connection] = listenSocket.accept();
 *   if (fork({ runtime: true }) === 0) { // child
 *     listenSocket.close();
 *     await serveConnection(connection, { fetch: () => new Response("Hello, World!\n") });
 *     _exit(0);
 *   }
 *   connection.close(); // the parent's copy
 * }
 * ```
 */
export async function serveConnection(
  connection: Socket,
  app: Pick<App, "fetch">,
  options: GatewayOptions = {},
): Promise<void> {
  const { idleTimeout = 75 } = options;
  checkSeconds("idleTimeout", idleTimeout);
  if ((options.cert === undefined) !== (options.key === undefined)) {
    throw new TypeError("Cannot serve HTTPS with only one of cert and key: expected both");
  }
  const client = clientOf(connection);
  if (client === undefined) return connection.close(); // it has already disconnected
  const ownHost = hostOf(addrOf(options.address ?? connection.getsockname()));
  const traffic = newTraffic();
  // Until the connection is in place, every request comes from an unknown client.
  const place: { standIn?: Deno.Addr; rename: (request: Request) => void } = { rename: () => {} };
  const fetch = limitRequests(call, {
    maxHeaderBytes: undefined,
    maxBodyBytes: Infinity,
    bodyTimeout: idleTimeout,
    silence: () => taken.connection.tcpInfo()?.sinceReceived,
    onRefused: () => traffic.refused = true,
    onBroken: () => taken.connection.shutdown(),
    onUnread() {
      const { promise, resolve } = Promise.withResolvers<void>();
      traffic.add("exchanges", promise);
      return resolve;
    },
  });

  function handle(request: Request, info: Deno.ServeHandlerInfo): Response | Promise<Response> {
    if (!isSame(info.remoteAddr, place.standIn)) return new Response(null, { status: 403 });
    traffic.add("exchanges", info.completed);
    Object.defineProperty(info, "remoteAddr", { value: client, enumerable: true });
    place.rename(request);
    const response = fetch(request, info);
    return response instanceof Response ? finish(response) : response.then(finish);
  }

  function call(request: Request, info: Deno.ServeHandlerInfo): Response | Promise<Response> {
    const response = app.fetch(request, info);
    if (response instanceof Response) return response;
    const finished = Promise.resolve(response);
    traffic.add("calls", finished);
    return finished;
  }

  function finish(response: Response): Response {
    traffic.upgraded ||= response.status === 101;
    return options.signal?.aborted ? lastOfConnection(response) : response;
  }

  const taken = await takeOver(connection, options, handle);
  const { server } = taken;
  const rename = hostRenamer(hostOf(server.addr), ownHost);
  Object.assign(place, { standIn: taken.standIn, rename });
  const lookNow = () => traffic.lookNow();
  const signals = [options.signal, options.abandon].filter((signal) => signal !== undefined);
  for (const signal of signals) signal.addEventListener("abort", lookNow);
  try {
    await untilClosed(taken.connection, server, traffic, { ...options, idleTimeout });
    await untilDone(traffic, { ...options, idleTimeout });
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", lookNow);
  }
  const shutdown = server.shutdown();
  // Shutting down would wait for a call of the app that never ends.
  if (traffic.calls + traffic.exchanges === 0) await shutdown;
}

/**
 * Serves one connection of its own, so that Deno's HTTP server is compiled and linked. Work that is
 * done before a fork need not be done by each child: children start twice as fast.
 *
 * @param options A certificate and a key, which are checked in the process.
 * @throws {TypeError} If only one of `cert` and `key` is given.
 * @throws {Deno.errors.InvalidData} If one of them is not a valid certificate or key.
 * @throws {SyscallError} `EMFILE` if no descriptor is left, ...
 */
export async function warmUp(options: Pick<GatewayOptions, "cert" | "key"> = {}): Promise<void> {
  using listenSocket = new Socket(AF_INET, SOCK_STREAM);
  listenSocket.bind(["127.0.0.1", 0]);
  listenSocket.listen(1);
  using client = new Socket(AF_INET, SOCK_STREAM);
  client.connect(listenSocket.getsockname());
  client.sendall(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
  client.shutdown(SHUT_WR);
  const [connection] = listenSocket.accept();
  const app = { fetch: () => new Response("warm") };
  await serveConnection(connection, app, { ...options, idleTimeout: 1 });
}

/** The activity on a connection. */
interface Traffic {
  /** The number of calls of the app that have not returned. */
  calls: number;
  /** The number of requests whose response has not been sent. */
  exchanges: number;
  /** The time of the last activity, or of the connection's start. */
  last: number;
  /** Whether the connection has been upgraded from HTTP. */
  upgraded: boolean;
  /** Whether a request was refused whose client may still be sending. */
  refused: boolean;
  add(kind: "calls" | "exchanges", work: Promise<unknown>): void;
  /** Ends the current pause between two checks. */
  lookNow(): void;
}

function newTraffic(): Traffic {
  const traffic: Traffic = {
    calls: 0,
    exchanges: 0,
    last: performance.now(),
    upgraded: false,
    refused: false,
    add(kind, work): void {
      traffic[kind]++;
      const done = () => {
        traffic[kind]--;
        traffic.last = performance.now();
        traffic.lookNow();
      };
      work.then(done, done);
    },
    lookNow(): void {},
  };
  return traffic;
}

/**
 * Waits for the end of a connection, for which there is no event, and ends the connection when it
 * is due.
 */
async function untilClosed(
  connection: TakenConnection,
  server: Deno.HttpServer,
  traffic: Traffic,
  { idleTimeout, signal, abandon }: GatewayOptions & { idleTimeout: number },
): Promise<void> {
  let ending = false;
  let unread = { acked: 0, since: performance.now() };
  for (let pause = 0; connection.isOpen(); pause = Math.min(RARELY, 2 * pause + 1)) {
    if (await pauseFor(pause, traffic)) pause = 0;
    if (isBusy()) traffic.last = performance.now();
    const idle = performance.now() - traffic.last;
    if (abandon?.aborted || (ending && idle > LINGER)) return connection.shutdown();
    if (isStuck()) return connection.reset();
    if (ending || !(isStopped() || isRefused() || isIdleFor(idle))) continue;
    ending = true;
    traffic.last = performance.now();
    server.shutdown();
  }

  /**
   * Whether the client waits for a response. A client that has disconnected does not, but Deno
   * notices that only when it sends one.
   */
  function isBusy(): boolean {
    return !traffic.upgraded && traffic.exchanges > 0 &&
      !(traffic.calls > 0 && connection.isHalfClosed());
  }

  /**
   * Whether a stop may proceed. Requests that arrived before the stop are served: shutting down
   * Deno's server aborts request bodies.
   */
  function isStopped(): boolean {
    return signal?.aborted === true && !isBusy() &&
      (traffic.exchanges > 0 || !connection.hasInput());
  }

  /** Whether the client does not read what was sent to it. */
  function isStuck(): boolean {
    const info = connection.tcpInfo();
    if (!info?.unacked || info.bytesAcked !== unread.acked) {
      unread = { acked: info?.bytesAcked ?? 0, since: performance.now() };
    }
    return idleTimeout > 0 && performance.now() - unread.since > idleTimeout * 1000;
  }

  function isRefused(): boolean {
    return traffic.refused && !isBusy();
  }

  function isIdleFor(milliseconds: number): boolean {
    return idleTimeout > 0 && milliseconds > idleTimeout * 1000 && !traffic.upgraded;
  }
}

/** Waits for work that the app still does for a client that has disconnected. */
async function untilDone(
  traffic: Traffic,
  { idleTimeout, abandon }: GatewayOptions & { idleTimeout: number },
): Promise<void> {
  const end = idleTimeout === 0 ? Infinity : performance.now() + idleTimeout * 1000;
  while (traffic.calls > 0 && !abandon?.aborted && performance.now() < end) {
    await pauseFor(RARELY, traffic);
  }
}

/**
 * Returns a response after which the client opens another connection, to a server that keeps
 * running.
 */
function lastOfConnection(response: Response): Response {
  if (response.status === 101) return response;
  const last = new Response(response.body, response);
  last.headers.set("connection", "close");
  return last;
}

/** @returns Whether the pause was ended early. */
function pauseFor(milliseconds: number, traffic: Traffic): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = after(milliseconds, () => resolve(false));
    traffic.lookNow = () => {
      timer.cancel();
      resolve(true);
    };
  });
}

/** Makes Deno's server serve the connection. */
function takeOver(
  connection: Socket,
  { cert, key }: GatewayOptions,
  handle: Deno.ServeHandler,
): ReturnType<typeof takeOverConnection<Deno.HttpServer>> {
  const address = throwAwayAddress(connection.family);
  const tls = cert === undefined || key === undefined ? undefined : { cert, key };
  return takeOverConnection(connection, () => serveAt(address, tls, handle));
}

/**
 * Whether a request came over the connection. For UNIX sockets, Deno knows only the server's name.
 */
function isSame(a: Deno.Addr, b: Deno.Addr | undefined): boolean {
  if (b?.transport === "unix") return true;
  return "port" in a && b !== undefined && "port" in b && a.port === b.port;
}

/** Returns the client as `info.remoteAddr` shows it; `undefined` if it has disconnected. */
function clientOf(connection: Socket): Deno.Addr | undefined {
  if (connection.family === AF_UNIX) return addrOf(connection.getsockname());
  try {
    return addrOf(connection.getpeername());
  } catch (error) {
    if (isSyscallError(error, "ENOTCONN")) return undefined;
    throw error;
  }
}
