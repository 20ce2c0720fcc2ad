/**
 * A fresh worker, with `--no-preload`: the master forks a child that executes the server's command
 * line anew, so that it is a Deno of its own, with all its threads. What it needs of the master it
 * inherits as descriptors, which an environment variable names. (The other workers are copies of
 * the master.)
 */
import { F_SETFD, fcntl, FD_CLOEXEC } from "../../ffi/descriptor_calls.ts";
import { getenv, setenv, unsetenv } from "../../ffi/environment.ts";
import { getpid } from "../../ffi/process.ts";

/** The name of the environment variable. */
const FRESH_WORKER = "TINE_FRESH_WORKER";

/** What a fresh worker inherits. */
export interface FreshWorker {
  readonly number: number;
  /** The index of its slot in the scoreboard. */
  readonly slot: number;
  readonly descriptors: {
    readonly channel: number;
    readonly scoreboard: number;
    /** A file in memory: the configuration as JSON, which contains the key of a certificate. */
    readonly config: number;
    readonly listeners: readonly number[];
  };
}

/** Whether this process was executed as a worker. */
export function isFreshWorker(): boolean {
  return getenv(FRESH_WORKER)?.startsWith(`${getpid()}:`) === true;
}

/** Passes on what the worker needs that this process becomes by executing a program. */
export function passFreshWorker(worker: FreshWorker): void {
  setCloseOnExec(worker, 0);
  setenv(FRESH_WORKER, `${getpid()}:${JSON.stringify(worker)}`);
}

/**
 * Takes what was passed on, and leaves nothing of it to the programs that this process executes.
 * There must be something, see {@linkcode isFreshWorker}.
 */
export function takeFreshWorker(): FreshWorker {
  const text = getenv(FRESH_WORKER)!;
  unsetenv(FRESH_WORKER);
  const worker: FreshWorker = JSON.parse(text.slice(text.indexOf(":") + 1));
  setCloseOnExec(worker, FD_CLOEXEC);
  return worker;
}

function setCloseOnExec({ descriptors }: FreshWorker, flags: number): void {
  for (const fd of Object.values(descriptors).flat()) fcntl(fd, F_SETFD, flags);
}
