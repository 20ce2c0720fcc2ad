/** How many connections wait on a listening socket to be accepted, which the kernel knows. */
import { AF_NETLINK, AF_UNIX } from "./address.ts";
import { isSyscallError } from "./errno.ts";
import { readlink } from "./proc.ts";
import { SOCK_DGRAM, type Socket, socket } from "./socket.ts";
import { listenInfo } from "./socket_options.ts";

/** The queue of a listening socket. */
export interface AcceptQueue {
  /** The number of connections that wait to be accepted. */
  readonly length: number;
  /** The maximum of these connections: the backlog given to listen(2), limited by the kernel. */
  readonly limit: number;
}

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const ALL_STATES = 0xffff_ffff;
const UDIAG_SHOW_RQLEN = 1 << 4;
const UNIX_DIAG_RQLEN = 4;
const TCP_LISTEN = 10; // UNIX sockets have it too
const HEADER_BYTES = 16; // struct nlmsghdr
const REQUEST_BYTES = 24; // struct unix_diag_req
const ANSWER_BYTES = 16; // struct unix_diag_msg

/**
 * Returns the queue of a listening socket: for TCP from `TCP_INFO`, for a UNIX socket over netlink.
 *
 * @param listening The socket.
 * @returns The queue; `undefined` if it is not known: the socket does not listen, or a sandbox
 *   forbids to ask.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/sock_diag.7.html sock_diag(7)}
 */
export function acceptQueue(listening: Socket): AcceptQueue | undefined {
  const fd = listening.fileno();
  if (fd === -1) return undefined;
  if (listening.family !== AF_UNIX) return listenInfo(fd);
  try {
    const inode = readlink(`/proc/self/fd/${fd}`).match(/^socket:\[(\d+)\]$/)?.[1];
    return inode === undefined ? undefined : ask(Number(inode));
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}

/** Asks the kernel about the UNIX socket with an inode. */
function ask(inode: number): AcceptQueue | undefined {
  using netlink = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG);
  const request = new DataView(new ArrayBuffer(HEADER_BYTES + REQUEST_BYTES));
  request.setUint32(0, request.byteLength, true);
  request.setUint16(4, SOCK_DIAG_BY_FAMILY, true);
  request.setUint16(6, NLM_F_REQUEST, true);
  request.setUint8(HEADER_BYTES, AF_UNIX);
  request.setUint32(HEADER_BYTES + 4, ALL_STATES, true);
  request.setUint32(HEADER_BYTES + 8, inode, true);
  request.setUint32(HEADER_BYTES + 12, UDIAG_SHOW_RQLEN, true);
  request.setBigUint64(HEADER_BYTES + 16, 0xffff_ffff_ffff_ffffn, true); // any cookie
  netlink.write(new Uint8Array(request.buffer));
  const bytes = netlink.read(4096); // the kernel has answered already
  const answer = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (answer.getUint16(4, true) !== SOCK_DIAG_BY_FAMILY) return undefined; // an error
  if (answer.getUint8(HEADER_BYTES + 2) !== TCP_LISTEN) return undefined;
  const end = answer.getUint32(0, true);
  for (let at = HEADER_BYTES + ANSWER_BYTES; at + 4 <= end;) {
    const length = answer.getUint16(at, true); // struct rtattr
    if (answer.getUint16(at + 2, true) === UNIX_DIAG_RQLEN) {
      return { length: answer.getUint32(at + 4, true), limit: answer.getUint32(at + 8, true) };
    }
    at += (length + 3) & ~3;
  }
  return undefined;
}
