/** Requests that a proxy has passed on: the app and the access log see the client's. */
import { fieldOf, replaceClient, replaceUrl } from "../../../ffi/runtime/http_internals.ts";
import { parseIp } from "../ip_address.ts";
import { trustedProxies } from "../trusted_proxies.ts";
import { addrOfNode, type Fields, type Origin, readForwarded } from "./forwarded.ts";

/** Shows clients, where a proxy that is trusted names them. */
export interface ProxyView {
  /**
   * Puts the client into a request's info, and the scheme and the host that it used into the URL.
   *
   * @param request The request.
   * @param url Its URL.
   * @param info The request's info, with the other end of the connection.
   * @returns The request's new URL.
   */
  reveal(request: Request, url: string, info: Deno.ServeHandlerInfo): string;
  /**
   * Returns the client of a request.
   *
   * @param fields The request's header.
   * @param peer The other end of the connection.
   */
  clientOf(fields: Fields, peer: Deno.Addr): Deno.Addr;
  /** Whether the other end of a connection is a proxy that is trusted. */
  isTrusted(peer: Deno.Addr): boolean;
}

/**
 * Returns the view; `undefined` if no proxy is trusted.
 *
 * @param trustProxy The option.
 */
export function viewThroughProxies(trustProxy: readonly string[]): ProxyView | undefined {
  const proxies = trustedProxies(trustProxy);
  if (proxies === undefined) return undefined;
  // Proxies are few, and their requests many.
  let last: string | undefined;
  let isLastTrusted = false;

  function isTrusted(peer: Deno.Addr): boolean {
    if (!("hostname" in peer)) return true; // permissions of the socket's file say who may connect
    if (peer.hostname === last) return isLastTrusted;
    last = peer.hostname;
    const ip = parseIp(last.replace(/%.*/, ""));
    return isLastTrusted = ip !== undefined && proxies!.includes(ip);
  }

  function originOf(fields: Fields, peer: Deno.Addr): Origin | undefined {
    return isTrusted(peer) ? readForwarded(fields, proxies!) : undefined;
  }

  return {
    isTrusted,
    reveal(request, url, info): string {
      const origin = originOf((name) => fieldOf(request, name), info.remoteAddr);
      if (origin === undefined) return url;
      const { client, scheme, host } = origin;
      if (client !== undefined) replaceClient(info, addrOfNode(client));
      const seen = scheme === undefined && host === undefined ? url : withOrigin(url, scheme, host);
      if (seen !== url) replaceUrl(request, seen);
      return seen;
    },
    clientOf(fields, peer): Deno.Addr {
      const client = originOf(fields, peer)?.client;
      return client === undefined ? peer : addrOfNode(client);
    },
  };
}

/** The ports that a URL omits. */
const DEFAULT_PORTS: { readonly [scheme: string]: RegExp } = { http: /:80$/, https: /:443$/ };

/** Returns a URL with another scheme or host. It is not parsed: Deno passes on a target as it came. */
function withOrigin(url: string, scheme: string | undefined, host: string | undefined): string {
  const start = url.indexOf("//") + 2;
  const path = url.indexOf("/", start);
  const end = path === -1 ? url.length : path;
  const newScheme = scheme ?? url.slice(0, start - 3);
  const newHost = (host ?? url.slice(start, end)).replace(DEFAULT_PORTS[newScheme] ?? /$^/, "");
  return `${newScheme}://${newHost}${url.slice(end)}`;
}
