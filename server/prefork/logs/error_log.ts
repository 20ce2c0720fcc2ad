/**
 * The error log is standard error, or a file in its place. Everything that any process writes there
 * is therefore in it, including the app's `console.error()` and V8's fatal errors.
 */
import {
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_NONBLOCK,
  O_WRONLY,
  open,
} from "../../../ffi/descriptor.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { getpid } from "../../../ffi/process.ts";
import { replaceGlobal } from "../../../ffi/runtime/globals.ts";
import { formatCount, type Log } from "../../log.ts";
import { LONGEST_LINE, openLogFile } from "./log_file.ts";

const STDERR = 2;

/**
 * Redirects standard error to a file. Must be called in the master, before it forks.
 *
 * @param path The file. It is appended to.
 * @throws {SyscallError} If the file cannot be opened. Standard error is then unchanged.
 */
export function redirectStderr(path: string): void {
  // O_NONBLOCK: opening a FIFO without a reader fails immediately.
  using file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0o644);
  file.dup2(STDERR);
}

/**
 * Reopens the file after it was moved. Must be called in each process. If it fails, output
 * continues to go to the file that was open.
 *
 * @param path The file.
 * @param log Receives a failure.
 * @returns Whether it succeeded.
 */
export function reopenStderr(path: string, log: Log): boolean {
  try {
    redirectStderr(path);
    return true;
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    log(`${error.message}. The error log is still written to the file that was open before`);
    return false;
  }
}

/**
 * Creates the log of a master or a worker. Each line is written to standard error as a whole,
 * preceded by the time, the role and the pid. A line that cannot be written is dropped, and the
 * next line that can be written reports how many were. Must be called in each process, after
 * {@linkcode redirectStderr}.
 *
 * ```text
 * 2026-11-20T13:00:01.123Z [master 4711] Worker 1 (pid 4712) ended: killed by SIGKILL
 * ```
 *
 * @param role `"master"` or `"worker"`, with a number if there are several.
 */
export function stderrLog(role: string): Log {
  const file = openLogFile(STDERR);
  const buffer = new Uint8Array(LONGEST_LINE);
  let dropped = 0;

  function write(text: string): boolean {
    const line = `${new Date().toISOString()} [${role} ${getpid()}] ${onOneLine(text)}`;
    const { written } = new TextEncoder().encodeInto(line, buffer.subarray(0, LONGEST_LINE - 1));
    buffer[written] = 10;
    return file.write(buffer, written + 1) === 0;
  }

  return (line) => {
    if (dropped > 0) {
      const lines = formatCount(dropped, "line");
      if (write(`${lines} of this log could not be written`)) dropped = 0;
    }
    if (!write(line)) dropped++;
  };
}

/**
 * Keeps the console from throwing if standard output or standard error cannot be written to.
 * Otherwise a handler that calls `console.error()` would fail, and its client get a 500, because
 * the disk is full. Must be called once per process; children inherit the effect.
 */
export function keepConsoleQuiet(): void {
  for (const name of ["debug", "error", "info", "log", "trace", "warn"] as const) {
    replaceGlobal(`console.${name}`, (print) => (...values) => {
      try {
        print.apply(console, values);
      } catch {
        // There is nowhere left to report it.
      }
    });
  }
}

// A message may contain text from a client, and a stack trace has many lines.
function onOneLine(text: string): string {
  return text.trimEnd().replace(/\n\s*/g, " | ").replace(
    // deno-lint-ignore no-control-regex
    /[\x00-\x1f\x7f-\x9f]/g,
    (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
