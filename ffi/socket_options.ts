/**
 * Socket options whose value is more than a number: each function here is one getsockopt(2)
 * or setsockopt(2), and says which option.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { IPPROTO_TCP, SOL_SOCKET } from "./socket_calls.ts";

/** A TCP connection's counters and clocks. */
export interface TcpInfo {
  /** Bytes of the other end's that have come, whether read by now or not. */
  readonly bytesReceived: number;
  /** Bytes that the other end has acknowledged. */
  readonly bytesAcked: number;
  /** Whether something that was written has not been acknowledged, or not even been sent. */
  readonly unacked: boolean;
  /** Milliseconds since something came, or since the connection was made. */
  readonly sinceReceived: number;
  /** Milliseconds since something was sent, or since the connection was made. */
  readonly sinceSent: number;
}

const SO_LINGER = 13;
const SO_COOKIE = 57;
const TCP_INFO = 11;

// Up to tcpi_notsent_bytes, Linux 4.6. What a kernel does not fill in stays zero.
const bytes = new Uint8Array(148);
const info = new DataView(bytes.buffer);
const length = new Uint32Array(1);

/**
 * Asks for the state of a TCP connection: `TCP_INFO`, tcp(7).
 *
 * @param fd The socket's descriptor.
 * @returns The state; `undefined` when the descriptor is no TCP socket, or none at all.
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

/**
 * The number that the kernel has given a socket, and gives no other: `SO_COOKIE`. A
 * descriptor's is soon another file's.
 *
 * @param fd The socket's descriptor.
 * @returns The number; `undefined` when the descriptor is no socket.
 */
export function socketCookie(fd: number): number | undefined {
  length[0] = 8;
  if (libc().getsockopt(fd, SOL_SOCKET, SO_COOKIE, bytes, length) === -1) return undefined;
  return u64(0);
}

/**
 * Has the next `close()` drop what is still to be sent and reset the connection: `SO_LINGER`
 * with no time. Else the kernel keeps it, for minutes if the other end does not read.
 *
 * @param fd The socket's descriptor.
 * @throws {SyscallError} When the kernel refuses.
 */
export function resetOnClose(fd: number): void {
  const linger = new Int32Array([1, 0]); // on, zero seconds
  check(
    libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.byteLength),
    "setsockopt",
    `SO_LINGER of descriptor ${fd}`,
  );
}

/** A number of 64 bits, without the cost of a BigInt. */
function u64(at: number): number {
  return info.getUint32(at, true) + info.getUint32(at + 4, true) * 2 ** 32;
}

const SO_ATTACH_FILTER = 26;

// struct sock_filter { u16 code; u8 jt; u8 jf; u32 k; }: load the flags of the TCP header;
// where SYN is among them go on, else pass over one; drop; keep.
const NO_SYN = Uint16Array.of(0x30, 0, 13, 0, 0x45, 1 << 8, 2, 0, 6, 0, 0, 0, 6, 0, 0xffff, 0xffff);

/**
 * Has the kernel drop requests to connect to a listening TCP socket: `SO_ATTACH_FILTER` with
 * a program that drops every SYN. Handshakes that
 * are under way come to their end, and what waits to be accepted can be: so a server
 * that closes afterwards resets nobody. A client that is dropped asks again after a second.
 *
 * @param fd The socket's descriptor; duplicates in other processes are affected too, permanently.
 * @throws {SyscallError} When the kernel refuses.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html socket(7)}
 */
export function dropConnectionRequests(fd: number): void {
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(NO_SYN));
  const program = BigUint64Array.of(4n, BigInt(address)); // struct sock_fprog
  const result = libc().setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, program.byteLength);
  check(result, "setsockopt", `SO_ATTACH_FILTER of descriptor ${fd}`);
}
