/** The status command shows what a running preforking server is doing. */
import { parseArgs as parseUntyped } from "npm:deno-std@1.3.0/cli/parse_args.js";
import { findMasters, readStatus, type Status, StatusError } from "../prefork/status/status.ts";
import { formatJson, formatPrometheus, formatTable } from "../prefork/status/format.ts";
import { UsageError } from "./usage.ts";

const HELP = `\
Shows what a preforking server and its workers are doing.

Usage: tine status [PID | --pid-file FILE] [options]

  PID              the master's pid; not needed when only one server runs
  --pid-file FILE  the file that contains it, as given to serve --pid-file
  --watch[=S]      shows the table every S seconds (default 2) until Control-C
  --json           as JSON
  --prometheus     as metrics in Prometheus's text format
  --help           this text

The columns:
  STATE      booting, ready, stopping, or stalled: its event loop is blocked
  IN FLIGHT  requests that are not completely answered yet
  CONNS      open client connections
  BUSY       the share of one processor that it has used recently
  PRIVATE    memory that only it uses
  SHARED     memory that it shares with others, counted in full
  REASON     why it was started: start, or how the worker before it ended
"In total" is the memory of all processes, with shared memory counted once.

Exit code: 0, or 1 if there is no such server, or 2 if an argument is invalid.
`;

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: string[],
  options: {
    string: string[];
    boolean: string[];
    alias: Record<string, string>;
    unknown: (name: string, key?: string) => unknown;
  },
) => {
  _: (string | number)[];
  "pid-file"?: string;
  watch?: string;
  json: boolean;
  prometheus: boolean;
  help: boolean;
};

/**
 * Runs the status command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if there is no server to query; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function status(args: readonly string[]): Promise<number> {
  try {
    const { help, find, format, interval } = understand(args);
    if (help) print(HELP);
    else if (interval === undefined) print(format(readStatus(find())));
    else await watch(find(), interval);
    return 0;
  } catch (error) {
    if (error instanceof StatusError) {
      console.error(`error: ${error.message}`);
      return 1;
    }
    // The reader, such as head(1), has closed the pipe.
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    throw error;
  }
}

interface Command {
  readonly help: boolean;
  /** Finds the master's pid. */
  readonly find: () => number;
  readonly format: (status: Status) => string;
  /** The interval between two tables, in seconds; `undefined` to print one table only. */
  readonly interval: number | undefined;
}

function understand(args: readonly string[]): Command {
  const options = parseArgs(
    // The argument after --watch is not its value: it may be the pid.
    args.map((arg) => arg === "--watch" ? "--watch=2" : arg),
    {
      string: ["_", "pid-file", "watch"],
      boolean: ["help", "json", "prometheus"],
      alias: { help: "h" },
      unknown: (name, key) => {
        if (key !== undefined) throw new UsageError(`unknown option ${name}`);
      },
    },
  );
  const [pid, ...others] = options._.map(String);
  const { "pid-file": pidFile, watch, json, prometheus, help } = options;
  if (others.length > 0) throw new UsageError("expected one pid");
  if (pid !== undefined && pidFile !== undefined) {
    throw new UsageError("expected a pid or --pid-file, not both");
  }
  if (pidFile === "") throw new UsageError("missing value of --pid-file: expected a file");
  if (pid !== undefined && !isPid(pid)) throw new UsageError(`"${pid}" is not a pid`);
  if (Number(json) + Number(prometheus) + Number(watch !== undefined) > 1) {
    throw new UsageError("expected only one of --watch, --json and --prometheus");
  }
  return {
    help,
    find: () => {
      if (pid !== undefined) return Number(pid);
      return pidFile === undefined ? onlyMaster() : readPid(pidFile);
    },
    format: json ? formatJson : prometheus ? formatPrometheus : formatTable,
    interval: watch === undefined ? undefined : seconds(watch),
  };
}

function isPid(text: string): boolean {
  return /^[1-9]\d{0,8}$/.test(text);
}

function seconds(text: string): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text) && value >= 0.1 && value <= 3600) return value;
  throw new UsageError(
    `Cannot show the status with --watch "${text}": expected a number of seconds from 0.1 to 3600`,
  );
}

function onlyMaster(): number {
  const masters = findMasters();
  const [master, ...others] = masters;
  if (master === undefined) {
    throw new StatusError(
      "No preforking server of this user is running on this machine. Start one with serve",
    );
  }
  if (others.length > 0) {
    const list = masters.map((pid) => `  ${pid}  ${describe(pid)}`).join("\n");
    throw new StatusError(`Several servers are running. Choose one by its pid:\n${list}`);
  }
  return master;
}

function describe(pid: number): string {
  try {
    const { url, app } = readStatus(pid).master;
    return `${url}  ${app}`.trimEnd();
  } catch (error) {
    if (error instanceof StatusError) return "ended in the meantime";
    throw error;
  }
}

function readPid(file: string): number {
  let text: string;
  try {
    text = Deno.readTextFileSync(file).trim();
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "it does not exist, so the server has ended or was started without --pid-file"
      : error instanceof Error
      ? error.message
      : error;
    throw new StatusError(`Cannot read the pid file ${file}: ${reason}`);
  }
  if (!isPid(text)) {
    throw new StatusError(`Cannot use the pid file ${file}: it does not contain a pid`);
  }
  return Number(text);
}

/** Shows the table repeatedly until Control-C; on a terminal, always in the same place. */
async function watch(pid: number, interval: number): Promise<void> {
  let stopped = false;
  let wake = () => {};
  const stop = () => {
    stopped = true;
    wake();
  };
  Deno.addSignalListener("SIGINT", stop);
  try {
    let before: Status | undefined;
    while (!stopped) {
      const now = readStatus(pid);
      if (Deno.stdout.isTerminal()) redraw(now, before);
      else print((before === undefined ? "" : "\n") + formatTable(now, { before }));
      before = now;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, interval * 1000);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } finally {
    Deno.removeSignalListener("SIGINT", stop);
  }
}

function redraw(now: Status, before: Status | undefined): void {
  const { columns, rows } = Deno.consoleSize();
  const lines = formatTable(now, { width: columns, before }).split("\n").slice(0, rows - 1);
  // Draw from the upper left corner, and clear the rest of each line and then of the screen.
  print(`\x1b[H${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
}

function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
