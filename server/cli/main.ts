import { report } from "./report.ts";
import { UsageError } from "./usage.ts";

const HELP = `\
tine: serves a fetch app with forked processes.

Usage: tine COMMAND (from its source: deno run -A server/cli.ts COMMAND)

  serve APP     serve the module APP, the same as for deno serve
  check APP     tell what serve would do, and what would not survive the fork
  status        show what a running server and its workers are doing
  doctor        check that this system and this Deno have what tine relies on

Each command has its own --help.
`;

// Only the requested command is loaded; `serve` and `check` are in start.ts.
const COMMANDS = new Map<string, (args: readonly string[]) => Promise<number>>([
  ["doctor", async (args) => await (await import("./doctor.ts")).doctor(args)],
  ["status", async (args) => await (await import("./status.ts")).status(args)],
  ["watch-files", async (args) => await (await import("./watch.ts")).watch(args)], // for serve --watch
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
    if (command === undefined) throw new UsageError("missing command");
    if (["--help", "-h", "help"].includes(command)) {
      console.log(HELP.trimEnd());
      return 0;
    }
    const run = COMMANDS.get(command);
    if (run === undefined) throw new UsageError(`unknown command ${command}`);
    return await run(rest);
  } catch (error) {
    return report(error);
  }
}
