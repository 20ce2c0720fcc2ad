import type { Address } from "../ffi/address.ts";
import { isSyscallError } from "../ffi/errno.ts";
import { isForkable } from "../ffi/forking/become_forkable.ts";
import { testFork } from "../ffi/forking/fork.ts";
import { forkChild } from "../ffi/forking/fork_child.ts";
import { UnsupportedRuntimeError } from "../ffi/forking/self_check.ts";
import { kill } from "../ffi/process.ts";
import { SIG_DFL, SIG_IGN, signal as setAction } from "../ffi/signal.ts";
import { heldSignals, releaseSignals } from "../ffi/signal_mask.ts";
import { SIGCHLD, SIGINT, SIGKILL, SIGTERM } from "../ffi/signals.ts";
import type { Socket } from "../ffi/socket.ts";
import { alarm } from "../ffi/time.ts";
import { waitpid, type WaitStatus, WNOHANG } from "../ffi/wait.ts";
import { acceptOne, BACK_OFF, listens } from "./accept.ts";
import { ChildTable } from "./child_table.ts";
import { formatClient, formatCount, formatSince, formatStatus, type Log, reliable } from "./log.ts";
import { checkCount, checkSeconds, timeLimit } from "./options.ts";
import { sleepInterruptibly } from "./sleep_interruptibly.ts";
import { StopRequests } from "./stop_requests.ts";

/**
 * Serves one connection, in a child of its own, which ends afterwards. The return value is the
 * child's exit code, 0 if `undefined`. If it throws, the error is printed and the exit code is 1.
 */
export type ForkingHandler = (connection: Socket, address: Address) => number | void;

/** A child that has ended. */
export interface ChildExit {
  /** The child's pid. */
  readonly pid: number;
  /** The client that the child served; `undefined` if the server did not fork the child. */
  readonly address: Address | undefined;
  /** The child's exit status. */
  readonly status: WaitStatus;
}

/** Options of a forking server. */
export interface ForkingOptions {
  /**
   * The maximum number of children. When it is reached, the server stops accepting, and the
   * kernel's backlog holds further connections. The default is 40.
   */
  readonly maxChildren?: number;
  /**
   * The maximum number of children per client address. Further connections are closed. The default
   * is no limit.
   */
  readonly maxPerAddress?: number;
  /**
   * The time limit of a child in seconds, rounded up to whole seconds. When it expires, SIGALRM
   * ends the child. The default is 60; 0 or `Infinity` means no limit.
   */
  readonly timeout?: number;
  /**
   * How long children may continue after a stop before SIGKILL ends them, in seconds. The default
   * is 10.
   */
  readonly grace?: number;
  /**
   * Stops the server when aborted. Only a signal handler can do that: no other code runs meanwhile.
   */
  readonly signal?: AbortSignal;
  /** Called in the parent for each child that has ended. If it throws, the error is logged. */
  readonly onChildExit?: (exit: ChildExit) => void;
  /** Receives log lines. The default is standard error. */
  readonly log?: Log;
}

/** Defines the children of a forking server. */
export interface ChildKind {
  /** Whether the children have an event loop. */
  readonly hasRuntime: boolean;
  /**
   * Forks a child for a connection.
   *
   * @returns The child's pid; 0 in a child that must leave the server's loop.
   */
  start(connection: Socket, address: Address): number;
  /** Called when the server stops. It makes the children end as soon as they can. */
  stop?(): void;
}

/** What a child that leaves the server's loop must serve. */
export interface ChildTask {
  readonly connection: Socket;
  /** The smallest number, from 1, that no other child has. */
  readonly number: number;
}

/**
 * Serves each client in a child of its own. This is the complete form of the article's webserver3g:
 * children are reaped as they end, and no common failure (a signal, no free descriptor, no free
 * process, a client that has disconnected) costs more than one connection.
 *
 * SIGTERM and SIGINT stop the server gracefully if the program passed them to `becomeForkable()`:
 * the server stops accepting, its children finish, and those that have not finished after `grace`
 * seconds are killed. A second signal kills them immediately. If the program did not pass them,
 * they end the server immediately, like any program.
 *
 * Each connection is one line in the log: the client, the child, its exit status, its duration, and
 * how many children are left, of how many that are allowed.
 *
 * @param listenSocket A listening socket. It is closed when the server stops, and immediately in
 *   each child.
 * @param handle Serves one connection.
 * @param options Options of the server.
 * @throws {RangeError} If an option is out of range.
 * @throws {UnsupportedRuntimeError} If Deno works differently inside from what tine relies on.
 * @throws {Error} If the process is not forkable.
 * @throws {SyscallError} If the socket does not listen.
 *
 * @example An echo server
 * ```ts ignore
 * import {
 *   AF_INET, becomeForkable, serveForking, SIGCHLD, SIGINT, SIGTERM, SOCK_STREAM, Socket,
 * } from "@tine/tine";
 *
 * becomeForkable({ signals: [SIGCHLD, SIGTERM, SIGINT] });
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 8888]);
 * listenSocket.listen(1024);
 * serveForking(listenSocket, (connection) => {
 *   for (let data; (data = connection.recv(4096)).length > 0;) connection.sendall(data);
 * });
 * ```
 */
export function serveForking(
  listenSocket: Socket,
  handle: ForkingHandler,
  options: ForkingOptions = {},
): void {
  const timeout = timeLimit("timeout", options.timeout ?? 60);
  forkPerConnection(listenSocket, {
    hasRuntime: false,
    start: (connection, address) =>
      forkChild(() => {
        listenSocket.close(); // the child's copy
        takeChildSignals();
        alarm(Math.ceil(timeout));
        const code = handle(connection, address);
        connection.close();
        return code;
      }),
  }, options);
}

/** Whether an error of `fork()` leaves no hope for any further child. */
function isFatal(error: unknown): boolean {
  return !isForkable() || error instanceof UnsupportedRuntimeError;
}

/** Sets the signal actions of a child. */
export function takeChildSignals(): void {
  // Control-C reaches all processes of the terminal; work in progress may finish.
  setAction(SIGINT, SIG_IGN);
  setAction(SIGTERM, SIG_DFL);
  setAction(SIGCHLD, SIG_DFL);
  releaseSignals([SIGINT, SIGTERM, SIGCHLD]);
}

/**
 * Runs the loop of a forking server: accepts, starts a child for each connection, reaps, and stops.
 *
 * @param listenSocket A listening socket. It is closed when the server stops. A child closes its
 *   copy itself.
 * @param kind The definition of the children.
 * @param options Options of the server.
 * @returns In a child that leaves the loop, what it must serve; `undefined` in the parent, after
 *   the server has stopped.
 */
export function forkPerConnection(
  listenSocket: Socket,
  kind: ChildKind,
  options: Omit<ForkingOptions, "timeout">,
): ChildTask | undefined {
  const { maxChildren = 40, maxPerAddress = Infinity, grace = 10 } = options;
  const { signal, onChildExit } = options;
  const log = reliable(options.log);
  checkCount("maxChildren", maxChildren);
  checkCount("maxPerAddress", maxPerAddress);
  checkSeconds("grace", grace);

  const children = new ChildTable();
  const stops = new StopRequests();
  let stopping = false;
  let hasFailed = false;

  // Signals only wake the loop; the work is in the loop.
  const stop = () => void stops.add();
  const actions = [[SIGCHLD, () => {}], [SIGTERM, stop], [SIGINT, stop]] as const;
  const before = actions
    .filter(([signum]) => signum === SIGCHLD || heldSignals().has(signum))
    .map(([signum, action]) => [signum, setAction(signum, action)] as const);

  // No `finally`: a child leaves here too, and only the parent may restore the signal actions.
  try {
    testFork({ runtime: kind.hasRuntime });
    while (stops.count === 0 && !signal?.aborted) {
      const task = survivably(turn);
      if (task !== undefined) return task; // child
    }
    stopping = true;
    listenSocket.close();
    finish();
  } catch (error) {
    restore();
    throw error;
  }
  restore();
  return undefined;

  function restore(): void {
    listenSocket.close();
    for (const [signum, action] of before) setAction(signum, action);
  }

  /**
   * Runs one turn of the loop. An error ends only that turn: the children and the waiting clients
   * need the server.
   */
  function survivably<T>(turn: () => T): T | undefined {
    try {
      if (hasFailed) sleepInterruptibly(BACK_OFF);
      hasFailed = false;
      return turn();
    } catch (error) {
      if (!stopping && (isFatal(error) || !listens(listenSocket))) throw error;
      log(`${error}. Continuing in ${BACK_OFF} ms`);
      hasFailed = true;
    }
  }

  /** @returns In a child, what it must serve. */
  function turn(): ChildTask | undefined {
    reap();
    if (children.size < maxChildren) return admit();
    sleepInterruptibly();
    return undefined;
  }

  function admit(): ChildTask | undefined {
    const accepted = acceptOne(listenSocket, log);
    if (accepted === undefined) return undefined;
    const [connection, address] = accepted;
    if (children.countOf(address) >= maxPerAddress) {
      const serving = formatCount(maxPerAddress, "child already serves", "children already serve");
      log(`${formatClient(address)} denied: ${serving} this address`);
      connection.close();
      return undefined;
    }
    let pid: number;
    try {
      pid = kind.start(connection, address);
    } catch (error) { // no child
      connection.close();
      if (isFatal(error)) throw error;
      const message = error instanceof Error ? error.message : String(error);
      log(`${formatClient(address)} dropped: ${message}`);
      return undefined;
    }
    if (pid === 0) return { connection, number: children.nextNumber }; // child
    children.add(pid, address); // parent
    connection.close(); // its copy
    return undefined;
  }

  /** Reaps every child that has ended. */
  function reap(): void {
    for (;;) {
      try {
        const { pid, status } = waitpid(-1, WNOHANG);
        if (status === undefined) return;
        endChild(pid, status);
      } catch (error) {
        if (!isSyscallError(error, "ECHILD")) throw error;
        // No child is left, even if other code has reaped it.
        for (const pid of children.pids) children.remove(pid);
        return;
      }
    }
  }

  function endChild(pid: number, status: WaitStatus): void {
    const child = children.remove(pid);
    if (child !== undefined) {
      log(
        `${formatClient(child.address)} pid ${pid} ${formatStatus(status)} ` +
          `${formatSince(child.start)} ${children.size}/${maxChildren}`,
      );
    }
    try {
      onChildExit?.({ pid, address: child?.address, status });
    } catch (error) {
      log(`onChildExit failed for pid ${pid}: ${error}`);
    }
  }

  /** Lets the children finish, and kills those that do not. */
  function finish(): void {
    const deadline = performance.now() + grace * 1000;
    const stopsBefore = stops.count;
    kind.stop?.();
    if (children.size > 0) {
      log(`stopping, ${formatCount(children.size, "child", "children")} to finish`);
    }
    let killed = false;
    while (children.size > 0) {
      survivably(() => {
        reap();
        if (children.size === 0) return;
        const left = deadline - performance.now();
        if (left > 0 && stops.count === stopsBefore) return sleepInterruptibly(left);
        if (killed) return sleepInterruptibly(100);
        killed = true;
        for (const pid of children.pids) killChild(pid);
      });
    }
  }

  function killChild(pid: number): void {
    try {
      kill(pid, SIGKILL);
    } catch (error) {
      // The child now runs as another user. Waiting for it could take forever.
      const child = children.remove(pid);
      log(
        `${formatClient(child!.address)} pid ${pid} is no longer waited for: ${
          (error as Error).message
        }`,
      );
    }
  }
}
