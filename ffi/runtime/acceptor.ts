/**
 * Fact 6: a Deno server can accept from a listening socket that the process has inherited. The
 * server is created with a throw-away address. The inherited socket then replaces the listener's
 * socket, in the descriptor table and in the epoll instance.
 */
import { Descriptor } from "../descriptor.ts";
import { F_DUPFD_CLOEXEC, fcntl } from "../descriptor_calls.ts";
import { libc } from "../libc.ts";
import { POLLIN } from "../poll.ts";
import { AF_INET, AF_UNIX } from "../address.ts";
import { SOCK_STREAM, Socket } from "../socket.ts";
import { pollfd, timespec } from "../structs.ts";
import { dropConnectionRequests, socketCookie } from "../socket_options.ts";
import { getenv } from "../environment.ts";
import { isSyscallError } from "../errno.ts";
import { getpid } from "../process.ts";
import { unlink } from "../unlink.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import {
  duplicateOnto,
  isListening,
  register,
  unregister,
  type Watched,
  watchedDescriptors,
} from "./event_loop.ts";

const NO_TIME = timespec(0);
const EPOLLEXCLUSIVE = 1 << 28;

/** Controls a Deno listener that accepts from a socket that Deno did not create. */
export interface Acceptor {
  /** Stops accepting: connections wait in the backlog, for this process or another. */
  pause(): void;
  /** Resumes accepting, starting with waiting connections. It has no effect while not paused. */
  resume(): void;
  /**
   * Accepts the waiting connections, and moves to the end of the socket's wait queue: the next
   * connection wakes the process at its head. It has no effect while paused.
   */
  requeue(): void;
  /** Whether any connection is waiting to be accepted. */
  isAnyWaiting(): boolean;
  /** Releases the socket permanently. The server may be shut down later. */
  close(): void;
}

/**
 * Makes a Deno listener accept from another listening socket.
 *
 * A connection wakes one of the processes that wait on the same socket.
 *
 * @param fd The listening socket, of the same kind of address family (TCP or UNIX) as the listener.
 *   The caller may close the descriptor afterwards.
 * @param listen Creates the listener synchronously, with `Deno.serve`, on an address that is not
 *   used for anything else.
 * @returns The return value of `listen`, and the acceptor.
 * @throws {Error} If `listen` created no listener, or more than one.
 * @throws {SyscallError} If the kernel refuses.
 */
export function acceptFrom<T>(
  fd: number,
  listen: () => T,
): { server: T; acceptor: Acceptor } {
  const before = watchedDescriptors();
  const server = listen();
  // Another thread's loop (a Worker, telemetry) may have begun to watch something meanwhile.
  const fresh = watchedDescriptors()
    .filter((one) => !before.some((old) => isSame(old, one)) && isListening(one.fd));
  const [found] = fresh;
  if (found === undefined || fresh.length > 1) {
    throw new Error(
      `Cannot take over a listener: expected one new listener, found ${fresh.length}`,
    );
  }
  return { server, acceptor: takeOver(found, fd, ASSUMPTIONS.listenerEvents.value) };
}

/**
 * Makes an existing listener of Deno's accept from another listening socket.
 *
 * @param listener The registration of its socket in the event loop.
 * @param fd The listening socket, as for {@linkcode acceptFrom}.
 * @param wanted The events for which the listener waits.
 * @returns The acceptor.
 * @throws {SyscallError} If the kernel refuses.
 */
export function takeOver(listener: Watched, fd: number, wanted: number): Acceptor {
  const { epoll, ...registration } = listener;
  // Deno continues to accept until accept(2) reports that no connection is left, with or without
  // further events; any other error ends its server. On a socket that nobody can connect to, no
  // connection is ever left.
  const quiet = unreachableListener();
  const shared = new Descriptor(fcntl(fd, F_DUPFD_CLOEXEC));
  unregister(epoll, registration.fd);
  const events = (wanted | EPOLLEXCLUSIVE) >>> 0;
  let isWatched = false;
  let closed = false;
  const own = [registration.fd, quiet.fileno(), shared.fileno()].map(socketCookie);
  // A server that could not accept (EMFILE) has ended, and its descriptor number may have been
  // reused.
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
    },
  };
  acceptor.resume();
  return acceptor;
}

const IPPROTO_IP = 0;
const IP_MINTTL = 21;
/** Clients send with 64, unless they ask for another value. */
const HIGHEST_TTL = 255;

let unreachable: Socket | undefined;

/**
 * Returns a socket that listens where nobody can connect, and on which no connection ever waits. It
 * is created once; a process that calls this before it forks has its children share the socket.
 *
 * It is a UNIX domain socket without a name. A process that has no writable folder gets a TCP
 * socket that drops all connection requests.
 *
 * @throws {SyscallError} `EMFILE` if no descriptor is left, ...
 */
export function unreachableListener(): Socket {
  return unreachable ??= withoutName() ?? withoutConnections();
}

function withoutName(): Socket | undefined {
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
    // RangeError: the path is too long.
    if (!isSyscallError(error) && !(error instanceof RangeError)) throw error;
    return undefined;
  }
}

function withoutConnections(): Socket {
  const socket = new Socket(AF_INET, SOCK_STREAM);
  try {
    dropAll(socket);
    socket.bind(["127.0.0.1", 0]);
    socket.listen(1);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Has the kernel drop what arrives at a TCP socket. */
function dropAll(socket: Socket): void {
  try {
    dropConnectionRequests(socket.fileno());
  } catch (error) {
    // A sandbox, or a hardened kernel, may forbid filters.
    if (!isSyscallError(error, "EPERM")) throw error;
    socket.setsockopt(IPPROTO_IP, IP_MINTTL, HIGHEST_TTL);
  }
}

function isSame(a: Watched, b: Watched): boolean {
  return a.epoll === b.epoll && a.fd === b.fd && a.data === b.data;
}
