/**
 * The hosts that the admin socket answers for. A page on the web can make its own name resolve to
 * this machine (DNS rebinding). The browser then lets the page read the response, but sends the
 * name that the page asked for.
 */
import type { Address } from "../../../ffi/address.ts";

const LOOPBACK = /^(localhost\.?|127(\.\d+){3}|\[::1\])$/;
const NUMERIC = /^(\[.*\]|\d+(\.\d+){3})$/;
const ALL_ADDRESSES: readonly unknown[] = ["0.0.0.0", "::"];

/**
 * Creates the check of a request's host. It admits loopback names and addresses, the address that
 * the socket is bound to, and the given names. A socket that is bound to all addresses admits every
 * numeric address: only a name can be rebound. Over a UNIX socket, which no browser connects to,
 * every host is admitted.
 *
 * @param address The socket's address.
 * @param names Further names and addresses.
 * @returns The check. It returns whether the request is admitted.
 */
export function admitHosts(
  address: Address,
  names: readonly string[],
): (request: Request) => boolean {
  if (typeof address === "string") return () => true;
  const admitted = new Set([address[0], ...names].map(hostnameOf));
  const isAdmitted = (hostname: string) =>
    LOOPBACK.test(hostname) || admitted.has(hostname) ||
    (ALL_ADDRESSES.includes(address[0]) && NUMERIC.test(hostname));
  return ({ url, headers }) => {
    // They differ if the request line has an absolute URL.
    const host = headers.get("host");
    return [url, ...host ? [`http://${host}/`] : []].every((text) => {
      const hostname = URL.parse(text)?.hostname;
      return hostname !== undefined && isAdmitted(hostname);
    });
  };
}

/**
 * Returns a name or an address in the form in which URLs contain it; `undefined` if they cannot.
 *
 * @param name The name or address, without a port.
 */
export function hostnameOf(name: string): string | undefined {
  const url = URL.parse(`http://${name.includes(":") ? `[${name}]` : name}/`);
  // Otherwise the text contains more than a host.
  return url?.href === `http://${url?.hostname}/` ? url.hostname : undefined;
}
