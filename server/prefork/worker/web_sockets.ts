/** The WebSockets of a worker. To Deno's server they are no requests any more, and nobody else closes them. */
export interface WebSockets {
  /** How many are open, or about to be. */
  size(): number;
  /** Closes them all. */
  close(code: number, reason: string): void;
}

/**
 * Remembers all WebSockets that are made from here on.
 *
 * @param onUpgrade Hears of each request that is about to become one.
 */
export function rememberWebSockets(onUpgrade: (request: Request) => void): WebSockets {
  const open = new Set<WebSocket>();
  const { upgradeWebSocket } = Deno;
  Deno.upgradeWebSocket = (request, options) => {
    onUpgrade(request);
    const upgrade = upgradeWebSocket(request, options);
    open.add(upgrade.socket);
    upgrade.socket.addEventListener("close", () => open.delete(upgrade.socket));
    return upgrade;
  };
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
