/** The proxies whose word about the client is believed: the option `trustProxy`. */
import { cannot } from "../options.ts";
import { includesIp, type Ip, type Network, parseNetwork } from "./ip_address.ts";

/** The networks that have names. */
const NETWORKS: { readonly [name: string]: readonly string[] | undefined } = {
  loopback: ["127.0.0.0/8", "::1"],
  private: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
};
/** What the option may contain beside networks and their names. */
const WORDS: readonly string[] = ["unix", "forwarded"];

/** The proxies, and which header they write. */
export interface TrustedProxies {
  /** Whether only `Forwarded` counts, and `X-Forwarded-For` and its like do not. */
  readonly onlyForwarded: boolean;
  /** Whether an address is one of a proxy. */
  includes(ip: Ip): boolean;
}

/**
 * Returns the proxies that the option names; `undefined` if it names none. The other end of a UNIX
 * socket is one in any case.
 *
 * @param option The option's value, which must be valid.
 */
export function trustedProxies(option: readonly string[]): TrustedProxies | undefined {
  if (option.length === 0) return undefined;
  const networks = option.flatMap(networksOf);
  return {
    onlyForwarded: option.includes("forwarded"),
    includes: (ip) => networks.some((network) => includesIp(network, ip)),
  };
}

/**
 * Rejects what the option may not contain.
 *
 * @param name The option's name in the error message.
 * @throws {RangeError} If it is neither a network nor one of the words.
 */
export function checkTrusted(name: string, value: string): void {
  if (WORDS.includes(value) || networksOf(value).length > 0) return;
  throw new RangeError(
    `${cannot(name, value)} an address, a network such as 10.0.0.0/8 or fd00::/8, ` +
      "loopback, private, unix or forwarded",
  );
}

function networksOf(text: string): Network[] {
  const names = Object.hasOwn(NETWORKS, text) ? NETWORKS[text]! : [text];
  return names.flatMap((name) => parseNetwork(name) ?? []);
}
