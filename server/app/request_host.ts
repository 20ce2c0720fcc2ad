/**
 * The host in a request's URL. It is what the client has named; where it named
 * none, Deno takes the address that its server was made with, and that is a
 * throw-away one in every server of ours.
 */
import { type Address, formatAddress } from "../../ffi/address.ts";

const SCHEMES = ["http:", "https:", "http+unix:"];
const LOCAL = /^(0\.0\.0\.0|127\.\d+\.\d+\.\d+|::1?)$/;

/**
 * The host that Deno puts into the URL of a request that names none.
 *
 * @param addr Where the server listens.
 */
export function hostOf(addr: Deno.Addr): string {
  if (addr.transport !== "tcp") return "path" in addr ? encodePath(addr.path) : "";
  const { hostname, port } = addr;
  return LOCAL.test(hostname) ? `localhost:${port}` : formatAddress([hostname, port]);
}

/**
 * Makes what gives a request that names no host the URL that `deno serve` would give it.
 *
 * @param from The host of the throw-away address.
 * @param to That of the real one.
 * @returns Does so, and gives the request's URL. The request stays the same object: a copy
 *   could not be upgraded.
 */
export function hostRenamer(from: string, to: string): (request: Request) => string {
  const starts = SCHEMES.map((scheme) => `${scheme}//${from}/`);
  let right = "";
  return (request) => {
    const { url } = request;
    // Often the same is asked for again.
    if (url === right) return url;
    const wrong = starts.find((start) => url.startsWith(start));
    if (wrong === undefined) return right = url;
    // As a URL, because the default ports 80 and 443 are left out.
    const start = wrong.replace(from, () => to);
    const value = new URL(start + url.slice(wrong.length)).href;
    Object.defineProperty(request, "url", { value, enumerable: true });
    return value;
  };
}

/** An address as Deno shows it. */
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
