/**
 * Calls on a socket by its descriptor's number, whoever owns it: an inherited one, or one
 * of Deno's. {@linkcode Socket} makes them on its own.
 */
import { type Address, decodeAddress, SOCKADDR_BYTES } from "./address.ts";
import { checkDescriptor } from "./descriptor_calls.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { secondsOfTimeval, timeval } from "./structs.ts";

/** Options of every socket, socket(7). */
export const SOL_SOCKET = 1;
/** Options of TCP, tcp(7). */
export const IPPROTO_TCP = 6;
/** Options of IPv6, ipv6(7). */
export const IPPROTO_IPV6 = 41;

/** Bind although old connections of this port linger. */
export const SO_REUSEADDR = 2;
/** Read only: the socket's type. */
export const SO_TYPE = 3;
/** Read only: the pending error's number, cleared by reading. */
export const SO_ERROR = 4;
/** Bytes of the send buffer. */
export const SO_SNDBUF = 7;
/** Bytes of the receive buffer. */
export const SO_RCVBUF = 8;
/** Probe idle connections. */
export const SO_KEEPALIVE = 9;
/** Several sockets may listen on one port; the kernel spreads connections. */
export const SO_REUSEPORT = 15;
/** Seconds that `accept` and `recv` wait before `EAGAIN`; fractions count, 0 for ever. */
export const SO_RCVTIMEO = 20;
/** Seconds that `send` and `connect` wait before `EAGAIN`/`EINPROGRESS`; 0 for ever. */
export const SO_SNDTIMEO = 21;
/** Read only: whether the socket listens. */
export const SO_ACCEPTCONN = 30;
/** Read only: the socket's address family. */
export const SO_DOMAIN = 39;
/** Send small segments at once. */
export const TCP_NODELAY = 1;
/** Whether an IPv6 socket leaves IPv4 alone. */
export const IPV6_V6ONLY = 26;

/** Look at the data and leave it. */
export const MSG_PEEK = 0x02;
/** Fail with `EAGAIN` where the call would wait. */
export const MSG_DONTWAIT = 0x40;
/** Wait until the whole buffer is filled. */
export const MSG_WAITALL = 0x100;

/** `shutdown()` of the receiving side. */
export const SHUT_RD = 0;
/** `shutdown()` of the sending side: the other end reads the end of the stream. */
export const SHUT_WR = 1;
/** `shutdown()` of both sides. */
export const SHUT_RDWR = 2;

/** An error instead of SIGPIPE. */
export const MSG_NOSIGNAL = 0x4000;

/**
 * Sets an option of a socket.
 *
 * @param fd The socket's descriptor.
 * @param level `SOL_SOCKET`, `IPPROTO_TCP`, ...
 * @param option `SO_REUSEADDR`, `TCP_NODELAY`, ...
 * @param value A whole number; seconds for `SO_RCVTIMEO` and `SO_SNDTIMEO`.
 * @throws {RangeError} When the value is not valid for the option.
 * @throws {SyscallError} `EBADF`, `ENOTSOCK`, or when the kernel refuses the option.
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
 * @throws {SyscallError} `EBADF`, `ENOTSOCK`, or when there is no such option.
 *
 * @example What kind of socket standard input is, if it is one
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
 * A socket's own address.
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
 * The address of a socket's other end.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} `ENOTCONN` when the socket is not connected, `EBADF`, `ENOTSOCK`, ...
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
 * Sends some of the bytes: as many as the kernel takes.
 *
 * @param fd The socket's descriptor.
 * @param data The bytes.
 * @param flags `MSG_DONTWAIT`.
 * @returns How many bytes were taken.
 * @throws {SyscallError} `EPIPE` when the other end is gone (no SIGPIPE), `EAGAIN` with
 *   `MSG_DONTWAIT` or after `SO_SNDTIMEO`, `EBADF`, `ENOTSOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/send.2.html send(2)}
 */
export function send(fd: number, data: Uint8Array<ArrayBuffer>, flags = 0): number {
  checkDescriptor("send", fd);
  const sent = libc().send(fd, data, BigInt(data.byteLength), flags | MSG_NOSIGNAL);
  return check(Number(sent), "send", `on descriptor ${fd}`);
}

/**
 * Ends one or both directions of a connection, for every process that shares it.
 *
 * @param fd The socket's descriptor.
 * @param how `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
 * @throws {SyscallError} `ENOTCONN` when there is no connection, `EBADF`, `ENOTSOCK`, ...
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
