/**
 * The master's operations on the listening sockets, on which it never accepts connections itself.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { retryOnEintr } from "../../../ffi/interruption.ts";
import { poll, POLLIN } from "../../../ffi/poll.ts";
import type { Socket } from "../../../ffi/socket.ts";
import { unlink } from "../../../ffi/unlink.ts";
import { dropConnectionRequests } from "../../../ffi/socket_options.ts";
import type { Inheritance } from "./context.ts";

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

/** Whether a connection is waiting to be accepted on one of the sockets. */
export function isAnyWaiting(listeners: readonly Socket[]): boolean {
  const requests = listeners.map((socket) => ({ fd: socket.fileno(), events: POLLIN }));
  return retryOnEintr(() => poll(requests, 0)).length > 0;
}
