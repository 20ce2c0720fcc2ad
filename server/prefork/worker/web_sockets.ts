/**
 * The WebSockets of a worker. Deno's server no longer counts them as requests and does not close
 * them.
 */
import { replaceGlobal } from "../../../ffi/runtime/globals.ts";
import { innerRequest } from "../../../ffi/runtime/http_internals.ts";
import { closeHandshake } from "../../../ffi/runtime/web_socket_internals.ts";
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
  /** Closes all WebSockets, those that are about to open as soon as they are open. */
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
  let end: [code: number, reason: string] | undefined;
  replaceGlobal("Deno.upgradeWebSocket", (upgradeWebSocket) => (request, options) => {
    // The upgrade makes Deno forget the address.
    const client = clientOf(innerRequest(request) ?? {});
    const upgrade = upgradeWebSocket(request, options);
    if (client !== undefined) onUpgrade(client);
    open.add(upgrade.socket);
    upgrade.socket.addEventListener("close", () => open.delete(upgrade.socket));
    // Closing a WebSocket before it is open would be an error.
    upgrade.socket.addEventListener("open", () => end && closeHandshake(upgrade.socket, ...end));
    return upgrade;
  });
  return {
    size: () => open.size + others.size,
    add(close) {
      others.add(close);
      return () => others.delete(close);
    },
    close(code, reason): void {
      end = [code, reason];
      for (const socket of open) {
        if (socket.readyState === WebSocket.OPEN) closeHandshake(socket, code, reason);
      }
      for (const close of others) close(code, reason);
    },
  };
}
