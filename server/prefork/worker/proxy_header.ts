/**
 * The header of the PROXY protocol, versions 1 and 2, with which a proxy begins a connection and
 * tells who its client is.
 *
 * @see {@link https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt The PROXY protocol}
 */
import { formatIp, parseIp } from "../ip_address.ts";

/** What the first bytes of a connection are. */
export type ProxyHeader =
  | { readonly kind: "incomplete" | "invalid" }
  | {
    readonly kind: "complete";
    /** The size of the header in bytes. What follows is the client's. */
    readonly size: number;
    /** The client; `undefined` if it is the proxy itself, or the proxy does not know it. */
    readonly client: Deno.Addr | undefined;
  };

/** The size of the largest header that is accepted, in bytes. */
export const LARGEST_HEADER = 4096;

const INVALID: ProxyHeader = { kind: "invalid" };
const INCOMPLETE: ProxyHeader = { kind: "incomplete" };

const SIGNATURE_1 = new TextEncoder().encode("PROXY ");
const SIGNATURE_2 = Uint8Array.of(13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10);
/** The size of the largest header of version 1, with its end of line. */
const LARGEST_1 = 107;
const LF = 10;

/**
 * Parses what has arrived.
 *
 * @param bytes The bytes from the beginning of the connection.
 */
export function parseProxyHeader(bytes: Uint8Array): ProxyHeader {
  if (beginsWith(bytes, SIGNATURE_1)) return parseVersion1(bytes);
  if (beginsWith(bytes, SIGNATURE_2)) return parseVersion2(bytes);
  return INVALID;
}

/** Whether bytes begin with others, as far as they have arrived. */
function beginsWith(bytes: Uint8Array, beginning: Uint8Array): boolean {
  const length = Math.min(bytes.length, beginning.length);
  for (let i = 0; i < length; i++) if (bytes[i] !== beginning[i]) return false;
  return true;
}

const LINE = /^PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n$/;

function parseVersion1(bytes: Uint8Array): ProxyHeader {
  const end = bytes.subarray(0, LARGEST_1).indexOf(LF);
  if (end === -1) return bytes.length < LARGEST_1 ? INCOMPLETE : INVALID;
  const size = end + 1;
  const line = String.fromCharCode(...bytes.subarray(0, size));
  const [match, version, source, destination, port, ownPort] = LINE.exec(line) ?? [];
  if (match === undefined) return INVALID;
  if (version === undefined) return { kind: "complete", size, client: undefined };
  const isIpv6 = version === "6";
  const isAddress = (text: string) => text.includes(":") === isIpv6 && parseIp(text) !== undefined;
  if (!isAddress(source!) || !isAddress(destination!)) return INVALID;
  if (Number(port) > 65535 || Number(ownPort) > 65535) return INVALID;
  const hostname = formatIp(parseIp(source!)!);
  return { kind: "complete", size, client: { transport: "tcp", hostname, port: Number(port) } };
}

/** The size of the fixed part of version 2. */
const FIXED_2 = 16;
/** Version 2 with the command LOCAL: the proxy itself has connected, to check the server's health. */
const LOCAL = 0x20;
/** Version 2 with the command PROXY. */
const PROXY = 0x21;
/** The address families and protocols, and how many bytes their addresses take. */
const UNSPECIFIED = 0x00;
const TCP4 = { code: 0x11, bytes: 12 } as const;
const TCP6 = { code: 0x21, bytes: 36 } as const;
const UNIX = { code: 0x31, bytes: 216 } as const;

function parseVersion2(bytes: Uint8Array): ProxyHeader {
  if (bytes.length < FIXED_2) return INCOMPLETE;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = FIXED_2 + view.getUint16(14);
  const command = view.getUint8(12);
  if (size > LARGEST_HEADER || (command !== LOCAL && command !== PROXY)) return INVALID;
  if (bytes.length < size) return INCOMPLETE;
  const code = view.getUint8(13);
  // What follows the addresses is skipped.
  if (command === LOCAL || code === UNSPECIFIED) {
    return { kind: "complete", size, client: undefined };
  }
  const form = [TCP4, TCP6, UNIX].find((one) => one.code === code);
  if (form === undefined || size < FIXED_2 + form.bytes) return INVALID;
  return { kind: "complete", size, client: clientOf(view, form.code) };
}

function clientOf(view: DataView, code: number): Deno.Addr {
  if (code === UNIX.code) {
    const path = new Uint8Array(view.buffer, view.byteOffset + FIXED_2, UNIX.bytes / 2);
    const end = path.indexOf(0, 1); // the first byte of an abstract address is NUL
    const text = new TextDecoder().decode(end === -1 ? path : path.subarray(0, end));
    return { transport: "unix", path: text === "\0" ? "" : text };
  }
  if (code === TCP4.code) {
    const hostname = formatIp(view.getUint32(FIXED_2));
    return { transport: "tcp", hostname, port: view.getUint16(FIXED_2 + 8) };
  }
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(FIXED_2 + 2 * i));
  const hex = groups.map((group) => group.toString(16)).join(":");
  const hostname = formatIp(parseIp(hex)!); // IPv4-mapped addresses count as IPv4
  return { transport: "tcp", hostname, port: view.getUint16(FIXED_2 + 32) };
}
