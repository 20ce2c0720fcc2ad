/**
 * Whose requests are answered. The page starts and kills processes, so nobody but its own readers
 * may use it: not a page elsewhere on the web that sends requests to this machine (it would name its
 * own `Origin`), and not one whose name is made to resolve to this machine (DNS rebinding: it would
 * name its own `Host`).
 */
import { Refusal } from "./refusal.ts";

const LOOPBACK = /^(localhost\.?|127(\.\d+){3}|\[::1\])$/;
const NUMERIC = /^(\[.*\]|\d+(\.\d+){3})$/;
const ALL_ADDRESSES = ["0.0.0.0", "::"];

/**
 * Creates the check of a request's `Host` and `Origin`.
 *
 * @param hostname The address or name that the server listens on. One that stands for all addresses
 *   admits every numeric address, and this machine's name: only other names can be rebound.
 * @returns The check. It throws a {@linkcode Refusal} with status 403.
 */
export function admission(hostname: string): (request: Request) => void {
  const own = hostnameOf(hostname);
  const isForAll = ALL_ADDRESSES.includes(hostname);
  const machine = isForAll ? Deno.hostname().toLowerCase() : undefined;
  const isAdmitted = (name: string) =>
    LOOPBACK.test(name) || name === own || name === machine || (isForAll && NUMERIC.test(name));
  return ({ method, url, headers }) => {
    const host = headers.get("host") ?? "";
    // They differ if the request line has an absolute URL.
    for (const text of [url, `http://${host}/`]) {
      const name = URL.parse(text)?.hostname;
      if (name === undefined || !isAdmitted(name)) {
        throw new Refusal(403, "This host is not admitted: open the URL that the lab printed");
      }
    }
    const origin = headers.get("origin");
    if (origin === null && (method === "GET" || method === "HEAD")) return;
    // Browsers send it with every request that changes something, and no page can choose it.
    if (origin === null || URL.parse(origin)?.host !== URL.parse(`http://${host}/`)?.host) {
      throw new Refusal(403, "Only the lab's own page may do this: its Origin is required");
    }
  };
}

function hostnameOf(name: string): string | undefined {
  return URL.parse(`http://${name.includes(":") ? `[${name}]` : name}/`)?.hostname;
}
