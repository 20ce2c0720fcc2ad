/**
 * Programs that listen themselves. While the preforking server loads a program, each call that
 * would listen is caught: its handler and its address are kept, and the caller gets an object that
 * behaves as if it listened. Each worker starts the caught servers on sockets that all workers
 * share.
 */
import { type Address, formatAddress } from "../../ffi/address.ts";
import { isSyscallError, type SyscallError } from "../../ffi/errno.ts";
import type { Acceptor } from "../../ffi/runtime/acceptor.ts";
import { ASSUMPTIONS } from "../../ffi/runtime/assumptions.ts";
import { listeningSockets } from "../../ffi/runtime/event_loop.ts";
import { replaceGetter, replaceUnloaded } from "../../ffi/runtime/globals.ts";
import {
  catchClusterFork,
  catchNodeServers,
  listenOn,
  type NodeHandle,
  type NodeListen,
  type NodeServer,
} from "../../ffi/runtime/node_servers.ts";
import { serveAt, type ServerTls, throwAwayAddress } from "../../ffi/runtime/throw_away_address.ts";
import type { Socket } from "../../ffi/socket.ts";
import { getsockname } from "../../ffi/socket_calls.ts";
import { addrOf } from "./request_host.ts";

/** What a caught call asks for. */
export interface ListenRequest {
  /** An address and a port, where 0 stands for a free port; or the path of a UNIX socket. */
  readonly address: Address;
  /** For an IPv6 address: whether the socket shall accept connections over IPv4, too. */
  readonly dualStack?: boolean | undefined;
  /** What is spoken there. */
  readonly scheme: "http" | "https" | "tcp";
}

/** A server that was caught. */
export type CaughtServer = CaughtFetchServer | CaughtNodeServer;

/** The servers of a program. */
export interface Catcher {
  /** The servers that have been caught, and that the program has not closed since. */
  readonly servers: readonly CaughtServer[];
  /** Why a server cannot listen, if the program does not handle the error; else `undefined`. */
  readonly failure: string | undefined;
  /** Why the server that the program tried last cannot listen; `undefined` if all can. */
  readonly unbound: string | undefined;
  /** How the program listens in a way that cannot be caught; `undefined` if it does not. */
  readonly problem: string | undefined;
  /**
   * In a worker, once it serves: called with each server that is caught from then on, to start it.
   */
  onCaught: ((server: CaughtServer) => void) | undefined;
  /** Whether the program has been loaded, and this is a worker. */
  isServing: boolean;
  /**
   * Returns a socket for a caught server, which is bound to the address and may or may not listen.
   */
  bind: Bind;
}

/** Returns a socket for a server. */
export type Bind = (request: ListenRequest) => Socket;

/**
 * Catches every server that the program starts from now on.
 *
 * @param bind The initial value of {@linkcode Catcher.bind}.
 * @param hasCertificate Whether servers of `Deno.serve()` get a certificate if they have none. Those
 *   of Node's cannot be given one: a program with one that does not encrypt is refused.
 */
export function catchServers(bind: Bind, hasCertificate = false): Catcher {
  const servers: CaughtServer[] = [];
  const before = listeningSockets().map(({ data }) => data);
  let failure: string | undefined;
  let unbound: string | undefined;
  const catcher: Catcher = {
    servers,
    get failure() {
      return failure;
    },
    get unbound() {
      return unbound;
    },
    get problem() {
      const found = listeningSockets().find(({ data }) => !before.includes(data));
      if (found === undefined) return undefined;
      return `it listens on ${
        nameOf(getsockname(found.fd))
      } by other means than Deno.serve() and ` +
        "node:net, so that workers cannot share the socket";
    },
    onCaught: undefined,
    isServing: false,
    bind,
  };

  function caught<T extends CaughtServer>(server: T): T {
    servers.push(server);
    catcher.onCaught?.(server);
    return server;
  }

  function bound(request: ListenRequest): Socket {
    try {
      return catcher.bind(request);
    } catch (error) {
      unbound = (error as Error).message;
      throw error;
    }
  }

  function forget(server: CaughtServer): void {
    const index = servers.indexOf(server);
    if (index !== -1) servers.splice(index, 1);
  }

  replaceUnloaded("Deno.serve", (original) => {
    const serve = (...args: unknown[]): Deno.HttpServer => {
      const call = readServe(args);
      // Deno itself reports what is wrong, or knows an address that cannot be shared.
      if (call === undefined) return Reflect.apply(original(), Deno, args);
      const { options, handler } = call;
      if (isAutomatic(options)) {
        // What Deno adds next would end the server at a signal. Such a listener has a thread.
        const restore = replaceGetter("Deno.addSignalListener", () => () => {});
        queueMicrotask(restore);
        return new CaughtFetchServer(options, handler, undefined, forget);
      }
      const request = requestOf(options, hasCertificate);
      const socket = bindForDeno(bound, request);
      return caught(new CaughtFetchServer(options, handler, socket, forget, hasCertificate));
    };
    return serve as typeof Deno.serve;
  });

  catchNodeServers((call) => {
    const request = requestOfNode(call);
    if (hasCertificate && request.scheme !== "https") {
      failure = `it serves ${nameOf(request.address)} without encryption, and a server of Node's ` +
        "cannot be given a certificate: use node:https, or omit --cert and --key";
      if (catcher.isServing) throw new Error(`Cannot listen: ${failure}`);
    }
    try {
      caught(new CaughtNodeServer(call, bound(request), forget));
    } catch (error) {
      // A worker ends with the error, as the program would.
      const isHandled = catcher.isServing || call.server.listenerCount("error") > 0;
      if (isHandled) throw isSyscallError(error) ? nodeError(error, request) : error;
      failure = unbound;
    }
  });

  catchClusterFork(() => {
    failure = "it uses node:cluster, whose workers tine cannot supervise. Let it listen in one " +
      "process, as without node:cluster: tine starts the workers";
    if (catcher.isServing) {
      throw new Error("Cannot fork: a worker of tine may not use node:cluster");
    }
    return NOTHING; // until the program is refused
  });

  return catcher;
}

/** What `fork()` of `node:cluster` returns: whatever the program does with it has no effect. */
const NOTHING: object = new Proxy(() => {}, { get: () => NOTHING, apply: () => NOTHING });

/** The errors with which `Deno.serve` fails. */
const DENO_ERRORS: { readonly [code: string]: (new (message: string) => Error) | undefined } = {
  EADDRINUSE: Deno.errors.AddrInUse,
  EADDRNOTAVAIL: Deno.errors.AddrNotAvailable,
  EACCES: Deno.errors.PermissionDenied,
};

function bindForDeno(bind: Bind, request: ListenRequest): Socket {
  try {
    return bind(request);
  } catch (error) {
    const DenoError = isSyscallError(error) ? DENO_ERRORS[error.code] : undefined;
    throw DenoError === undefined ? error : new DenoError((error as Error).message);
  }
}

/** Creates the error that Node's `listen()` emits. */
function nodeError({ code, errno, message }: SyscallError, { address }: ListenRequest): Error {
  const at = typeof address === "string" ? { address } : { address: address[0], port: address[1] };
  const error = new Error(`listen ${code}: ${message}`);
  return Object.assign(error, { code, errno: -errno, syscall: "listen", ...at });
}

/** The options of `Deno.serve` that are used here. */
interface AnyServeOptions {
  readonly cert?: string;
  readonly onError?: (error: unknown) => Response | Promise<Response>;
  readonly port?: number;
  readonly hostname?: string | null;
  readonly path?: string;
  readonly transport?: string;
  readonly signal?: AbortSignal;
  readonly onListen?: (address: Deno.Addr) => void;
  readonly handler?: Deno.ServeHandler;
}

/** Returns the arguments of `Deno.serve`; `undefined` if they are not what this module knows. */
function readServe(
  [first, second]: unknown[],
): { options: AnyServeOptions; handler: Deno.ServeHandler } | undefined {
  const options = (typeof first === "function" ? second ?? {} : first) as AnyServeOptions;
  if (typeof options !== "object" || options === null) return undefined;
  const handler = [first, second, options.handler].find((one) => typeof one === "function");
  const { transport = "tcp", path, port = 8000 } = options;
  const hostname = options.hostname ?? ""; // it is null if Deno serves the default export
  const isKnown = handler !== undefined && ["tcp", "unix"].includes(transport) &&
    (path === undefined || typeof path === "string") && typeof hostname === "string" &&
    Number.isInteger(port) && port >= 0 && port <= 65535;
  return isKnown ? { options, handler: handler as Deno.ServeHandler } : undefined;
}

/** Whether Deno itself serves the default export of the program, which tine does. */
function isAutomatic(options: AnyServeOptions): boolean {
  const { symbol, hostname } = ASSUMPTIONS.autoServe.value;
  return options.hostname === hostname ||
    Object.getOwnPropertySymbols(options).some(({ description }) => description === symbol);
}

function requestOf(
  { path, hostname, port = 8000, cert }: AnyServeOptions,
  hasCertificate: boolean,
): ListenRequest {
  const scheme = cert === undefined && !hasCertificate ? "http" : "https";
  return { address: path ?? [hostname ?? "0.0.0.0", port], scheme };
}

function requestOfNode({ server, address, ipv6Only }: NodeListen): ListenRequest {
  const scheme = !isHttp(server) ? "tcp" : isSecure(server) ? "https" : "http";
  if (typeof address === "string") return { address, scheme };
  const [host, port] = address;
  return { address: [host ?? "::", port], dualStack: !ipv6Only, scheme };
}

function isHttp(server: NodeServer): boolean {
  return server.headersTimeout !== undefined ||
    server.listenerCount("request") > 0 || server.listenerCount("stream") > 0;
}

function isSecure(server: NodeServer): boolean {
  return typeof server.setSecureContext === "function";
}

/** A call of `Deno.serve`, and what it returns. */
export class CaughtFetchServer implements Deno.HttpServer {
  /** Which of the servers it is. */
  readonly kind = "fetch";
  /** Whether it serves HTTPS. */
  readonly secure: boolean;
  /** Whether it does so with a certificate of its own. */
  readonly hasOwnCertificate: boolean;
  /** Where it listens. */
  readonly addr: Deno.Addr;
  /** The bound socket; `undefined` if tine serves the program's default export instead. */
  readonly socket: Socket | undefined;
  readonly #options: AnyServeOptions;
  readonly #handler: Deno.ServeHandler;
  readonly #forget: (server: CaughtFetchServer) => void;
  readonly #end: () => void;
  /** What serves, by the sockets: there may be several. */
  readonly #running: Map<Socket, { server: Deno.HttpServer; stopAccepting: () => void }> =
    new Map();
  readonly #finished: Promise<void>;
  #isRefed = true;
  #isClosed = false;
  #isAwaited = false;

  /** Creates the object that the caller of `Deno.serve` gets. */
  constructor(
    options: AnyServeOptions,
    handler: Deno.ServeHandler,
    socket: Socket | undefined,
    forget: (server: CaughtFetchServer) => void,
    hasCertificate = false,
  ) {
    this.#options = options;
    this.#handler = handler;
    this.#forget = forget;
    this.socket = socket;
    this.hasOwnCertificate = options.cert !== undefined;
    this.secure = this.hasOwnCertificate || hasCertificate;
    this.addr = addrOf(socket?.getsockname() ?? requestOf(options, hasCertificate).address);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#finished = promise;
    this.#end = resolve;
    options.signal?.addEventListener("abort", () => void this.shutdown(), { once: true });
  }

  /** Returns a name for messages. */
  get name(): string {
    return nameOf(this.socket?.getsockname() ?? requestOf(this.#options, this.secure).address);
  }

  /** Settles in a worker, when the server has been shut down. */
  get finished(): Promise<void> {
    this.#isAwaited = true;
    return this.#finished;
  }

  /** Whether the program may wait for what happens in workers only: that it listens, or has ended. */
  get isAwaited(): boolean {
    return this.#isAwaited || this.#options.onListen !== undefined;
  }

  /**
   * Calls the program's handler. Errors are the program's own `onError` to answer.
   *
   * @param request The request.
   * @param info The request's info.
   */
  fetch(request: Request, info: Deno.ServeHandlerInfo): Response | Promise<Response> {
    const { onError } = this.#options;
    if (onError === undefined) return this.#handler(request, info);
    try {
      const response = this.#handler(request, info);
      if (response instanceof Response) return response;
      return Promise.resolve(response).then(checkResponse).catch(onError);
    } catch (error) {
      return onError(error);
    }
  }

  /**
   * Starts Deno's server on a throw-away address.
   *
   * @param family The address family of the shared socket.
   * @param tls The certificate, if the program has none.
   * @param handle Called with each request.
   */
  listen(
    family: number,
    tls: ServerTls | undefined,
    handle: Deno.ServeHandler,
  ): Deno.HttpServer {
    const {
      port: _,
      hostname: _hostname,
      path: _path,
      transport: _transport,
      signal: _signal,
      onListen: _onListen,
      onError: _onError,
      handler: _handler,
      ...options
    } = this.#options;
    return serveAt(throwAwayAddress(family), tls, handle, options);
  }

  /**
   * Reports that the server accepts.
   *
   * @param socket The shared socket.
   * @param server The server that {@linkcode listen} has returned.
   * @param stopAccepting Gives up the shared socket.
   */
  started(socket: Socket, server: Deno.HttpServer, stopAccepting: () => void): void {
    const isFirst = this.#running.size === 0;
    this.#running.set(socket, { server, stopAccepting });
    if (!this.#isRefed) server.unref();
    if (isFirst) this.#options.onListen?.(this.addr as Deno.NetAddr);
  }

  /** Reports that the server has been shut down. */
  ended(): void {
    this.#isClosed = true;
    this.#end();
  }

  /** Keeps the worker running. */
  ref(): void {
    this.#isRefed = true;
    for (const { server } of this.#running.values()) server.ref();
  }

  /** Does not keep the worker running. The master does. */
  unref(): void {
    this.#isRefed = false;
    for (const { server } of this.#running.values()) server.unref();
  }

  /** Shuts the server down: in a worker, of this worker only. */
  async shutdown(): Promise<void> {
    if (this.#isClosed) return await this.#finished;
    this.#isClosed = true;
    this.#forget(this);
    const running = [...this.#running.values()];
    if (running.length === 0) this.socket?.close();
    for (const { stopAccepting } of running) stopAccepting();
    await Promise.all(running.map(({ server }) => server.shutdown()));
    this.#end();
  }

  /** Shuts the server down. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }
}

function checkResponse(response: Response): Response {
  if (response instanceof Response) return response;
  throw new TypeError(
    "Return value from serve handler must be a response or a promise resolving to a response",
  );
}

/** A call of `listen()` of a server of Node's. */
export class CaughtNodeServer {
  /** Which of the servers it is. */
  readonly kind = "node";
  /** Whether its connections use TLS. */
  readonly secure: boolean;
  /** Whether it serves HTTP. */
  readonly isHttp: boolean;
  /** The program's server. */
  readonly server: NodeServer;
  /** The bound socket. */
  readonly socket: Socket;

  /** Gives the server a handle that behaves as if it listened. */
  constructor(
    { server }: NodeListen,
    socket: Socket,
    forget: (server: CaughtNodeServer) => void,
  ) {
    this.server = server;
    this.socket = socket;
    this.secure = isSecure(server);
    this.isHttp = isHttp(server);
    server._handle = standInHandle(socket, () => {
      forget(this);
      socket.close();
    });
  }

  /** Returns a name for messages. */
  get name(): string {
    return nameOf(this.socket.getsockname());
  }

  /**
   * Whether the program may wait for what happens in workers only: that it listens. A listener of
   * Deno's own is not for once.
   */
  get isAwaited(): boolean {
    return this.server.rawListeners("listening").some(({ listener }) => listener !== undefined);
  }

  /** Starts the server on its socket. It emits `listening` once it accepts. */
  listen(): Promise<Acceptor> {
    return listenOn(this.server, this.socket.fileno(), this.socket.family);
  }
}

function standInHandle(socket: Socket, onClose: () => void): NodeHandle {
  const address = socket.getsockname();
  const named = typeof address === "string" ? {} : {
    getsockname(out: Record<string, unknown>): number {
      const [host, port] = address;
      const family = host.includes(":") ? "IPv6" : "IPv4";
      Object.assign(out, { address: host, port, family });
      return 0;
    },
  };
  return {
    ...named,
    ref: () => {},
    unref: () => {},
    hasRef: () => true,
    getAsyncId: () => 0,
    close(callback): void {
      onClose();
      if (callback !== undefined) queueMicrotask(callback);
    },
  };
}

function nameOf(address: Address): string {
  return formatAddress(address);
}
