/**
 * What proxies say about a client, in `Forwarded` (RFC 7239) or in `X-Forwarded-For` and its like.
 * Each proxy appends the address of the one that connected to it. So the fields are read from the
 * right, for as long as a trusted proxy has written what is read: all that is further to the left
 * may come from the client.
 */
import { formatIp, type Ip, parseIp } from "../ip_address.ts";
import type { TrustedProxies } from "../trusted_proxies.ts";

/** Returns the value of a field of the header, all lines of it joined by commas; else `null`. */
export type Fields = (name: string) => string | null | undefined;

/** What is known about a request. What no proxy has said is omitted. */
export interface Origin {
  readonly client?: Node;
  /** The scheme that the client used. */
  readonly scheme?: "http" | "https";
  /** The host, and the port if there was one, that the client asked for. It is valid in a URL. */
  readonly host?: string;
}

/** A client, or a proxy. */
export interface Node {
  readonly ip: Ip;
  /** The port; 0 if it is not known. */
  readonly port: number;
}

/** What one proxy has said. */
interface Element {
  readonly node: Node | undefined;
  readonly proto?: string | undefined;
  readonly host?: string | undefined;
}

/**
 * Reads what the proxies said about a request that one of them has passed on.
 *
 * `X-Forwarded-For` is preferred: a proxy that writes only this field passes on any `Forwarded` of
 * the client's. The proxies that write `Forwarded` must be known to do so.
 *
 * @param fields The request's header.
 * @param proxies The trusted proxies.
 * @returns What a trusted proxy has said.
 */
export function readForwarded(fields: Fields, proxies: TrustedProxies): Origin {
  const chain = proxies.onlyForwarded ? null : fields("x-forwarded-for");
  if (typeof chain !== "string") {
    const forwarded = fields("forwarded");
    if (typeof forwarded === "string") return walk(elementsOf(forwarded), proxies);
    if (proxies.onlyForwarded) return {};
  }
  const origin = walk(entriesOf(chain ?? ""), proxies);
  // Proxies replace these, as a rule, and the nearest one has the last word in any case.
  return withUrl(origin, lastOf(fields("x-forwarded-proto")), lastOf(fields("x-forwarded-host")));
}

/** Returns the first node that is not trusted, from the right, or the last one that is known. */
function walk(elements: Iterable<Element>, proxies: TrustedProxies): Origin {
  let client: Node | undefined;
  let proto: string | undefined;
  let host: string | undefined;
  for (const element of elements) {
    proto = element.proto ?? proto;
    host = element.host ?? host;
    if (element.node === undefined) break;
    client = element.node;
    if (!proxies.includes(client.ip)) break;
  }
  return withUrl(client === undefined ? {} : { client }, proto, host);
}

function withUrl(origin: Origin, proto: string | undefined, host: string | undefined): Origin {
  if (proto === undefined && host === undefined) return origin;
  const scheme = proto?.toLowerCase();
  return {
    ...origin,
    ...(scheme === "http" || scheme === "https") && { scheme },
    ...host !== undefined && isHost(host) && { host },
  };
}

/** Returns the entries of `X-Forwarded-For`, from the right, to the first that is none. */
function* entriesOf(list: string): Generator<Element> {
  for (let end = list.length; end >= 0;) {
    const comma = end === 0 ? -1 : list.lastIndexOf(",", end - 1);
    const entry = list.slice(comma + 1, end).trim();
    end = comma;
    if (entry !== "") yield { node: parseNode(entry) };
  }
}

/** Returns the elements of `Forwarded`, from the right, to the first that is none. */
function* elementsOf(list: string): Generator<Element> {
  for (let end = list.length; end >= 0;) {
    let comma = end;
    let element: Element | undefined;
    // A comma may be part of a quoted string. What is left of it may not be well-formed.
    do {
      comma = comma === 0 ? -1 : list.lastIndexOf(",", comma - 1);
      const text = list.slice(comma + 1, end).trim();
      if (text === "") break;
      element = parseElement(text);
    } while (element === undefined && comma !== -1 && end - comma < LONGEST_ELEMENT);
    if (element !== undefined) yield element;
    else if (list.slice(comma + 1, end).trim() !== "") yield { node: undefined };
    end = comma;
  }
}

/** No proxy writes more than this for one client. */
const LONGEST_ELEMENT = 1024;

/** A parameter of an element, and what separates it from the next one. */
const PARAMETER =
  /[ \t]*([!#$%&'*+.^_`|~\dA-Za-z-]+)=(?:([!#$%&'*+.^_`|~\dA-Za-z-]+)|"((?:[^"\\]|\\.)*)")[ \t]*(?:;|$)/y;

/** Parses an element of `Forwarded`; `undefined` if it is malformed. */
function parseElement(text: string): Element | undefined {
  const values: Record<string, string> = Object.create(null);
  for (let at = 0; at < text.length; at = PARAMETER.lastIndex) {
    PARAMETER.lastIndex = at;
    const [, name, token, quoted] = PARAMETER.exec(text) ?? [];
    if (name === undefined) return undefined;
    const key = name.toLowerCase();
    if (key in values) return undefined;
    values[key] = token ?? quoted!.replace(/\\(.)/g, "$1");
  }
  const { for: node, proto, host } = values;
  // Addresses of IPv6 have brackets here.
  const isNode = node !== undefined && !/^[^[].*:.*:/.test(node);
  return { node: isNode ? parseNode(node) : undefined, proto, host };
}

/** An address of IPv6 in brackets or any other, and perhaps a port, which may be hidden. */
const NODE = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}|_[\w.-]+))?$/;
/** The zone of an address of IPv6 that is valid on a link of the proxy's. */
const ZONE = /%[\w.~-]+$/;

/** Parses an address; `undefined` if it is none, such as `unknown` or `_hidden`. */
function parseNode(text: string): Node | undefined {
  const [, bracketed, plain, given] = NODE.exec(text) ?? [];
  const port = given === undefined || given.startsWith("_") ? 0 : Number(given);
  if (port > 65535) return undefined;
  const address = bracketed ?? plain ?? text; // without brackets
  const isIpv6 = address.includes(":");
  if (bracketed !== undefined && !isIpv6) return undefined;
  const ip = parseIp(isIpv6 ? address.replace(ZONE, "") : address);
  return ip === undefined ? undefined : { ip, port };
}

/** A name or an address, and perhaps a port. */
const HOST = /^(?:[\w.-]{1,255}|\[[\da-f:.]{2,45}\])(?::\d{1,5})?$/i;

// Hosts often repeat.
let host = "";
let isHostValid = false;

function isHost(text: string): boolean {
  if (text === host) return isHostValid;
  host = text;
  return isHostValid = HOST.test(text) && URL.canParse(`http://${text}/`);
}

/** Returns the last entry of a list; `undefined` if there is none. */
function lastOf(list: string | null | undefined): string | undefined {
  if (typeof list !== "string") return undefined;
  const last = list.slice(list.lastIndexOf(",") + 1).trim();
  return last === "" ? undefined : last;
}

/** Formats the client as Deno represents addresses. */
export function addrOfNode({ ip, port }: Node): Deno.NetAddr {
  return { transport: "tcp", hostname: formatIp(ip), port };
}
