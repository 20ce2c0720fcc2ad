import { SyscallError } from "../../ffi/errno.ts";
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

/** The names of the classes whose messages are sufficient: to report one loads none of them. */
const PLAIN = [
  "ActivationError",
  "AppError",
  "NotCapable",
  "PidFileError",
  "SyscallError",
  "UnsupportedPlatformError",
  "UnsupportedRuntimeError",
];

/** Whether an error's message is sufficient without a stack trace. */
function isPlain(error: unknown): error is Error {
  return error instanceof Error && PLAIN.includes(error.name);
}

/** Advice for an address or a file that is not available, by system call and error. */
const ADVICE = new Map([
  [
    "bind EADDRINUSE",
    "Stop the process that uses it, or choose another --port, --unix, --listen or --admin",
  ],
  [
    "bind EACCES",
    "Choose a --port of at least 1024 or a writable path, or let root open it: with systemd, or " +
    "with --user and --listen",
  ],
  ["bind EADDRNOTAVAIL", "Choose a --host that is an address of this machine"],
  ["chown EPERM", "Choose a --unix-group in which the user is, or start the server as root"],
  ["bind ENOENT", "Create the folder, or choose another path"],
  ["open ENOENT", "Create the folder, or choose another path"],
  ["write ENOENT", "Create the folder, or choose another path"],
]);

/** Whether a path is that of something else than a socket. */
function isOther(path: string): boolean {
  try {
    return Deno.lstatSync(path).isSocket === false;
  } catch {
    return false;
  }
}

function adviceFor(error: Error): string {
  // The error of a program that cannot listen contains that of the call.
  const call = error instanceof SyscallError
    ? `${error.syscall} ${error.code}`
    : error.message.match(/Cannot (bind) \S+: (E[A-Z]+) \(/)?.slice(1).join(" ") ?? "";
  const path = call === "bind EADDRINUSE" && error.message.match(/Cannot bind (\/.*): E/)?.[1];
  const advice = path && isOther(path)
    ? "It is not a socket: remove it, or choose another path"
    : ADVICE.get(call);
  return advice === undefined ? "" : `. ${advice}`;
}
