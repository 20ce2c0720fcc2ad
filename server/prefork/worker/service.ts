/**
 * What a worker serves: Deno's HTTP server on the listening sockets that all workers share, and
 * what Deno leaves to its users. Deno accepts, parses and answers; this module counts, limits and
 * logs requests, and shuts down gracefully.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { Descriptor } from "../../../ffi/descriptor.ts";
import { F_DUPFD_CLOEXEC, fcntl } from "../../../ffi/descriptor_calls.ts";
import { acceptFrom, type Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { after, delay, every, nextTurn } from "../../../ffi/runtime/timers.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { App } from "../../app/load_app.ts";
import { addrOf, hostOf, hostRenamer } from "../../app/request_host.ts";
import type { Log } from "../../log.ts";
import { serveAt, throwAwayAddress } from "../../../ffi/runtime/throw_away_address.ts";
import { type EndEntry, openAccessLog } from "../logs/access_log.ts";
import { balance } from "./balance.ts";
import { watchConnections } from "./connection_limits.ts";
import { wholeBody } from "../../../ffi/runtime/http_internals.ts";
import { type Client, limitRequests } from "../../app/request_limits.ts";
import type { Config } from "../options.ts";
import { responseBytes } from "../logs/response_bytes.ts";
import type { Scoreboard, Slot } from "../scoreboard.ts";
import { rememberWebSockets } from "./web_sockets.ts";

/** Options for {@linkcode openService}. */
export interface ServiceOptions {
  readonly config: Config;
  /** The listening sockets. The service closes them, because Deno has duplicates. */
  readonly listeners: readonly Socket[];
  readonly slot: Slot;
  readonly scoreboard: Scoreboard;
  readonly log: Log;
  /** Called when the worker has served its maximum number of requests. */
  readonly onMaxRequests: () => void;
}

/** A running service. */
export interface Service {
  /** Checks again whether connections are waiting to be accepted. */
  lookAgain(): void;
  /** Reopens the access log after it was moved. */
  reopenLog(): void;
  /** Accepts all waiting connections: once the server has ended, no process will. */
  acceptRest(): Promise<void>;
  /**
   * Stops accepting, finishes the requests in progress, and closes the connections.
   *
   * @param end Returns the time until which open connections may stay silent, in milliseconds of
   *   `performance.now()`. A request may be on its way.
   */
  drain(end: () => number): Promise<void>;
}

/**
 * The status code with which a server that is going away closes a WebSocket, RFC 6455 section
 * 7.4.1.
 */
const GOING_AWAY = 1001;
/** How long to wait after accept(2) has failed, in milliseconds. */
const ACCEPT_RETRY = 100;
/** The number of descriptors that must be free for a retry. */
const SPARE = 8;
/** How long a stopping server accepts waiting connections, in milliseconds. */
const ACCEPT_REST = 1000;
/** The interval between two counts of the connections, in milliseconds. */
const COUNT_INTERVAL = 500;
/**
 * The interval at which a draining service checks whether it is done, in milliseconds: a base value
 * and a value per connection.
 */
const DRAIN_INTERVAL = 20;
const DRAIN_INTERVAL_EACH = 0.2;
/** How long a WebSocket may take to close, in milliseconds. */
const CLOSING = 1000;

/**
 * Starts to serve an app.
 *
 * @throws {SyscallError} If the access log cannot be opened, or no descriptor is left.
 */
export function openService(app: App, options: ServiceOptions): Service {
  const { config, listeners, slot, scoreboard, log, onMaxRequests } = options;
  const accessLog = config.accessLog === undefined
    ? undefined
    : openAccessLog({ target: config.accessLog, format: config.accessLogFormat, log });
  // Requests whose handler is pending. Most are answered in the turn in which they arrive.
  const inFlight = new Map<Request, Deno.ServeHandlerInfo>();
  // Clients that have their response and are still sending their request.
  const unread = new Set<Client>();
  const lastRequest = config.maxRequests + Math.floor(Math.random() * config.maxRequests / 10);
  const addresses = listeners.map((socket) => socket.getsockname());
  const fetch = limitRequests((request, info) => toPromise(app.fetch(request, info)), {
    ...config,
    silence: (client) => connections.silence(client),
    onRefused: (client) => connections.refused(client),
    onBroken: (client) => connections.broken(client),
    onUnread(client) {
      unread.add(client);
      return () => unread.delete(client);
    },
  });
  const secure = config.cert !== undefined;
  let draining = false;

  const servers: Deno.HttpServer[] = [];
  const acceptors: Acceptor[] = [];
  for (const [index] of listeners.entries()) accept(index);

  function accept(index: number): void {
    const socket = listeners[index]!;
    // The client address that Deno reports for a UNIX socket is the path of the throw-away socket.
    const address = addrOf(socket.getsockname());
    const client = socket.family === AF_UNIX ? address : undefined;
    let urlOf = ({ url }: Request) => url;
    const handle: Deno.ServeHandler = (request, info) => {
      if (client !== undefined) {
        Object.defineProperty(info, "remoteAddr", { value: client, enumerable: true });
      }
      return serve(request, urlOf(request), info);
    };
    const { server, acceptor } = acceptFrom(
      socket.fileno(),
      () => listen(socket.family, config, handle),
    );
    urlOf = hostRenamer(hostOf(server.addr), hostOf(address));
    servers.push(server);
    acceptors[index] = acceptor;
    server.finished.catch((error) => {
      if (draining) return;
      log(`Cannot accept: ${error.message}. Trying again in ${ACCEPT_RETRY} ms`);
      acceptor.close();
      acceptLater(index);
    });
  }

  /**
   * Retries when descriptors are free again. Deno's server ends when accept(2) fails, and serves
   * the connections it has.
   */
  function acceptLater(index: number): void {
    after(ACCEPT_RETRY, () => {
      if (draining) return;
      try {
        checkSpareDescriptors();
        accept(index);
      } catch {
        acceptLater(index);
      }
    });
  }

  const spread = balance(acceptors, slot, scoreboard);
  const connections = watchConnections({
    ...config,
    addresses,
    secure,
    inFlight: { values: () => [...inFlight.values(), ...unread] },
    acceptors,
  });
  const webSockets = rememberWebSockets((client) => connections.upgraded(client));
  const counting = every(COUNT_INTERVAL, count);

  function count(): void {
    slot.connections = connections.sweep();
    spread.updateSurplus();
  }

  function serve(
    request: Request,
    url: string,
    info: Deno.ServeHandlerInfo,
  ): Response | Promise<Response> {
    if (++slot.requests === lastRequest) onMaxRequests();
    slot.setRequest(request.method, url);
    slot.inFlight = inFlight.size + 1;
    spread.takeTurn();
    connections.requested(request, info);
    const endEntry = accessLog?.begin(request, info);
    try {
      const response = fetch(request, info);
      if (!(response instanceof Promise)) return finish(response, request, info, endEntry);
      inFlight.set(request, info);
      return response.then(
        (response) => finish(response, request, info, endEntry),
        (error) => fail(error, request, endEntry),
      );
    } catch (error) {
      return fail(error, request, endEntry);
    }
  }

  function finish(
    response: Response,
    request: Request,
    info: Deno.ServeHandlerInfo,
    endEntry: EndEntry | undefined,
  ): Response {
    if (!(response instanceof Response)) {
      end(request, 500, null, endEntry);
      return response; // Deno reports the error
    }
    const { status } = response;
    const bytes = accessLog === undefined ? null : responseBytes(response);
    // Most responses are complete when they are returned; only for streams must Deno report it.
    if (status === 101 || wholeBody(response) !== undefined) {
      end(request, status, bytes, endEntry);
    } else {
      inFlight.set(request, info);
      const done = () => end(request, status, bytes, endEntry);
      info.completed.then(done, done);
    }
    // HTTP/2 has no `connection: close`.
    const isLast = draining || (!secure && spread.sheds());
    return isLast && status !== 101 ? lastOfConnection(response, info) : response;
  }

  function fail(error: unknown, request: Request, endEntry: EndEntry | undefined): never {
    end(request, 500, null, endEntry);
    throw error; // Deno reports the error and answers
  }

  function end(
    request: Request,
    status: number,
    bytes: number | null,
    endEntry: EndEntry | undefined,
  ): void {
    inFlight.delete(request);
    slot.inFlight = inFlight.size;
    if (status >= 500) slot.errors++;
    endEntry?.(status, bytes);
  }

  /** Makes the client open another connection, to a worker that keeps running or has less to do. */
  function lastOfConnection(response: Response, info: Deno.ServeHandlerInfo): Response {
    if (!secure) connections.refused(info); // in case the client does not close it
    // An app may return a response without a body again, and a response from fetch() is immutable.
    if (wholeBody(response) !== null) {
      try {
        response.headers.set("connection", "close");
        return response;
      } catch {
        // copied below
      }
    }
    const copy = new Response(response.body, response);
    copy.headers.set("connection", "close");
    return copy;
  }

  return {
    lookAgain(): void {
      for (const acceptor of acceptors) acceptor.requeue();
    },
    reopenLog(): void {
      accessLog?.reopen();
    },
    async acceptRest(): Promise<void> {
      const end = performance.now() + ACCEPT_REST;
      for (const acceptor of acceptors) {
        while (acceptor.isAnyWaiting() && performance.now() < end) {
          acceptor.requeue();
          await nextTurn();
        }
      }
    },
    async drain(end): Promise<void> {
      draining = true;
      // Checking all connections costs more, the more there are.
      const interval = () => DRAIN_INTERVAL + connections.open * DRAIN_INTERVAL_EACH;
      for (const acceptor of acceptors) acceptor.close();
      for (const socket of listeners) socket.close();
      counting.cancel();
      await until(() => {
        slot.connections = connections.sweep();
        const isQuiet = slot.connections <= webSockets.size() || performance.now() >= end();
        return isQuiet && inFlight.size === 0;
      }, interval);
      webSockets.close(GOING_AWAY, "The server is restarting");
      const closed = performance.now() + CLOSING;
      await until(() => webSockets.size() === 0 || performance.now() >= closed, interval);
      await Promise.allSettled(servers.map((server) => server.shutdown()));
      connections.stop();
      accessLog?.close();
    },
  };
}

/** Like Deno, accepts any value that has a `then` method. */
function toPromise(result: Response | PromiseLike<Response>): Response | Promise<Response> {
  const { then } = (result ?? {}) as Partial<PromiseLike<Response>>;
  return typeof then === "function" ? Promise.resolve(result) : result as Response;
}

async function until(condition: () => boolean, interval: () => number): Promise<void> {
  while (!condition()) await delay(interval());
}

/**
 * Checks that enough descriptors are free.
 *
 * @throws {SyscallError} `EMFILE` if there are not.
 */
function checkSpareDescriptors(): void {
  using spare = new DisposableStack();
  for (let i = 0; i < SPARE; i++) spare.use(new Descriptor(fcntl(2, F_DUPFD_CLOEXEC)));
}

/** Starts Deno's server on a throw-away address. The shared socket then replaces its socket. */
function listen(family: number, config: Config, handle: Deno.ServeHandler): Deno.HttpServer {
  return serveAt(throwAwayAddress(family), config, handle);
}
