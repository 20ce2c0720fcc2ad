/** The arguments of the commands for operators: which server, and what else a command takes. */
import { parseArgs as parseUntyped } from "npm:deno-std@1.3.0/cli/parse_args.js";
import { isSyscallError } from "../../../ffi/errno.ts";
import { kill } from "../../../ffi/process.ts";
import { findMasters, readStatus, StatusError } from "../../prefork/status/status.ts";
import { UsageError } from "../usage.ts";
import { LocalServer } from "./local_server.ts";
import { RemoteServer } from "./remote_server.ts";
import type { RunningServer } from "./running_server.ts";

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: readonly string[],
  options: {
    string: readonly string[];
    boolean: readonly string[];
    alias: Record<string, string>;
    unknown: (name: string, key?: string) => unknown;
  },
) => Record<string, unknown> & { _: (string | number)[] };

/** How the server is chosen, for the help texts. */
export const SERVER_HELP = `\
  PID              the master's pid; not needed when only one server runs
  --pid-file FILE  the file that contains it, as given to serve --pid-file
  --admin ADDRESS  the server's admin socket instead: host:port, or the path of a UNIX socket`;

/** What the arguments say. */
export interface Arguments {
  /** Finds the server. */
  readonly find: () => RunningServer;
  /** The values of the options that were given. */
  readonly values: Readonly<Record<string, string>>;
  /** The switches that were given. */
  readonly switches: ReadonlySet<string>;
}

/**
 * Reads the arguments of a command that is for a running server.
 *
 * @param args The arguments.
 * @param options The options with a value, other than those that choose the server.
 * @param switches The options without.
 * @returns What they say; `undefined` if they ask for help.
 * @throws {UsageError} If they are invalid.
 */
export function readArguments(
  args: readonly string[],
  options: readonly string[],
  switches: readonly string[],
): Arguments | undefined {
  const strings = [...options, "pid-file", "admin"];
  const parsed = parseArgs(args, {
    string: ["_", ...strings],
    boolean: ["help", ...switches],
    alias: { help: "h" },
    unknown: (name, key) => {
      if (key !== undefined) throw new UsageError(`unknown option ${name}`);
    },
  });
  if (parsed.help === true) return undefined;
  const given = strings.flatMap((name) => {
    const value = parsed[name];
    if (value === undefined) return [];
    if (value === "") {
      throw new UsageError(`missing value of --${name}: expected ${TAKES[name] ?? "a number"}`);
    }
    return [[name, String(value)] as const];
  });
  const { "pid-file": pidFile, admin, ...values } = Object.fromEntries(given);
  const [pid, ...others] = parsed._.map(String);
  if (others.length > 0) throw new UsageError("expected one pid");
  if ([pid, pidFile, admin].filter((one) => one !== undefined).length > 1) {
    throw new UsageError("expected only one of a pid, --pid-file and --admin");
  }
  if (pid !== undefined && !isPid(pid)) throw new UsageError(`"${pid}" is not a pid`);
  return {
    find: () => {
      if (admin !== undefined) return new RemoteServer(admin);
      if (pid !== undefined) return new LocalServer(Number(pid));
      return new LocalServer(pidFile === undefined ? onlyMaster() : readPid(pidFile));
    },
    values,
    switches: new Set(switches.filter((name) => parsed[name] === true)),
  };
}

const TAKES: Readonly<Record<string, string>> = {
  "pid-file": "a file",
  "admin": "host:port, or the path of a UNIX socket",
};

/**
 * Understands a number of seconds.
 *
 * @param text What was given.
 * @param what What cannot be done with it, and the option, for the error message.
 * @throws {UsageError} If it is not a number from 0.1 to 86400.
 */
export function seconds(text: string, what: string, longest = 86_400): number {
  const value = Number(text);
  if (/^\d*\.?\d+$/.test(text) && value >= 0.1 && value <= longest) return value;
  throw new UsageError(
    `Cannot ${what} "${text}": expected a number of seconds from 0.1 to ${longest}`,
  );
}

function isPid(text: string): boolean {
  return /^[1-9]\d{0,8}$/.test(text);
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
  const pid = Number(text);
  const problem = text === ""
    ? "it is empty, so the server has ended or is about to start"
    : !isPid(text)
    ? "it does not contain a pid"
    : hasEnded(pid)
    ? `the server has ended without removing it: there is no process ${pid}`
    : undefined;
  if (problem !== undefined) throw new StatusError(`Cannot use the pid file ${file}: ${problem}`);
  return pid;
}

function hasEnded(pid: number): boolean {
  try {
    kill(pid, 0);
    return false;
  } catch (error) {
    return isSyscallError(error, "ESRCH");
  }
}
