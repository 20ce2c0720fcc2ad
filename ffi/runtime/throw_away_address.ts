/**
 * A throw-away address: where a server of Deno's listens until a socket of ours takes its
 * socket's place. Nobody is to find it there.
 */
import { AF_UNIX } from "../address.ts";

/** An address that is of no other use, as `Deno.serve` and `Deno.listen` take it. */
export interface ThrowAwayAddress extends Disposable {
  readonly address:
    | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
    | { readonly transport: "unix"; readonly path: string };
}

/**
 * Makes an address. When it is disposed, nobody can connect to it any more.
 *
 * @param family The address family of the socket that takes the place.
 * @throws {Error} Deno's, when no folder can be made for a UNIX socket.
 */
export function throwAwayAddress(family: number): ThrowAwayAddress {
  if (family !== AF_UNIX) {
    const address = { transport: "tcp", hostname: "127.0.0.1", port: 0 } as const;
    return { address, [Symbol.dispose]: () => {} };
  }
  // Nobody else may enter the folder.
  const folder = Deno.makeTempDirSync({ prefix: "tine_" });
  return {
    address: { transport: "unix", path: `${folder}/socket` },
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}

/**
 * Has Deno's server serve there.
 *
 * @param address The address.
 * @param certificate A certificate and its key, in PEM, for HTTPS; on a UNIX socket they mean nothing.
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
