import { isSyscallError } from "../../../ffi/errno.ts";
import { readText } from "../../../ffi/proc.ts";
import { kill } from "../../../ffi/process.ts";
import { SIGHUP, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1 } from "../../../ffi/signals.ts";
import { formatCount } from "../../log.ts";
import {
  type ReadOptions,
  readStatus,
  type Status,
  StatusError,
} from "../../prefork/status/status.ts";
import type { Command, RunningServer } from "./running_server.ts";

const SIGNALS: Readonly<Record<Command, number>> = {
  "reload": SIGHUP,
  "stop": SIGTERM,
  "stop now": SIGQUIT,
  "reopen logs": SIGUSR1,
};

/** How long the master may take to add or remove a worker, in milliseconds. */
const PATIENCE = 10_000;
const INTERVAL = 5;

/** A server on this machine, found by its master's pid. */
export class LocalServer implements RunningServer {
  /** What it is called in messages. */
  readonly name: string;
  readonly #pid: number;
  /** When the process started. The pid may be another process's later. */
  readonly #started: string | undefined;

  /** Creates the view of the server whose master has the given pid. */
  constructor(pid: number) {
    this.name = `server ${pid}`;
    this.#pid = pid;
    this.#started = startOf(pid);
  }

  /** Reads its status. */
  status(): Promise<Status> {
    return this.#read({});
  }

  /** Reads its status without the memory of its processes. */
  look(): Promise<Status> {
    return this.#read({ memory: false });
  }

  #read(options: ReadOptions): Promise<Status> {
    return Promise.try(() => {
      let result: Status | StatusError;
      try {
        result = readStatus(this.#pid, options);
      } catch (error) {
        if (!(error instanceof StatusError)) throw error;
        result = error;
      }
      // It may have been another process's, which has the pid now.
      if (this.#started !== undefined && this.#hasEnded()) throw this.#ended();
      if (result instanceof StatusError) throw result;
      return result;
    });
  }

  /** Sends the signal of a command. */
  tell(command: Command): Promise<void> {
    return Promise.try(() => this.#signal(SIGNALS[command]));
  }

  /** Sends one signal for each worker to add or remove: two that are pending become one. */
  async scale(workers: number): Promise<void> {
    let wanted = (await this.look()).master.workers;
    const [signum, step] = workers > wanted ? [SIGTTIN, 1] : [SIGTTOU, -1];
    for (let left = Math.abs(workers - wanted); left > 0; left--) {
      this.#signal(signum);
      const now = await this.#otherThan(wanted);
      // Another command may have added or removed some, too, and all count.
      if (Math.sign(now - wanted) !== step) {
        throw new StatusError(`Cannot scale ${this.name}: something else changes its workers, too`);
      }
      wanted = now;
    }
  }

  async #otherThan(wanted: number): Promise<number> {
    const end = performance.now() + PATIENCE;
    for (;;) {
      const { workers } = (await this.look()).master;
      if (workers !== wanted) return workers;
      if (performance.now() > end) {
        const seconds = PATIENCE / 1000;
        throw new StatusError(
          `Cannot scale ${this.name}: it still has ${
            formatCount(workers, "worker")
          } ${seconds} s after a signal`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  }

  #signal(signum: number): void {
    try {
      if (this.#hasEnded()) throw this.#ended();
      kill(this.#pid, signum);
    } catch (error) {
      if (!isSyscallError(error)) throw error;
      if (error.code === "ESRCH") throw this.#ended();
      const reason = error.code === "EPERM"
        ? "it belongs to another user. Run this as that user or as root"
        : error.message;
      throw new StatusError(`Cannot signal ${this.name}: ${reason}`);
    }
  }

  #ended(): StatusError {
    return new StatusError(`${this.name[0]!.toUpperCase()}${this.name.slice(1)} has ended`);
  }

  /** Returns whether the process has ended, also if its pid is another's by now. */
  hasEnded(): Promise<boolean> {
    return Promise.resolve(this.#hasEnded());
  }

  #hasEnded(): boolean {
    return startOf(this.#pid) !== this.#started || this.#started === undefined;
  }
}

/** Returns when a process was started, in clock ticks; `undefined` if it has ended. */
function startOf(pid: number): string | undefined {
  try {
    // The name is in parentheses and may contain anything. The start is field 22, proc_pid_stat(5).
    const fields = readText(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
    return /^[ZX]/.test(fields[0]!) ? undefined : fields[19];
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}
