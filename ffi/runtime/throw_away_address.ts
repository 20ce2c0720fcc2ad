/**
 * A throw-away address: a Deno server listens on it until a socket of tine's replaces its socket.
 * No client should find it there.
 */
import { AF_UNIX } from "../address.ts";

/**
 * An address that is not used for anything else, in the form that `Deno.serve` and `Deno.listen`
 * accept.
 */
export interface ThrowAwayAddress extends Disposable {
  readonly address:
    | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
    | { readonly transport: "unix"; readonly path: string };
}

/**
 * Creates an address. After it is disposed, nobody can connect to it.
 *
 * @param family The address family of the socket that replaces the server's socket.
 * @throws {Error} Deno's error if no folder can be created for a UNIX socket.
 */
export function throwAwayAddress(family: number): ThrowAwayAddress {
  if (family !== AF_UNIX) {
    const address = { transport: "tcp", hostname: "127.0.0.1", port: 0 } as const;
    return { address, [Symbol.dispose]: () => {} };
  }
  // No other user may enter the folder.
  const folder = Deno.makeTempDirSync({ prefix: "tine_" });
  return {
    address: { transport: "unix", path: `${folder}/socket` },
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}

/**
 * Checks that Deno may and can listen on such an address, so that not every process fails on it.
 *
 * @param family The address family, as for {@linkcode throwAwayAddress}.
 * @throws {Deno.errors.NotCapable} Without `--allow-net=127.0.0.1` or, for a UNIX socket, without
 *   permission to read and write the folder for temporary files.
 */
export function checkThrowAwayAddress(family: number): void {
  using place = throwAwayAddress(family);
  const { address } = place;
  (address.transport === "unix" ? Deno.listen(address) : Deno.listen(address)).close();
}

/**
 * Makes Deno's server listen on the address.
 *
 * @param address The address.
 * @param certificate A certificate and its key, in PEM, for HTTPS; ignored for a UNIX socket.
 * @param handle Called with each request.
 */
export function serveAt(
  address: ThrowAwayAddress["address"],
  { cert, key }: { readonly cert?: string | undefined; readonly key?: string | undefined },
  handle: Deno.ServeHandler,
): Deno.HttpServer {
  const onListen = () => {};
  if (address.transport === "unix") return Deno.serve({ ...address, onListen }, handle);
  const tls = cert === undefined || key === undefined ? {} : { cert, key };
  return Deno.serve({ ...address, onListen, ...tls }, handle);
}
