/**
 * Fact 6: a server of Deno's can accept from a listening socket that the process
 * has inherited. It is made with a throw-away address; then the inherited socket
 * takes its listener's place, in the table of descriptors and in the epoll instance.
 */
import { Descriptor } from "../descriptor.ts";
import { F_DUPFD_CLOEXEC, fcntl } from "../descriptor_calls.ts";
import { libc } from "../libc.ts";
import { POLLIN } from "../poll.ts";
import { AF_UNIX } from "../address.ts";
import { SOCK_STREAM, Socket } from "../socket.ts";
import { pollfd, timespec } from "../structs.ts";
import { socketCookie } from "../socket_options.ts";
import { getenv } from "../environment.ts";
import { isSyscallError } from "../errno.ts";
import { getpid } from "../process.ts";
import { unlink } from "../unlink.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import {
  duplicateOnto,
  register,
  unregister,
  type Watched,
  watchedDescriptors,
} from "./event_loop.ts";

const NO_TIME = timespec(0);
const EPOLLEXCLUSIVE = 1 << 28;

/** What accepts from a listening socket: a listener of Deno's on a socket that it has not made. */
export interface Acceptor {
  /** Accepts no more: connections wait in the backlog, for this process or another. */
  pause(): void;
  /** Accepts again, beginning with what has come meanwhile. Harmless while it does. */
  resume(): void;
  /**
   * Accepts what waits, and goes to the end of the socket's wait queue: the next connection
   * wakes the process at its head. Nothing happens while it is paused.
   */
  requeue(): void;
  /** Whether any connection waits to be accepted. */
  isAnyWaiting(): boolean;
  /** Releases the socket permanently. The server may be shut down later. */
  close(): void;
}

/**
 * Has a listener of Deno's accept from another listening socket.
 *
 * Of all processes that wait for the same socket, a connection wakes one.
 *
 * @param fd The listening socket, of the same address family kind (TCP or UNIX) as the
 *   listener. Its descriptor is free to be closed afterwards.
 * @param listen Makes the listener, synchronously: `Deno.serve`, on an address that is of no
 *   other use.
 * @returns What `listen` has made, and what accepts for it.
 * @throws {Error} When `listen` made none, or more than one.
 * @throws {SyscallError} When the kernel refuses.
 */
export function acceptFrom<T>(
  fd: number,
  listen: () => T,
): { server: T; acceptor: Acceptor } {
  const before = watchedDescriptors();
  const server = listen();
  const fresh = watchedDescriptors().filter((one) => !before.some((old) => isSame(old, one)));
  const [found] = fresh;
  if (found === undefined || fresh.length > 1) {
    throw new Error(`Cannot take over a listener: ${fresh.length} were made instead of one`);
  }
  const { epoll, ...registration } = found;
  // Deno goes on accepting until nothing is left, whether it is told of more or not; any other
  // error than that ends its server. Where nobody can connect there is nothing.
  const quiet = unreachableListener(registration.fd);
  const shared = new Descriptor(fcntl(fd, F_DUPFD_CLOEXEC));
  unregister(epoll, registration.fd);
  const events = (ASSUMPTIONS.listenerEvents.value | EPOLLEXCLUSIVE) >>> 0;
  let isWatched = false;
  let closed = false;
  const own = [registration.fd, quiet.fileno(), shared.fileno()].map(socketCookie);
  // A server that could not accept (EMFILE) has ended, and its number may be another file's.
  const isThere = () => !closed && own.includes(socketCookie(registration.fd));
  const acceptor: Acceptor = {
    pause(): void {
      if (!isWatched || !isThere()) return;
      isWatched = false;
      unregister(epoll, registration.fd);
      duplicateOnto(quiet.fileno(), registration.fd);
    },
    resume(): void {
      if (isWatched || !isThere()) return;
      isWatched = true;
      duplicateOnto(shared.fileno(), registration.fd);
      register(epoll, { ...registration, events });
    },
    requeue(): void {
      if (!isWatched || !isThere()) return;
      unregister(epoll, registration.fd);
      register(epoll, { ...registration, events });
    },
    isAnyWaiting(): boolean {
      return isThere() && libc().ppoll(pollfd(shared.fileno(), POLLIN), 1n, NO_TIME, null) === 1;
    },
    close(): void {
      if (closed) return;
      acceptor.pause();
      closed = true;
      shared.close();
      quiet.close();
    },
  };
  acceptor.resume();
  return { server, acceptor };
}

/**
 * A socket that listens where nobody can connect: one of the UNIX domain, without a name. The
 * throw-away one would be found by whoever tries all ports of this machine, and what it accepts
 * is counted and limited nowhere.
 *
 * @param found The throw-away one, for a process that may write to no folder.
 */
function unreachableListener(found: number): Descriptor | Socket {
  const folder = getenv("TMPDIR") || "/tmp";
  const path = `${folder}/tine-${getpid()}-${Math.trunc(performance.now() * 1e6)}`;
  const socket = new Socket(AF_UNIX, SOCK_STREAM);
  try {
    socket.bind(path);
    unlink(path);
    socket.listen(1);
    return socket;
  } catch (error) {
    socket.close();
    if (!isSyscallError(error) && !(error instanceof RangeError)) throw error;
    return new Descriptor(fcntl(found, F_DUPFD_CLOEXEC));
  }
}

function isSame(a: Watched, b: Watched): boolean {
  return a.epoll === b.epoll && a.fd === b.fd && a.data === b.data;
}
