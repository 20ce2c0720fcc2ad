/** The option `listen`: several addresses, each with its own certificates. */
import { type Address, formatAddress } from "../../ffi/address.ts";
import type { Certificate, ListenAddress } from "../listen.ts";
import { cannot } from "../options.ts";

/** An address to listen on, and its certificate. */
export interface ListenOptions {
  /**
   * `host:port`, such as `127.0.0.1:8000`, `[::]:443`, or `:8080` on all IPv4 addresses; or
   * `unix:PATH`. `[::]` accepts IPv4, too, unless another address has the same port over IPv4.
   */
  readonly address: string;
  /** The certificate chain for HTTPS, as PEM text, or several. Requires `key`. */
  readonly cert?: string | readonly string[];
  /** The private key of the certificate, as PEM text; or the key of each one. */
  readonly key?: string | readonly string[];
}

const UNIX = /^unix:(?=[^])/;
const NAMES = ["address", "cert", "key"];

/**
 * Rejects an invalid value of the option.
 *
 * @throws {RangeError} If an address is none, or is given twice.
 * @throws {TypeError} If a value has the wrong type, or not each certificate has a key.
 */
export function checkListen(name: string, value: unknown): void {
  if (!Array.isArray(value) || value.length === 0) {
    throw new TypeError(`${cannot(name, value)} an array of addresses`);
  }
  const seen = new Set<string>();
  for (const one of value) {
    const { address, cert, key } = checkOne(name, one);
    const known = formatAddress(checkAddress(name, address));
    if (UNIX.test(address) && cert !== undefined) {
      throw new TypeError(
        `Cannot serve HTTPS on ${name} ${Deno.inspect(address)}: a UNIX socket has no certificate`,
      );
    }
    checkPairs(name, cert, key);
    if (seen.has(known) && !known.endsWith(":0")) {
      throw new RangeError(`Cannot serve with ${name} ${Deno.inspect(address)} twice`);
    }
    seen.add(known);
  }
}

function checkOne(name: string, one: unknown): ListenOptions {
  if (typeof one === "string") return { address: one };
  const { address } = (one ?? {}) as ListenOptions;
  const isKnown = typeof one === "object" && typeof address === "string" &&
    Object.keys(one!).every((name) => NAMES.includes(name));
  if (isKnown) return one as ListenOptions;
  throw new TypeError(`${cannot(name, one)} an address, or { address, cert, key }`);
}

/** Returns the address. The host is in one of the ways to write it. */
function checkAddress(name: string, text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) {
    const port = text.match(/^\d+$/)?.[0] ?? "8000";
    throw new RangeError(
      `${cannot(name, text)} host:port, such as 127.0.0.1:${port}, [::]:${port} or :${port}, or ` +
        "unix:PATH",
    );
  }
  if (typeof address !== "string" && address[1] > 65535) {
    throw new RangeError(`${cannot(name, text)} a port from 0 to 65535`);
  }
  return address;
}

/**
 * Rejects certificates of which not each has a key.
 *
 * @param name The option's name, or the names of both, in an error message.
 * @throws {TypeError} If there are not as many keys, or a value has the wrong type.
 */
export function checkPairs(
  name: string | readonly [cert: string, key: string],
  cert: unknown,
  key: unknown,
): void {
  const [certName, keyName] = typeof name === "string" ? [`${name} cert`, `${name} key`] : name;
  if ((cert === undefined) !== (key === undefined)) {
    throw new TypeError(
      `Cannot serve HTTPS with only one of ${certName} and ${keyName}: expected both`,
    );
  }
  if (cert === undefined) return;
  checkTexts(certName, cert);
  checkTexts(keyName, key);
  const [certs, keys] = [[cert].flat().length, [key].flat().length];
  if (certs === keys) return;
  throw new TypeError(
    `Cannot serve HTTPS with ${certs} of ${certName} and ${keys} of ${keyName}: expected a key for ` +
      "each certificate, in the same order",
  );
}

/**
 * Rejects what is not a text, or several.
 *
 * @throws {TypeError} If it is something else.
 */
export function checkTexts(
  name: string,
  value: unknown,
): asserts value is string | readonly string[] {
  const isText = typeof value === "string" ||
    Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "string");
  if (!isText) throw new TypeError(`${cannot(name, value)} a string, or an array of strings`);
}

/** Returns the certificates with their keys. */
export function pairs(
  cert: string | readonly string[] | undefined,
  key: string | readonly string[] | undefined,
): Certificate[] {
  const keys = [key ?? []].flat();
  return [cert ?? []].flat().map((cert, i) => ({ cert, key: keys[i]! }));
}

/**
 * Resolves a valid value of the option.
 *
 * @param value The value.
 * @param absolute Makes a path absolute.
 */
export function resolveListen(
  value: readonly (string | ListenOptions)[],
  absolute: (path: string) => string,
): ListenAddress[] {
  const all = value.map((one) => {
    const { address, cert, key }: ListenOptions = typeof one === "string" ? { address: one } : one;
    const parsed = parseAddress(address)!;
    return {
      address: typeof parsed === "string" ? absolute(parsed) : parsed,
      certificates: pairs(cert, key),
    };
  });
  const portsOfIpv4 = new Set(
    all.flatMap(({ address }) =>
      typeof address === "string" || address[0].includes(":") || address[1] === 0 ? [] : address[1]
    ),
  );
  return all.map((one) => {
    const { address } = one;
    return typeof address !== "string" && address[0] === "::"
      ? { ...one, dualStack: !portsOfIpv4.has(address[1]) }
      : one;
  });
}

function parseAddress(text: string): Address | undefined {
  if (UNIX.test(text)) return text.replace(UNIX, "");
  const [, host, port] =
    text.match(/^(\[[\da-f:.]*:[\da-f:.]*(?:%[^\]]+)?\]|[^:/[\]\s]*):(\d+)$/i) ?? [];
  if (host === undefined) return undefined;
  if (host === "") return ["0.0.0.0", Number(port)];
  if (!host.startsWith("[")) return [host, Number(port)];
  return [normalized(host), Number(port)];
}

/** Returns an IPv6 address without its brackets, in the form that the kernel reports. */
function normalized(host: string): string {
  const url = `http://${host}/`;
  // One with a zone is no host of a URL.
  return (URL.canParse(url) ? new URL(url).hostname : host).slice(1, -1);
}
