/**
 * The sockets of this machine, as the kernel lists them over netlink, sock_diag(7): the only way to
 * learn how many connections a listener may keep waiting. Without it, `/proc/net/tcp`.
 */
import { AF_INET, AF_NETLINK, AF_UNIX, type Descriptor } from "../../../mod.ts";
import { SOCK_DGRAM, socket } from "../../../mod.ts";

/** A socket without its holders, which only `/proc/PID/fd` knows. */
export interface SocketEntry {
  readonly inode: number;
  readonly kind: "tcp" | "unix";
  readonly state: string;
  readonly local: string;
  readonly localPort: number;
  readonly remote: string;
  readonly remotePort: number;
  readonly queue: number;
  readonly limit?: number;
  /** Of a UNIX socket: the inode of the other end. */
  readonly peer?: number;
}

const TCP_STATES =
  ("- ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT " +
    "LAST_ACK LISTEN CLOSING SYN_RECV").split(" ");
const LISTEN = 10;

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const TCPDIAG_GETSOCK = 18; // the older request, which lists IPv4 and IPv6 at once
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST_DUMP = 0x301;
const HEADER_BYTES = 16;
const ALL_STATES = 0xffff_ffff;
const TIME_WAIT_BIT = 1 << 6;
const INET_DIAG_REQ_BYTECODE = 1;
const INET_DIAG_BC_JMP = 1;
const INET_DIAG_BC_S_EQ = 11;
const INET_DIAG_BC_D_EQ = 12;
const MOST_PORTS = 1000; // the program has at most 64 KiB
const UDIAG_SHOW_NAME_PEER_RQLEN = 1 | 4 | 16;

/** Asks the kernel about sockets. */
export class SocketTable implements Disposable {
  #netlink: Descriptor | undefined;

  constructor() {
    try {
      this.#netlink = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG);
    } catch {
      this.#netlink = undefined; // a container may forbid it
    }
  }

  /**
   * All TCP sockets; of those in TIME_WAIT, of which a busy machine has thousands, only the ones
   * with one of some ports.
   */
  tcp(ports: ReadonlySet<number>): SocketEntry[] {
    const found: SocketEntry[] = [];
    const add = (view: DataView, at: number) => found.push(tcpEntry(view, at));
    const isThere = this.#dump(TCPDIAG_GETSOCK, tcpRequest(~TIME_WAIT_BIT), add) &&
      (ports.size === 0 || this.#dump(TCPDIAG_GETSOCK, tcpRequest(TIME_WAIT_BIT, ports), add));
    if (!isThere) {
      return [...procNetTcp("tcp"), ...procNetTcp("tcp6")].filter((entry) =>
        entry.state !== "TIME_WAIT" || ports.has(entry.localPort) || ports.has(entry.remotePort)
      );
    }
    return found;
  }

  /** All UNIX sockets. */
  unix(): SocketEntry[] {
    const found: SocketEntry[] = [];
    const request = new Uint8Array(24); // struct unix_diag_req
    request[0] = AF_UNIX;
    const view = new DataView(request.buffer);
    view.setUint32(4, ALL_STATES, true);
    view.setUint32(12, UDIAG_SHOW_NAME_PEER_RQLEN, true);
    const isThere = this.#dump(
      SOCK_DIAG_BY_FAMILY,
      request,
      (view, at, end) => found.push(unixEntry(view, at, end)),
    );
    return isThere ? found : procNetUnix();
  }

  /** Sends a request and hands over each message of the answer; `false` if there is none. */
  #dump(
    type: number,
    request: Uint8Array<ArrayBuffer>,
    message: (view: DataView, at: number, end: number) => void,
  ): boolean {
    if (this.#netlink === undefined) return false;
    const header = new DataView(new ArrayBuffer(HEADER_BYTES + request.length));
    header.setUint32(0, header.byteLength, true);
    header.setUint16(4, type, true);
    header.setUint16(6, NLM_F_REQUEST_DUMP, true);
    new Uint8Array(header.buffer).set(request, HEADER_BYTES);
    try {
      this.#netlink.write(new Uint8Array(header.buffer));
      for (;;) {
        const bytes = this.#netlink.read(64 * 1024);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        for (let at = 0; at < view.byteLength;) {
          const length = view.getUint32(at, true);
          const kind = view.getUint16(at + 4, true);
          if (kind === NLMSG_DONE) return true;
          if (kind === NLMSG_ERROR) throw new Error("The kernel does not list sockets");
          message(view, at + HEADER_BYTES, at + length);
          at += (length + 3) & ~3;
        }
      }
    } catch {
      this[Symbol.dispose](); // not in this kernel, or forbidden
      return false;
    }
  }

  [Symbol.dispose](): void {
    this.#netlink?.close();
    this.#netlink = undefined;
  }
}

/**
 * A `struct inet_diag_req` for sockets in some states, and a program that the kernel runs to choose
 * those with one of some ports.
 */
function tcpRequest(
  states: number,
  ports: ReadonlySet<number> = new Set(),
): Uint8Array<ArrayBuffer> {
  const filter = portFilter(ports);
  const attribute = filter.length === 0 ? 0 : 4 + filter.length;
  const request = new Uint8Array(60 + attribute);
  const view = new DataView(request.buffer);
  view.setUint32(52, states >>> 0, true);
  if (attribute > 0) {
    view.setUint16(60, attribute, true);
    view.setUint16(62, INET_DIAG_REQ_BYTECODE, true);
    request.set(filter, 64);
  }
  return request;
}

/**
 * Comparisons with each port, of a socket's own and of the other end: a match jumps to the end of
 * the program, which accepts; a jump beyond it rejects. A `struct inet_diag_bc_op` has a code and
 * how many bytes to go on by if it holds, and if not.
 */
function portFilter(ports: ReadonlySet<number>): Uint8Array {
  const comparisons = [...ports].slice(0, MOST_PORTS)
    .flatMap((port) => [[INET_DIAG_BC_S_EQ, port], [INET_DIAG_BC_D_EQ, port]] as const);
  const bytes = new Uint8Array(12 * comparisons.length);
  const view = new DataView(bytes.buffer);
  comparisons.forEach(([code, port], i) => {
    const at = 12 * i;
    const isLast = i === comparisons.length - 1;
    view.setUint8(at, code);
    view.setUint8(at + 1, 8);
    view.setUint16(at + 2, isLast ? 16 : 12, true);
    view.setUint16(at + 6, port, true);
    view.setUint8(at + 8, INET_DIAG_BC_JMP);
    view.setUint8(at + 9, 4);
    view.setUint16(at + 10, bytes.length - at - 8, true);
  });
  return bytes;
}

/** Reads a `struct inet_diag_msg`. */
function tcpEntry(view: DataView, at: number): SocketEntry {
  const state = view.getUint8(at + 1);
  const localPort = view.getUint16(at + 4);
  const remotePort = view.getUint16(at + 6);
  const isInet = view.getUint8(at) === AF_INET;
  const queue = view.getUint32(at + 56, true);
  return {
    inode: view.getUint32(at + 68, true),
    kind: "tcp",
    state: TCP_STATES[state] ?? `state ${state}`,
    local: `${address(view, at + 8, isInet)}:${localPort}`,
    localPort,
    remote: state === LISTEN ? "" : `${address(view, at + 24, isInet)}:${remotePort}`,
    remotePort,
    queue,
    ...state === LISTEN && { limit: view.getUint32(at + 60, true) },
  };
}

function address(view: DataView, at: number, isInet: boolean): string {
  if (isInet || isMapped(view, at)) {
    const from = isInet ? at : at + 12;
    return [0, 1, 2, 3].map((i) => view.getUint8(from + i)).join(".");
  }
  const groups = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => view.getUint16(at + 2 * i).toString(16));
  return `[${groups.join(":").replace(/(^|:)0(:0)+(:|$)/, "::")}]`;
}

/** Whether an IPv6 address means one of IPv4: `::ffff:127.0.0.1`. */
function isMapped(view: DataView, at: number): boolean {
  return view.getUint32(at) === 0 && view.getUint32(at + 4) === 0 &&
    view.getUint32(at + 8) === 0xffff;
}

const UNIX_DIAG_NAME = 0;
const UNIX_DIAG_PEER = 2;
const UNIX_DIAG_RQLEN = 4;

/** Reads a `struct unix_diag_msg` and its attributes. */
function unixEntry(view: DataView, at: number, end: number): SocketEntry {
  const state = view.getUint8(at + 2);
  let [local, queue, limit, peer] = ["", 0, 0, 0];
  for (let attribute = at + 16; attribute + 4 <= end;) {
    const length = view.getUint16(attribute, true);
    const type = view.getUint16(attribute + 2, true);
    if (type === UNIX_DIAG_NAME) {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + attribute + 4, length - 4);
      local = new TextDecoder().decode(bytes).replace(/^\0/, "@").replace(/\0$/, "");
    } else if (type === UNIX_DIAG_PEER) {
      peer = view.getUint32(attribute + 4, true);
    } else if (type === UNIX_DIAG_RQLEN) {
      queue = view.getUint32(attribute + 4, true);
      limit = view.getUint32(attribute + 8, true);
    }
    attribute += (length + 3) & ~3;
  }
  return {
    inode: view.getUint32(at + 4, true),
    kind: "unix",
    state: TCP_STATES[state] ?? `state ${state}`,
    local,
    localPort: 0,
    remote: "",
    remotePort: 0,
    queue,
    ...state === LISTEN && { limit },
    ...peer !== 0 && { peer },
  };
}

/** Reads `/proc/net/tcp`, whose addresses are words in the machine's byte order. */
function procNetTcp(name: string): SocketEntry[] {
  return lines(`/proc/net/${name}`).map((line): SocketEntry => {
    const [, local, remote, hexState, queues, , , , , inode] = line.trim().split(/\s+/);
    const state = parseInt(hexState!, 16);
    const [localAddress, localPort] = wordsAddress(local!);
    const [remoteAddress, remotePort] = wordsAddress(remote!);
    return {
      inode: Number(inode),
      kind: "tcp",
      state: TCP_STATES[state] ?? `state ${state}`,
      local: `${localAddress}:${localPort}`,
      localPort,
      remote: state === LISTEN ? "" : `${remoteAddress}:${remotePort}`,
      remotePort,
      queue: parseInt(queues!.split(":")[1]!, 16),
    };
  });
}

function wordsAddress(text: string): [address: string, port: number] {
  const [words, port] = text.split(":");
  const view = new DataView(new ArrayBuffer(words!.length / 2));
  for (let i = 0; i < view.byteLength; i += 4) {
    view.setUint32(i, parseInt(words!.slice(2 * i, 2 * i + 8), 16), true);
  }
  return [address(view, 0, view.byteLength === 4), parseInt(port!, 16)];
}

function procNetUnix(): SocketEntry[] {
  return lines("/proc/net/unix").map((line): SocketEntry => {
    const [, , , flags, , , inode, path] = line.trim().split(/\s+/);
    return {
      inode: Number(inode),
      kind: "unix",
      state: parseInt(flags!, 16) & 0x10000 ? "LISTEN" : "ESTABLISHED",
      local: path ?? "",
      localPort: 0,
      remote: "",
      remotePort: 0,
      queue: 0,
    };
  });
}

function lines(path: string): string[] {
  try {
    return Deno.readTextFileSync(path).trimEnd().split("\n").slice(1);
  } catch {
    return [];
  }
}
