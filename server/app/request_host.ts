/**
 * The host in a request's URL. It is the host that the client sent. If the client sent none, Deno
 * uses the address that its server was created with, which is a throw-away address in every server
 * of tine.
 */
import { type Address, formatAddress } from "../../ffi/address.ts";
import { replaceUrl, urlOf } from "../../ffi/runtime/http_internals.ts";

/** The schemes of Deno's servers, and the end of a host with the port that a URL omits. */
const SCHEMES = { "http:": ":80", "https:": ":443", "http+unix:": "" };
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
  const starts = Object.entries(SCHEMES).map(([scheme, defaultPort]) =>
    [
      `${scheme}//${from}/`,
      `${scheme}//${to.endsWith(defaultPort) ? to.slice(0, to.length - defaultPort.length) : to}/`,
    ] as const
  );
  let right = "";
  return (request) => {
    const url = urlOf(request);
    // Requests often repeat.
    if (url === right) return url;
    const start = starts.find(([wrong]) => url.startsWith(wrong));
    if (start === undefined) return right = url;
    // Not parsed as a URL: Deno passes on a target as it came.
    const renamed = start[1] + url.slice(start[0].length);
    replaceUrl(request, renamed);
    return renamed;
  };
}

/** Converts an address to Deno's representation. */
export function addrOf(address: Address): Deno.Addr {
  return typeof address === "string"
    ? { transport: "unix", path: address }
    : { transport: "tcp", hostname: address[0], port: address[1] };
}

function encodePath(path: string): string {
  if (path.startsWith("\0")) return ""; // an abstract address is not a path
  return Array.from(new TextEncoder().encode(path), (byte) => {
    const char = String.fromCharCode(byte);
    if (/[0-9A-Za-z]/.test(char)) return char;
    return `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}
