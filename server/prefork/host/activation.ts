/**
 * Socket activation: the service manager opens the listening sockets, and starts the server when
 * the first client connects. A restart of the server therefore refuses no client. The sockets are
 * descriptors 3 and up; the environment tells how many there are.
 */
import { F_SETFD, fcntl, FD_CLOEXEC } from "../../../ffi/descriptor_calls.ts";
import { getenv, unsetenv } from "../../../ffi/environment.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { getpid } from "../../../ffi/process.ts";
import { SOCK_STREAM, Socket } from "../../../ffi/socket.ts";
import { SO_ACCEPTCONN, SO_TYPE, SOL_SOCKET } from "../../../ffi/socket_calls.ts";

/** The first descriptor that is passed. */
const FIRST = 3;

/** The passed descriptors cannot be served on. The message is one plain line, for the operator. */
export class ActivationError extends Error {
  /** The class's name. */
  override readonly name: string = "ActivationError";
}

/** A listening socket that was passed by the service manager. */
export interface ActivatedSocket {
  /** The socket. */
  readonly socket: Socket;
  /** `FileDescriptorName=` of the socket unit; `"unknown"` if there is none. */
  readonly name: string;
}

/** Whether the service manager has opened listening sockets for this process. */
export function isActivated(): boolean {
  return getenv("LISTEN_FDS") !== undefined && getenv("LISTEN_PID") === String(getpid());
}

/**
 * Takes over the listening sockets that the service manager opened for this process, and removes
 * their variables from the environment, so that no other process uses them. Call it only after
 * `becomeForkable()`, which runs the program twice and passes the sockets on.
 *
 * @returns The sockets; empty if the process was not started by socket activation.
 * @throws {ActivationError} If a passed descriptor is not a listening TCP or UNIX socket.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html sd_listen_fds(3)}
 */
export function takeActivatedSockets(): ActivatedSocket[] {
  const pid = getenv("LISTEN_PID");
  const count = getenv("LISTEN_FDS");
  const names = getenv("LISTEN_FDNAMES")?.split(":") ?? [];
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) unsetenv(name);
  // They were meant for an ancestor of this process, which has used them.
  if (count === undefined || Number(pid) !== getpid()) return [];
  if (!/^[1-9]\d{0,3}$/.test(count)) {
    throw new ActivationError(
      `Cannot take over listening sockets with LISTEN_FDS ${JSON.stringify(count)}: expected a ` +
        "whole number from 1 to 9999",
    );
  }
  return Array.from(
    { length: Number(count) },
    (_, i) => ({ socket: takeSocket(FIRST + i), name: names[i] || "unknown" }),
  );
}

function takeSocket(fd: number): Socket {
  const object = `inherited descriptor ${fd}`;
  try {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    const socket = Socket.fromDescriptor(fd);
    if (socket.getsockopt(SOL_SOCKET, SO_TYPE) !== SOCK_STREAM) {
      throw new ActivationError(
        `Cannot serve on ${object}: it is not a stream socket. Use ListenStream= in the socket unit`,
      );
    }
    if (socket.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) === 0) {
      throw new ActivationError(
        `Cannot serve on ${object}: it is not listening. Remove Accept=yes from the socket unit`,
      );
    }
    return socket;
  } catch (error) {
    if (isSyscallError(error, "EBADF")) {
      throw new ActivationError(
        `Cannot serve on ${object}: it is not open, although LISTEN_FDS includes it`,
      );
    }
    if (isSyscallError(error, "ENOTSOCK")) {
      throw new ActivationError(`Cannot serve on ${object}: it is not a socket`);
    }
    if (error instanceof RangeError) {
      throw new ActivationError(`Cannot serve on ${object}: it is neither a TCP nor a UNIX socket`);
    }
    throw error;
  }
}
