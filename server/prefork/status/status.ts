/**
 * The status of a preforking server, read from outside: its scoreboard through the master's
 * `/proc/PID/fd`, its memory from `/proc`. The server does not notice.
 */
import { O_CLOEXEC, O_RDONLY, open } from "../../../ffi/descriptor.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { readlink, readNumbers, readText } from "../../../ffi/proc.ts";
import type { ListenerEntry } from "../listener_table.ts";
import { type Histogram, type ResponseCount, sumOfMetrics } from "../request_metrics.ts";
import type { CurrentRequest, SlowRequest } from "../request_table.ts";
import {
  ADMIN,
  CHANGES_BYTES,
  changesIn,
  Scoreboard,
  SCOREBOARD_BYTES,
  SCOREBOARD_NAME,
  type Slot,
  type Versions,
} from "../scoreboard.ts";
import type { StartReason } from "../start_reason.ts";

/**
 * A snapshot of a preforking server. It is plain data: as JSON, it is what `status --json` prints
 * and what the admin socket's `/status.json` returns. Times are in seconds, sizes in bytes. Names
 * and meanings are stable; new ones may be added.
 */
export interface Status {
  /** The master and the server as a whole. */
  readonly master: MasterStatus;
  /** The process that serves the admin socket; `null` if there is none. */
  readonly admin: ProcessStatus | null;
  /** The workers, ordered by number and age. Workers that have just ended are omitted. */
  readonly workers: readonly WorkerStatus[];
  /** The sockets on which the server listens for clients. */
  readonly listeners: readonly ListenerStatus[];
  /**
   * The requests that took longest of those that ended in the last five minutes, the longest
   * first: at most 32, and at most 8 of one worker. Requests that took less than 0.1 seconds are
   * not among them.
   */
  readonly slow: readonly SlowStatus[];
}

/** A process of the server. */
export interface ProcessStatus {
  /** The pid. */
  readonly pid: number;
  /** The memory; `null` if it cannot be read. */
  readonly memory: MemoryStatus | null;
}

/** The master and the server as a whole. */
export interface MasterStatus extends ProcessStatus {
  /** The URL at which clients connect. */
  readonly url: string;
  /** The specifier of the app's module, as given; empty if the server was not given a module. */
  readonly app: string;
  /** When the server started, as an ISO 8601 date in UTC. */
  readonly started: string;
  /** How long the server has been running, including restarts. */
  readonly uptime: number;
  /** How often the server was restarted with new code, which re-executes the master. */
  readonly generation: number;
  /** The number of workers to maintain. */
  readonly workers: number;
  /** The number of requests to all workers, including those that have ended. */
  readonly requests: number;
  /**
   * The number of these requests that failed: the handler threw, or the status was 500 or above.
   */
  readonly errors: number;
  /** The number of workers that ended without being told to. */
  readonly crashes: number;
  /**
   * How the last attempt to load the app's code ended; the start counts as the first. `null` until
   * the first workers are ready, or have failed.
   */
  readonly lastReload: ReloadStatus | null;
  /** Whether the server has been told to stop. */
  readonly draining: boolean;
  /** How long responses took, from the request to the end of the response. */
  readonly latency: Histogram;
  /**
   * The sizes of the responses' bodies, where they were known before they were sent: streams
   * without a `content-length` are not counted.
   */
  readonly responseBytes: Histogram;
  /** The number of responses, by method and class of the status; those that are not zero. */
  readonly responses: readonly ResponseCount[];
  /** How many workers were started for each reason. */
  readonly starts: readonly StartCount[];
  /** The versions of what the master runs on. */
  readonly versions: Versions;
  /** How often the server was asked to load new code, at whose outcome `lastReload` looks. */
  readonly reloads: ReloadCounts;
  /** How far the server is with opening its logs again. */
  readonly logs: LogStatus;
}

/** How many workers were started for a reason. */
export interface StartCount {
  /**
   * Why: at the server's start, because the worker before it crashed, exceeded a time limit, its
   * memory or its number of requests, because of SIGHUP or SIGUSR2, or for there to be more
   * workers.
   */
  readonly reason: StartReason;
  /** The number of workers. */
  readonly count: number;
}

/** A socket on which the server listens. */
export interface ListenerStatus extends ListenerEntry {
  /**
   * How many connections the kernel has dropped because the queue of a TCP socket was full, of all
   * sockets in the server's network namespace; `null` if it is not known.
   */
  readonly drops: number | null;
}

/** A request that took long. */
export interface SlowStatus {
  /** When it arrived, as an ISO 8601 date in UTC. */
  readonly time: string;
  /** From the request to the end of the response. */
  readonly duration: number;
  /** The method. */
  readonly method: string;
  /** The URL without its query; truncated if it is long. */
  readonly url: string;
  /** The response's status. */
  readonly status: number;
  /** The number of the worker. */
  readonly worker: number;
}

/** The requests to load new code. A request that arrives during a reload has another one follow. */
export interface ReloadCounts {
  /** The number of requests. */
  readonly requested: number;
  /** How many of them `lastReload` answers. */
  readonly answered: number;
}

/** How far a server is with opening its logs again. */
export interface LogStatus {
  /** How often it was asked to. */
  readonly reopened: number;
  /** The number of processes that have not done so yet. */
  readonly pending: number;
  /** The number of processes that could not, and still write to an old file. */
  readonly failed: number;
}

/** How an attempt to load the app's code ended. */
export interface ReloadStatus {
  /** Whether workers serve with the code. If not, the old code stays in use. */
  readonly success: boolean;
  /** When the workers were ready, or the attempt failed, as an ISO 8601 date in UTC. */
  readonly time: string;
  /** Why the attempt failed, in one line; `null` if it succeeded. */
  readonly reason: string | null;
}

/** One worker. */
export interface WorkerStatus extends ProcessStatus {
  /** The worker's number, from 1. Its replacement has the same number. */
  readonly number: number;
  /** The worker's state. */
  readonly state: "booting" | "ready" | "stopping";
  /** For how long the worker's event loop has been blocked; 0 while it runs. */
  readonly stalled: number;
  /** The `generation` that the master had when it forked this worker. */
  readonly generation: number;
  /** When the worker was forked, as an ISO 8601 date in UTC. */
  readonly started: string;
  /** The time since the worker was forked. */
  readonly age: number;
  /** The number of requests to the worker. */
  readonly requests: number;
  /**
   * The number of these requests that failed: the handler threw, or the status was 500 or above.
   */
  readonly errors: number;
  /** The number of requests that the worker has not completely answered. */
  readonly inFlight: number;
  /** The number of open client connections. */
  readonly connections: number;
  /** The share of one processor that the worker has used recently: 1 is all of one processor. */
  readonly busy: number;
  /** Why the worker was started: `"start"`, or how its predecessor ended. */
  readonly reason: string;
  /** The worker's last request: method and URL without its query; empty before the first. */
  readonly request: string;
  /** The open client connections by what happens on them, as of the worker's last check. */
  readonly connectionStates: ConnectionStates;
  /** How long the worker's responses took. */
  readonly latency: Histogram;
  /**
   * The requests that the worker is answering: at most 4, those that wait longest, as of the
   * worker's last check.
   */
  readonly current: readonly CurrentStatus[];
}

/** Connections by what happens on them. */
export interface ConnectionStates {
  /** A request is being answered. */
  readonly active: number;
  /** Nothing. */
  readonly idle: number;
  /** The connection is a WebSocket, or not HTTP any more. */
  readonly upgraded: number;
}

/** A request that a worker is answering. */
export interface CurrentStatus {
  /** The method. */
  readonly method: string;
  /** The URL without its query; truncated if it is long. */
  readonly url: string;
  /** When it arrived, as an ISO 8601 date in UTC. */
  readonly since: string;
}

/** The memory of a process. */
export interface MemoryStatus {
  /** Memory that only this process has, which its end would free. */
  readonly privateBytes: number;
  /** Memory that other processes have too, counted in full for each of them. */
  readonly sharedBytes: number;
  /** The private memory plus the process's share of the shared memory (PSS). It can be summed. */
  readonly proportionalBytes: number;
}

/** Options for {@linkcode readStatus}. */
export interface ReadOptions {
  /**
   * Whether to read the memory of the processes, which takes longest. The default is `true`.
   */
  readonly memory?: boolean;
}

/** The status cannot be read. The message is one plain line, for the user. */
export class StatusError extends Error {
  /** The class's name. */
  override readonly name: string = "StatusError";
}

/**
 * Reads the status of a running server.
 *
 * @param pid The master's pid.
 * @param options What to read.
 * @returns The status.
 * @throws {StatusError} If there is no such process, it is not the master of a preforking server of
 *   this version of tine, or this user may not access it.
 *
 * @example
 * ```ts
 * import { readStatus, StatusError } from "@tine/tine/server";
 *
 * try {
 *   const { workers } = readStatus(Deno.pid); // normally a server's
 *   console.log(workers.map(({ pid, requests }) => `${pid}: ${requests}`));
 * } catch (error) {
 *   if (!(error instanceof StatusError)) throw error;
 *   console.log(error.message);
 * }
 * ```
 */
export function readStatus(pid: number, options: ReadOptions = {}): Status {
  if (!Number.isInteger(pid) || pid < 1) throw cannot(pid, "that is not a pid");
  const master = identify(pid);
  if (master === undefined) throw cannot(pid, "there is no such process");
  const path = scoreboardOf(pid);
  if (path === undefined) throw cannot(pid, "it is not a preforking server of tine");
  const scoreboard = readScoreboard(path, pid);
  // Workers inherit the descriptor, so theirs leads to the same scoreboard.
  if (master.pidInside !== scoreboard.master) {
    throw cannot(
      pid,
      identify(master.parent)?.pidInside === scoreboard.master
        ? `it is a child of the server ${master.parent}. Give the pid of that one`
        : "it was a child of a server that has ended",
    );
  }
  return statusOf(scoreboard, pid, options);
}

/**
 * Returns the status that a scoreboard describes.
 *
 * @param scoreboard The scoreboard: shared memory, or a copy.
 * @param pid The master's pid as this process sees it. It differs from the scoreboard's if the
 *   server runs in a pid namespace (a container) of its own.
 * @param options What to read.
 * @returns The status.
 */
export function statusOf(
  scoreboard: Scoreboard,
  pid: number = scoreboard.master,
  { memory = true }: ReadOptions = {},
): Status {
  const memoryOf = memory ? readMemory : () => null;
  const now = Date.now();
  const slots = scoreboard.slots.filter((slot) => slot.pid !== 0);
  const children = livingChildren(pid, slots);
  const living = slots.flatMap((slot) => {
    const child = children.get(slot.pid);
    return child === undefined ? [] : [{ slot, child }];
  });
  const admin = living.find(({ slot }) => slot.number === ADMIN);
  const workers = living
    .filter(({ slot }) => slot.number !== ADMIN)
    .flatMap(({ slot, child }) => workerStatus(slot, child, now, memoryOf(child)));
  // A worker that has just ended is counted by its slot until the master has reaped it.
  const counted = slots.filter(({ number }) => number !== ADMIN);
  const sum = (count: (slot: Slot) => number) =>
    counted.reduce((total, slot) => total + count(slot), 0);
  const { requests, errors, metrics, slow } = steadily(() => scoreboard.changes, () => ({
    requests: scoreboard.pastRequests + sum((slot) => slot.requests),
    errors: scoreboard.pastErrors + sum((slot) => slot.errors),
    metrics: sumOfMetrics([scoreboard.pastMetrics, ...counted.map((slot) => slot.metrics)]),
    slow: [scoreboard.pastSlow, ...counted.map((slot) => slot.slow)].flatMap((table) =>
      table.slow(now)
    ),
  }));
  return {
    master: {
      pid,
      url: scoreboard.url,
      app: scoreboard.app,
      started: new Date(scoreboard.started).toISOString(),
      uptime: secondsSince(scoreboard.started, now),
      generation: scoreboard.generation,
      workers: scoreboard.workers,
      requests,
      errors,
      crashes: scoreboard.crashes,
      lastReload: lastReload(scoreboard),
      draining: scoreboard.draining,
      latency: metrics.latency,
      responseBytes: metrics.responseBytes,
      responses: metrics.responses,
      starts: scoreboard.starts,
      versions: scoreboard.versions,
      reloads: {
        requested: scoreboard.reloadsRequested,
        answered: scoreboard.reloadsAnswered,
      },
      logs: logStatus(scoreboard, living.map(({ slot }) => slot)),
      memory: memoryOf(pid),
    },
    admin: admin === undefined ? null : { pid: admin.child, memory: memoryOf(admin.child) },
    workers: workers.sort((a, b) => a.number - b.number || b.age - a.age),
    listeners: listenersOf(scoreboard, pid),
    slow: slow.sort((a, b) => b.duration - a.duration).slice(0, MOST_SLOW).map(slowStatus),
  };
}

function listenersOf({ listeners }: Scoreboard, master: number): ListenerStatus[] {
  const drops = readDrops(master);
  return listeners.get().map((listener) => ({
    ...listener,
    // A client that connects to a UNIX socket waits, or gets an error.
    drops: listener.url.includes("unix:") ? null : drops,
  }));
}

/**
 * Reads how many connections the kernel has dropped because a listening socket's queue was full, in
 * the network namespace of a process.
 */
function readDrops(pid: number): number | null {
  const text = attempt(() => readText(`/proc/${pid}/net/netstat`)) ?? "";
  // A line of names, and a line of values.
  const [names, values] = [...text.matchAll(/^TcpExt:(.*)$/gm)].map(([, line]) =>
    line!.trim().split(" ")
  );
  const value = values?.[names!.indexOf("ListenDrops")];
  return value === undefined ? null : Number(value);
}

function slowStatus({ since, duration, ...request }: SlowRequest): SlowStatus {
  return { time: new Date(since).toISOString(), duration: duration / 1000, ...request };
}

function currentStatus({ since, ...request }: CurrentRequest): CurrentStatus {
  return { ...request, since: new Date(since).toISOString() };
}

function lastReload({ reloaded, reloadFailure }: Scoreboard): ReloadStatus | null {
  if (reloaded === 0) return null;
  return {
    success: reloadFailure === "",
    time: new Date(reloaded).toISOString(),
    reason: reloadFailure || null,
  };
}

function logStatus(scoreboard: Scoreboard, slots: readonly Slot[]): LogStatus {
  const { reopenings } = scoreboard;
  const processes = [scoreboard.reopened, ...slots.map(({ reopened }) => reopened)];
  return {
    reopened: reopenings,
    pending: processes.filter((reopened) => Math.abs(reopened) < reopenings).length,
    failed: processes.filter((reopened) => reopened === -reopenings && reopenings > 0).length,
  };
}

/**
 * Finds the preforking servers on this machine that this user may access.
 *
 * @returns The masters' pids.
 */
export function findMasters(): number[] {
  return readNumbers("/proc").filter((pid) => {
    try {
      const path = scoreboardOf(pid);
      return path !== undefined && readScoreboard(path, pid).master === identify(pid)?.pidInside;
    } catch (error) {
      if (error instanceof StatusError) return false;
      throw error;
    }
  });
}

/**
 * Workers increment their heartbeat every second. A silence of up to two seconds is not reported.
 */
const LONGEST_SILENCE = 2;

const MOST_SLOW = 32;
const MOST_TRIES = 100;

const LINK = `/memfd:${SCOREBOARD_NAME} (deleted)`;

/**
 * Returns the path of the scoreboard among the descriptors of a process; `undefined` if it has
 * none.
 */
function scoreboardOf(pid: number): string | undefined {
  const folder = `/proc/${pid}/fd`;
  return explained(pid, () => readNumbers(folder))
    .map((fd) => `${folder}/${fd}`)
    .find((path) => attempt(() => readlink(path)) === LINK);
}

/**
 * Reads a copy of the scoreboard. It is not mapped: that would require permission to write to it.
 */
function readScoreboard(path: string, pid: number): Scoreboard {
  const bytes = steadily(
    () => changesIn(readBytes(path, pid, CHANGES_BYTES)),
    () => readBytes(path, pid, SCOREBOARD_BYTES),
  );
  try {
    return new Scoreboard(bytes);
  } catch {
    throw cannot(pid, "it runs a different version of tine");
  }
}

/** Reads the beginning of a scoreboard's file. */
function readBytes(path: string, pid: number, length: number): ArrayBuffer {
  using file = explained(pid, () => open(path, O_RDONLY | O_CLOEXEC));
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < bytes.length) {
    const part = file.read(bytes.length - filled);
    if (part.length === 0) break;
    bytes.set(part, filled);
    filled += part.length;
  }
  return filled === length ? bytes.buffer : bytes.buffer.slice(0, filled);
}

/** Reads again what the master has changed while it was read, see {@linkcode Scoreboard.changes}. */
function steadily<T>(changes: () => number, read: () => T): T {
  for (let tries = 1;; tries++) {
    const before = changes();
    const value = read();
    // A master that was killed does not finish.
    if ((before % 2 === 0 && changes() === before) || tries === MOST_TRIES) return value;
  }
}

function workerStatus(
  slot: Slot,
  pid: number,
  now: number,
  memory: MemoryStatus | null,
): WorkerStatus[] {
  const { state } = slot;
  if (state === "free") return [];
  // A booting worker may be loading the app, which may block its event loop.
  const silence = state === "booting" ? 0 : secondsSince(slot.beatAt, now);
  return [{
    number: slot.number,
    pid,
    state,
    stalled: silence > LONGEST_SILENCE ? silence : 0,
    generation: slot.generation,
    started: new Date(slot.started).toISOString(),
    age: secondsSince(slot.started, now),
    requests: slot.requests,
    errors: slot.errors,
    inFlight: slot.inFlight,
    connections: slot.connections,
    busy: Math.round(slot.busy * 1000) / 1000,
    memory,
    reason: slot.reason,
    request: withoutQuery(slot.request),
    connectionStates: connectionStates(slot),
    latency: slot.metrics.latency,
    current: slot.current.current().map(currentStatus),
  }];
}

function connectionStates({ connections, active, upgraded }: Slot): ConnectionStates {
  return { active, idle: Math.max(0, connections - active - upgraded), upgraded };
}

/** Removes the query string of a URL at the end of a text: it may contain a password or a token. */
function withoutQuery(text: string): string {
  return text.replace(/\?.*$/s, "");
}

/** Returns the living children of a master, by the pids that the master sees. */
function livingChildren(master: number, slots: readonly Slot[]): Map<number, number> {
  const candidates = identify(master)?.pidInside === master
    ? slots.map((slot) => slot.pid)
    : readNumbers("/proc");
  const children = new Map<number, number>();
  for (const pid of candidates) {
    const identity = identify(pid);
    if (identity?.parent === master) children.set(identity.pidInside, pid);
  }
  return children;
}

/**
 * Returns a process's parent, and the pid that the process itself sees; `undefined` if it has
 * ended.
 */
function identify(pid: number): { parent: number; pidInside: number } | undefined {
  const text = attempt(() => readText(`/proc/${pid}/status`)) ?? "";
  const value = (name: string) => text.match(new RegExp(`^${name}:\\s+(.*)$`, "m"))?.[1] ?? "";
  // A zombie (Z) has ended and waits to be reaped. State X is rarely visible.
  if (text === "" || /^[ZX]/.test(value("State"))) return undefined;
  return {
    parent: Number(value("PPid")),
    // NSpid lists one pid for each pid namespace of the process, the innermost last.
    pidInside: Number(value("NSpid").split(/\s+/).at(-1)),
  };
}

function readMemory(pid: number): MemoryStatus | null {
  const text = attempt(() => readText(`/proc/${pid}/smaps_rollup`)) ?? "";
  if (text === "") return null;
  const bytes = (name: string) =>
    Number(text.match(new RegExp(`^${name}: +(\\d+)`, "m"))?.[1]) * 1024;
  return {
    privateBytes: bytes("Private_Clean") + bytes("Private_Dirty"),
    sharedBytes: bytes("Shared_Clean") + bytes("Shared_Dirty"),
    proportionalBytes: bytes("Pss"),
  };
}

function secondsSince(then: number, now: number): number {
  return Math.max(0, Math.round(now - then)) / 1000;
}

/**
 * Returns the value of a call; `undefined` if the system refuses it: the process may have ended.
 */
function attempt<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}

/** Returns the value of a call, or throws an error that gives the reason in words. */
function explained<T>(pid: number, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    switch (error.code) {
      case "ENOENT":
      case "ESRCH":
        throw cannot(pid, "there is no such process");
      case "EACCES":
      case "EPERM":
        throw cannot(pid, "it belongs to another user. Run this as that user or as root");
      default:
        throw cannot(pid, error.message);
    }
  }
}

function cannot(pid: number, reason: string): StatusError {
  return new StatusError(`Cannot read the status of process ${pid}: ${reason}`);
}
