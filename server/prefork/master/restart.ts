/**
 * How a running server gets new code without dropping a connection: a canary, which
 * is a process of its own, tries to load it; only if it can does the master execute
 * itself anew, in place.
 */
import { getenv, setenv } from "../../../ffi/environment.ts";
import { execve } from "../../../ffi/execve.ts";
import { commandLine, executable } from "../../../ffi/forking/become_forkable.ts";
import { forkChild } from "../../../ffi/forking/fork_child.ts";
import { getpid, kill } from "../../../ffi/process.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import type { WaitStatus } from "../../../ffi/wait.ts";
import { formatStatus } from "../../log.ts";
import type { Context } from "./context.ts";
import { executeAnew } from "./inheritance.ts";
import type { Workers } from "./workers.ts";

const CANARY = "TINE_CANARY";

/** What a canary ends with where it would begin to serve: an app may end itself with 0. */
export const LOADED = 86;

/** Whether this process is there only to load the code. */
export function isCanary(): boolean {
  return getenv(CANARY) === String(getpid());
}

/** The restarts of a master, of which one may be under way. */
export class Restart {
  readonly #context: Context;
  readonly #workers: Workers;
  #canary: { readonly pid: number; readonly killAt: number } | undefined;

  /** Hands these workers on. */
  constructor(context: Context, workers: Workers) {
    this.#context = context;
    this.#workers = workers;
  }

  /** Starts a canary, unless there is one. */
  begin(): void {
    const { config, log, notify, startDirectory } = this.#context;
    if (this.#workers.stopping || this.#canary !== undefined) return;
    log("SIGHUP: trying the new code");
    notify("reloading");
    try {
      const pid = startCanary(startDirectory);
      this.#canary = { pid, killAt: performance.now() + config.bootTimeout * 1000 };
    } catch (error) {
      log(`Cannot try the new code, the old one serves on: ${error}`);
      notify("ready");
    }
  }

  /**
   * A child has ended: if it is the canary, the new code can be loaded, or it cannot.
   *
   * @returns Whether it is the canary; not at all when the master executes itself anew.
   */
  reaped(pid: number, status: WaitStatus): boolean {
    if (pid !== this.#canary?.pid) return false;
    this.#canary = undefined;
    if (this.#workers.stopping) return true;
    const { log, notify } = this.#context;
    if (status.kind === "exited" && status.code === LOADED) {
      log("The new code can be loaded: executing anew");
      const error = executeAnew(this.#context, this.#workers.handOn());
      log(`Cannot execute anew, the old code serves on: ${error.message}`);
    } else {
      log(`The new code cannot be loaded (${formatStatus(status)}), the old one serves on`);
    }
    notify("ready");
    return true;
  }

  /** Called in each turn of the master's loop: kills a canary that has had its time. */
  check(): void {
    if (performance.now() >= (this.#canary?.killAt ?? Infinity)) this.abort();
  }

  /** Kills the canary, if there is one. */
  abort(): void {
    if (this.#canary !== undefined) kill(this.#canary.pid, SIGKILL);
  }
}

/** Starts this program a second time, as a canary; gives its pid. */
function startCanary(startDirectory: string): number {
  return forkChild(() => {
    Deno.chdir(startDirectory);
    setenv(CANARY, String(getpid()));
    execve(executable(), commandLine());
  });
}
