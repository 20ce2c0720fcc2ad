/**
 * The servers of `node:net`, and with them those of `node:http`, `node:https` and `node:http2`.
 * Their `listen()` is caught, and they can accept from a socket that they have not opened.
 *
 * Node's modules take milliseconds to load, so they are not imported here. Deno's internal object
 * tells when the program loads the first one; the first server leads to the prototype of all
 * servers.
 */
import { getsockname } from "../socket_calls.ts";
import { type Acceptor, takeOver } from "./acceptor.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { listeningSockets, type Watched } from "./event_loop.ts";
import { interceptMethod, onFirstAssignment, replaceProperty } from "./globals.ts";
import { throwAwayAddress } from "./throw_away_address.ts";
import { nextTurn } from "./timers.ts";

const { own: OWN, listen: LISTEN, handle: HANDLE, path: PATH } = ASSUMPTIONS.nodeServer.value;

/** The relevant part of Node's `net.Server`. */
export interface NodeServer {
  [HANDLE]: NodeHandle | null;
  [PATH]?: string | undefined;
  emit(event: string, ...args: unknown[]): boolean;
  address(): unknown;
  close(callback?: (error?: Error) => void): this;
  listen(...args: unknown[]): NodeServer;
  listenerCount(event: string): number;
  /** Returns the listeners; one that is called only once is in a function, as its `listener`. */
  rawListeners(event: string): { readonly listener?: unknown }[];
  /** Only of an HTTP server. */
  closeAllConnections?(): void;
  /** Only of an HTTP server. */
  readonly headersTimeout?: number;
  /** Only of a TLS server. */
  setSecureContext?(options: unknown): void;
}

/** The socket of a server that listens. */
export interface NodeHandle {
  getsockname?(address: Record<string, unknown>): number;
  ref(): void;
  unref(): void;
  hasRef?(): boolean;
  getAsyncId?(): number;
  close(callback?: () => void): void;
}

/** `net.Server._listen2(address, port, family, backlog, fd, flags)`. */
type Listen = (
  this: NodeServer,
  address: string | null,
  port: number | null,
  family: number | null,
  backlog: number,
  fd?: number | null,
  flags?: number,
) => void;

/** What a program's call of `listen()` asks for. */
export interface NodeListen {
  /** The server. */
  readonly server: NodeServer;
  /** A path, or an address and a port; an address of `null` stands for every address. */
  readonly address: string | readonly [host: string | null, port: number];
  /** Whether an IPv6 socket shall not accept connections over IPv4. */
  readonly ipv6Only: boolean;
}

const UV_TCP_IPV6ONLY = 1;

/** `listen()` as Node has it, once a server has been created. */
let originalListen: Listen | undefined;
/** Servers whose `listen()` was called, and that wait for the address of a host. */
const looking = new Set<NodeServer>();

/** Whether a server is about to listen: it waits for the address of its host. */
export function isAboutToListen(): boolean {
  return looking.size > 0;
}

/**
 * Catches each call of `listen()` of a server of Node's, from now on.
 *
 * @param onListen Called with what a program asks for, instead of listening. The server emits what
 *   it throws.
 */
export function catchNodeServers(onListen: (call: NodeListen) => void): void {
  onceNodeIsLoaded(() => {
    onFirstAssignment(Object.prototype, OWN, (server) => {
      catchListen(Object.getPrototypeOf(server), onListen);
    });
  });
}

/**
 * Catches each call of `fork()` of `node:cluster`, from now on.
 *
 * @param onFork Called instead.
 */
export function catchClusterFork(onFork: () => unknown): void {
  onceNodeIsLoaded(() => {
    onFirstAssignment(Object.prototype, ASSUMPTIONS.nodeCluster.value.own, (cluster) => {
      interceptMethod(cluster, ASSUMPTIONS.nodeCluster.value.fork, onFork);
    });
  });
}

/** The callers that wait for the first module of Node's. */
const waiting: (() => void)[] = [];

function onceNodeIsLoaded(callback: () => void): void {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = internal && (Deno as unknown as Record<symbol, object | undefined>)[internal];
  if (inside === undefined) return;
  const { nodeLoaded } = ASSUMPTIONS;
  if (waiting.length === 0 && Object.hasOwn(inside, nodeLoaded.value)) return callback();
  waiting.push(callback);
  if (waiting.length > 1) return;
  onFirstAssignment(inside, nodeLoaded.value, () => {
    for (const callback of waiting.splice(0)) callback();
  });
}

function catchListen(prototype: object, onListen: (call: NodeListen) => void): void {
  for (let owner = prototype; owner !== null; owner = Object.getPrototypeOf(owner)) {
    if (!Object.hasOwn(owner, LISTEN)) continue;
    const server = owner as NodeServer & { [LISTEN]: Listen };
    replaceProperty(server, LISTEN, (original) => {
      originalListen = original;
      return function (this: NodeServer, address, port, family, backlog, fd, flags): void {
        looking.delete(this);
        const at = family === -1 || port === null ? address : [address, port] as const;
        const ipv6Only = ((flags ?? 0) & UV_TCP_IPV6ONLY) !== 0;
        // A server that is given an open socket listens there.
        if (typeof fd === "number" || this[HANDLE] || at === null) {
          return original.call(this, address, port, family, backlog, fd, flags);
        }
        try {
          onListen({ server: this, address: at, ipv6Only });
        } catch (error) {
          queueMicrotask(() => this.emit("error", error));
        }
      };
    });
    replaceProperty(owner as NodeServer, "listen", (original) => {
      return function (this: NodeServer, ...args: unknown[]): NodeServer {
        looking.add(this);
        try {
          return original.apply(this, args);
        } catch (error) {
          looking.delete(this);
          throw error;
        }
      };
    });
    return;
  }
}

/**
 * Makes a caught server accept from a listening socket.
 *
 * @param server The server. It emits `listening` once it accepts.
 * @param fd The listening socket. The caller may close the descriptor afterwards.
 * @param family Its address family.
 * @returns The acceptor.
 * @throws {Error} If the server does not listen.
 */
export async function listenOn(
  server: NodeServer,
  fd: number,
  family: number,
): Promise<Acceptor> {
  const [path, standIn] = [server[PATH], server[HANDLE]];
  const at = throwAwayAddress(family);
  Object.assign(server, { [HANDLE]: null });
  const listening = firstOf(server);
  if (at.transport === "unix") originalListen!.call(server, at.path, -1, -1, 0);
  else originalListen!.call(server, at.hostname, at.port, 4, 0, undefined, 0);
  await listening;
  // It does not wait for connections until a later turn of the event loop.
  const address = nameOf(server, at.transport === "unix" ? at.path : undefined);
  for (let turn = 0; turn < TURNS; turn++) {
    const found = listeningSockets().find((one) => isAt(one, address));
    if (found !== undefined) {
      const acceptor = takeOver(found, fd, ASSUMPTIONS.nodeListenerEvents.value);
      server[PATH] = path;
      giveUpOnClose(server[HANDLE]!, acceptor);
      // It would tell the throw-away address.
      if (standIn?.getsockname) {
        Object.assign(server[HANDLE]!, { getsockname: standIn.getsockname });
      }
      server.emit("listening");
      return acceptor;
    }
    await nextTurn();
  }
  throw new Error("Cannot take over a listener of Node's: it does not wait for connections");
}

const TURNS = 1000;

/** Has a handle accept nothing once the program closes it: it is open until a later turn. */
function giveUpOnClose(handle: NodeHandle, acceptor: Acceptor): void {
  const { close } = handle;
  handle.close = function (callback): void {
    acceptor.close();
    close.call(this, callback);
  };
}

/** Waits for a server's event `listening` and keeps it from everyone else. */
function firstOf(server: NodeServer): Promise<void> {
  const { emit } = server;
  const isOwn = Object.hasOwn(server, "emit");
  return new Promise((resolve, reject) => {
    const restore = () => {
      if (isOwn) server.emit = emit;
      else delete (server as Partial<NodeServer>).emit;
    };
    server.emit = function (event, ...args): boolean {
      if (event === "listening" || event === "error") {
        restore();
        event === "listening" ? resolve() : reject(args[0]);
        return true;
      }
      return emit.call(this, event, ...args);
    };
  });
}

/** Returns the throw-away address of a server, as the kernel has it. */
function nameOf(server: NodeServer, path: string | undefined): string {
  const name: { address?: string; port?: number } = {};
  if (path === undefined) server[HANDLE]?.getsockname?.(name);
  return path ?? `${name.address}:${name.port}`;
}

function isAt({ fd }: Watched, address: string): boolean {
  const name = getsockname(fd);
  return (typeof name === "string" ? name : `${name[0]}:${name[1]}`) === address;
}
