/** The status command shows what a running preforking server is doing. */
import { formatJson, formatPrometheus } from "../../prefork/status/format.ts";
import type { Status } from "../../prefork/status/status.ts";
import { formatTable } from "../../prefork/status/table.ts";
import { UsageError } from "../usage.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { interruptible } from "./interruptible.ts";
import { print, reporting } from "./print.ts";
import type { RunningServer } from "./running_server.ts";

const HELP = `\
Shows what a preforking server and its workers are doing.

Usage: tine status [PID | --pid-file FILE | --admin ADDRESS] [options]

${SERVER_HELP}
  --watch[=S]      shows the table every S seconds (default 2) until Control-C
  --json           as JSON
  --prometheus     as metrics in Prometheus's text format
  --help           this text

Rates per second and percentiles (p50: half of the responses took at most so long) are those
since the server's start, and with --watch those since the table before.

The columns:
  STATE      booting, ready, stopping, or stalled: its event loop is blocked
  IN FLIGHT  requests that are not completely answered yet
  CONNS      open client connections
  BUSY       the share of one processor that it has used recently
  PRIVATE    memory that only it uses
  SHARED     memory that it shares with others, counted in full
  REASON     why it was started: start, or how the worker before it ended
"In total" is the memory of all processes, with shared memory counted once. The queue has the
connections that no worker has accepted yet. With --watch, "dropped" counts those for which there
was no room, of all servers in this network namespace.

Exit code: 0, or 1 if there is no such server, or 2 if an argument is invalid.
`;

/**
 * Runs the status command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if there is no server to query; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function status(args: readonly string[]): Promise<number> {
  // The argument after --watch is not its value: it may be the pid.
  const given = readArguments(
    args.map((arg) => arg === "--watch" ? "--watch=2" : arg),
    ["watch"],
    ["json", "prometheus"],
  );
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  const { find, values: { watch }, switches } = given;
  if (switches.size + Number(watch !== undefined) > 1) {
    throw new UsageError("expected only one of --watch, --json and --prometheus");
  }
  const interval = watch && seconds(watch, "show the status with --watch", 3600);
  return await reporting(async () => {
    const server = find();
    if (interval) await repeat(server, interval);
    else {
      const format = switches.has("json")
        ? formatJson
        : switches.has("prometheus")
        ? formatPrometheus
        : formatTable;
      print(format(await server.status()));
    }
    return 0;
  });
}

/** Shows the table repeatedly until Control-C; on a terminal, always in the same place. */
async function repeat(server: RunningServer, interval: number): Promise<void> {
  const interruption = interruptible(["SIGINT"]);
  try {
    let before: Status | undefined;
    while (interruption.signal === undefined) {
      const now = await server.status();
      if (Deno.stdout.isTerminal()) redraw(now, before);
      else print((before === undefined ? "" : "\n") + formatTable(now, { before }));
      before = now;
      await interruption.sleep(interval * 1000);
    }
  } finally {
    interruption.stop();
  }
}

function redraw(now: Status, before: Status | undefined): void {
  const { columns, rows } = Deno.consoleSize();
  const lines = formatTable(now, { width: columns, before }).split("\n").slice(0, rows - 1);
  // Draw from the upper left corner, and clear the rest of each line and then of the screen.
  print(`\x1b[H${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
}
