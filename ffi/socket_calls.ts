/**
 * System calls on a socket's descriptor number, whoever owns it: an inherited one, or one of
 * Deno's. {@linkcode Socket} makes the same calls on the descriptor it owns.
 */
import { type Address, decodeAddress, SOCKADDR_BYTES } from "./address.ts";
import { checkData, checkDescriptor } from "./descriptor_calls.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { secondsOfTimeval, timeval } from "./structs.ts";

/** Options of every socket, socket(7). */
export const SOL_SOCKET = 1;
/** Options of TCP, tcp(7). */
export const IPPROTO_TCP = 6;
/** Options of IPv6, ipv6(7). */
export const IPPROTO_IPV6 = 41;

/** Allow bind() to a port with old connections in TIME_WAIT. */
export const SO_REUSEADDR = 2;
/** The socket's type; read-only. */
export const SO_TYPE = 3;
/** The pending error's number, which reading clears; read-only. */
export const SO_ERROR = 4;
/** The size of the send buffer, in bytes. */
export const SO_SNDBUF = 7;
/** The size of the receive buffer, in bytes. */
export const SO_RCVBUF = 8;
/** Send probes on idle connections. */
export const SO_KEEPALIVE = 9;
/** Allow several sockets to listen on one port; the kernel distributes the connections. */
export const SO_REUSEPORT = 15;
/** How many seconds `accept` and `recv` wait before `EAGAIN`, with fractions; 0 for no limit. */
export const SO_RCVTIMEO = 20;
/** The same for `send` and `connect`, which fails with `EINPROGRESS`. */
export const SO_SNDTIMEO = 21;
/** Whether the socket listens; read-only. */
export const SO_ACCEPTCONN = 30;
/** The socket's address family; read-only. */
export const SO_DOMAIN = 39;
/** Send small segments without delay. */
export const TCP_NODELAY = 1;
/** Whether an IPv6 socket does not use IPv4. */
export const IPV6_V6ONLY = 26;

/** Leave the data in the receive buffer. */
export const MSG_PEEK = 0x02;
/** Fail with `EAGAIN` if the call would wait. */
export const MSG_DONTWAIT = 0x40;
/** Wait until the buffer is full. */
export const MSG_WAITALL = 0x100;

/** `shutdown()` of the receiving side. */
export const SHUT_RD = 0;
/** `shutdown()` of the sending side: the other end reads the end of the stream. */
export const SHUT_WR = 1;
/** `shutdown()` of both sides. */
export const SHUT_RDWR = 2;

/** Fail with `EPIPE` without sending SIGPIPE. */
export const MSG_NOSIGNAL = 0x4000;

/**
 * Sets an option of a socket.
 *
 * @param fd The socket's descriptor.
 * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
 * @param option `SO_REUSEADDR`, `TCP_NODELAY`, ...
 * @param value A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
 * @throws {RangeError} If the value is not valid for the option.
 * @throws {SyscallError} `EBADF`, `ENOTSOCK`, or if the kernel refuses the option.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setsockopt.2.html setsockopt(2)}
 */
export function setsockopt(fd: number, level: number, option: number, value: number): void {
  checkDescriptor("setsockopt", fd);
  const bytes = isTimeout(level, option) ? timeout(value) : int(value);
  const result = libc().setsockopt(fd, level, option, bytes, bytes.byteLength);
  check(result, "setsockopt", `option ${option} of descriptor ${fd} to ${value}`);
}

/**
 * Reads an option of a socket.
 *
 * @param fd The socket's descriptor.
 * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
 * @param option `SO_ERROR`, ...
 * @returns A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
 * @throws {SyscallError} `EBADF`, `ENOTSOCK`, or if there is no such option.
 *
 * @example Show the type of standard input, if it is a socket
 * ```ts
 * import { getsockopt, isSyscallError, SO_TYPE, SOL_SOCKET } from "@tine/tine";
 *
 * try {
 *   console.log(getsockopt(0, SOL_SOCKET, SO_TYPE));
 * } catch (error) {
 *   if (!isSyscallError(error, "ENOTSOCK")) throw error;
 * }
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getsockopt.2.html getsockopt(2)}
 */
export function getsockopt(fd: number, level: number, option: number): number {
  checkDescriptor("getsockopt", fd);
  if (!isTimeout(level, option)) return readOption(fd, level, option, new Int32Array(1))[0]!;
  return secondsOfTimeval(readOption(fd, level, option, timeval(0)));
}

function readOption<T extends Int32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>>(
  fd: number,
  level: number,
  option: number,
  value: T,
): T {
  const length = Uint32Array.of(value.byteLength);
  const result = libc().getsockopt(fd, level, option, value, length);
  check(result, "getsockopt", `option ${option} of descriptor ${fd}`);
  return value;
}

/**
 * Returns a socket's own address.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} `EBADF`, `ENOTSOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getsockname.2.html getsockname(2)}
 */
export function getsockname(fd: number): Address {
  return readAddress("getsockname", fd);
}

/**
 * Returns the address of a socket's other end.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} `ENOTCONN` if the socket is not connected, `EBADF`, `ENOTSOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getpeername.2.html getpeername(2)}
 */
export function getpeername(fd: number): Address {
  return readAddress("getpeername", fd);
}

function readAddress(syscall: "getsockname" | "getpeername", fd: number): Address {
  checkDescriptor(syscall, fd);
  const sockaddr = new Uint8Array(SOCKADDR_BYTES);
  const length = Uint32Array.of(SOCKADDR_BYTES);
  check(libc()[syscall](fd, sockaddr, length), syscall, `descriptor ${fd}`);
  return decodeAddress(sockaddr, length[0]!);
}

/**
 * Sends as many of the bytes as the kernel accepts.
 *
 * @param fd The socket's descriptor.
 * @param data The bytes.
 * @param flags `MSG_DONTWAIT`.
 * @returns The number of bytes accepted.
 * @throws {SyscallError} `EPIPE` if the other end has closed the connection (without SIGPIPE),
 *   `EAGAIN` with `MSG_DONTWAIT` or after `SO_SNDTIMEO`, `EBADF`, `ENOTSOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/send.2.html send(2)}
 */
export function send(fd: number, data: Uint8Array<ArrayBuffer>, flags = 0): number {
  checkDescriptor("send", fd);
  checkData("send", data);
  const sent = libc().send(fd, data, BigInt(data.byteLength), flags | MSG_NOSIGNAL);
  return check(Number(sent), "send", `on descriptor ${fd}`);
}

/**
 * Receives data into a buffer.
 *
 * @param fd The socket's descriptor.
 * @param buffer Receives the data.
 * @param flags `MSG_DONTWAIT`, `MSG_PEEK`, ...; 0 for none.
 * @returns The number of bytes; 0 at the end of the stream.
 * @throws {SyscallError} `EAGAIN`, `ECONNRESET`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/recv.2.html recv(2)}
 */
export function recv(fd: number, buffer: Uint8Array<ArrayBuffer>, flags = 0): number {
  return check(Number(libc().recv(fd, buffer, BigInt(buffer.length), flags)), "recv");
}

/**
 * Shuts down one or both directions of a connection, for all processes that share it.
 *
 * @param fd The socket's descriptor.
 * @param how `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
 * @throws {SyscallError} `ENOTCONN` if there is no connection, `EBADF`, `ENOTSOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/shutdown.2.html shutdown(2)}
 */
export function shutdown(fd: number, how: number): void {
  checkDescriptor("shutdown", fd);
  check(libc().shutdown(fd, how), "shutdown", `descriptor ${fd}`);
}

function isTimeout(level: number, option: number): boolean {
  return level === SOL_SOCKET && (option === SO_RCVTIMEO || option === SO_SNDTIMEO);
}

function timeout(seconds: number): BigInt64Array<ArrayBuffer> {
  if (!(seconds >= 0 && seconds < 2 ** 53)) {
    throw new RangeError(
      `Cannot set a timeout of ${seconds} seconds: expected a number of at least 0`,
    );
  }
  return timeval(seconds);
}

function int(value: number): Int32Array<ArrayBuffer> {
  if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0x7fff_ffff) {
    throw new RangeError(`Cannot set a socket option to ${value}: expected a whole number`);
  }
  return Int32Array.of(value);
}
