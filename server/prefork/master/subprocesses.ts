/**
 * The subprocesses that an app has started at its top level. They remain the master's children when
 * it re-executes itself, and nobody but the old workers knows them then.
 */
import { kill } from "../../../ffi/process.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { readText } from "../../../ffi/proc.ts";
import { SIGTERM } from "../../../ffi/signals.ts";
import type { Context } from "./context.ts";

/** The subprocesses of a master's apps. */
export class Subprocesses {
  readonly #context: Context;
  /** Those of the app, and those of the apps before. */
  readonly #own: Set<number>;
  readonly #old: Set<number>;

  /** Adopts the subprocesses that the context has inherited. */
  constructor(context: Context) {
    this.#context = context;
    this.#own = new Set(context.subprocesses);
    this.#old = new Set(context.oldSubprocesses);
  }

  /** Handles a child that ended: from now on its pid may be another process's. */
  reaped(pid: number): void {
    this.#own.delete(pid);
    this.#old.delete(pid);
  }

  /**
   * Ends those of the apps before. One that is the leader of a process group of its own, or in that
   * of another, was meant to stay.
   */
  endOld(): void {
    for (const pid of this.#old) {
      this.#old.delete(pid);
      try {
        if (groupOf(pid) !== groupOf("self")) continue;
        kill(pid, SIGTERM);
        this.#context.log(`SIGTERM sent to a subprocess of the old code (pid ${pid})`);
      } catch (error) {
        if (!isSyscallError(error)) throw error;
        this.#context.log(`Cannot end a subprocess of the old code: ${error.message}`);
      }
    }
  }

  /** Returns the pids for the program that replaces this one. */
  handOn(): number[] {
    return [...this.#old, ...this.#own];
  }
}

/** Returns the process group of a process that has not been reaped. */
function groupOf(pid: number | "self"): string {
  const [_state, _parent, group] = readText(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  return group!;
}
