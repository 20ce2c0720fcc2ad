/** The health of the workers: who hangs, who takes too long, who has grown too large. */
import { isSyscallError } from "../../../ffi/errno.ts";
import { readText } from "../../../ffi/proc.ts";
import type { Context } from "./context.ts";
import { isAnyWaiting } from "./listeners.ts";
import { isWorker, nameOf, stays, type Worker, type Workers } from "./workers.ts";

/** How often the master looks at its workers at least, in milliseconds. */
const INTERVAL = 1000;

/** Checks the workers of a master. */
export class Health {
  /** How long the master may sleep between two checks, in milliseconds. */
  readonly interval: number;
  readonly #context: Context;
  readonly #workers: Workers;
  #checkedAt = 0;
  #lookedAt = 0;

  /** Checks these workers. */
  constructor(context: Context, workers: Workers) {
    const { timeout } = context.config;
    this.#context = context;
    this.#workers = workers;
    this.interval = timeout > 0 ? Math.min(INTERVAL, timeout * 250) : INTERVAL;
  }

  /** Called in each turn of the master's loop. */
  check(): void {
    const now = performance.now();
    // Had this process not run either (a container that was paused), all would seem to hang.
    const wasSuspended = now - this.#checkedAt > 2 * this.interval;
    this.#checkedAt = now;
    for (const worker of this.#workers.all()) {
      if (wasSuspended || worker.slot.heartbeat !== worker.heartbeat) worker.heardAt = now;
      worker.heartbeat = worker.slot.heartbeat;
      this.#checkTime(worker, now);
    }
    this.#workers.replaceNext();
    if (now - this.#lookedAt < INTERVAL) return;
    this.#lookedAt = now;
    this.#wakeForWaiting();
    this.#checkMemory();
    this.#context.notify("tick");
  }

  /** Kills a worker whose time is up. */
  #checkTime(worker: Worker, now: number): void {
    if (worker.killedFor !== undefined || now < worker.retryAt) return;
    const { timeout, grace, bootTimeout } = this.#context.config;
    if (now >= worker.killAt) {
      const why = worker.stopping
        ? `it did not stop within ${grace} s`
        : `it did not get ready within ${bootTimeout} s`;
      this.#workers.kill(worker, why);
    } else if (worker.ready && timeout > 0 && now - worker.heardAt > timeout * 1000) {
      this.#workers.kill(worker, `its event loop stood still for ${timeout} s`);
    }
  }

  /**
   * A connection wakes one worker. Should that one end, or stop accepting, before it
   * has accepted, no other would know: so the master looks whether any waits.
   */
  #wakeForWaiting(): void {
    if (this.#workers.stopping) return;
    if (isAnyWaiting(this.#context.listeners)) this.#workers.tellAll("look");
  }

  #checkMemory(): void {
    const { config: { maxWorkerMemory }, log } = this.#context;
    if (maxWorkerMemory === Infinity) return;
    for (const worker of this.#workers.all()) {
      if (!worker.ready || !isWorker(worker) || !stays(worker)) continue;
      const bytes = privateMemory(worker.pid);
      if (bytes <= maxWorkerMemory) continue;
      worker.retiring = `${Math.round(bytes / 1e6)} MB of memory`;
      log(`${nameOf(worker)} is to be replaced: ${worker.retiring} of its own`);
    }
  }
}

/** The memory that a process shares with no other, in bytes. */
function privateMemory(pid: number): number {
  try {
    const text = readText(`/proc/${pid}/smaps_rollup`);
    const kilobytes = [...text.matchAll(/^Private_\w+:\s+(\d+) kB$/gm)];
    return kilobytes.reduce((sum, [, count]) => sum + Number(count) * 1024, 0);
  } catch (error) {
    if (isSyscallError(error)) return 0; // it has just ended
    throw error;
  }
}
