/**
 * The gateway of stage 3h: what stands between a connection and an app. What a
 * WSGI server does for an application in Python is here Deno's own work: the
 * connection is put into the hands of Deno's HTTP server, the very same that
 * `deno serve` uses.
 */
import { type Address, AF_INET, AF_UNIX } from "../../ffi/address.ts";
import { isSyscallError } from "../../ffi/errno.ts";
import { type TakenConnection, takeOverConnection } from "../../ffi/runtime/connection.ts";
import { after } from "../../ffi/runtime/timers.ts";
import { SOCK_STREAM, Socket } from "../../ffi/socket.ts";
import { SHUT_WR } from "../../ffi/socket_calls.ts";
import type { App } from "../app/load_app.ts";
import { addrOf, hostOf, hostRenamer } from "../app/request_host.ts";
import { checkSeconds } from "../options.ts";
import { serveAt, throwAwayAddress } from "../../ffi/runtime/throw_away_address.ts";

/** How a connection is served. */
export interface GatewayOptions {
  /** The certificate chain, as PEM text, for HTTPS; with `key`. */
  readonly cert?: string;
  /** The certificate's private key, as PEM text. */
  readonly key?: string;
  /** Seconds that the connection may be without a request; 75 if left out, 0 for ever. */
  readonly idleTimeout?: number;
  /** Ends the connection after the requests that are under way, once it is aborted. */
  readonly signal?: AbortSignal;
  /** Ends the connection, whatever is under way, once it is aborted. */
  readonly abandon?: AbortSignal;
  /**
   * Where the server listens; the connection's own address if left out. The URL of a request
   * that names no host has it.
   */
  readonly address?: Address;
}

/** How often a connection's end is looked for when nothing happens, in milliseconds. */
const RARELY = 100;
/** How long a connection that must end may go on without a request, in milliseconds. */
const LINGER = 1000;

/**
 * Serves one connection with an app, over Deno's HTTP server: request after
 * request, HTTP/1.1 and HTTP/2, with streaming bodies and WebSockets.
 *
 * @param connection The connection; it is closed when this is done.
 * @param app The app.
 * @param options How it is served.
 * @returns When the connection has ended and all of the app's responses are done.
 * @throws {RangeError} When an option is out of its range.
 * @throws {TypeError} When one of `cert` and `key` is missing.
 * @throws {SyscallError} `EMFILE` when no descriptor is left, ...
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
    throw new TypeError("Cannot serve HTTPS with one of cert and key: it takes both");
  }
  const client = clientOf(connection);
  if (client === undefined) return connection.close(); // it is gone already
  const ownHost = hostOf(addrOf(options.address ?? connection.getsockname()));
  const traffic = newTraffic();
  // Until the connection is in its place, whoever asks is a stranger.
  const place: { standIn?: Deno.Addr; rename: (request: Request) => void } = { rename: () => {} };

  function handle(request: Request, info: Deno.ServeHandlerInfo): Response | Promise<Response> {
    if (!isSame(info.remoteAddr, place.standIn)) return new Response(null, { status: 403 });
    traffic.add("exchanges", info.completed);
    Object.defineProperty(info, "remoteAddr", { value: client, enumerable: true });
    place.rename(request);
    const response = app.fetch(request, info);
    if (response instanceof Response) return finish(response);
    const finished = Promise.resolve(response).then(finish);
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
  // A call of the app that never ends would be waited for.
  if (traffic.calls + traffic.exchanges === 0) await shutdown;
}

/**
 * Serves one connection of its own, to no end but that Deno's HTTP server is compiled
 * and linked. What a process has done once need not be done by each child that it
 * forks afterwards: that makes them start twice as fast.
 *
 * @param options A certificate and a key, which are tried out then.
 * @throws {TypeError} When one of `cert` and `key` is missing.
 * @throws {Deno.errors.InvalidData} When one of them is no certificate, or no key.
 * @throws {SyscallError} `EMFILE` when no descriptor is left, ...
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

/** What goes on on a connection. */
interface Traffic {
  /** Calls of the app that have not returned. */
  calls: number;
  /** Requests whose response is not sent. */
  exchanges: number;
  /** When there was something last, or the connection began. */
  last: number;
  /** Whether it is no longer HTTP. */
  upgraded: boolean;
  add(kind: "calls" | "exchanges", work: Promise<unknown>): void;
  /** Ends the watcher's pause. */
  lookNow(): void;
}

function newTraffic(): Traffic {
  const traffic: Traffic = {
    calls: 0,
    exchanges: 0,
    last: performance.now(),
    upgraded: false,
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

/** Waits for the end of a connection, which nothing tells of; and brings it about when it is due. */
async function untilClosed(
  connection: TakenConnection,
  server: Deno.HttpServer,
  traffic: Traffic,
  { idleTimeout, signal, abandon }: GatewayOptions & { idleTimeout: number },
): Promise<void> {
  let ending = false;
  for (let pause = 0; connection.isOpen(); pause = Math.min(RARELY, 2 * pause + 1)) {
    if (await pauseFor(pause, traffic)) pause = 0;
    if (isBusy()) traffic.last = performance.now();
    const idle = performance.now() - traffic.last;
    if (abandon?.aborted || (ending && idle > LINGER)) return connection.shutdown();
    if (ending || !(isStopped() || isIdleFor(idle))) continue;
    ending = true;
    traffic.last = performance.now();
    server.shutdown();
  }

  /** Whether the client waits for a response. One that has gone does not, but Deno notices that only when it sends one. */
  function isBusy(): boolean {
    return !traffic.upgraded && traffic.exchanges > 0 &&
      !(traffic.calls > 0 && connection.isHalfClosed());
  }

  /** What has come before the stop is served. To shut Deno's server down breaks off request bodies. */
  function isStopped(): boolean {
    return signal?.aborted === true && !isBusy() &&
      (traffic.exchanges > 0 || !connection.hasInput());
  }

  function isIdleFor(milliseconds: number): boolean {
    return idleTimeout > 0 && milliseconds > idleTimeout * 1000 && !traffic.upgraded;
  }
}

/** Waits for what the app still does for a client that is gone. */
async function untilDone(
  traffic: Traffic,
  { idleTimeout, abandon }: GatewayOptions & { idleTimeout: number },
): Promise<void> {
  const end = idleTimeout === 0 ? Infinity : performance.now() + idleTimeout * 1000;
  while (traffic.calls > 0 && !abandon?.aborted && performance.now() < end) {
    await pauseFor(RARELY, traffic);
  }
}

/** A response after which the client opens another connection, to a server that lasts. */
function lastOfConnection(response: Response): Response {
  if (response.status === 101) return response;
  const last = new Response(response.body, response);
  last.headers.set("connection", "close");
  return last;
}

/** @returns Whether something has happened meanwhile. */
function pauseFor(milliseconds: number, traffic: Traffic): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = after(milliseconds, () => resolve(false));
    traffic.lookNow = () => {
      timer.cancel();
      resolve(true);
    };
  });
}

/** Has Deno's server serve the connection. */
async function takeOver(
  connection: Socket,
  certificate: GatewayOptions,
  handle: Deno.ServeHandler,
): ReturnType<typeof takeOverConnection<Deno.HttpServer>> {
  using place = throwAwayAddress(connection.family);
  const { address } = place;
  return await takeOverConnection(connection, () => serveAt(address, certificate, handle));
}

/** Whether a request came over the connection. Of UNIX sockets Deno knows the server's name only. */
function isSame(a: Deno.Addr, b: Deno.Addr | undefined): boolean {
  if (b?.transport === "unix") return true;
  return "port" in a && b !== undefined && "port" in b && a.port === b.port;
}

/** The client as `info.remoteAddr` shows it; nothing if it is gone. */
function clientOf(connection: Socket): Deno.Addr | undefined {
  if (connection.family === AF_UNIX) return addrOf(connection.getsockname());
  try {
    return addrOf(connection.getpeername());
  } catch (error) {
    if (isSyscallError(error, "ENOTCONN")) return undefined;
    throw error;
  }
}
