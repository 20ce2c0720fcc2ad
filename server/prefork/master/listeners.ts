/**
 * The master's operations on the listening sockets, on which it never accepts connections itself.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { retryOnEintr } from "../../../ffi/interruption.ts";
import { poll, POLLIN } from "../../../ffi/poll.ts";
import type { Socket } from "../../../ffi/socket.ts";
import { unlink } from "../../../ffi/unlink.ts";
import { acceptQueue } from "../../../ffi/accept_queue.ts";
import { dropConnectionRequests } from "../../../ffi/socket_options.ts";
import type { Context, Inheritance } from "./context.ts";

/**
 * Closes the master's listening sockets.
 *
 * @param inheritance The inheritance that holds the sockets.
 * @param isGraceful Whether the workers still accept the waiting connections. If so, no further
 *   connection may be queued.
 */
export function stopListening(
  { listeners, admin, isActivated }: Inheritance,
  isGraceful: boolean,
): void {
  for (const socket of listeners) {
    // The service manager's socket stays open: connections queued on it wait for the next server.
    if (isGraceful && !isActivated) refuseNew(socket);
    socket.close();
  }
  admin?.close();
}

/** Stops queuing connections: those that no worker has accepted would be reset. */
function refuseNew(socket: Socket): void {
  if (socket.fileno() === -1) return;
  try {
    if (socket.family === AF_UNIX) unlink(String(socket.getsockname()));
    else dropConnectionRequests(socket.fileno());
  } catch {
    // Without the permission to do so, clients that connect in the last milliseconds are reset.
  }
}

/** Shows in the scoreboard how many connections wait on the listening sockets. */
export function showQueues({ served, listeners, scoreboard }: Context): void {
  const known = scoreboard.listeners.get();
  // Without an app that could be loaded, the old workers serve where they did before.
  const all = served().length > 0
    ? served()
    : listeners.map((socket, i) => ({ socket, url: known[i]?.url ?? "" }));
  const open = all.filter(({ socket }) => socket.fileno() !== -1);
  scoreboard.listeners.set(open.map(({ socket, url }) => {
    const queue = acceptQueue(socket);
    return { url, queue: queue?.length ?? null, backlog: queue?.limit ?? null };
  }));
}

/** Whether a connection is waiting to be accepted on one of the sockets. */
export function isAnyWaiting(listeners: readonly Socket[]): boolean {
  const requests = listeners.map((socket) => ({ fd: socket.fileno(), events: POLLIN }));
  return retryOnEintr(() => poll(requests, 0)).length > 0;
}
