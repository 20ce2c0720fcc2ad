/**
 * How a running server loads new code without dropping a connection: a canary, a separate process,
 * tries to load the code. The master re-executes itself in place only if the canary succeeds.
 *
 * If the code changes again in between and then fails to load, the master has no app to fork
 * workers from. It retries with growing pauses, while the old workers keep serving.
 *
 * A master that can no longer fork, because one of V8's threads has got stuck, re-executes itself
 * without a canary, which would have to be forked.
 */
import { kill } from "../../../ffi/process.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import type { WaitStatus } from "../../../ffi/wait.ts";
import { formatStatus } from "../../log.ts";
import { type Canary, LOADED, readReport, startCanary } from "./canary.ts";
import type { Context } from "./context.ts";
import { executeAnew } from "./inheritance.ts";
import type { Subprocesses } from "./subprocesses.ts";
import type { Workers } from "./workers.ts";

/** The pause before the first retry, in milliseconds. It doubles with each further retry. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 60_000;

/** The restarts of a master. */
export class Restart {
  readonly #context: Context;
  readonly #workers: Workers;
  readonly #subprocesses: Subprocesses;
  #isRequested = false;
  #canary: Canary & { readonly killAt: number } | undefined;
  /** Whether the last canary loaded the code. */
  #isLoadable = false;
  /** The number of consecutive failed attempts, and when to retry automatically. */
  #failures: number;
  #retryAt = Infinity;
  /** When a process that can no longer fork may be executed anew. */
  #renewAt = 0;
  #triedWithoutWorkers = false;
  /** How many requests to load new code the attempt under way answers. */
  #answering = 0;

  /** Creates the restart logic, which passes the given workers and subprocesses on. */
  constructor(context: Context, workers: Workers, subprocesses: Subprocesses) {
    this.#context = context;
    this.#workers = workers;
    this.#subprocesses = subprocesses;
    this.#failures = context.hasApp ? 0 : context.failedRestarts;
    if (context.hasApp) return;
    this.#retryLater();
    context.notify("ready"); // the restart is complete
  }

  /** Requests the newest code. A request made while a canary runs starts another canary later. */
  request(): void {
    if (this.#context.scoreboard.draining) return;
    this.#isRequested = true;
    this.#context.scoreboard.reloadsRequested++;
  }

  /**
   * Makes progress. Called in each iteration of the master's loop, after it has acted on all
   * signals.
   */
  proceed(): void {
    const now = performance.now();
    if (this.#context.scoreboard.draining) return;
    if (this.#workers.areStuck && now >= this.#renewAt) {
      this.#renewAt = now + LONGEST_PAUSE;
      this.abort();
      this.#answering = this.#context.scoreboard.reloadsRequested;
      this.#executeAnew("This process can no longer fork");
    } else if (this.#canary !== undefined) {
      if (now >= this.#canary.killAt) this.abort();
    } else if (this.#isRequested) {
      this.#isRequested = false;
      this.#startCanary("SIGHUP: trying the new code");
    } else if (this.#isLoadable) {
      this.#isLoadable = false;
      this.#executeAnew("The new code can be loaded");
    } else if (now >= this.#retryAt) {
      this.#startCanary("Trying the new code again");
    } else if (!this.#context.hasApp && this.#workers.count() === 0 && !this.#triedWithoutWorkers) {
      this.#triedWithoutWorkers = true;
      this.#startCanary("No worker is left: trying the new code one last time");
    }
  }

  #startCanary(why: string): void {
    const { config, log, notify, scoreboard } = this.#context;
    this.#retryAt = Infinity;
    this.#answering = scoreboard.reloadsRequested;
    log(why);
    notify("reloading");
    try {
      const killAt = performance.now() + config.bootTimeout * 1000;
      this.#canary = { ...startCanary(this.#context), killAt };
    } catch (error) {
      this.#triedWithoutWorkers = false;
      this.#fail(`Cannot try the new code: ${error instanceof Error ? error.message : error}`);
    }
  }

  /**
   * Handles a child that ended. If it is the canary, its status tells whether the new code loads.
   *
   * @returns Whether the child was the canary.
   */
  reaped(pid: number, status: WaitStatus): boolean {
    const canary = this.#canary;
    if (pid !== canary?.pid) return false;
    this.#canary = undefined;
    const isLate = performance.now() >= canary.killAt;
    const late = `The new code has not loaded within ${this.#context.config.bootTimeout} s`;
    const report = readReport(canary) || (isLate ? late : "");
    this.#isLoadable = status.kind === "exited" && status.code === LOADED;
    if (this.#isLoadable || this.#context.scoreboard.draining) return true;
    if (this.#triedWithoutWorkers && this.#workers.count() === 0) this.#workers.haveFailed = true;
    this.#fail(`The new code cannot be loaded (${formatStatus(status)})`, report);
    return true;
  }

  /**
   * Re-executes the master. The loop must have acted on all signals first: queued signals get lost.
   */
  #executeAnew(why: string): void {
    this.#context.log(`${why}: re-executing the master`);
    const { config, scoreboard, watcher } = this.#context;
    const { reloadsLoaded } = scoreboard;
    scoreboard.reloadsLoaded = this.#answering;
    const error = executeAnew(this.#context, {
      workers: this.#workers.handOn(),
      config,
      watcher,
      resized: { from: config.workers, to: this.#workers.wanted },
      failedRestarts: this.#failures,
      oldSubprocesses: this.#subprocesses.handOn(),
    });
    scoreboard.reloadsLoaded = reloadsLoaded;
    this.#fail(`Cannot re-execute the master: ${error.message}`);
  }

  /**
   * Logs and records a failure. The old code keeps serving; without an app to fork from, another
   * attempt follows.
   *
   * @param reason What failed.
   * @param report What the canary reported about it.
   */
  #fail(reason: string, report = ""): void {
    const { hasApp, log, notify, scoreboard } = this.#context;
    log(`${reason}, the old ${hasApp ? "code stays in use" : "workers keep serving"}`);
    scoreboard.recordReload(report || reason, this.#answering);
    if (!hasApp) this.#retryLater();
    notify("ready");
  }

  #retryLater(): void {
    const pause = Math.min(FIRST_PAUSE * 2 ** this.#failures++, LONGEST_PAUSE);
    this.#retryAt = performance.now() + pause;
    this.#context.log(`Trying the new code again in ${pause / 1000} s, or at SIGHUP`);
  }

  /** Kills the canary, if one is running. */
  abort(): void {
    if (this.#canary !== undefined) kill(this.#canary.pid, SIGKILL);
  }
}
