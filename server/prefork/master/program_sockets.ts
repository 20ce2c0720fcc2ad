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
import {
  bindEither,
  bindListeners,
  bindSocket,
  formatUrl,
  type ListenAddress,
  removeStaleSocket,
} from "../../listen.ts";
import { findSocketAccess } from "../host/account.ts";
import { isListening } from "../../../ffi/runtime/event_loop.ts";
import {
  LENT,
  type LentSocket,
  listenOf,
  nameForApp,
  type SocketRequest,
} from "../listen_request.ts";
import { checkAccess, checkServers } from "../check_servers.ts";
import type { Config } from "../options.ts";
import type { Place } from "./context.ts";

const EADDRINUSE = 98;

type Listeners = Pick<Place, "listeners" | "requested">;

/** A socket, and what it was requested as. */
interface Entry {
  readonly socket: Socket;
  readonly requested: string;
  /** The address for which the program asked, which the options may override. */
  readonly wanted?: string;
  /** Where it serves; empty if that is not known yet. */
  readonly url: string;
}

/** The sockets of a program. */
export class ProgramSockets {
  readonly #config: Config;
  readonly #isActivated: boolean;
  /** The sockets that exist already and have not been used yet. */
  #rest: Entry[];
  readonly #used: Entry[] = [];
  readonly #own: Socket[] = [];
  /** The addresses for which {@linkcode bind} was called. */
  readonly #wanted: string[] = [];
  /** All sockets; more may be added. */
  readonly #listeners: Socket[];
  readonly #requested: string[];

  /**
   * Creates a set.
   *
   * @param config The configuration. An address in it overrides that of the program's only server.
   * @param existing The sockets that exist already. They need not listen: those of
   *   {@linkcode bindListeners} are named by the addresses for which they were bound.
   */
  constructor(
    config: Config,
    { listeners, requested, isActivated }: Pick<Place, "listeners" | "requested" | "isActivated">,
  ) {
    this.#config = config;
    this.#isActivated = isActivated;
    this.#listeners = [...listeners];
    this.#requested = listeners.map((_, i) => requested[i] ?? "");
    this.#rest = listeners.map((socket, i) => ({ socket, requested: requested[i] ?? "", url: "" }));
  }

  /** The sockets that listen, at any time, and what each was requested as. */
  get listeners(): Listeners {
    return { listeners: this.#listeners, requested: this.#requested };
  }

  /** The sockets of the program's servers, and their URLs. */
  get served(): readonly { readonly socket: Socket; readonly url: string }[] {
    return this.#used;
  }

  /** The URLs of the program's servers, in one line. */
  get urls(): string {
    return this.#used.map(({ url }) => url).join(", ");
  }

  /**
   * Returns a socket for a server of the program, while the program is loaded.
   *
   * @param request Where the server is to listen.
   * @throws {SyscallError} `EADDRINUSE`, `EACCES`, ...
   */
  bind(request: ListenRequest): Socket {
    this.#wanted.push(formatAddress(request.address));
    // Reported once they are all known.
    if (this.#wanted.length > 1 && isGiven(this.#config)) return bindOnTrial(request);
    const { address, dualStack } = overridden(request, this.#config);
    const requested = formatAddress(address);
    const isFixed = typeof address === "string" || address[1] !== 0;
    if (isFixed && this.#used.some((one) => one.requested === requested)) {
      throw new SyscallError("bind", EADDRINUSE, requested);
    }
    const socket = this.#firstGiven() ?? this.#existing(requested) ??
      this.#open(address, dualStack);
    const wanted = formatAddress(request.address);
    this.#used.push({ socket, requested, wanted, url: urlFor(socket, request) });
    return socket;
  }

  /**
   * Has the sockets of a program that has been loaded listen. Others are closed, but for those that
   * its workers may ask for.
   *
   * @param program The program; `undefined` if each worker loads it.
   * @throws {AppError} If several servers would get the same address.
   * @throws {SyscallError} `EADDRINUSE`, ...
   */
  listen(program: Program | undefined): void {
    checkUnambiguous(this.#wanted, this.#config);
    if (program !== undefined) checkServers(program, this.#config);
    const servers = program?.servers ?? [];
    if (program !== undefined) {
      this.#checkAccess(servers.map(({ socket }) => socket!), program.app !== undefined);
    }
    const used = this.#used.splice(0);
    if (program?.app !== undefined) this.#used.push(...this.#forApp());
    for (const entry of used) {
      if (!servers.some(({ socket }) => socket === entry.socket)) continue; // closed since
      this.#used.push(entry);
    }
    const [only] = servers;
    if (program?.app === undefined && only?.kind === "fetch" && this.#config.listen.length > 1) {
      this.#used.push(...this.#forApp(1, only));
    }
    for (const { socket } of this.#used) this.#haveListen(socket);
    if (program !== undefined) {
      const needless = this.#rest.filter(({ requested }) => !requested.startsWith(LENT));
      this.#rest = this.#rest.filter((entry) => !needless.includes(entry));
      for (const { socket } of needless) socket.close();
    }
    this.#list();
  }

  /**
   * Returns a listening socket for a worker that asks for it. All workers get the same one.
   *
   * @param request What the worker asks for.
   * @throws {AppError} If several servers would get the same address.
   * @throws {RangeError} If the default export has fewer sockets.
   * @throws {SyscallError} `EADDRINUSE`, ...
   */
  lend(request: SocketRequest): LentSocket {
    if ("app" in request) return this.#lendToApp(request.app);
    // One that the program has closed since is lent, too: it may have tried whether a port is free.
    const wanted = formatAddress(request.address);
    const lent = this.#used.find((one) =>
      [one.wanted, formatAddress(one.socket.getsockname())].includes(wanted)
    );
    if (lent !== undefined) return { socket: lent.socket, listen: 0 };
    const { preload } = this.#config;
    if (!preload) {
      this.#wanted.push(wanted);
      checkUnambiguous(this.#wanted, this.#config);
    }
    const { address, dualStack } = preload ? request : overridden(request, this.#config);
    const requested = `${LENT}${formatAddress(address)}`;
    const socket = this.#existing(requested) ?? this.#open(address, dualStack);
    this.#haveListen(socket);
    this.#used.push({ socket, requested, wanted, url: urlFor(socket, request) });
    this.#list();
    return { socket, listen: 0 };
  }

  /** Closes the sockets that the program has not used. */
  closeUnused(): void {
    for (const { socket } of this.#rest.splice(0)) socket.close();
    this.#list();
  }

  /** Closes what {@linkcode bind} has opened. */
  close(): void {
    for (const socket of this.#own) {
      const path = socket.fileno() === -1 ? undefined : socket.getsockname();
      socket.close();
      if (typeof path === "string") removeStaleSocket(path);
    }
  }

  #lendToApp(index: number): LentSocket {
    const isLent = ({ requested }: Entry) =>
      requested.startsWith(LENT) && listenOf(requested) !== undefined;
    if (!this.#used.some(isLent)) {
      // The program's own server has the first address.
      const hasFirst = this.#config.listen.length > 1 && this.#used.length > 0;
      this.#checkAccess(this.#used.map(({ socket }) => socket), true);
      const entries = this.#forApp(hasFirst ? 1 : 0);
      for (const { socket } of entries) this.#haveListen(socket);
      this.#used.push(...entries.map((one) => ({ ...one, requested: LENT + one.requested })));
      this.#list();
    }
    const entry = this.#used.filter(isLent)[index];
    if (entry === undefined) throw new RangeError(`There is no socket ${index} of the app`);
    return { socket: entry.socket, listen: listenOf(entry.requested)! };
  }

  /**
   * Returns the sockets of the program's default export, whose addresses the options tell; or those
   * of its only server after the first.
   */
  #forApp(first = 0, server?: CaughtServer): Entry[] {
    const known = this.#rest.filter(({ requested }) =>
      requested === "" || (listenOf(requested) ?? -1) >= first
    );
    this.#rest = this.#rest.filter((one) => !known.includes(one));
    const { listen } = this.#config;
    const numbered = known.map(({ socket, requested }) =>
      [socket, requested === "" ? listenFor(socket, this.#config) : listenOf(requested)!] as const
    );
    if (!this.#isActivated) { // nothing is added to the service manager's sockets
      for (const [i, one] of listen.entries()) {
        if (i < first || numbered.some(([_, index]) => index === i)) continue;
        numbered.push([this.#existing(formatAddress(one.address)) ?? this.#bindForApp(one), i]);
      }
    }
    return numbered.map(([socket, index]) => ({
      socket,
      requested: nameForApp(index),
      url: urlOf(socket.getsockname(), server, listen[index]!),
    }));
  }

  #bindForApp(one: ListenAddress): Socket {
    const [socket] = bindListeners([one], findSocketAccess(this.#config));
    this.#own.push(socket!);
    return socket!;
  }

  /** Whoever started the service manager's sockets says who may connect to them. */
  #checkAccess(own: readonly Socket[], hasApp: boolean): void {
    if (this.#isActivated) return;
    const ofApp = hasApp ? this.#config.listen.map(({ address }) => address) : [];
    checkAccess([...own.map((socket) => socket.getsockname()), ...ofApp], this.#config);
  }

  #haveListen(socket: Socket): void {
    if (!isListening(socket.fileno())) socket.listen(this.#config.backlog);
  }

  /** Updates the list of all sockets. */
  #list(): void {
    const all = [...this.#used, ...this.#rest];
    this.#listeners.splice(0, Infinity, ...all.map(({ socket }) => socket));
    this.#requested.splice(0, Infinity, ...all.map(({ requested }) => requested));
  }

  /** Takes the socket that was requested by the same name, or that is bound to the address. */
  #existing(requested: string): Socket | undefined {
    const name = requested.replace(LENT, "");
    return (this.#find((one) => one.requested.replace(LENT, "") === name) ??
      this.#find(({ socket }) => formatAddress(socket.getsockname()) === name) ??
      this.#find((one) => one.requested === ""))?.socket; // the service manager's
  }

  #find(matches: (one: Entry) => boolean): Entry | undefined {
    const index = this.#rest.findIndex(matches);
    return index === -1 ? undefined : this.#rest.splice(index, 1)[0];
  }

  /** Takes the socket of the first of the given addresses, which may have any port. */
  #firstGiven(): Socket | undefined {
    if (!this.#config.givenAddress.listen) return undefined;
    return this.#find(({ requested }) => listenOf(requested) === 0)?.socket;
  }

  #open(address: Address, dualStack: boolean | undefined): Socket {
    const socket = bindEither(address, dualStack, findSocketAccess(this.#config));
    this.#own.push(socket);
    return socket;
  }
}

/** Returns the element of `Config.listen` whose certificates are for a service manager's socket. */
function listenFor(socket: Socket, { listen }: Config): number {
  if (listen.length === 1 || listen.every(({ certificates }) => certificates.length === 0)) {
    return 0;
  }
  const own = socket.getsockname();
  const isSame = ({ address }: ListenAddress) => formatAddress(address) === formatAddress(own);
  const hasPort = ({ address }: ListenAddress) =>
    typeof own !== "string" && typeof address !== "string" && address[1] === own[1];
  for (const matches of [isSame, hasPort]) {
    const found = listen.flatMap((one, i) => matches(one) ? i : []);
    if (found.length === 1) return found[0]!;
  }
  throw new AppError(
    `Cannot tell which certificate is for ${formatAddress(own)}, on which the service manager ` +
      "listens: it is none of the addresses that were given",
  );
}

/**
 * Returns where a program's own servers would listen.
 *
 * @param servers The servers.
 * @param wanted The addresses for which they ask.
 * @param config The configuration. An address in it overrides that of the program's only server.
 * @throws {AppError} If several servers would get the same address.
 */
export function plannedServers(
  servers: readonly CaughtServer[],
  wanted: readonly Address[],
  config: Config,
): { readonly server: CaughtServer; readonly address: Address; readonly url: string }[] {
  checkUnambiguous(wanted.map(formatAddress), config);
  const [first] = config.listen;
  return servers.flatMap((server, i) => {
    const { address } = overridden({ address: wanted[i]! }, config);
    const listen = config.givenAddress.listen ? config.listen : [{ ...first!, address }];
    return listen.map((one) => ({
      server,
      address: one.address,
      url: urlOf(one.address, server, one),
    }));
  });
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

/** Returns where a program's only server listens. */
function overridden(
  { address, dualStack }: Pick<ListenRequest, "address" | "dualStack">,
  { givenAddress, listen }: Config,
): Pick<ListenRequest, "address" | "dualStack"> {
  const { path, hostname, port } = givenAddress;
  if (givenAddress.listen) return listen[0]!;
  if (path !== undefined) return { address: path };
  if (hostname === undefined && port === undefined) return { address, dualStack };
  const [ownHostname, ownPort] = typeof address === "string" ? ["0.0.0.0", 8000] : address;
  return { address: [hostname ?? ownHostname, port ?? ownPort], dualStack };
}

function urlFor(socket: Socket, { scheme }: ListenRequest): string {
  const address = socket.getsockname();
  return scheme === "tcp"
    ? `tcp ${formatAddress(address)}`
    : formatUrl(address, scheme === "https");
}

/**
 * Returns the URL of a server.
 *
 * @param address Where it listens.
 * @param server A server of the program's own; `undefined` for its default export.
 * @param listen The certificates that are meant for the address.
 */
function urlOf(
  address: Address,
  server: CaughtServer | undefined,
  { certificates }: ListenAddress,
): string {
  const isOwn = server?.kind === "fetch" && server.hasOwnCertificate;
  if (server?.kind !== "node") return formatUrl(address, isOwn || certificates.length > 0);
  return server.isHttp ? formatUrl(address, server.secure) : `tcp ${formatAddress(address)}`;
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
