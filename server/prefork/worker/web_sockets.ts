/**
 * The WebSockets of a worker. Deno's server no longer counts them as requests and does not close
 * them.
 */
import { replaceGlobal } from "../../../ffi/runtime/globals.ts";
import { innerRequest } from "../../../ffi/runtime/http_internals.ts";
import { clientOf } from "./connection_limits.ts";

/** The open WebSockets of a worker. */
export interface WebSockets {
  /** The number of WebSockets that are open or about to open. */
  size(): number;
  /**
   * Adds a WebSocket that was opened by other means than Deno's.
   *
   * @param close Closes it.
   * @returns A function that must be called once it is closed.
   */
  add(close: (code: number, reason: string) => void): () => void;
  /** Closes all WebSockets. */
  close(code: number, reason: string): void;
}

/**
 * Tracks all WebSockets that are created from now on.
 *
 * @param onUpgrade Called with the client's address when its connection becomes a WebSocket; not
 *   called if the client has no address.
 */
export function rememberWebSockets(onUpgrade: (client: string) => void): WebSockets {
  const open = new Set<WebSocket>();
  const others = new Set<(code: number, reason: string) => void>();
  replaceGlobal("Deno.upgradeWebSocket", (upgradeWebSocket) => (request, options) => {
    // The upgrade makes Deno forget the address.
    const client = clientOf(innerRequest(request) ?? {});
    const upgrade = upgradeWebSocket(request, options);
    if (client !== undefined) onUpgrade(client);
    open.add(upgrade.socket);
    upgrade.socket.addEventListener("close", () => open.delete(upgrade.socket));
    return upgrade;
  });
  return {
    size: () => open.size + others.size,
    add(close) {
      others.add(close);
      return () => others.delete(close);
    },
    close(code, reason): void {
      for (const socket of open) {
        // Closing a WebSocket before it is open would be an error.
        if (socket.readyState === WebSocket.OPEN) socket.close(code, reason);
      }
      for (const close of others) close(code, reason);
    },
  };
}
