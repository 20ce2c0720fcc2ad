/** IP addresses as numbers, to compare them with networks, and in one notation for each address. */

/**
 * An address: a number for IPv4, also if it is mapped into IPv6 (`::ffff:192.0.2.1`), and the eight
 * groups of 16 bits for any other of IPv6.
 */
export type Ip = number | readonly number[];

/** The bytes of an IPv4 address. A leading zero is refused: some programs read it as octal. */
const IPV4 = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;
const GROUP = /^[\da-f]{1,4}$/i;
/** The longest text of an IPv6 address. */
const LONGEST = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".length;

/**
 * Parses an address.
 *
 * @param text The address, without brackets and without a zone.
 * @returns The address; `undefined` if it is none.
 */
export function parseIp(text: string): Ip | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): number | undefined {
  const bytes = IPV4.exec(text);
  if (bytes === null) return undefined;
  let ip = 0;
  for (let i = 1; i <= 4; i++) {
    const byte = Number(bytes[i]);
    if (byte > 255) return undefined;
    ip = ip * 256 + byte;
  }
  return ip;
}

function parseIpv6(text: string): Ip | undefined {
  if (text.length > LONGEST) return undefined;
  const gap = text.indexOf("::");
  const start = groupsOf(gap === -1 ? text : text.slice(0, gap), gap === -1);
  const end = gap === -1 ? [] : groupsOf(text.slice(gap + 2), true);
  if (start === undefined || end === undefined) return undefined;
  const zeros = 8 - start.length - end.length;
  if (gap === -1 ? zeros !== 0 : zeros < 1) return undefined;
  const groups = [...start, ...Array<number>(zeros).fill(0), ...end];
  const isMapped = groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0);
  return isMapped ? groups[6]! * 65536 + groups[7]! : groups;
}

/** Parses groups, the last of which may be two as IPv4 writes them. */
function groupsOf(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const ipv4 = mayEndInIpv4 && parts.at(-1)!.includes(".") ? parseIpv4(parts.pop()!) : null;
  if (ipv4 === undefined || !parts.every((part) => GROUP.test(part))) return undefined;
  const groups = parts.map((part) => parseInt(part, 16));
  return ipv4 === null ? groups : [...groups, Math.floor(ipv4 / 65536), ipv4 % 65536];
}

/** Formats an address as RFC 5952 says; an IPv4-mapped one as IPv4. */
export function formatIp(ip: Ip): string {
  if (typeof ip === "number") {
    return [ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255].join(".");
  }
  let start = -1;
  let longest = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && ip[end] === 0) end++;
    if (end - i > longest) [start, longest] = [i, end - i];
  }
  const hex = ip.map((group) => group.toString(16));
  if (start === -1) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + longest).join(":")}`;
}

/** A network: an address, and how many of its first bits all addresses of the network share. */
export interface Network {
  readonly ip: Ip;
  readonly bits: number;
}

/**
 * Parses a network or a single address.
 *
 * @param text Such as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.1`.
 * @returns The network; `undefined` if it is none, or has bits set after the first ones.
 */
export function parseNetwork(text: string): Network | undefined {
  const [, address, length] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const ip = address === undefined ? undefined : parseIp(address);
  if (ip === undefined) return undefined;
  // The length of a network that is mapped into IPv6 counts the bits of IPv6.
  const size = address!.includes(":") ? 128 : 32;
  const given = length === undefined ? size : Number(length);
  const bits = given - (size === 128 && typeof ip === "number" ? 96 : 0);
  if (given > size || bits < 0) return undefined;
  return hasBitsAfter(ip, bits) ? undefined : { ip, bits };
}

/** Whether an address belongs to a network. */
export function includesIp({ ip, bits }: Network, address: Ip): boolean {
  if (typeof ip === "number" || typeof address === "number") {
    if (typeof ip !== "number" || typeof address !== "number") return false;
    return bits === 0 || (ip ^ address) >>> (32 - bits) === 0;
  }
  return ip.every((group, i) => (group ^ address[i]!) >>> (16 - bitsOf(i, bits)) === 0);
}

function hasBitsAfter(ip: Ip, bits: number): boolean {
  const groups = typeof ip === "number" ? [ip >>> 16, ip & 0xffff] : ip;
  return groups.some((group, i) => (group & (0xffff >>> bitsOf(i, bits))) !== 0);
}

/** Returns how many of the bits of a group are among the first bits of an address. */
function bitsOf(group: number, bits: number): number {
  return Math.max(0, Math.min(16, bits - 16 * group));
}
