/**
 * A server of Deno's, on a shared socket, that answers with a `fetch` function.
 */
import { AF_INET, AF_UNIX } from "../../../ffi/address.ts";
import { acceptFrom, type Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { replaceClient, wholeBody } from "../../../ffi/runtime/http_internals.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { App } from "../../app/load_app.ts";
import { addrOf, hostOf, hostRenamer } from "../../app/request_host.ts";
import { type Client, limitRequests } from "../../app/request_limits.ts";
import type { EndEntry } from "../logs/access_log.ts";
import { estimateBytes, responseBytes } from "../logs/response_bytes.ts";
import type { Exchange } from "./meter.ts";
import type { Entry } from "./linked_list.ts";
import type { Part, Shared } from "./part.ts";
import type { Gate } from "./proxy_gate.ts";
import { withField } from "./response_field.ts";

/** What serves requests. */
export interface FetchServer extends Pick<App, "fetch"> {
  /** Starts Deno's server on a throw-away address of an address family. */
  listen(handle: Deno.ServeHandler, family: number): Deno.HttpServer;
  /** Called when the server accepts. */
  onStart?(server: Deno.HttpServer): void;
  /** Called when the server has been shut down. */
  onEnd?(): void;
}

/** Options for {@linkcode acceptRequests}. */
export interface FetchServerOptions {
  /** The shared socket. */
  readonly socket: Socket;
  /** Whether the server serves HTTPS. */
  readonly secure: boolean;
  readonly server: FetchServer;
  readonly shared: Shared;
  /** Called when Deno's server has ended because accept(2) failed. */
  readonly onFailure: (error: Error) => void;
}

/**
 * Starts a server.
 *
 * @throws {SyscallError} If no descriptor is left.
 */
export function acceptRequests(
  options: FetchServerOptions,
): { acceptor: Acceptor; part: Part } {
  const { socket, secure, server: program, shared, onFailure } = options;
  const { config, slot, meter, accessLog, connections, spread, inFlight, unread, requestIds } =
    shared;
  const limited = limitRequests((request, info) => toPromise(program.fetch(request, info)), {
    ...config,
    silence: (client) => connections.silence(client),
    onRefused: (client) => connections.refused(client),
    onBroken: (client) => connections.broken(client),
    onUnread(client) {
      const entry = unread.add(client);
      return () => unread.remove(entry);
    },
  });
  const fetch = requestIds?.passOn(limited) ?? limited;
  // The client address that Deno reports for a UNIX socket is the path of the throw-away socket.
  const address = addrOf(socket.getsockname());
  const client = socket.family === AF_UNIX ? address : undefined;
  const { proxyView } = shared;
  let urlOf = ({ url }: Request) => url;
  const handle: Deno.ServeHandler = (request, info) => {
    if (client !== undefined) replaceClient(info, client);
    const url = urlOf(request);
    if (proxyView === undefined) return serve(request, url, info, info);
    const peer = { remoteAddr: info.remoteAddr };
    return serve(request, proxyView.reveal(request, url, info), info, peer);
  };
  const handleProxied: Deno.ServeHandler = (request, info) => {
    const peer = { remoteAddr: info.remoteAddr };
    const proxied = gate!.lookUp(peer.remoteAddr);
    if (proxied === undefined) return new Response(null, { status: 403 });
    replaceClient(info, proxied.client);
    const url = proxyView!.reveal(request, urlOf(request), info);
    return serve(request, url, info, peer, proxied.proxy);
  };
  const { server, acceptor, gate } = config.proxyProtocol ? listenAtGate() : {
    ...acceptFrom(socket.fileno(), () => program.listen(handle, socket.family)),
    gate: undefined,
  };
  urlOf = hostRenamer(hostOf(server.addr), hostOf(address));
  program.onStart?.(server);
  server.finished.then(
    () => program.onEnd?.(),
    (error) => {
      if (!shared.isDraining()) onFailure(error);
    },
  );
  let ending: Promise<void> | undefined;
  const shutdown = () => ending ??= server.shutdown().catch(() => {}); // it has ended already
  if (gate === undefined) return { acceptor, part: { goAway: shutdown, end: shutdown } };
  return {
    acceptor,
    part: {
      check: () => gate.sweep(),
      isAccepting: () => gate.isPassing(),
      goAway: () => gate.isPassing() || shutdown(),
      end(): Promise<void> {
        gate.close();
        return shutdown();
      },
    },
  };

  /** Starts a server whose connections begin with a header of the PROXY protocol. */
  function listenAtGate(): { server: Deno.HttpServer; acceptor: Acceptor; gate: Gate } {
    const server = program.listen(handleProxied, AF_INET);
    const { headerTimeout } = config;
    const { known } = shared;
    const options = { socket, proxyView: proxyView!, known, headerTimeout, onFailure };
    const gate = shared.openGate!(server, options);
    return { server, acceptor: gate.acceptor, gate };
  }

  /**
   * Serves a request.
   *
   * @param peer The client by which the connection is known: its other end, as Deno sees it.
   * @param proxy Its other end, if that is another one.
   */
  function serve(
    request: Request,
    url: string,
    info: Deno.ServeHandlerInfo,
    peer: Client,
    proxy?: Deno.Addr,
  ): Response | Promise<Response> {
    const exchange = meter.begin(peer, request.method, url);
    shared.count();
    slot.setRequest(exchange.method, url);
    slot.inFlight = inFlight.size + 1;
    spread.takeTurn();
    connections.requested(request, peer);
    requestIds?.give(request);
    const endEntry = accessLog?.begin(request, info, address, proxy ?? peer.remoteAddr);
    try {
      const response = fetch(request, info, peer);
      if (!(response instanceof Promise)) return finish(response, info, exchange, endEntry);
      const entry = inFlight.add(exchange);
      return response.then(
        (response) => finish(response, info, exchange, endEntry, entry),
        (error) => fail(error, exchange, endEntry, entry),
      );
    } catch (error) {
      return fail(error, exchange, endEntry);
    }
  }

  function finish(
    response: Response,
    info: Deno.ServeHandlerInfo,
    exchange: Exchange,
    endEntry: EndEntry | undefined,
    entry?: Entry<Exchange>,
  ): Response {
    if (!(response instanceof Response)) {
      end(500, null, exchange, endEntry, entry);
      return response; // Deno reports the error
    }
    const { status } = response;
    const body = wholeBody(response);
    const bytes = (accessLog === undefined ? estimateBytes : responseBytes)(response, body);
    // Most responses are complete when they are returned; only for streams must Deno report it.
    if (status === 101 || body !== undefined) {
      end(status, bytes, exchange, endEntry, entry, response);
    } else {
      const open = entry ?? inFlight.add(exchange);
      const done = () => end(status, bytes, exchange, endEntry, open, response);
      info.completed.then(done, done);
    }
    // HTTP/2 has no `connection: close`.
    const isLast = shared.closesConnections() || (!secure && spread.sheds());
    return isLast && status !== 101 ? lastOfConnection(response, exchange.client) : response;
  }

  function fail(
    error: unknown,
    exchange: Exchange,
    endEntry: EndEntry | undefined,
    entry?: Entry<Exchange>,
  ): never {
    end(500, null, exchange, endEntry, entry);
    throw error; // Deno reports the error and answers
  }

  function end(
    status: number,
    bytes: number | null,
    exchange: Exchange,
    endEntry: EndEntry | undefined,
    entry: Entry<Exchange> | undefined,
    response?: Response,
  ): void {
    if (entry !== undefined) inFlight.remove(entry);
    slot.inFlight = inFlight.size;
    if (status >= 500) slot.errors++;
    meter.end(exchange, status, bytes);
    endEntry?.(status, bytes, response);
  }

  /** Makes the client open another connection, to a worker that keeps running or has less to do. */
  function lastOfConnection(response: Response, peer: Client): Response {
    if (!secure) connections.shed(peer); // in case the client does not close it
    return withField(response, "connection", "close");
  }
}

/** Like Deno, accepts any value that has a `then` method. */
function toPromise(result: Response | PromiseLike<Response>): Response | Promise<Response> {
  const { then } = (result ?? {}) as Partial<PromiseLike<Response>>;
  return typeof then === "function" ? Promise.resolve(result) : result as Response;
}
