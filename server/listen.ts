import {
  type Address,
  AF_INET,
  AF_INET6,
  AF_UNIX,
  formatAddress,
  type InetAddress,
} from "../ffi/address.ts";
import { fchown, umask } from "../ffi/credentials.ts";
import { noFollowFlag, O_CLOEXEC, O_NONBLOCK, O_PATH, open } from "../ffi/descriptor.ts";
import { F_SETFL } from "../ffi/descriptor_calls.ts";
import { isSyscallError } from "../ffi/errno.ts";
import { AppError } from "./app/load_app.ts";
import { SOCK_STREAM, Socket } from "../ffi/socket.ts";
import { unlink } from "../ffi/unlink.ts";
import {
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  SO_REUSEADDR,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../ffi/socket_calls.ts";

/** A certificate chain and its private key, as PEM text. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** The files that contain them, as absolute paths; `undefined` if they are in no file. */
  readonly files?: { readonly cert: string; readonly key: string };
}

/** One of the addresses on which a server listens. */
export interface ListenAddress {
  readonly address: Address;
  /** As for {@linkcode bindSocket}. */
  readonly dualStack?: boolean;
  /**
   * With one, the server speaks HTTPS there, but not on a UNIX socket. With several, the client's
   * choice of a name decides.
   */
  readonly certificates: readonly Certificate[];
}

/**
 * Binds a socket to each address on which a server is to listen. They do not listen yet.
 *
 * @param listen The addresses.
 * @param access Who may connect to those that are paths.
 * @throws As {@linkcode bindSocket} does. No socket is left open then.
 */
export function bindListeners(
  listen: readonly ListenAddress[],
  access?: SocketAccess,
): Socket[] {
  const sockets: Socket[] = [];
  try {
    for (const { address, dualStack } of listen) {
      sockets.push(bindSocket(address, dualStack, access));
    }
    return sockets;
  } catch (error) {
    for (const [i, socket] of sockets.entries()) {
      socket.close();
      const { address } = listen[i]!;
      if (typeof address === "string") removeStaleSocket(address);
    }
    throw error;
  }
}

/** Whether a program's own server gets a certificate: that of the first address. */
export function hasCertificate([first]: readonly ListenAddress[]): boolean {
  return first !== undefined && first.certificates.length > 0;
}

/** Whether a server speaks HTTPS on a socket, with the certificates that are meant for it. */
export function isSecure({ family }: Socket, certificates: readonly Certificate[]): boolean {
  return certificates.length > 0 && family !== AF_UNIX;
}

/** Who may connect to a UNIX socket. What is not given is as for any file that is created. */
export interface SocketAccess {
  /** The permissions. */
  readonly mode?: number;
  /** The owner. */
  readonly uid?: number;
  /** The group. */
  readonly gid?: number;
}

/**
 * Binds a socket for a server, which does not listen yet. It reuses a port with connections in
 * TIME_WAIT, and the path of a UNIX socket left by a server that has ended.
 *
 * @param address The address: `["0.0.0.0", 8000]`, `["::1", 8000]`, or a path.
 * @param dualStack For an IPv6 address: whether to accept connections over IPv4, too. The default is
 *   the system's.
 * @param access Who may connect, if it is a path.
 * @throws {SyscallError} `EADDRINUSE`, also for the path of a running server's socket or of another
 *   kind of file; `EACCES`, ...
 * @throws {AppError} If the host name has no address.
 */
export function bindSocket(
  address: Address,
  dualStack?: boolean,
  access?: SocketAccess,
): Socket {
  const family = familyOf(address);
  const socket = new Socket(family, SOCK_STREAM);
  try {
    if (typeof address === "string") {
      bindPath(socket, address, access);
    } else {
      socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
      socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1); // accepted sockets inherit it
      if (family === AF_INET6 && dualStack !== undefined) {
        socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, dualStack ? 0 : 1);
      }
      socket.bind(address);
    }
    return socket;
  } catch (error) {
    socket.close();
    if (isSyscallError(error)) throw error;
    throw new AppError((error as Error).message, { cause: error }); // a name without an address
  }
}

/** Binds a socket. Where there is no IPv6, every address is every IPv4 address. */
export function bindEither(
  address: Address,
  dualStack: boolean | undefined,
  access?: SocketAccess,
): Socket {
  try {
    return bindSocket(address, dualStack, access);
  } catch (error) {
    const isAny = typeof address !== "string" && address[0] === "::" && dualStack === true;
    if (!isAny || !isSyscallError(error, "EAFNOSUPPORT", "EADDRNOTAVAIL")) throw error;
    return bindSocket(["0.0.0.0", address[1]]);
  }
}

/** Binds a socket to a path. The file has the permissions and the owner before the socket listens. */
function bindPath(socket: Socket, path: string, { mode, uid, gid }: SocketAccess = {}): void {
  if (isStale(path)) unlink(path);
  const before = mode === undefined ? undefined : umask(0o777 & ~mode);
  try {
    socket.bind(path);
  } finally {
    if (before !== undefined) umask(before);
  }
  if ((uid === undefined && gid === undefined) || path.startsWith("\0")) return;
  try {
    // Neither a link nor another file that somebody has put in its place changes its owner.
    using file = open(path, O_PATH | noFollowFlag() | O_CLOEXEC);
    if (Deno.statSync(`/proc/self/fd/${file.fileno()}`).isSocket) {
      fchown(file.fileno(), uid, gid, path);
    }
  } catch (error) {
    unlink(path);
    throw error;
  }
}

function familyOf(address: Address): number {
  if (typeof address === "string") return AF_UNIX;
  return address[0].includes(":") ? AF_INET6 : AF_INET;
}

/**
 * Removes the file of a UNIX socket that was closed, unless another server has taken the path since
 * then. If that fails, the next server takes the path over.
 */
export function removeStaleSocket(path: string): void {
  try {
    if (isStale(path)) unlink(path);
  } catch {
    // Writing to its folder may no longer be permitted.
  }
}

/** Whether a path is that of a UNIX socket on which no process listens. */
function isStale(path: string): boolean {
  if (path.startsWith("\0")) return false; // an abstract address is gone with its socket
  using socket = new Socket(AF_UNIX, SOCK_STREAM);
  socket.fcntl(F_SETFL, O_NONBLOCK); // a live server may have a full backlog
  try {
    socket.connect(path);
    return false;
  } catch (error) {
    // A file that is not a socket refuses connections too.
    return isSyscallError(error, "ECONNREFUSED") &&
      Deno.lstatSync(path).isSocket === true;
  }
}

/** Formats a listening socket's address as a URL. */
export function formatUrl(address: Address, secure: boolean): string {
  if (typeof address === "string") return `unix:${formatAddress(address)}`;
  const [host, port] = address as InetAddress;
  const name = host.includes(":") ? `[${host}]` : host;
  return `${secure ? "https" : "http"}://${name}:${port}/`;
}
