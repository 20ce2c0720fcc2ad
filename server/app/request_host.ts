/**
 * The host in a request's URL. It is the host that the client sent. If the client sent none, Deno
 * uses the address that its server was created with, which is a throw-away address in every server
 * of tine.
 */
import { type Address, formatAddress } from "../../ffi/address.ts";

const SCHEMES = ["http:", "https:", "http+unix:"];
const LOCAL = /^(0\.0\.0\.0|127\.\d+\.\d+\.\d+|::1?)$/;

/**
 * Returns the host that Deno puts into the URL of a request without a host.
 *
 * @param addr The address that the server listens on.
 */
export function hostOf(addr: Deno.Addr): string {
  if (addr.transport !== "tcp") return "path" in addr ? encodePath(addr.path) : "";
  const { hostname, port } = addr;
  return LOCAL.test(hostname) ? `localhost:${port}` : formatAddress([hostname, port]);
}

/**
 * Creates a function that gives a request without a host the URL that `deno serve` would give it.
 *
 * @param from The host of the throw-away address.
 * @param to The host of the real address.
 * @returns A function that sets and returns the request's URL. The request stays the same object: a
 *   copy could not be upgraded.
 */
export function hostRenamer(from: string, to: string): (request: Request) => string {
  const starts = SCHEMES.map((scheme) => `${scheme}//${from}/`);
  let right = "";
  return (request) => {
    const { url } = request;
    // Requests often repeat.
    if (url === right) return url;
    const wrong = starts.find((start) => url.startsWith(start));
    if (wrong === undefined) return right = url;
    // Parsed as a URL, because that omits the default ports 80 and 443.
    const start = wrong.replace(from, () => to);
    const value = new URL(start + url.slice(wrong.length)).href;
    Object.defineProperty(request, "url", { value, enumerable: true });
    return value;
  };
}

/** Converts an address to Deno's representation. */
export function addrOf(address: Address): Deno.Addr {
  return typeof address === "string"
    ? { transport: "unix", path: address }
    : { transport: "tcp", hostname: address[0], port: address[1] };
}

function encodePath(path: string): string {
  return Array.from(new TextEncoder().encode(path), (byte) => {
    const char = String.fromCharCode(byte);
    if (/[0-9A-Za-z]/.test(char)) return char;
    return `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}
