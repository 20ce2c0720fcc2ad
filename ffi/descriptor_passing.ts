/**
 * Open descriptors in a message from one process to another, over a UNIX socket: unix(7),
 * `SCM_RIGHTS`.
 */
import { check } from "./errno.ts";
import { letSignalsIn } from "./interruption.ts";
import { libc } from "./libc.ts";
import { checkDescriptor } from "./descriptor_calls.ts";
import { MSG_NOSIGNAL, SOL_SOCKET } from "./socket_calls.ts";

const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** The sizes of a `struct msghdr`, of a `struct cmsghdr` with one descriptor, and with padding. */
const MSGHDR_BYTES = 56;
const CMSG_LEN = 20;
const CMSG_SPACE = 24;

/** A message that was received. */
export interface Message {
  /** The bytes; empty at the end of the stream. */
  readonly data: Uint8Array<ArrayBuffer>;
  /**
   * The descriptor that came with it, which is close-on-exec and the caller's to close; `undefined`
   * if none came.
   */
  readonly descriptor: number | undefined;
}

/**
 * Sends a message with a descriptor.
 *
 * @param fd The socket's descriptor.
 * @param data The bytes, at least one.
 * @param descriptor The descriptor to send. It stays open in this process.
 * @param flags `MSG_DONTWAIT`.
 * @returns The number of bytes sent.
 * @throws {SyscallError} `EPIPE` if the other end has closed the connection, `EAGAIN` with
 *   `MSG_DONTWAIT`, `EBADF`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/sendmsg.2.html sendmsg(2)}
 */
export function sendDescriptor(
  fd: number,
  data: Uint8Array<ArrayBuffer>,
  descriptor: number,
  flags = 0,
): number {
  checkDescriptor("sendmsg", fd);
  const control = new DataView(new ArrayBuffer(CMSG_SPACE));
  control.setBigUint64(0, BigInt(CMSG_LEN), true);
  control.setInt32(8, SOL_SOCKET, true);
  control.setInt32(12, SCM_RIGHTS, true);
  control.setInt32(16, descriptor, true);
  const message = messageOf(data, control);
  const sent = libc().sendmsg(fd, message.header, flags | MSG_NOSIGNAL);
  return check(Number(sent), "sendmsg", `on descriptor ${fd}`);
}

/**
 * Receives a message, with or without a descriptor. Handlers of pending signals run first.
 *
 * @param fd The socket's descriptor.
 * @param size The maximum number of bytes.
 * @param flags `MSG_DONTWAIT`.
 * @throws {SyscallError} `EAGAIN` with `MSG_DONTWAIT` if there is no message, `EINTR`, `EBADF`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/recvmsg.2.html recvmsg(2)}
 */
export function receiveDescriptor(fd: number, size: number, flags = 0): Message {
  checkDescriptor("recvmsg", fd);
  letSignalsIn("recvmsg", `on descriptor ${fd}`);
  const data = new Uint8Array(size);
  const control = new DataView(new ArrayBuffer(CMSG_SPACE));
  const { header } = messageOf(data, control);
  const result = Number(libc().recvmsg(fd, header, flags | MSG_CMSG_CLOEXEC));
  const received = check(result, "recvmsg", `on descriptor ${fd}`);
  const hasDescriptor = header.getBigUint64(40, true) >= BigInt(CMSG_LEN) &&
    control.getInt32(8, true) === SOL_SOCKET && control.getInt32(12, true) === SCM_RIGHTS;
  return {
    data: data.subarray(0, received),
    descriptor: hasDescriptor ? control.getInt32(16, true) : undefined,
  };
}

/** Creates a `struct msghdr`. What it points to must be kept for as long as it is. */
function messageOf(
  data: Uint8Array<ArrayBuffer>,
  control: DataView<ArrayBuffer>,
): { header: DataView<ArrayBuffer>; vector: BigUint64Array<ArrayBuffer> } {
  const vector = BigUint64Array.of(addressOf(data), BigInt(data.byteLength));
  const header = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  header.setBigUint64(16, addressOf(vector), true); // msg_iov
  header.setBigUint64(24, 1n, true);
  header.setBigUint64(32, addressOf(control), true); // msg_control
  header.setBigUint64(40, BigInt(CMSG_SPACE), true);
  return { header, vector };
}

function addressOf(buffer: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}
