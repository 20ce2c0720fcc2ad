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

/** A connection: a stream of bytes. */
export const SOCK_STREAM = 1;
/** Single messages. */
export const SOCK_DGRAM = 2;
/** A connection that keeps messages apart (UNIX sockets). */
export const SOCK_SEQPACKET = 5;

const SOCK_CLOEXEC = 0o2000000;
const LARGEST_COUNT = 0x7fff_f000; // what one read or write transfers at most, read(2)

/**
 * A socket, with the methods of the article, and those of every {@linkcode Descriptor}:
 * `close()` twice is harmless, and a closed socket fails with `EBADF` before the
 * kernel sees a number that another file may have taken since.
 *
 * Its descriptor is close-on-exec. Nothing is retried: `EINTR` after a signal
 * handler ran, and a partial `send()`, are the caller's to see.
 *
 * @example A listening socket and a client of it
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
   * Makes a socket.
   *
   * @param family `AF_INET`, `AF_INET6` or `AF_UNIX`.
   * @param type `SOCK_STREAM`, ...
   * @param protocol 0 for the usual one.
   * @throws {RangeError} When the family is not one of the three.
   * @throws {SyscallError} `EMFILE` when no descriptor is left, ...
   */
  constructor(family: number, type: number, protocol?: number);
  // What the signature above does not show is OpenSocket's, below.
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
   * Takes over a descriptor that is open already, such as an inherited one.
   *
   * @param fd The descriptor; from now on this object's to close.
   * @returns The socket.
   * @throws {SyscallError} `EBADF` or `ENOTSOCK` when it is no open socket.
   */
  static fromDescriptor(fd: number): Socket {
    const family = getsockopt(fd, SOL_SOCKET, SO_DOMAIN);
    const type = getsockopt(fd, SOL_SOCKET, SO_TYPE);
    const socket = new OpenSocket(family, type, 0, fd);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN) !== 0) setNonblocking(fd, true);
    return socket;
  }

  /** What errors call it. */
  protected override get kind(): string {
    return "socket";
  }

  /**
   * Sets an option.
   *
   * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
   * @param option `SO_REUSEADDR`, `TCP_NODELAY`, ...
   * @param value A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
   * @throws {RangeError} When the value is not valid for the option.
   * @throws {SyscallError} When the kernel refuses.
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
   * @throws {SyscallError} When the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getsockopt.2.html getsockopt(2)}
   */
  getsockopt(level: number, option: number): number {
    return getsockopt(this.numberFor("getsockopt"), level, option);
  }

  /**
   * Gives the socket its own address.
   *
   * @param address `["", 8888]` for all interfaces, `["127.0.0.1", 0]` for a free port,
   *   `["::1", 80]`, or a path.
   * @throws {RangeError} When the port is not 0 to 65535 or the path is too long.
   * @throws {TypeError} When it is no address of the socket's family.
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
   * Makes it a listening socket.
   *
   * @param backlog How many connections may wait to be accepted.
   * @throws {RangeError} When it is not a whole number from 0.
   * @throws {SyscallError} When the kernel refuses.
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
    // accept() waits in ppoll(), where handlers may run. Another process that shares
    // this socket can then take the connection first: accept4() must not wait for the next.
    setNonblocking(fd, true);
  }

  /**
   * Waits for a connection and takes it. An interruption point.
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
   * @param address The other end.
   * @throws {SyscallError} `ECONNREFUSED`, `ETIMEDOUT`, `EINPROGRESS` after `SO_SNDTIMEO`,
   *   `EINTR` after a signal handler has run (the kernel goes on connecting), ...
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
   * Receives what is there, waiting for the first byte. An interruption point.
   *
   * @param size The most bytes to take.
   * @param flags `MSG_PEEK`, `MSG_DONTWAIT`, `MSG_WAITALL`, or-ed together.
   * @returns The bytes; none at the end of the stream.
   * @throws {RangeError} When the size is not a whole number from 1.
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
    // Only where handlers wait for their turn is there anything better than to block.
    if (interruptible() && (flags & MSG_DONTWAIT) === 0) {
      // Not with MSG_WAITALL, which could not take back a part that came at once.
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
   * Sends some of the bytes: as many as the kernel takes.
   *
   * @param data The bytes.
   * @param flags `MSG_DONTWAIT`.
   * @returns How many bytes were taken.
   * @throws {SyscallError} `EPIPE` when the other end is gone (no SIGPIPE), `EAGAIN` with
   *   `MSG_DONTWAIT` or after `SO_SNDTIMEO`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/send.2.html send(2)}
   */
  send(data: Uint8Array<ArrayBuffer>, flags = 0): number {
    return send(this.numberFor("send"), data, flags);
  }

  /**
   * Sends all of the bytes, in as many `send()` calls as it takes.
   *
   * @param data The bytes.
   * @throws {SyscallError} As {@linkcode Socket.send}; some bytes may have been sent.
   */
  sendall(data: Uint8Array<ArrayBuffer>): void {
    for (let sent = this.send(data); sent < data.byteLength;) {
      sent += this.send(data.subarray(sent));
    }
  }

  /**
   * Ends one or both directions of the connection, for every process that shares it.
   *
   * @param how `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
   * @throws {SyscallError} `ENOTCONN` when there is no connection, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/shutdown.2.html shutdown(2)}
   */
  shutdown(how: number): void {
    shutdown(this.numberFor("shutdown"), how);
  }

  /**
   * The socket's own address.
   *
   * @throws {SyscallError} When the kernel refuses.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getsockname.2.html getsockname(2)}
   */
  getsockname(): Address {
    return getsockname(this.numberFor("getsockname"));
  }

  /**
   * The address of the other end.
   *
   * @throws {SyscallError} `ENOTCONN` when the socket is not connected.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/getpeername.2.html getpeername(2)}
   */
  getpeername(): Address {
    return getpeername(this.numberFor("getpeername"));
  }
}

/** A socket that the kernel has just made: who asked for it knows its family. */
const OpenSocket: new (family: number, type: number, protocol: number, fd: number) => Socket =
  Socket;

/**
 * Makes two UNIX sockets that are connected to each other.
 *
 * @param type `SOCK_STREAM`, or `SOCK_SEQPACKET` to keep messages apart.
 * @returns Both ends.
 * @throws {SyscallError} `EMFILE` when no descriptor is left, ...
 *
 * @example A parent and its child talk
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

/** Waits until the socket is ready, as long as its timeout option says. */
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
