/**
 * Socket options whose value is more than a number. Each function makes one call of getsockopt(2)
 * or setsockopt(2); its comment names the option.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { POLLIN } from "./poll.ts";
import { IPPROTO_TCP, setsockopt, SOL_SOCKET } from "./socket_calls.ts";
import { pollfd, timespec } from "./structs.ts";

/** The counters and times of a TCP connection. */
export interface TcpInfo {
  /** The number of bytes received, whether they have been read or not. */
  readonly bytesReceived: number;
  /** The number of bytes that the other end has acknowledged. */
  readonly bytesAcked: number;
  /** Whether some of the written data has not been acknowledged, or not been sent. */
  readonly unacked: boolean;
  /** Milliseconds since data was last received, or since the connection was established. */
  readonly sinceReceived: number;
  /** Milliseconds since data was last sent, or since the connection was established. */
  readonly sinceSent: number;
}

const NO_TIME = timespec(0);
const SO_LINGER = 13;
const SO_COOKIE = 57;
const TCP_INFO = 11;

// Up to tcpi_notsent_bytes, Linux 4.6. Fields that a kernel does not fill in stay zero.
const bytes = new Uint8Array(148);
const info = new DataView(bytes.buffer);
const length = new Uint32Array(1);

/**
 * Returns the state of a TCP connection: `TCP_INFO`, tcp(7).
 *
 * @param fd The socket's descriptor.
 * @returns The state; `undefined` if the descriptor is not a TCP socket, or not open.
 */
export function tcpInfo(fd: number): TcpInfo | undefined {
  bytes.fill(0);
  length[0] = bytes.length;
  if (libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, bytes, length) === -1) return undefined;
  // struct tcp_info of linux/tcp.h, the same on all architectures.
  return {
    bytesReceived: u64(128),
    bytesAcked: u64(120),
    unacked: info.getUint32(24, true) > 0 || info.getUint32(144, true) > 0,
    sinceReceived: info.getUint32(52, true),
    sinceSent: info.getUint32(44, true),
  };
}

const TCP_LISTEN = 10;

/**
 * Returns how many connections wait on a listening TCP socket, and their maximum: `TCP_INFO`.
 *
 * @param fd The socket's descriptor.
 * @returns `undefined` if the descriptor is not a TCP socket that listens.
 */
export function listenInfo(fd: number): { length: number; limit: number } | undefined {
  length[0] = bytes.length;
  if (libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, bytes, length) === -1) return undefined;
  if (bytes[0] !== TCP_LISTEN) return undefined;
  // For a listening socket, tcpi_unacked and tcpi_sacked have another meaning.
  return { length: info.getUint32(24, true), limit: info.getUint32(28, true) };
}

/**
 * Returns the kernel's unique number of a socket: `SO_COOKIE`. Unlike a descriptor number, it is
 * not reused.
 *
 * @param fd The socket's descriptor.
 * @returns The number; `undefined` if the descriptor is not a socket.
 */
export function socketCookie(fd: number): number | undefined {
  length[0] = 8;
  if (libc().getsockopt(fd, SOL_SOCKET, SO_COOKIE, bytes, length) === -1) return undefined;
  return u64(0);
}

/**
 * Makes `close()` discard unsent data and reset the connection: `SO_LINGER` with a time of 0.
 * Otherwise, the kernel keeps the connection, for minutes if the other end does not read.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} If the kernel refuses.
 */
export function resetOnClose(fd: number): void {
  const linger = new Int32Array([1, 0]); // on, zero seconds
  check(
    libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.byteLength),
    "setsockopt",
    `SO_LINGER of descriptor ${fd}`,
  );
}

/**
 * Tells whether there is something to read on a socket: poll(2) without waiting. Unlike `poll()` it
 * is no interruption point.
 *
 * @param fd The socket's descriptor.
 */
export function isReadable(fd: number): boolean {
  return libc().ppoll(pollfd(fd, POLLIN), 1n, NO_TIME, null) === 1;
}

/** Reads a 64-bit number, without the cost of a BigInt. */
function u64(at: number): number {
  return info.getUint32(at, true) + info.getUint32(at + 4, true) * 2 ** 32;
}

const SO_ATTACH_FILTER = 26;
const SO_DETACH_FILTER = 27;

// struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; }: load the flags of the TCP header; if SYN
// is set, continue, otherwise skip one instruction; drop the packet; keep the packet.
const NO_SYN = Uint16Array.of(0x30, 0, 13, 0, 0x45, 1 << 8, 2, 0, 6, 0, 0, 0, 6, 0, 0xffff, 0xffff);

/**
 * Makes the kernel drop connection requests to a listening TCP socket: `SO_ATTACH_FILTER` with a
 * program that drops every SYN. Handshakes that have begun are completed, and connections that wait
 * can be accepted, so that a server that closes the socket afterwards resets no connection. A
 * client whose request is dropped tries again after a second.
 *
 * @param fd The socket's descriptor. Duplicates in other processes are affected too, until
 *   {@linkcode allowConnectionRequests} is called.
 * @throws {SyscallError} If the kernel refuses.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html socket(7)}
 */
export function dropConnectionRequests(fd: number): void {
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(NO_SYN));
  const program = BigUint64Array.of(4n, BigInt(address)); // struct sock_fprog
  const result = libc().setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, program.byteLength);
  check(result, "setsockopt", `SO_ATTACH_FILTER of descriptor ${fd}`);
}

/**
 * Undoes what {@linkcode dropConnectionRequests} has done: `SO_DETACH_FILTER`.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} `ENOENT` if it has no filter, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html socket(7)}
 */
export function allowConnectionRequests(fd: number): void {
  setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}
