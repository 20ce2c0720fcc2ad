/**
 * A throw-away address: a Deno server listens on it until a socket of tine's replaces its socket.
 * No client should find it there.
 */
import { AF_UNIX } from "../address.ts";
import { type KeyPair, withCertificateChoice } from "./certificate_choice.ts";
import { originalOf } from "./globals.ts";

/** With which certificate a server speaks TLS. */
export interface ServerTls extends KeyPair {
  /** As for {@linkcode withCertificateChoice}. */
  readonly choose?: (name: string) => KeyPair;
}

/**
 * An address that is not used for anything else, in the form that `Deno.serve` and `Deno.listen`
 * accept.
 */
export type ThrowAwayAddress =
  | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string };

/**
 * Returns an address. For a UNIX socket it is an abstract one, unix(7): a process that is killed
 * leaves nothing of it in the file system. Any process on this machine can connect to it while a
 * socket listens there.
 *
 * @param family The address family of the socket that replaces the server's socket.
 */
export function throwAwayAddress(family: number): ThrowAwayAddress {
  if (family === AF_UNIX) return { transport: "unix", path: `\0tine-${crypto.randomUUID()}` };
  return { transport: "tcp", hostname: "127.0.0.1", port: 0 };
}

/**
 * Makes Deno listen on such an address.
 *
 * @param family The address family, as for {@linkcode throwAwayAddress}.
 * @throws {Deno.errors.NotCapable} As {@linkcode checkThrowAwayAddress} does.
 */
export function listenAtThrowAwayAddress(family: number): Deno.Listener {
  const address = throwAwayAddress(family);
  // The same call twice, because each kind of address has its own overload.
  return address.transport === "unix" ? Deno.listen(address) : Deno.listen(address);
}

/**
 * Checks that Deno may and can listen on such an address, so that not every process fails on it.
 *
 * @param family The address family, as for {@linkcode throwAwayAddress}.
 * @throws {Deno.errors.NotCapable} Without `--allow-net=127.0.0.1` or, for a UNIX socket, without
 *   `--allow-net`.
 */
export function checkThrowAwayAddress(family: number): void {
  listenAtThrowAwayAddress(family).close();
}

/**
 * Makes Deno's server listen on the address.
 *
 * @param address The address.
 * @param tls The certificate for HTTPS; ignored for a UNIX socket.
 * @param handle Called with each request.
 * @param options Further options of `Deno.serve`, which come first.
 */
export function serveAt(
  address: ThrowAwayAddress,
  tls: ServerTls | undefined,
  handle: Deno.ServeHandler,
  options: object = {},
): Deno.HttpServer {
  const serve = originalOf("Deno.serve");
  const onListen = () => {};
  if (address.transport === "unix") return serve({ ...options, ...address, onListen }, handle);
  if (tls === undefined) return serve({ ...options, ...address, onListen }, handle);
  const { cert, key, choose } = tls;
  const start = () => serve({ cert, key, ...options, ...address, onListen }, handle);
  // A program's own certificate is the only one.
  return choose === undefined || "cert" in options ? start() : withCertificateChoice(choose, start);
}
