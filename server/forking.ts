import type { Address } from "../ffi/address.ts";
import { isSyscallError } from "../ffi/errno.ts";
import { isForkable } from "../ffi/forking/become_forkable.ts";
import { forkChild } from "../ffi/forking/fork_child.ts";
import { kill } from "../ffi/process.ts";
import { SIG_DFL, SIG_IGN, signal as setAction } from "../ffi/signal.ts";
import { heldSignals, releaseSignals } from "../ffi/signal_mask.ts";
import { SIGCHLD, SIGINT, SIGKILL, SIGTERM } from "../ffi/signals.ts";
import type { Socket } from "../ffi/socket.ts";
import { alarm } from "../ffi/time.ts";
import { waitpid, type WaitStatus, WNOHANG } from "../ffi/wait.ts";
import { acceptOne, BACK_OFF, listens } from "./accept.ts";
import { ChildTable } from "./child_table.ts";
import { formatClient, formatSince, formatStatus, type Log, reliable } from "./log.ts";
import { checkCount, checkSeconds, timeLimit } from "./options.ts";
import { sleepInterruptibly } from "./sleep_interruptibly.ts";

/**
 * Serves one connection, in a child of its own, which ends afterwards. What it
 * returns is the child's exit code, 0 if nothing; what it throws is printed, and
 * the code is 1.
 */
export type ForkingHandler = (connection: Socket, address: Address) => number | void;

/** A child that has ended. */
export interface ChildExit {
  /** Its pid. */
  readonly pid: number;
  /** The client that it served; nothing if the server did not fork it. */
  readonly address: Address | undefined;
  /** What became of it. */
  readonly status: WaitStatus;
}

/** How a forking server runs. */
export interface ForkingOptions {
  /**
   * The most children at a time. When it is reached the server accepts no more, and the
   * kernel's backlog holds the rest. 40 if left out.
   */
  readonly maxChildren?: number;
  /** The most children at a time for one client address; further ones are closed. No limit if left out. */
  readonly maxPerAddress?: number;
  /**
   * Seconds that a child may take, rounded up to whole ones; then SIGALRM ends it, whatever it does. 60 if left out,
   * 0 or `Infinity` for ever.
   */
  readonly timeout?: number;
  /** Seconds that children may go on after a stop, before SIGKILL ends them. 10 if left out. */
  readonly grace?: number;
  /** Stops the server when it is aborted, by a signal handler: nothing else runs meanwhile. */
  readonly signal?: AbortSignal;
  /** Called in the parent for each child that has ended. What it throws is logged. */
  readonly onChildExit?: (exit: ChildExit) => void;
  /** Where log lines go; standard error if left out. */
  readonly log?: Log;
}

/** What kind of children a forking server has. */
export interface ChildKind {
  /**
   * Forks a child for a connection.
   *
   * @returns The child's pid; 0 in a child that is to leave the server's loop.
   */
  start(connection: Socket, address: Address): number;
  /** Called when the server stops: has the children end as soon as they can. */
  stop?(): void;
}

/** What a child that leaves the server's loop is to serve. */
export interface ChildTask {
  readonly connection: Socket;
  /** The smallest number from 1 that no other child has. */
  readonly number: number;
}

/**
 * Serves each client in a child of its own. The finished form of the article's
 * webserver3g: children are reaped as they end, and none of the failures of a
 * busy day (a signal, no descriptors left, no processes left, a client that is
 * gone) costs more than one connection.
 *
 * SIGTERM and SIGINT stop the server gracefully if the program named them to
 * `becomeForkable()`: it stops accepting, its children finish, and those that
 * have not after `grace` seconds are killed. A second one kills them at once.
 * Otherwise they end the server on the spot, as any program.
 *
 * Each connection is one line in the log: who, which child, what became of it,
 * how long it took, and how many children are left of how many.
 *
 * @param listenSocket A listening socket; it is closed when the server stops, in children at
 *   once.
 * @param handle Serves one connection.
 * @param options How it runs.
 * @throws {RangeError} When an option is out of its range.
 * @throws {Error} When the process is not forkable.
 * @throws {SyscallError} When the socket does not listen.
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

/** In a child: its answers to signals. */
export function takeChildSignals(): void {
  // Control-C reaches the whole terminal; what is under way may finish.
  setAction(SIGINT, SIG_IGN);
  setAction(SIGTERM, SIG_DFL);
  setAction(SIGCHLD, SIG_DFL);
  releaseSignals([SIGINT, SIGTERM, SIGCHLD]);
}

/**
 * The loop of a forking server: accepts, has a child made for each connection,
 * reaps, and stops.
 *
 * @param listenSocket A listening socket; it is closed when the server stops. A child closes its
 *   copy itself.
 * @param kind What the children are.
 * @param options How the server runs.
 * @returns In a child that leaves the loop, what it is to serve; nothing in the parent, when the
 *   server has stopped.
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
  let stops = 0;
  let stopping = false;
  let hasFailed = false;

  // Signals only wake the loop; the work is in the loop.
  const actions = [[SIGCHLD, () => {}], [SIGTERM, () => stops++], [SIGINT, () => stops++]] as const;
  const before = actions
    .filter(([signum]) => signum === SIGCHLD || heldSignals().has(signum))
    .map(([signum, action]) => [signum, setAction(signum, action)] as const);

  // No `finally`: a child leaves through here too, and what is put back is the parent's.
  try {
    while (stops === 0 && !signal?.aborted) {
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

  /** What fails in the loop costs one turn of it: the children, and those who wait, need the server. */
  function survivably<T>(turn: () => T): T | undefined {
    try {
      if (hasFailed) sleepInterruptibly(BACK_OFF);
      hasFailed = false;
      return turn();
    } catch (error) {
      if (!stopping && !(isForkable() && listens(listenSocket))) throw error;
      log(`${error}. Going on in ${BACK_OFF} ms`);
      hasFailed = true;
    }
  }

  /** @returns In a child, what it is to serve. */
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
      log(`${formatClient(address)} denied: ${maxPerAddress} children serve this address already`);
      connection.close();
      return undefined;
    }
    let pid: number;
    try {
      pid = kind.start(connection, address);
    } catch (error) { // no child
      connection.close();
      if (!isForkable()) throw error;
      const message = error instanceof Error ? error.message : String(error);
      log(`${formatClient(address)} dropped: ${message}`);
      return undefined;
    }
    if (pid === 0) return { connection, number: children.nextNumber }; // child
    children.add(pid, address); // parent
    connection.close(); // its copy
    return undefined;
  }

  /** Collects every child that has ended. */
  function reap(): void {
    for (;;) {
      try {
        const { pid, status } = waitpid(-1, WNOHANG);
        if (status === undefined) return;
        endChild(pid, status);
      } catch (error) {
        if (!isSyscallError(error, "ECHILD")) throw error;
        // None is left, whoever has reaped it.
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

  /** Lets the children finish, and ends those that do not. */
  function finish(): void {
    const deadline = performance.now() + grace * 1000;
    const stopsBefore = stops;
    kind.stop?.();
    if (children.size > 0) log(`stopping, ${children.size} children to finish`);
    let killed = false;
    while (children.size > 0) {
      survivably(() => {
        reap();
        if (children.size === 0) return;
        const left = deadline - performance.now();
        if (left > 0 && stops === stopsBefore) return sleepInterruptibly(left);
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
      // It runs as another user by now. To wait for it could take for ever.
      const child = children.remove(pid);
      log(
        `${formatClient(child!.address)} pid ${pid} is no longer waited for: ${
          (error as Error).message
        }`,
      );
    }
  }
}
