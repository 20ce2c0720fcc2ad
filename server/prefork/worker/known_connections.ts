/**
 * What a worker calls the connections that Deno knows by another address than the other end's: those
 * that it has not accepted itself.
 */
import { formatAddress } from "../../../ffi/address.ts";
import { socketCookie } from "../../../ffi/socket_options.ts";

/** The connections that have a name. */
export interface KnownConnections {
  /**
   * Gives a connection a name.
   *
   * @param fd Its descriptor.
   * @param address The client's address, as Deno's server has it.
   */
  add(fd: number, address: Deno.NetAddr): void;
  /** Returns a connection's name; `undefined` if it has none of this kind. */
  nameOf(fd: number, cookie: number): string | undefined;
}

/** Returns an empty list. A descriptor that is used again replaces what was known of it. */
export function knownConnections(): KnownConnections {
  const names = new Map<number, { readonly cookie: number; readonly name: string }>();
  return {
    add(fd, { hostname, port }): void {
      names.set(fd, { cookie: socketCookie(fd)!, name: formatAddress([hostname, port]) });
    },
    nameOf(fd, cookie): string | undefined {
      const found = names.get(fd);
      return found?.cookie === cookie ? found.name : undefined;
    },
  };
}
