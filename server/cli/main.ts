import { report } from "./report.ts";
import { UsageError } from "./usage.ts";

const HELP = `\
tine: serves a fetch app with forked processes.

Usage: tine COMMAND (from its source: deno run -A server/cli.ts COMMAND)

  serve APP     serve the module APP, the same as for deno serve
  check APP     tell what serve would do, and what would not survive the fork
  doctor        check that this system and this Deno have what tine relies on

For a running server:
  status        show what it and its workers are doing
  top           the same as a live view
  reload        load new code, without dropping a connection
  scale +1      start one worker more: also -1, or the number of workers
  logs reopen   open the logs again after they were moved
  stop          finish the requests in progress, and end

Each command has its own --help.
`;

// Only the requested command is loaded; `serve` and `check` are in start.ts.
const COMMANDS = new Map<string, (args: readonly string[]) => Promise<number>>([
  ["reload", async (args) => await (await import("./operate/reload.ts")).reload(args)],
  ["stop", async (args) => await (await import("./operate/stop.ts")).stop(args)],
  ["scale", async (args) => await (await import("./operate/scale.ts")).scale(args)],
  ["logs", async (args) => await (await import("./operate/logs.ts")).logs(args)],
  ["top", async (args) => await (await import("./operate/top.ts")).top(args)],
  ["doctor", async (args) => await (await import("./doctor.ts")).doctor(args)],
  ["status", async (args) => await (await import("./operate/status.ts")).status(args)],
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
    if (run === undefined) throw new UsageError(await unknown(command));
    return await run(rest);
  } catch (error) {
    return report(error);
  }
}

/** The commands of `start.ts`, and those for users here. */
const NAMES = ["serve", "check", "status", "top", "reload", "scale", "logs", "stop", "doctor"];
/** How many letters of a command may be wrong for it to be recognized. */
const LIKELY = 2;

/** Returns the message about an unknown command, with the one that was probably meant. */
async function unknown(command: string): Promise<string> {
  // The package has no type declarations.
  const { levenshteinDistance } = await import(
    "npm:deno-std@1.3.0/text/levenshtein_distance.js"
  ) as { levenshteinDistance: (a: string, b: string) => number };
  const [nearest] = NAMES.map((name) => ({ name, letters: levenshteinDistance(command, name) }))
    .filter(({ name, letters }) => letters <= Math.min(LIKELY, name.length - 2))
    .sort((a, b) => a.letters - b.letters);
  return `unknown command ${command}${
    nearest === undefined ? "" : `: did you mean ${nearest.name}?`
  }`;
}
