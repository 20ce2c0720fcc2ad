/**
 * The master's operations on the listening sockets, on which it never accepts connections itself.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { noFollowFlag, O_CLOEXEC, O_PATH, open } from "../../../ffi/descriptor.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { retryOnEintr } from "../../../ffi/interruption.ts";
import { poll, POLLIN } from "../../../ffi/poll.ts";
import type { Socket } from "../../../ffi/socket.ts";
import { unlink } from "../../../ffi/unlink.ts";
import { acceptQueue } from "../../../ffi/accept_queue.ts";
import { dropConnectionRequests } from "../../../ffi/socket_options.ts";
import { bindSocket, type SocketAccess } from "../../listen.ts";
import type { Log } from "../../log.ts";
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

/** Returns the path of a UNIX socket whose file has been deleted: no client can connect any more. */
export function deletedFile(socket: Socket | undefined): string | undefined {
  if (socket === undefined || socket.fileno() === -1 || socket.family !== AF_UNIX) return undefined;
  const path = String(socket.getsockname());
  if (!path.startsWith("/")) return undefined; // an abstract address has no file
  try {
    open(path, O_PATH | noFollowFlag() | O_CLOEXEC).close();
  } catch (error) {
    if (isSyscallError(error, "ENOENT")) return path;
  }
  return undefined;
}

/**
 * Replaces a UNIX socket whose file has been deleted by one with a file. The clients of the old one
 * are left to the workers that have it.
 *
 * @param socket The socket.
 * @param access Returns who may connect.
 * @param log Receives a failure.
 * @returns The new socket, which does not listen yet; or the same one if its file is there, or
 *   cannot be made again.
 */
export function withFile(socket: Socket, access: () => SocketAccess, log: Log): Socket {
  const path = deletedFile(socket);
  if (path === undefined) return socket;
  try {
    const fresh = bindSocket(path, undefined, access());
    socket.close();
    return fresh;
  } catch (error) {
    log(
      `The socket file ${path} cannot be made again: ${
        (error as Error).message
      }. Let the server's ` +
        "user create files in its folder and send SIGHUP, or start the server again",
    );
    return socket;
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
