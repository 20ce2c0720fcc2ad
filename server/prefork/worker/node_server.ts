/**
 * A program's own server of Node's (`node:http`, and what is built on it) on a shared socket. Node
 * accepts, parses and answers; what the worker must know passes through the server's `emit()`.
 */
import { formatAddress } from "../../../ffi/address.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { delay } from "../../../ffi/runtime/timers.ts";
import { AppError } from "../../app/load_app.ts";
import type { CaughtNodeServer } from "../../app/caught_servers.ts";
import { addrOf } from "../../app/request_host.ts";
import type { Client } from "../../app/request_limits.ts";
import type { EndEntry, NodeRequest } from "../logs/access_log.ts";
import type { ListeningAddress } from "./connection_limits.ts";
import type { Exchange } from "./meter.ts";
import { LinkedList } from "./linked_list.ts";
import { type ReadableSocket, readNodeHeader } from "./node_proxy_header.ts";
import type { Part, Shared } from "./part.ts";

/** The relevant part of Node's `net.Socket`. */
interface NodeSocket extends ReadableSocket {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  emit(event: "error", error: Error): boolean;
  write(data: Uint8Array): boolean;
  end(data?: Uint8Array): void;
}

/** The relevant part of Node's `http.IncomingMessage`. */
interface IncomingMessage extends NodeRequest {
  readonly socket: NodeSocket;
  readonly headers: { [name: string]: string | undefined };
  readonly rawHeaders: string[];
  readonly httpVersionMajor: number;
  readonly complete: boolean;
  push(chunk: Uint8Array | null, encoding?: string): boolean;
}

/** The relevant part of Node's `http.ServerResponse`. */
interface ServerResponse {
  statusCode: number;
  readonly headersSent: boolean;
  readonly writableFinished: boolean;
  shouldKeepAlive?: boolean;
  readonly _contentLength?: number | null;
  getHeader(name: string): unknown;
  setHeader(name: string, value: string): void;
  on(event: "close", listener: () => void): void;
  end(text?: string): void;
}

/** What is known of a response that has been sent. */
type SentResponse = Pick<ServerResponse, "getHeader" | "_contentLength">;

/** The relevant part of a stream of `node:http2`, on which a program answers a request itself. */
interface Http2Stream {
  readonly session?: Http2Session | undefined;
  readonly headersSent: boolean;
  readonly sentHeaders?: Readonly<Record<string, unknown>> | undefined;
  on(event: "close", listener: () => void): void;
}

/** The relevant part of a connection of `node:http2`. */
interface Http2Session {
  readonly socket: NodeSocket;
  readonly closed: boolean;
  close(): void;
  on(event: "close", listener: () => void): void;
}

/** A request whose response is not complete. */
interface NodeExchange extends Client {
  readonly exchange: Exchange;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly endEntry: EndEntry | undefined;
}

/** How long the connections may take to close, in milliseconds. */
const CLOSING = 1000;
/** The status that is logged for a request whose client disconnected first, as in nginx. */
const CLIENT_CLOSED_REQUEST = 499;

/**
 * Starts a server.
 *
 * @param caught The program's server.
 * @param shared What all servers of the worker share.
 * @param listening Gets the function that ends connections.
 * @throws {AppError} If the server's connections use TLS after a header of the PROXY protocol.
 */
export async function acceptNode(
  caught: CaughtNodeServer,
  shared: Shared,
  listening: ListeningAddress,
): Promise<{ acceptor: Acceptor; part: Part }> {
  const { server, secure, isHttp } = caught;
  const { config, slot, meter, accessLog, requestIds, connections, spread, webSockets } = shared;
  const { proxyView, inFlight } = shared;
  const { maxHeaderBytes, maxBodyBytes, bodyTimeout } = config;
  if (config.proxyProtocol && secure) {
    throw new AppError(
      `A server of Node's with TLS cannot serve ${caught.name} behind the PROXY protocol: let it ` +
        "serve HTTP, and the proxy HTTPS",
    );
  }
  const isLimited = maxHeaderBytes !== undefined || maxBodyBytes !== Infinity;
  const local = addrOf(listening.address);
  const sockets = new LinkedList<NodeSocket>();
  const sessions = new LinkedList<Http2Session>();
  const exchanges = new LinkedList<NodeExchange>();
  const clients = new WeakMap<NodeSocket, Client>();
  // The clients that proxies have named, where a header of the PROXY protocol begins a connection.
  const seen = new WeakMap<NodeSocket, Deno.Addr>();

  // Whatever the program has in its place stays.
  const emit = server.emit;
  server.emit = function (event: string, ...args: unknown[]): boolean {
    switch (event) {
      case "request":
      case "checkContinue":
      case "checkExpectation":
        if (!begin(args[0] as IncomingMessage, args[1] as ServerResponse)) return true;
        break;
      case "stream":
        // Otherwise it becomes such a request.
        if (server.listenerCount("request") === 0) {
          beginStream(args[0] as Http2Stream, args[1] as Record<string, string>);
        }
        break;
      case "session": {
        const entry = sessions.add(args[0] as Http2Session);
        (args[0] as Http2Session).on("close", () => sessions.remove(entry));
        break;
      }
      case "upgrade":
      case "connect":
        upgrade(args[0] as IncomingMessage, args[1] as NodeSocket);
        break;
      case "connection": {
        const socket = args[0] as NodeSocket;
        connect(socket);
        if (!config.proxyProtocol) break;
        reveal(socket, () => emit.call(this, event, socket));
        return true;
      }
    }
    return emit.call(this, event, ...args);
  };

  if (isHttp && !secure) {
    listening.endLate = (client) => {
      const late = [...sockets].find((socket) => nameOf(clientOf(socket)) === client);
      // Node answers, as it does after its own time limit.
      late?.emit(
        "error",
        Object.assign(new Error("Request timeout"), {
          code: "ERR_HTTP_REQUEST_TIMEOUT",
        }),
      );
    };
  }

  /** Returns the address of a client, in the form that Deno has for it. */
  function clientOf(socket: NodeSocket): Client {
    const known = clients.get(socket);
    if (known !== undefined) return known;
    const { remoteAddress: hostname, remotePort: port } = socket;
    const client = { remoteAddr: addressOf(hostname, port) };
    clients.set(socket, client);
    return client;
  }

  function beginEntry(
    request: NodeRequest & Pick<IncomingMessage, "socket" | "headers">,
    peer: Deno.Addr,
  ): EndEntry | undefined {
    if (accessLog === undefined) return undefined;
    const named = seen.get(request.socket) ?? peer;
    const client = proxyView?.clientOf((name) => request.headers[name], named) ?? named;
    return accessLog.beginNode(request, client, local, peer);
  }

  /** Reads the header of the PROXY protocol, and shows the client that it names to the program. */
  function reveal(socket: NodeSocket, onHeader: () => void): void {
    const { remoteAddr: proxy } = clientOf(socket);
    if (!proxyView!.isTrusted(proxy)) return socket.destroy();
    readNodeHeader(socket, config.headerTimeout, ({ client }) => {
      if (client !== undefined) {
        seen.set(socket, client);
        const { hostname, port } = "hostname" in client ? client : {};
        Object.defineProperty(socket, "remoteAddress", { value: hostname, configurable: true });
        Object.defineProperty(socket, "remotePort", { value: port, configurable: true });
      }
      onHeader();
    });
  }

  function connect(socket: NodeSocket): void {
    const entry = sockets.add(socket);
    let isOpen = true;
    spread.connected();
    socket.on("close", () => {
      if (!isOpen) return;
      isOpen = false;
      sockets.remove(entry);
      spread.disconnected();
    });
    if (isHttp) return;
    // The protocol is not known: each connection counts as a request, and may be silent.
    const client = nameOf(clientOf(socket));
    shared.count();
    if (client !== undefined) connections.upgraded(client);
  }

  /** Counts a request. Returns whether the program gets it. */
  function begin(request: IncomingMessage, response: ServerResponse): boolean {
    shared.count();
    const { socket, method = "", url = "" } = request;
    const client = clientOf(socket);
    const { remoteAddr } = client;
    const exchange = meter.begin(client, method, url);
    slot.setRequest(method, url);
    requestIds?.giveNode(request, response);
    const endEntry = beginEntry(request, remoteAddr);
    const node = { remoteAddr, exchange, request, response, endEntry };
    begun(node);
    if (shared.closesConnections() || (!secure && spread.sheds())) {
      response.shouldKeepAlive = false;
    }
    return !isLimited || isWithinLimits(request, response, node);
  }

  /** Counts a request that the program answers on its stream, without a response of Node's. */
  function beginStream(stream: Http2Stream, headers: Record<string, string>): void {
    const socket = stream.session?.socket;
    if (socket === undefined) return; // the connection has ended
    shared.count();
    const { ":method": method = "", ":path": url = "" } = headers;
    const client = clientOf(socket);
    const exchange = meter.begin(client, method, url);
    slot.setRequest(method, url);
    requestIds?.giveNode({ headers, rawHeaders: [] });
    const request = { method, url, httpVersion: "2.0", headers, socket };
    const endEntry = beginEntry(request, client.remoteAddr);
    const getHeader = (name: string) => stream.sentHeaders?.[name];
    untilClosed(stream, exchange, () => {
      const status = stream.headersSent ? Number(getHeader(":status")) : CLIENT_CLOSED_REQUEST;
      return { status, response: { getHeader }, endEntry };
    });
  }

  /** Has an exchange count as in flight until its response is complete, or cannot be any more. */
  function begun(node: NodeExchange): void {
    const { exchange, response, endEntry } = node;
    const entry = exchanges.add(node);
    untilClosed(response, exchange, () => {
      exchanges.remove(entry);
      const status = response.headersSent ? response.statusCode : CLIENT_CLOSED_REQUEST;
      return { status, response, endEntry };
    });
  }

  /**
   * Has an exchange count as in flight until its response or its stream has been closed.
   *
   * @param closing The response or the stream.
   * @param exchange The exchange.
   * @param end Called then, and returns how it has ended.
   */
  function untilClosed(
    closing: Pick<Http2Stream, "on">,
    exchange: Exchange,
    end: () => { status: number; response: SentResponse; endEntry: EndEntry | undefined },
  ): void {
    const entry = inFlight.add(exchange);
    slot.inFlight = inFlight.size;
    let isOpen = true;
    closing.on("close", () => {
      if (!isOpen) return;
      isOpen = false;
      inFlight.remove(entry);
      slot.inFlight = inFlight.size;
      const { status, response, endEntry } = end();
      if (status >= 500) slot.errors++;
      const bytes = bytesOf(response);
      meter.end(exchange, status, bytes);
      endEntry?.(status, bytes, response);
    });
  }

  function isWithinLimits(
    request: IncomingMessage,
    response: ServerResponse,
    client: Client,
  ): boolean {
    if (maxHeaderBytes !== undefined && headerBytes(request) > maxHeaderBytes) {
      refuse(response, client, 431, "The request's header is too large\n");
      return false;
    }
    if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) {
      refuse(response, client, 413, "The request's body is too large\n");
      return false;
    }
    if (maxBodyBytes === Infinity || request.headers["transfer-encoding"] === undefined) {
      return true;
    }
    let bytes = 0;
    const { push } = request;
    request.push = function (chunk, encoding): boolean {
      bytes += chunk?.length ?? 0;
      if (bytes <= maxBodyBytes) return push.call(this, chunk, encoding);
      if (response.headersSent) request.socket.destroy();
      else refuse(response, client, 413, "The request's body is too large\n");
      return false;
    };
    return true;
  }

  /** Answers a request whose client may still be sending. */
  function refuse(response: ServerResponse, client: Client, status: number, text: string): void {
    response.statusCode = status;
    response.shouldKeepAlive = false;
    response.setHeader("content-type", "text/plain;charset=UTF-8");
    response.end(text);
    connections.refused(client);
  }

  function upgrade(request: IncomingMessage, socket: NodeSocket): void {
    shared.count();
    const client = clientOf(socket);
    const { method = "", url = "" } = request;
    slot.setRequest(method, url);
    meter.end(meter.begin(client, method, url), 101, 0); // the program answers
    requestIds?.giveNode(request);
    beginEntry(request, client.remoteAddr)?.(101, 0);
    const name = nameOf(client);
    if (name !== undefined) connections.upgraded(name);
    const isWebSocket = request.headers.upgrade?.toLowerCase() === "websocket";
    const forget = webSockets.add((code, reason) => {
      if (isWebSocket) socket.write(closeFrame(code, reason));
      else socket.end();
    });
    socket.on("close", forget);
  }

  const acceptor = await caught.listen();
  return {
    acceptor,
    part: {
      check(): void {
        if (bodyTimeout === 0) return;
        for (const { response, request, remoteAddr } of exchanges) {
          if (request.complete) continue;
          const silence = connections.silence({ remoteAddr });
          if (silence === undefined || silence < bodyTimeout * 1000) continue;
          // The program has not read it yet.
          if (connections.hasInput({ remoteAddr })) continue;
          if (response.headersSent) request.socket.destroy();
          else refuse(response, { remoteAddr }, 408, "The request's body did not arrive in time\n");
        }
      },
      beginDrain(): void {
        for (const { response } of exchanges) {
          if (!response.headersSent) response.shouldKeepAlive = false;
        }
      },
      goAway(): void {
        for (const session of sessions) if (!session.closed) session.close();
      },
      async end(): Promise<void> {
        if (server._handle === null) return; // the program has closed it
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections?.();
        for (const socket of sockets) isHttp ? socket.destroy() : socket.end();
        await Promise.race([closed, delay(CLOSING)]);
      },
    },
  };
}

function addressOf(hostname: string | undefined, port: number | undefined): Deno.Addr {
  return hostname === undefined || port === undefined
    ? { transport: "unix", path: "" }
    : { transport: "tcp", hostname, port };
}

function nameOf({ remoteAddr }: Client): string | undefined {
  return "hostname" in remoteAddr
    ? formatAddress([remoteAddr.hostname, remoteAddr.port])
    : undefined;
}

/** Returns the size of a response's body if it was known before the body was sent. */
function bytesOf(response: SentResponse): number | null {
  const length = response.getHeader("content-length") ?? response._contentLength;
  return length === undefined || length === null ? null : Number(length);
}

/** Returns the size of a header, from the request line to the empty line. */
function headerBytes({ method = "", url = "", rawHeaders }: IncomingMessage): number {
  // Each field has a colon, a space and a line break; so does its value, and so on.
  const fields = rawHeaders.reduce((sum, { length }) => sum + length + 2, 0);
  return method.length + url.length + " HTTP/1.1\r\n\r\n".length + 1 + fields;
}

/** Returns a frame that closes a WebSocket, RFC 6455 section 5.5.1. */
function closeFrame(code: number, reason: string): Uint8Array {
  const text = new TextEncoder().encode(reason);
  return Uint8Array.of(0x88, text.length + 2, code >> 8, code & 0xff, ...text);
}
