/**
 * What a preforking server is doing, read from outside: its scoreboard through the
 * master's `/proc/PID/fd`, its memory from `/proc`. The server notices nothing of it.
 */
import { O_CLOEXEC, O_RDONLY, open } from "../../../ffi/descriptor.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { readlink, readNumbers, readText } from "../../../ffi/proc.ts";
import { ADMIN, Scoreboard, SCOREBOARD_BYTES, SCOREBOARD_NAME, type Slot } from "../scoreboard.ts";

/**
 * A preforking server as it was at one moment. It is plain data: as JSON it is what
 * `status --json` prints and the admin socket's `/status.json` answers. Times are in
 * seconds, sizes in bytes; names and meanings stay, new ones may join them.
 */
export interface Status {
  /** The master and the server as a whole. */
  readonly master: MasterStatus;
  /** The process that serves the admin socket; `null` when there is none. */
  readonly admin: ProcessStatus | null;
  /** Its workers, by number and age; those that have just ended are left out. */
  readonly workers: readonly WorkerStatus[];
}

/** A process of the server. */
export interface ProcessStatus {
  /** Its pid. */
  readonly pid: number;
  /** Its memory; `null` where it cannot be read. */
  readonly memory: MemoryStatus | null;
}

/** The master and the server as a whole. */
export interface MasterStatus extends ProcessStatus {
  /** Where clients connect. */
  readonly url: string;
  /** The app's module, as it was named; empty when the server was given no module. */
  readonly app: string;
  /** When the server started, as an ISO 8601 date in UTC. */
  readonly started: string;
  /** How long it has been running, restarts included. */
  readonly uptime: number;
  /** How often it was restarted with new code: how often the master has executed itself anew. */
  readonly generation: number;
  /** How many workers there are to be. */
  readonly workers: number;
  /** Requests that have come to all workers, those included that have ended. */
  readonly requests: number;
  /** Requests of these that failed: the handler threw, or the status was 500 or above. */
  readonly errors: number;
  /** Workers that have ended without having been told to. */
  readonly crashes: number;
}

/** One worker. */
export interface WorkerStatus extends ProcessStatus {
  /** Its number, from 1; the one that replaces it has the same. */
  readonly number: number;
  /** What it is doing. */
  readonly state: "booting" | "ready" | "stopping";
  /** For how long its event loop has stood still; 0 while it turns. */
  readonly stalled: number;
  /** The `generation` that the master had when it forked this worker. */
  readonly generation: number;
  /** When it was forked, as an ISO 8601 date in UTC. */
  readonly started: string;
  /** How long ago that is. */
  readonly age: number;
  /** Requests that have come to it. */
  readonly requests: number;
  /** Requests of these that failed: the handler threw, or the status was 500 or above. */
  readonly errors: number;
  /** Requests that it has not answered in full yet. */
  readonly inFlight: number;
  /** Open connections of clients. */
  readonly connections: number;
  /** The share of one processor that it has used lately: 1 is all of one. */
  readonly busy: number;
  /** Why there is this worker: `"start"`, or what its predecessor ended of. */
  readonly reason: string;
  /** The request that came to it last: method and URL; empty before the first. */
  readonly request: string;
}

/** The memory of a process. */
export interface MemoryStatus {
  /** What it alone has, and what its end would free. */
  readonly privateBytes: number;
  /** What other processes have too, counted in full for each of them. */
  readonly sharedBytes: number;
  /** Its own and its share of what is shared (PSS): this can be added up. */
  readonly proportionalBytes: number;
}

/** There is no status. The message is one plain line, for the user. */
export class StatusError extends Error {
  /** The class's name. */
  override readonly name: string = "StatusError";
}

/**
 * Reads the status of a running server.
 *
 * @param pid The master's pid.
 * @returns The status.
 * @throws {StatusError} When there is no such process, it is no master of a preforking server or
 *   one of another version of tine, or this user may not look into it.
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
export function readStatus(pid: number): Status {
  if (!Number.isInteger(pid) || pid < 1) throw cannot(pid, "that is no pid");
  const master = identify(pid);
  if (master === undefined) throw cannot(pid, "there is no such process");
  const path = scoreboardOf(pid);
  if (path === undefined) throw cannot(pid, "it is no preforking server of tine");
  const scoreboard = readScoreboard(path, pid);
  // Workers inherit the descriptor, so theirs leads to the same scoreboard.
  if (master.pidInside !== scoreboard.master) {
    throw cannot(
      pid,
      identify(master.parent)?.pidInside === scoreboard.master
        ? `it is a child of the server ${master.parent}. Ask that one`
        : "it was a child of a server that is gone",
    );
  }
  return statusOf(scoreboard, pid);
}

/**
 * The status that a scoreboard shows.
 *
 * @param scoreboard The scoreboard: shared memory, or a copy.
 * @param pid The master's pid as this process knows it, which is another one when the server
 *   runs in a pid namespace (a container) of its own.
 * @returns The status.
 */
export function statusOf(scoreboard: Scoreboard, pid: number = scoreboard.master): Status {
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
    .flatMap(({ slot, child }) => workerStatus(slot, child, now));
  // A worker that has just ended is counted by its slot until the master has seen it.
  const sum = (count: (slot: Slot) => number) =>
    slots.reduce((total, slot) => slot.number === ADMIN ? total : total + count(slot), 0);
  return {
    master: {
      pid,
      url: scoreboard.url,
      app: scoreboard.app,
      started: new Date(scoreboard.started).toISOString(),
      uptime: secondsSince(scoreboard.started, now),
      generation: scoreboard.generation,
      workers: scoreboard.workers,
      requests: scoreboard.pastRequests + sum((slot) => slot.requests),
      errors: scoreboard.pastErrors + sum((slot) => slot.errors),
      crashes: scoreboard.crashes,
      memory: readMemory(pid),
    },
    admin: admin === undefined ? null : { pid: admin.child, memory: readMemory(admin.child) },
    workers: workers.sort((a, b) => a.number - b.number || b.age - a.age),
  };
}

/**
 * Finds the preforking servers of this machine that this user may look into.
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

/** Workers show every second that their event loop turns. With less than two nothing is said. */
const LONGEST_SILENCE = 2;

const LINK = `/memfd:${SCOREBOARD_NAME} (deleted)`;

/** The scoreboard among the descriptors of a process, if it has one. */
function scoreboardOf(pid: number): string | undefined {
  const folder = `/proc/${pid}/fd`;
  return explained(pid, () => readNumbers(folder))
    .map((fd) => `${folder}/${fd}`)
    .find((path) => attempt(() => readlink(path)) === LINK);
}

/** A copy of the scoreboard. It is not mapped: that would take the right to write to it. */
function readScoreboard(path: string, pid: number): Scoreboard {
  using file = explained(pid, () => open(path, O_RDONLY | O_CLOEXEC));
  const bytes = new Uint8Array(SCOREBOARD_BYTES);
  let filled = 0;
  while (filled < bytes.length) {
    const part = file.read(bytes.length - filled);
    if (part.length === 0) break;
    bytes.set(part, filled);
    filled += part.length;
  }
  try {
    return new Scoreboard(bytes.buffer.slice(0, filled));
  } catch {
    throw cannot(pid, "it runs another version of tine");
  }
}

function workerStatus(slot: Slot, pid: number, now: number): WorkerStatus[] {
  const { state } = slot;
  if (state === "free") return [];
  // One that boots may be loading the app, and need not turn meanwhile.
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
    memory: readMemory(pid),
    reason: slot.reason,
    request: slot.request,
  }];
}

/** The children of a master that live, by the pids that they have for the master. */
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

/** A process's parent, and the pid that it has for itself; `undefined` when it has ended. */
function identify(pid: number): { parent: number; pidInside: number } | undefined {
  const text = attempt(() => readText(`/proc/${pid}/status`)) ?? "";
  const value = (name: string) => text.match(new RegExp(`^${name}:\\s+(.*)$`, "m"))?.[1] ?? "";
  // A zombie has ended and waits to be reaped. An X is hardly ever seen.
  if (text === "" || /^[ZX]/.test(value("State"))) return undefined;
  return {
    parent: Number(value("PPid")),
    // One pid for each pid namespace that it is in, its own last.
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

/** The value of a call, or nothing where the system refuses it: the process may have ended. */
function attempt<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}

/** The value of a call, or the reason of its failure in words. */
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
        throw cannot(pid, "it belongs to another user. Ask as that user or as root");
      default:
        throw cannot(pid, error.message);
    }
  }
}

function cannot(pid: number, reason: string): StatusError {
  return new StatusError(`Cannot read the status of process ${pid}: ${reason}`);
}
