import { architecture } from "./platform.ts";
import { cString, textAt } from "./c_string.ts";
import { fail } from "./errno.ts";
import { libc } from "./libc.ts";

/** UNIX domain sockets: addresses are paths on this machine, unix(7). */
export const AF_UNIX = 1;
/** IPv4, ip(7). */
export const AF_INET = 2;
/** IPv6, ipv6(7). */
export const AF_INET6 = 10;
/** Messages to and from the kernel, netlink(7). */
export const AF_NETLINK = 16;

/**
 * A host and a port. The host is a numeric address, a name, or `""` for all interfaces. An IPv6
 * address may also have a flow label and a scope id.
 */
export type InetAddress = readonly [
  host: string,
  port: number,
  flowinfo?: number,
  scopeId?: number,
];

/** A path of at most 107 bytes. If it starts with NUL, it is an abstract name; `""` is unnamed. */
export type UnixAddress = string;

/** The address to which a socket is bound or connected. */
export type Address = InetAddress | UnixAddress;

/** The size of the largest `sockaddr` used here, `sockaddr_un`, in bytes. */
export const SOCKADDR_BYTES = 110;

const SUN_PATH_BYTES = 108;

// A system call of getaddrinfo(3) failed; errno gives the reason.
const EAI_SYSTEM = -11;

// A path may begin with bytes that are a byte order mark in other text.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Formats an address for errors and logs: `127.0.0.1:80`, `[::1]:80`, `/run/app.sock`. */
export function formatAddress(address: Address): string {
  if (typeof address === "string") return address.replace("\0", "@");
  const [host, port] = address;
  return host.includes(":") ? `[${host}]:${port}` : `${host || "*"}:${port}`;
}

/**
 * Encodes an address as a `sockaddr`.
 *
 * @throws {TypeError} If it is not an address of the family.
 * @throws {RangeError} If the port is not a whole number from 0 to 65535, or the path is too long.
 * @throws {Error} If the host's name cannot be resolved.
 */
export function encodeAddress(
  syscall: string,
  family: number,
  address: Address,
): Uint8Array<ArrayBuffer> {
  if (family === AF_UNIX) {
    if (typeof address !== "string") {
      throw new TypeError(
        `Cannot ${syscall} ${String(address)}: expected a path, the address of a UNIX socket`,
      );
    }
    return encodeUnix(syscall, address);
  }
  if (!Array.isArray(address) || typeof address[0] !== "string") {
    throw new TypeError(
      `Cannot ${syscall} ${
        JSON.stringify(address)
      }: expected [host, port], the address of an internet socket`,
    );
  }
  return encodeInet(syscall, family, address as unknown as InetAddress);
}

function encodeInet(
  syscall: string,
  family: number,
  address: InetAddress,
): Uint8Array<ArrayBuffer> {
  const [host, port, flowinfo = 0, scopeId = 0] = address;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(
      `Cannot ${syscall} ${formatAddress(address)}: expected a port from 0 to 65535`,
    );
  }
  const bytes = host === "" ? anyAddress(family) : resolve(syscall, family, address);
  const view = new DataView(bytes.buffer);
  view.setUint16(2, port);
  if (family === AF_INET6) {
    view.setUint32(4, flowinfo);
    if (scopeId !== 0) view.setUint32(24, scopeId, true);
  }
  return bytes;
}

function anyAddress(family: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(family === AF_INET ? 16 : 28);
  new DataView(bytes.buffer).setUint16(0, family, true);
  return bytes;
}

function encodeUnix(syscall: string, path: string): Uint8Array<ArrayBuffer> {
  const encoded = new TextEncoder().encode(path);
  const abstract = path.startsWith("\0");
  if (!abstract && path.includes("\0")) {
    throw new TypeError(`Cannot ${syscall} ${JSON.stringify(path)}: a path cannot contain NUL`);
  }
  // A path needs a terminating NUL; the end of an abstract name is given by the length.
  const longest = abstract ? SUN_PATH_BYTES : SUN_PATH_BYTES - 1;
  if (encoded.length > longest) {
    throw new RangeError(
      `Cannot ${syscall} ${formatAddress(path)}: the path has ${encoded.length} bytes, ` +
        `but that of a UNIX socket can have at most ${longest}`,
    );
  }
  const bytes = new Uint8Array(2 + encoded.length + (abstract || path === "" ? 0 : 1));
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(encoded, 2);
  return bytes;
}

/**
 * Decodes the address in a `sockaddr`.
 *
 * @param length The number of bytes that the kernel filled in.
 */
export function decodeAddress(bytes: Uint8Array, length: number): Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = length < 2 ? AF_UNIX : view.getUint16(0, true);
  switch (family) {
    case AF_INET:
      return [bytes.subarray(4, 8).join("."), view.getUint16(2)];
    case AF_INET6:
      return [
        formatIpv6(view),
        view.getUint16(2),
        view.getUint32(4),
        view.getUint32(24, true),
      ];
    default: {
      const path = bytes.subarray(2, Math.min(length, bytes.length));
      const end = path[0] === 0 ? -1 : path.indexOf(0);
      return decoder.decode(end < 0 ? path : path.subarray(0, end));
    }
  }
}

// RFC 5952: lower case, "::" for the longest run of two or more zero groups, and dotted notation
// for the IPv4 part of an IPv4-mapped address.
function formatIpv6(sockaddr: DataView): string {
  const groups = Array.from({ length: 8 }, (_, i) => sockaddr.getUint16(8 + 2 * i));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return "::ffff:" + [20, 21, 22, 23].map((at) => sockaddr.getUint8(at)).join(".");
  }
  let start = -1;
  let longest = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > longest) [start, longest] = [i, end - i];
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + longest).join(":")}`;
}

/** Returns the first address that getaddrinfo(3) finds for the host, as a `sockaddr`. */
function resolve(
  syscall: string,
  family: number,
  address: InetAddress,
): Uint8Array<ArrayBuffer> {
  architecture(); // the layout of struct addrinfo below is that of 64-bit Linux
  const hints = new Uint8Array(48);
  const view = new DataView(hints.buffer);
  view.setInt32(4, family, true);
  view.setInt32(8, 1, true); // SOCK_STREAM; otherwise each address is listed once per type
  const result = new BigUint64Array(1);
  const failure = libc().getaddrinfo(cString(address[0]), null, hints, result);
  if (failure === EAI_SYSTEM) fail(syscall, formatAddress(address));
  if (failure !== 0) {
    throw new Error(
      `Cannot ${syscall} ${formatAddress(address)}: the host cannot be resolved ` +
        `(${textAt(libc().gai_strerror(failure))})`,
    );
  }
  const list = Deno.UnsafePointer.create(result[0]!);
  if (list === null) throw new Error("getaddrinfo() returned no result");
  try {
    const info = new Deno.UnsafePointerView(list);
    const length = info.getUint32(16);
    const sockaddr = info.getPointer(24);
    if (sockaddr === null) throw new Error("getaddrinfo() returned no address");
    const bytes = new Uint8Array(length);
    new Deno.UnsafePointerView(sockaddr).copyInto(bytes);
    return bytes;
  } finally {
    libc().freeaddrinfo(list);
  }
}
