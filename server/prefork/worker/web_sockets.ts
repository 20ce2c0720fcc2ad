/**
 * The WebSockets of a worker. To Deno's server they are no requests any more, and nobody else
 * closes them.
 */
import { replaceGlobal } from "../../../ffi/runtime/globals.ts";
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
  replaceGlobal("Deno.upgradeWebSocket", (upgradeWebSocket) => (request, options) => {
    // Deno forgets it with the upgrade.
    const client = clientOf(innerRequest(request) ?? {});
    const upgrade = upgradeWebSocket(request, options);
    if (client !== undefined) onUpgrade(client);
    open.add(upgrade.socket);
    upgrade.socket.addEventListener("close", () => open.delete(upgrade.socket));
    return upgrade;
  });
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
