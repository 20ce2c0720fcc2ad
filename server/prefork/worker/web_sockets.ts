/**
 * The WebSockets of a worker. To Deno's server they are no requests any more, and nobody else
 * closes them.
 */
import { innerRequest } from "../../../ffi/runtime/http_internals.ts";
import { clientOf } from "./connection_limits.ts";

/** The WebSockets that a worker has. */
export interface WebSockets {
  /** How many are open, or about to be. */
  size(): number;
  /** Closes them all. */
  close(code: number, reason: string): void;
}

/**
 * Remembers all WebSockets that are made from here on.
 *
 * @param onUpgrade Hears whose connection has become one, where the client has an address.
 */
export function rememberWebSockets(onUpgrade: (client: string) => void): WebSockets {
  const open = new Set<WebSocket>();
  const { upgradeWebSocket } = Deno;
  const value: typeof upgradeWebSocket = (request, options) => {
    // Deno forgets it with the upgrade.
    const client = clientOf(innerRequest(request) ?? {});
    const upgrade = upgradeWebSocket(request, options);
    if (client !== undefined) onUpgrade(client);
    open.add(upgrade.socket);
    upgrade.socket.addEventListener("close", () => open.delete(upgrade.socket));
    return upgrade;
  };
  // Not assigned: Deno 2.8.0 to 2.8.2 have a getter there.
  Object.defineProperty(Deno, "upgradeWebSocket", { value, writable: true });
  return {
    size: () => open.size,
    close(code, reason): void {
      for (const socket of open) {
        // Not before it is open: then it would be an error.
        if (socket.readyState === WebSocket.OPEN) socket.close(code, reason);
      }
    },
  };
}
