/**
 * The canary: a process of its own that runs the program as a restart would, up to the point where
 * the app is loaded. If that fails, it tells the master why, through a pipe. If Deno itself ends
 * it, because a module is missing or has a syntax error, what Deno has printed tells.
 */
import { type Descriptor, O_CLOEXEC, O_NONBLOCK, pipe } from "../../../ffi/descriptor.ts";
import { F_SETFD, write } from "../../../ffi/descriptor_calls.ts";
import { getenv } from "../../../ffi/environment.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { execve } from "../../../ffi/execve.ts";
import { executable } from "../../../ffi/forking/run_again.ts";
import { forkChild } from "../../../ffi/forking/fork_child.ts";
import { getpid } from "../../../ffi/process.ts";
import { memfd_create } from "../../../ffi/memory.ts";
import { commandLine, readText } from "../../../ffi/proc.ts";
import { oneLine } from "../../app/load_app.ts";
import { reliable } from "../../log.ts";
import { passPem } from "../host/pem_files.ts";
import type { Context } from "./context.ts";
import { restoreGivenEnvironment } from "./given_environment.ts";

/** The environment variable that contains the canary's pid. */
const CANARY = "TINE_CANARY";
/** The environment variable that contains the canary's end of the pipe. */
const PIPE = "TINE_CANARY_PIPE";

/**
 * The exit status of a canary that would now start to serve. It is not 0, because an app may exit
 * with 0.
 */
export const LOADED = 86;

/** The longest report, in bytes: less than the room of a pipe, so that a write never waits. */
const LONGEST_REPORT = 4096;

const STDERR = 2;
// deno-lint-ignore no-control-regex
const COLOUR = /\x1b\[[0-9;]*m/g;

/** A canary, as the master sees it. */
export interface Canary {
  readonly pid: number;
  /** The read end of the pipe. */
  readonly report: Descriptor;
  /** The canary's standard error: a file in memory. */
  readonly stderr: Descriptor;
}

/** Whether this process is a canary, which only loads the code. */
export function isCanary(): boolean {
  return getenv(CANARY) === String(getpid());
}

/** Tells the master why this process fails, if it is a canary. */
export function reportFailure(error: unknown): void {
  const fd = getenv(PIPE);
  if (!isCanary() || fd === undefined) return;
  const message = error instanceof Error ? error.message : String(error);
  try {
    write(Number(fd), new TextEncoder().encode(message).slice(0, LONGEST_REPORT));
  } catch (error) {
    if (!isSyscallError(error)) throw error; // EPIPE: the master has ended
  }
}

/**
 * Starts this program a second time, as a canary.
 *
 * @param context How the server was started.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, `EMFILE`, ...
 */
export function startCanary(
  { startDirectory, variables }: Pick<Context, "startDirectory" | "variables">,
): Canary {
  const [report, end] = pipe(O_CLOEXEC | O_NONBLOCK);
  let stderr: Descriptor | undefined;
  try {
    const file = stderr = memfd_create("tine-canary");
    const pid = forkChild(() => {
      end.fcntl(F_SETFD, 0);
      file.dup2(STDERR);
      const own = { [CANARY]: String(getpid()), [PIPE]: String(end.fileno()) };
      restoreGivenEnvironment({ ...variables, ...passPem(), ...own });
      try {
        Deno.chdir(startDirectory);
      } catch (error) {
        const failure = `Cannot change to the directory in which the server was started: ${
          (error as Error).message
        }`;
        console.error(`error: ${failure}`);
        reportFailure(failure);
        return 1;
      }
      execve(executable(), commandLine());
    });
    return { pid, report, stderr };
  } catch (error) {
    report.close();
    stderr?.close();
    throw error;
  } finally {
    end.close();
  }
}

/**
 * Reads what a canary that has ended reported, and passes on what it printed to standard error.
 *
 * @returns The message of its error; empty if there is none.
 */
export function readReport({ report, stderr }: Canary): string {
  using file = stderr;
  const printed = readText(`/proc/self/fd/${file.fileno()}`);
  if (printed !== "") reliable((text) => writeStderr(text))(printed);
  return readMessage(report) || errorIn(printed);
}

function writeStderr(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += write(STDERR, bytes.subarray(at));
}

/** Returns the error with which Deno has ended, in one line without a period; empty if there is none. */
function errorIn(printed: string): string {
  const text = printed.replace(COLOUR, "");
  const at = `\n${text}`.lastIndexOf("\nerror: ");
  if (at === -1) return "";
  const [error] = text.slice(at + "error: ".length).split("\n\nStack backtrace:");
  return oneLine(error!).replace(/\.$/, "");
}

function readMessage(report: Descriptor): string {
  using end = report;
  try {
    return new TextDecoder().decode(end.read(LONGEST_REPORT));
  } catch (error) {
    // A subprocess of the app's inherited the pipe, and is still running.
    if (isSyscallError(error, "EAGAIN")) return "";
    throw error;
  }
}
