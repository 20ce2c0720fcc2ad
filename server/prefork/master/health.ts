/** Health checks of the workers: event loops that are blocked, timeouts, and memory use. */
import { isSyscallError } from "../../../ffi/errno.ts";
import { readText } from "../../../ffi/proc.ts";
import type { Context } from "./context.ts";
import { deletedFile, isAnyWaiting, showQueues } from "./listeners.ts";
import { memoryShare } from "../host/cgroup.ts";
import { isWorker, nameOf, stays, type Worker, type Workers } from "./workers.ts";

/** The longest interval between two health checks, in milliseconds. */
const INTERVAL = 1000;

/** Checks the workers of a master. */
export class Health {
  /** The longest time the master may sleep between two checks, in milliseconds. */
  readonly interval: number;
  readonly #context: Context;
  readonly #workers: Workers;
  #checkedAt = performance.now();
  #lookedAt = -Infinity;
  /** The files of sockets that have been deleted, and were told. */
  readonly #deleted = new Set<string>();

  /** Creates the health checks for the given workers. */
  constructor(context: Context, workers: Workers) {
    const { timeout } = context.config;
    this.#context = context;
    this.#workers = workers;
    this.interval = timeout > 0 ? Math.min(INTERVAL, timeout * 250) : INTERVAL;
  }

  /** Runs the checks. Called in each iteration of the master's loop. */
  check(): void {
    const now = performance.now();
    const gap = now - this.#checkedAt;
    // If this process was suspended too (a paused container), all workers would seem to hang, and
    // those that start or stop would have had no time.
    const wasSuspended = gap > 2 * this.interval;
    const suspended = gap > 2 * INTERVAL ? gap : 0;
    this.#checkedAt = now;
    for (const worker of this.#workers.all()) {
      worker.killAt += suspended;
      if (wasSuspended || worker.slot.heartbeat !== worker.heartbeat) worker.heardAt = now;
      worker.heartbeat = worker.slot.heartbeat;
      this.#checkTime(worker, now);
    }
    this.#workers.replaceNext();
    if (now - this.#lookedAt < INTERVAL) return;
    this.#lookedAt = now;
    this.#wakeForWaiting();
    showQueues(this.#context);
    this.#checkFiles();
    this.#checkMemory();
    this.#context.notify("tick");
  }

  /** Kills a worker that exceeded a time limit. */
  #checkTime(worker: Worker, now: number): void {
    if (worker.killedFor !== undefined || now < worker.retryAt) return;
    const { timeout, grace, bootTimeout } = this.#context.config;
    if (now >= worker.killAt) {
      const why = worker.stopping
        ? `it did not stop within ${grace} s`
        : `it was not ready within ${bootTimeout} s`;
      this.#workers.kill(worker, why);
    } else if (worker.ready && timeout > 0 && now - worker.heardAt > timeout * 1000) {
      this.#workers.kill(worker, `its event loop was blocked for ${timeout} s`);
    }
  }

  /**
   * A connection wakes one worker. If that worker ends or stops accepting before it has accepted
   * the connection, no other worker is woken. The master therefore checks for waiting connections.
   */
  #wakeForWaiting(): void {
    if (this.#workers.stopping) return;
    if (isAnyWaiting(this.#context.listeners)) this.#workers.tellAll("look");
  }

  /** Tells of deleted files of sockets. Those of the service manager's are its own affair. */
  #checkFiles(): void {
    const { listeners, admin, isActivated, log } = this.#context;
    if (this.#workers.stopping) return;
    for (const socket of [...isActivated ? [] : listeners, admin]) {
      const path = deletedFile(socket);
      if (path === undefined || this.#deleted.has(path)) continue;
      this.#deleted.add(path);
      log(
        `The socket file ${path} has been deleted, and no client can connect: SIGHUP makes it again`,
      );
    }
  }

  #checkMemory(): void {
    const { config, log } = this.#context;
    const limit = Math.min(
      config.maxWorkerMemory,
      memoryShare(config.cgroup.memory, this.#workers.wanted),
    );
    if (limit === Infinity) return;
    for (const worker of this.#workers.all()) {
      if (!worker.ready || !isWorker(worker) || !stays(worker)) continue;
      const bytes = privateMemory(worker.pid);
      if (bytes <= limit) continue;
      worker.retiring = `${Math.round(bytes / 1e6)} MB of private memory`;
      log(
        `${nameOf(worker)} will be replaced: it uses ${worker.retiring}, more than its limit of ${
          Math.round(limit / 1e6)
        } MB`,
      );
    }
  }
}

/** Returns the private memory of a process, in bytes. */
function privateMemory(pid: number): number {
  try {
    const text = readText(`/proc/${pid}/smaps_rollup`);
    const kilobytes = [...text.matchAll(/^Private_\w+:\s+(\d+) kB$/gm)];
    return kilobytes.reduce((sum, [, count]) => sum + Number(count) * 1024, 0);
  } catch (error) {
    if (isSyscallError(error)) return 0; // the process has just ended
    throw error;
  }
}
