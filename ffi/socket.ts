import {
  type Address,
  AF_INET,
  AF_INET6,
  AF_UNIX,
  decodeAddress,
  encodeAddress,
  formatAddress,
  SOCKADDR_BYTES,
} from "./address.ts";
import { Descriptor, O_NONBLOCK } from "./descriptor.ts";
import { F_GETFL, F_SETFL, fcntl } from "./descriptor_calls.ts";
import { check, EAGAIN, EINPROGRESS, fail, SyscallError } from "./errno.ts";
import { interruptible, letSignalsIn, waitInterruptibly } from "./interruption.ts";
import { errno, libc } from "./libc.ts";
import { POLLIN, POLLOUT } from "./poll.ts";
import {
  getpeername,
  getsockname,
  getsockopt,
  MSG_DONTWAIT,
  MSG_WAITALL,
  send,
  setsockopt,
  shutdown,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_ERROR,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SO_TYPE,
  SOL_SOCKET,
} from "./socket_calls.ts";
import { pollfd } from "./structs.ts";

/** A connection that transfers a stream of bytes. */
export const SOCK_STREAM = 1;
/** Single messages, without a connection. */
export const SOCK_DGRAM = 2;
/** A connection that preserves message boundaries (UNIX sockets). */
export const SOCK_SEQPACKET = 5;

const SOCK_CLOEXEC = 0o2000000;
const LARGEST_COUNT = 0x7fff_f000; // the maximum that one read or write transfers, read(2)

/**
 * A socket, with the methods of the article's sockets and those of a {@linkcode Descriptor}:
 * calling `close()` twice is harmless, and the methods of a closed socket fail with `EBADF` without
 * a call to the kernel, since the number may belong to another file.
 *
 * Its descriptor is close-on-exec. Nothing is retried: the caller must handle `EINTR` after a
 * signal handler has run, and a `send()` of only a part.
 *
 * @example A listening socket and a client
 * ```ts
 * import { AF_INET, SO_REUSEADDR, SOCK_STREAM, Socket, SOL_SOCKET } from "@tine/tine";
 *
 * using listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
 * listenSocket.bind(["127.0.0.1", 0]);
 * listenSocket.listen(5);
 * using client = new Socket(AF_INET, SOCK_STREAM);
 * client.connect(listenSocket.getsockname());
 * client.sendall(new TextEncoder().encode("hello"));
 * const [connection] = listenSocket.accept();
 * console.log(new TextDecoder().decode(connection.recv(1024)));
 * connection.close();
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html socket(7)}
 */
export class Socket extends Descriptor {
  /** The address family: `AF_INET`, `AF_INET6` or `AF_UNIX`. */
  readonly family: number;

  /**
   * Creates a socket.
   *
   * @param family `AF_INET`, `AF_INET6` or `AF_UNIX`.
   * @param type `SOCK_STREAM`, ...
   * @param protocol The protocol; 0 for the default.
   * @throws {RangeError} If the family is not one of the three.
   * @throws {SyscallError} `EMFILE` if no descriptor is left, ...
   */
  constructor(family: number, type: number, protocol?: number);
  // The last parameter is for OpenSocket only, below.
  constructor(family: number, type: number, protocol = 0, fd?: number) {
    if (family !== AF_INET && family !== AF_INET6 && family !== AF_UNIX) {
      throw new RangeError(
        `Cannot make a socket of family ${family}: expected AF_INET, AF_INET6 or AF_UNIX`,
      );
    }
    super(fd ?? check(libc().socket(family, type | SOCK_CLOEXEC, protocol), "socket"));
    this.family = family;
  }

  /**
   * Takes ownership of a descriptor that is already open, such as an inherited one.
   *
   * @param fd The descriptor. From now on, only the returned object may close it.
   * @returns The socket.
   * @throws {SyscallError} `EBADF` or `ENOTSOCK` if it is not an open socket.
   */
  static fromDescriptor(fd: number): Socket {
    const family = getsockopt(fd, SOL_SOCKET, SO_DOMAIN);
    const type = getsockopt(fd, SOL_SOCKET, SO_TYPE);
    const socket = new OpenSocket(family, type, 0, fd);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 0) setNonblocking(fd, true);
    return socket;
  }

  /** The word for the object in error messages. */
  protected override get kind(): string {
    return "socket";
  }

  /**
   * Sets an option.
   *
   * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
   * @param option `SO_REUSEADDR`, `TCP_NODELAY`, ...
   * @param value A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
   * @throws {RangeError} If the value is not valid for the option.
   * @throws {SyscallError} If the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/setsockopt.2.html setsockopt(2)}
   */
  setsockopt(level: number, option: number, value: number): void {
    setsockopt(this.numberFor("setsockopt"), level, option, value);
  }

  /**
   * Reads an option.
   *
   * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
   * @param option `SO_ERROR`, ...
   * @returns A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
   * @throws {SyscallError} If the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getsockopt.2.html getsockopt(2)}
   */
  getsockopt(level: number, option: number): number {
    return getsockopt(this.numberFor("getsockopt"), level, option);
  }

  /**
   * Binds the socket to an address.
   *
   * @param address `["", 8888]` for all interfaces, `["127.0.0.1", 0]` for a free port,
   *   `["::1", 80]`, or a path.
   * @throws {RangeError} If the port is not a whole number from 0 to 65535, or the path is too
   *   long.
   * @throws {TypeError} If it is not an address of the socket's family.
   * @throws {SyscallError} `EADDRINUSE`, `EACCES` for a port below 1024 without privileges, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html bind(2)}
   */
  bind(address: Address): void {
    const fd = this.numberFor("bind");
    const sockaddr = encodeAddress("bind", this.family, address);
    check(libc().bind(fd, sockaddr, sockaddr.byteLength), "bind", formatAddress(address));
  }

  /**
   * Makes the socket listen for connections.
   *
   * @param backlog How many connections may wait to be accepted.
   * @throws {RangeError} If it is not a whole number of at least 0.
   * @throws {SyscallError} If the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/listen.2.html listen(2)}
   */
  listen(backlog: number): void {
    const fd = this.numberFor("listen");
    if (!Number.isInteger(backlog) || backlog < 0 || backlog > 0x7fff_ffff) {
      throw new RangeError(
        `Cannot listen with backlog ${backlog}: expected a whole number of at least 0`,
      );
    }
    check(libc().listen(fd, backlog), "listen");
    // accept() waits in ppoll(), where handlers may run. Another process that shares this socket
    // may then accept the connection first: accept4() must not wait for the next one.
    setNonblocking(fd, true);
  }

  /**
   * Waits for a connection and accepts it. An interruption point.
   *
   * @returns The connection's socket and the client's address.
   * @throws {SyscallError} `EINTR` after a signal handler has run, `EMFILE` when no descriptor
   *   is left, `EAGAIN` after `SO_RCVTIMEO`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/accept.2.html accept(2)}
   */
  accept(): [connection: Socket, address: Address] {
    const fd = this.numberFor("accept");
    const sockaddr = new Uint8Array(SOCKADDR_BYTES);
    const length = new Uint32Array([SOCKADDR_BYTES]);
    letSignalsIn("accept");
    for (;;) {
      const connection = libc().accept4(fd, sockaddr, length, SOCK_CLOEXEC);
      if (connection !== -1) {
        return [
          new OpenSocket(this.family, SOCK_STREAM, 0, connection),
          decodeAddress(sockaddr, length[0]!),
        ];
      }
      if (errno() !== EAGAIN) fail("accept");
      awaitReady("accept", "", fd, POLLIN, SO_RCVTIMEO);
    }
  }

  /**
   * Connects to an address. An interruption point.
   *
   * @param address The address of the other end.
   * @throws {SyscallError} `ECONNREFUSED`, `ETIMEDOUT`, `EINPROGRESS` after `SO_SNDTIMEO`,
   *   `EINTR` after a signal handler has run (the kernel continues to connect), ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html connect(2)}
   */
  connect(address: Address): void {
    const fd = this.numberFor("connect");
    const object = formatAddress(address);
    const sockaddr = encodeAddress("connect", this.family, address);
    letSignalsIn("connect", object);
    if (!interruptible() || isNonblocking(fd)) {
      check(libc().connect(fd, sockaddr, sockaddr.byteLength), "connect", object);
      return;
    }
    setNonblocking(fd, true);
    try {
      if (libc().connect(fd, sockaddr, sockaddr.byteLength) !== -1) return;
      if (errno() !== EINPROGRESS) fail("connect", object);
      awaitReady("connect", object, fd, POLLOUT, SO_SNDTIMEO);
      const failure = getsockopt(fd, SOL_SOCKET, SO_ERROR);
      if (failure !== 0) throw new SyscallError("connect", failure, object);
    } finally {
      setNonblocking(fd, false);
    }
  }

  /**
   * Receives data, waiting until at least one byte is available. An interruption point.
   *
   * @param size The maximum number of bytes.
   * @param flags `MSG_PEEK`, `MSG_DONTWAIT`, `MSG_WAITALL`, OR-ed together.
   * @returns The bytes; empty at the end of the stream.
   * @throws {RangeError} If the size is not a whole number of at least 1.
   * @throws {SyscallError} `ECONNRESET`, `EINTR` after a signal handler has run, `EAGAIN` with
   *   `MSG_DONTWAIT` or after `SO_RCVTIMEO`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/recv.2.html recv(2)}
   */
  recv(size: number, flags = 0): Uint8Array<ArrayBuffer> {
    const fd = this.numberFor("recv");
    if (!Number.isInteger(size) || size < 1 || size > LARGEST_COUNT) {
      throw new RangeError(`Cannot recv ${size} bytes: expected a whole number of at least 1`);
    }
    const buffer = new Uint8Array(size);
    letSignalsIn("recv");
    // If there are no handlers, a blocking call is sufficient.
    if (interruptible() && (flags & MSG_DONTWAIT) === 0) {
      // Not with MSG_WAITALL: part of the data might be received, and could not be put back.
      if ((flags & MSG_WAITALL) === 0) {
        const received = libc().recv(fd, buffer, BigInt(size), flags | MSG_DONTWAIT);
        if (received !== -1n) return buffer.subarray(0, Number(received));
        const number = errno();
        if (number !== EAGAIN || isNonblocking(fd)) throw new SyscallError("recv", number);
      }
      awaitReady("recv", "", fd, POLLIN, SO_RCVTIMEO);
    }
    const received = Number(libc().recv(fd, buffer, BigInt(size), flags));
    return buffer.subarray(0, check(received, "recv"));
  }

  /**
   * Sends as many of the bytes as the kernel accepts.
   *
   * @param data The bytes.
   * @param flags `MSG_DONTWAIT`.
   * @returns The number of bytes accepted.
   * @throws {SyscallError} `EPIPE` if the other end has closed the connection (without SIGPIPE),
   *   `EAGAIN` with `MSG_DONTWAIT` or after `SO_SNDTIMEO`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/send.2.html send(2)}
   */
  send(data: Uint8Array<ArrayBuffer>, flags = 0): number {
    return send(this.numberFor("send"), data, flags);
  }

  /**
   * Sends all bytes, with as many `send()` calls as needed.
   *
   * @param data The bytes.
   * @throws {SyscallError} As for {@linkcode Socket.send}. Some of the bytes may have been sent.
   */
  sendall(data: Uint8Array<ArrayBuffer>): void {
    for (let sent = this.send(data); sent < data.byteLength;) {
      sent += this.send(data.subarray(sent));
    }
  }

  /**
   * Shuts down one or both directions of the connection, for all processes that share it.
   *
   * @param how `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
   * @throws {SyscallError} `ENOTCONN` if there is no connection, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/shutdown.2.html shutdown(2)}
   */
  shutdown(how: number): void {
    shutdown(this.numberFor("shutdown"), how);
  }

  /**
   * Returns the socket's own address.
   *
   * @throws {SyscallError} If the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getsockname.2.html getsockname(2)}
   */
  getsockname(): Address {
    return getsockname(this.numberFor("getsockname"));
  }

  /**
   * Returns the address of the other end.
   *
   * @throws {SyscallError} `ENOTCONN` if the socket is not connected.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getpeername.2.html getpeername(2)}
   */
  getpeername(): Address {
    return getpeername(this.numberFor("getpeername"));
  }
}

/** Creates the object for a socket that the kernel has just created, whose family is known. */
const OpenSocket: new (family: number, type: number, protocol: number, fd: number) => Socket =
  Socket;

/**
 * Creates a socket of a family whose addresses {@linkcode Socket} does not know: it is written to
 * and read from as any other descriptor.
 *
 * @param family `AF_NETLINK`, ...
 * @param type `SOCK_DGRAM`, ...
 * @param protocol The protocol; 0 for the default.
 * @returns The descriptor, which is close-on-exec.
 * @throws {SyscallError} `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `EMFILE` if no descriptor is left, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html socket(2)}
 */
export function socket(family: number, type: number, protocol = 0): Descriptor {
  const fd = libc().socket(family, type | SOCK_CLOEXEC, protocol);
  return new Descriptor(check(fd, "socket", `of family ${family}`));
}

/**
 * Creates two UNIX sockets that are connected to each other.
 *
 * @param type `SOCK_STREAM`, or `SOCK_SEQPACKET` to preserve message boundaries.
 * @returns Both ends.
 * @throws {SyscallError} `EMFILE` if no descriptor is left, ...
 *
 * @example Send a message from a child to its parent
 * ```ts ignore
 * import { becomeForkable, forkChild, socketpair, SOCK_SEQPACKET } from "@tine/tine";
 *
 * becomeForkable();
 * const [ours, theirs] = socketpair(SOCK_SEQPACKET);
 * forkChild(() => theirs.sendall(new TextEncoder().encode("hello")));
 * console.log(new TextDecoder().decode(ours.recv(100)));
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html socketpair(2)}
 */
export function socketpair(type: number): [Socket, Socket] {
  const ends = new Int32Array(2);
  check(libc().socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), "socketpair");
  return [new OpenSocket(AF_UNIX, type, 0, ends[0]!), new OpenSocket(AF_UNIX, type, 0, ends[1]!)];
}

/** Waits until the socket is ready, for at most the time of its timeout option. */
function awaitReady(
  syscall: string,
  object: string,
  fd: number,
  events: number,
  timeoutOption: number,
): void {
  const seconds = getsockopt(fd, SOL_SOCKET, timeoutOption);
  const ready = waitInterruptibly(
    syscall,
    object,
    pollfd(fd, events),
    seconds === 0 ? undefined : seconds * 1000,
  );
  if (ready === 0) {
    throw new SyscallError(syscall, syscall === "connect" ? EINPROGRESS : EAGAIN, object);
  }
}

function isNonblocking(fd: number): boolean {
  return (fcntl(fd, F_GETFL) & O_NONBLOCK) !== 0;
}

function setNonblocking(fd: number, nonblocking: boolean): void {
  const flags = fcntl(fd, F_GETFL);
  const wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted !== flags) fcntl(fd, F_SETFL, wanted);
}
