import { SyscallError } from "../../ffi/errno.ts";
import { UnsupportedRuntimeError } from "../../ffi/forking/self_check.ts";
import { UnsupportedPlatformError } from "../../ffi/platform.ts";
import { AppError } from "../app/load_app.ts";
import { ActivationError } from "../prefork/host/activation.ts";
import { PidFileError } from "../prefork/host/pid_file.ts";
import { ConfigFileError, UsageError } from "./usage.ts";

/**
 * Reports an error in a plain line, if its message says all.
 *
 * @param error What ended the command.
 * @returns The exit code: 2 if the command line is invalid, otherwise 1.
 * @throws The error if it needs its stack trace.
 */
export function report(error: unknown): number {
  if (error instanceof ConfigFileError) {
    console.error(`error: ${error.message}`);
    return 2;
  }
  if (error instanceof UsageError) {
    console.error(`error: ${error.message}\nTry --help.`);
    return 2;
  }
  if (isPlain(error)) {
    console.error(`error: ${error.message}${adviceFor(error)}`);
    return 1;
  }
  throw error;
}

/** Whether an error's message is sufficient without a stack trace. */
function isPlain(error: unknown): error is Error {
  return [
    ActivationError,
    AppError,
    PidFileError,
    SyscallError,
    UnsupportedPlatformError,
    UnsupportedRuntimeError,
  ].some((kind) => error instanceof kind) ||
    error instanceof Deno.errors.NotCapable; // last: Deno 1 has no such class
}

/** Advice for an address or a file that is not available, by system call and error. */
const ADVICE = new Map([
  ["bind EADDRINUSE", "Stop the process that uses it, or choose another --port, --unix or --admin"],
  [
    "bind EACCES",
    "Choose a --port of at least 1024 or a writable path, or let systemd open the socket",
  ],
  ["bind EADDRNOTAVAIL", "Choose a --host that is an address of this machine"],
  ["bind ENOENT", "Create the folder, or choose another path"],
  ["open ENOENT", "Create the folder, or choose another path"],
  ["write ENOENT", "Create the folder, or choose another path"],
]);

function adviceFor(error: Error): string {
  if (!(error instanceof SyscallError)) return "";
  const advice = ADVICE.get(`${error.syscall} ${error.code}`);
  return advice === undefined ? "" : `. ${advice}`;
}
