/**
 * The sockets of a program that listens itself, before it is served: those that exist already are
 * used again, the others are bound. None listens before the program has been loaded.
 */
import { type Address, formatAddress } from "../../../ffi/address.ts";
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { CaughtServer, ListenRequest } from "../../app/caught_servers.ts";
import { AppError } from "../../app/load_app.ts";
import type { Program } from "../../app/load_program.ts";
import { bindSocket, formatUrl, openListener, removeStaleSocket } from "../../listen.ts";
import { isListening } from "../../../ffi/runtime/event_loop.ts";
import type { Config } from "../options.ts";
import type { Place } from "./context.ts";

type Listeners = Pick<Place, "listeners" | "requested">;

const EADDRINUSE = 98;
/** What {@linkcode Place.requested} contains for a socket of the program's default export. */
const APP = "app";

/** The sockets of a program. */
export class ProgramSockets {
  readonly #config: Config;
  /** The sockets that exist already and have not been used yet. */
  #rest: { readonly socket: Socket; readonly requested: string }[];
  readonly #used: { readonly socket: Socket; readonly requested: string }[] = [];
  readonly #own: Socket[] = [];
  /** The addresses for which {@linkcode bind} was called. */
  readonly #wanted: string[] = [];

  /**
   * Creates an empty set.
   *
   * @param config The configuration. An address in it overrides that of the program's only server.
   * @param existing The sockets that exist already.
   */
  constructor(config: Config, { listeners, requested }: Listeners) {
    this.#config = config;
    this.#rest = listeners.map((socket, i) => ({ socket, requested: requested[i] ?? "" }));
  }

  /**
   * Returns a socket for a server of the program.
   *
   * @param request Where the server is to listen.
   * @throws {SyscallError} `EADDRINUSE`, `EACCES`, ...
   */
  bind({ address: wanted, dualStack }: ListenRequest): Socket {
    this.#wanted.push(formatAddress(wanted));
    // Reported once they are all known.
    if (this.#wanted.length > 1 && isGiven(this.#config)) {
      return bindOnTrial({ address: wanted, dualStack });
    }
    const address = overridden(wanted, this.#config);
    const requested = formatAddress(address);
    const isFixed = typeof address === "string" || address[1] !== 0;
    if (isFixed && this.#used.some((one) => one.requested === requested)) {
      throw new SyscallError("bind", EADDRINUSE, requested);
    }
    const found = this.#find((one) => one.requested === requested) ??
      this.#find(({ socket }) => formatAddress(socket.getsockname()) === requested) ??
      this.#find((one) => one.requested === ""); // the service manager's
    const socket = found?.socket ?? this.#open(address, dualStack);
    this.#used.push({ socket, requested });
    return socket;
  }

  /**
   * Returns the sockets of a program that has been loaded, or whose workers load it. They listen, and all others are closed.
   *
   * @throws {AppError} If several servers would get the same address.
   * @throws {SyscallError} `EADDRINUSE`, ...
   */
  listen(program: Program | string): Listeners {
    const { backlog } = this.#config;
    const { app, servers } = typeof program === "string" ? { app: program, servers: [] } : program;
    checkUnambiguous(this.#wanted, this.#config);
    const used = this.#used.filter(({ socket }) => servers.some((one) => one.socket === socket));
    for (const { socket } of used) if (!isListening(socket.fileno())) socket.listen(backlog);
    const all = [...app === undefined ? [] : this.#forApp(), ...used];
    for (const { socket } of this.#rest) socket.close();
    return {
      listeners: all.map(({ socket }) => socket),
      requested: all.map(({ requested }) => requested),
    };
  }

  /** Closes what {@linkcode bind} has opened. */
  close(): void {
    for (const socket of this.#own) {
      const path = socket.fileno() === -1 ? undefined : socket.getsockname();
      socket.close();
      if (typeof path === "string") removeStaleSocket(path);
    }
  }

  /** Returns the sockets of the program's default export, whose address the options tell. */
  #forApp(): { socket: Socket; requested: string }[] {
    const { path, hostname, port, backlog } = this.#config;
    const address = path ?? [hostname, port] as const;
    const known = this.#rest.filter(({ requested }) => requested === APP || requested === "");
    this.#rest = this.#rest.filter((one) => !known.includes(one));
    if (known.length > 0) return known.map(({ socket }) => ({ socket, requested: APP }));
    const moved = this.#find(({ socket }) =>
      formatAddress(socket.getsockname()) === formatAddress(address)
    );
    const socket = moved?.socket ?? openListener(address, backlog);
    if (moved === undefined) this.#own.push(socket);
    return [{ socket, requested: APP }];
  }

  #find(
    matches: (one: { socket: Socket; requested: string }) => boolean,
  ): { socket: Socket; requested: string } | undefined {
    const index = this.#rest.findIndex(matches);
    return index === -1 ? undefined : this.#rest.splice(index, 1)[0];
  }

  #open(address: Address, dualStack: boolean | undefined): Socket {
    const socket = bindEither(address, dualStack);
    this.#own.push(socket);
    return socket;
  }
}

/**
 * Returns the addresses on which a program's own servers would listen.
 *
 * @param wanted The addresses that they ask for.
 * @param config The configuration. An address in it overrides that of the program's only server.
 * @throws {AppError} If several servers would get the same address.
 */
export function plannedAddresses(wanted: readonly Address[], config: Config): Address[] {
  checkUnambiguous(wanted.map(formatAddress), config);
  return wanted.map((address) => overridden(address, config));
}

function isGiven({ givenAddress }: Config): boolean {
  return Object.keys(givenAddress).length > 0;
}

function checkUnambiguous(wanted: readonly string[], config: Config): void {
  if (wanted.length < 2 || !isGiven(config)) return;
  throw new AppError(
    "An address can be given only to a program with one server: this one listens on " +
      wanted.join(", "),
  );
}

function overridden(address: Address, { givenAddress }: Config): Address {
  const { path, hostname, port } = givenAddress;
  if (path !== undefined) return path;
  if (hostname === undefined && port === undefined) return address;
  const [ownHostname, ownPort] = typeof address === "string" ? ["0.0.0.0", 8000] : address;
  return [hostname ?? ownHostname, port ?? ownPort];
}

/** Binds a socket. Where there is no IPv6, every address is every IPv4 address. */
function bindEither(address: Address, dualStack: boolean | undefined): Socket {
  try {
    return bindSocket(address, dualStack);
  } catch (error) {
    const isAny = typeof address !== "string" && address[0] === "::" && dualStack === true;
    if (!isAny || !isSyscallError(error, "EAFNOSUPPORT", "EADDRNOTAVAIL")) throw error;
    return bindSocket(["0.0.0.0", address[1]]);
  }
}

/** Returns the URLs of a program's servers, in one line. */
export function urlsOf(
  listeners: readonly Socket[],
  program: Program | string | undefined,
  config: Config,
): string {
  const { servers } = typeof program === "object" ? program : { servers: [] };
  const urls = listeners.map((socket) =>
    urlOf(socket.getsockname(), servers.find((one) => one.socket === socket), config)
  );
  return urls.join(", ");
}

/**
 * Returns the URL of a server.
 *
 * @param address Where it listens.
 * @param server The program's server; `undefined` for its default export.
 * @param config The configuration.
 */
export function urlOf(
  address: Address,
  server: CaughtServer | undefined,
  { cert }: Config,
): string {
  if (server?.kind === "node" && !server.isHttp) return `tcp ${formatAddress(address)}`;
  return formatUrl(address, server?.secure ?? cert !== undefined);
}

/**
 * Returns a socket for a server of a program that is loaded only to see whether it can be loaded:
 * the address may be in use by the running server.
 */
export function bindOnTrial({ address, dualStack }: ListenRequest): Socket {
  try {
    if (typeof address !== "string") return bindEither(address, dualStack);
  } catch (error) {
    if (!isSyscallError(error)) throw error;
  }
  return bindSocket(typeof address === "string" ? `\0tine-${crypto.randomUUID()}` : ["", 0]);
}

/** Returns a socket for a server that is never to listen, which leaves the server's address free. */
export function bindAside(address: Address): Socket {
  return bindSocket(
    typeof address === "string" ? `\0tine-${crypto.randomUUID()}` : ["127.0.0.1", 0],
  );
}
