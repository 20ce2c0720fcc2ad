import { SyscallError } from "../../ffi/errno.ts";
import { UnsupportedPlatformError } from "../../ffi/platform.ts";
import { AppError } from "../app/load_app.ts";
import { ActivationError } from "../prefork/host/activation.ts";
import { PidFileError } from "../prefork/host/pid_file.ts";
import { UsageError } from "./usage.ts";

const HELP = `\
tine: serves a fetch app with forked processes.

Usage: tine COMMAND (from its source: deno run -A server/cli.ts COMMAND)

  serve APP     serve the module APP, as deno serve takes it
  status        show what a running server and its workers are doing

Each command has a --help of its own.
`;

// Only the requested command is loaded.
const COMMANDS = new Map<string, (args: readonly string[]) => Promise<number>>([
  ["serve", async (args) => await (await import("./serve.ts")).serve(args)],
  ["status", async (args) => await (await import("./status.ts")).status(args)],
]);

/**
 * Runs a command line.
 *
 * @param args The arguments, without the program's name.
 * @returns The exit code: 0, 1 on failure, 2 if the command line is invalid.
 */
export async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  try {
    if (command === undefined) throw new UsageError("a command is missing");
    if (["--help", "-h", "help"].includes(command)) {
      console.log(HELP.trimEnd());
      return 0;
    }
    const run = COMMANDS.get(command);
    if (run === undefined) throw new UsageError(`there is no command ${command}`);
    return await run(rest);
  } catch (error) {
    if (command === "serve") {
      const { reportFailure } = await import("../prefork/master/canary.ts");
      reportFailure(error);
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
}

/** Whether an error's message is sufficient without a stack trace. */
function isPlain(error: unknown): error is Error {
  return [ActivationError, AppError, PidFileError, SyscallError, UnsupportedPlatformError]
    .some((kind) => error instanceof kind);
}

/** Advice for an address or a file that is not available, by system call and error. */
const ADVICE = new Map([
  ["bind EADDRINUSE", "Stop what is there, or choose another --port, --unix or --admin"],
  [
    "bind EACCES",
    "Choose a --port from 1024, a path that may be written to, or have systemd open the socket",
  ],
  ["bind EADDRNOTAVAIL", "Choose a --host that is an address of this machine"],
  ["bind ENOENT", "Make the folder, or choose another path"],
  ["open ENOENT", "Make the folder, or choose another path"],
  ["write ENOENT", "Make the folder, or choose another path"],
]);

function adviceFor(error: Error): string {
  if (!(error instanceof SyscallError)) return "";
  const advice = ADVICE.get(`${error.syscall} ${error.code}`);
  return advice === undefined ? "" : `. ${advice}`;
}
