import { parseArgs as parseUntyped } from "@std/cli/parse-args";
import { AppError } from "../app/load_app.ts";
import { cannot } from "../options.ts";
import { type Config, type PreforkOptions, resolveOptions } from "../prefork/options.ts";
import { serve as servePrefork } from "../prefork/serve.ts";
import { hostnameOf } from "../prefork/status/admin_hosts.ts";
import type { LowerModel } from "./lower_rungs.ts";
import { UsageError } from "./usage.ts";

type Kind = (text: string, flag: string) => unknown;

/** An option: the property it sets, its argument, and its help text. */
interface Option {
  readonly sets: keyof PreforkOptions | "model";
  readonly takes: string;
  readonly kind: Kind;
  readonly help: string;
  /** Whether it may be given several times. */
  readonly repeatable?: true;
}

const MODELS = ["iterative", "forking", "prefork"] as const;
const FORMATS = ["common", "combined", "json"] as const;

// In the order of the help text. A string begins a group.
const OPTIONS: Record<string, Option | string> = {
  listening: "Listening",
  port: { sets: "port", takes: "N", kind: port, help: "port (default 8000; 0 for any free port)" },
  host: { sets: "hostname", takes: "ADDRESS", kind: text, help: "address (default 0.0.0.0)" },
  unix: { sets: "path", takes: "PATH", kind: text, help: "a UNIX socket instead of a port" },
  cert: { sets: "cert", takes: "FILE", kind: file, help: "certificate chain (PEM): serves HTTPS" },
  key: { sets: "key", takes: "FILE", kind: file, help: "the certificate's private key (PEM)" },
  backlog: {
    sets: "backlog",
    takes: "N",
    kind: count,
    help: "connections that may wait to be accepted (default 1024)",
  },
  processes: "Processes",
  model: {
    sets: "model",
    takes: "MODEL",
    kind: oneOf(MODELS),
    help: "iterative: one client at a time; forking: a child per\n" +
      "connection; prefork: workers (default)",
  },
  workers: {
    sets: "workers",
    takes: "N",
    kind: count,
    help: "worker processes (default: one per processor)",
  },
  "max-requests": {
    sets: "maxRequests",
    takes: "N",
    kind: count,
    help:
      "replace a worker after about N requests (up to a tenth\nmore, so that they are not all replaced together)",
  },
  "max-worker-memory": {
    sets: "maxWorkerMemory",
    takes: "SIZE",
    kind: size,
    help: "replace a worker with more private memory, such as 512M",
  },
  timeout: {
    sets: "timeout",
    takes: "S",
    kind: seconds,
    help: "kill a worker whose event loop is blocked for S seconds\n(default 30, 0 for never)",
  },
  grace: {
    sets: "grace",
    takes: "S",
    kind: seconds,
    help: "seconds for finishing requests when stopping (default 30)",
  },
  "boot-timeout": {
    sets: "bootTimeout",
    takes: "S",
    kind: seconds,
    help: "seconds until a worker must be ready (default 60)",
  },
  clients: "Clients",
  "max-connections": {
    sets: "maxConnections",
    takes: "N",
    kind: count,
    help: "open connections per worker; further ones wait",
  },
  "header-timeout": {
    sets: "headerTimeout",
    takes: "S",
    kind: seconds,
    help: "seconds for sending a request's header (default 15)",
  },
  "body-timeout": {
    sets: "bodyTimeout",
    takes: "S",
    kind: seconds,
    help: "seconds between two parts of a body (default 30)",
  },
  "idle-timeout": {
    sets: "idleTimeout",
    takes: "S",
    kind: seconds,
    help: "seconds between two requests (default 75)",
  },
  "max-header-bytes": {
    sets: "maxHeaderBytes",
    takes: "SIZE",
    kind: size,
    help: "maximum size of a request's header",
  },
  "max-body-bytes": {
    sets: "maxBodyBytes",
    takes: "SIZE",
    kind: size,
    help: "maximum size of a request's body",
  },
  operation: "Operation",
  "access-log": {
    sets: "accessLog",
    takes: "FILE",
    kind: text,
    help: "one line per request; - for standard output",
  },
  "access-log-format": {
    sets: "accessLogFormat",
    takes: "FORMAT",
    kind: oneOf(FORMATS),
    help: "common (default), combined or json",
  },
  "error-log": {
    sets: "errorLog",
    takes: "FILE",
    kind: text,
    help: "where messages go instead of standard error",
  },
  "pid-file": {
    sets: "pidFile",
    takes: "FILE",
    kind: text,
    help: "contains the master's pid while it runs",
  },
  admin: {
    sets: "admin",
    takes: "ADDRESS",
    kind: text,
    help: "serve /, /status.json, /metrics and /healthz there:\n" +
      "host:port, or the path of a UNIX socket",
  },
  "admin-host": {
    sets: "adminHosts",
    takes: "NAME",
    kind: hostName,
    help: "answer there for this host name too, besides localhost\n" +
      "and the address; may be given several times",
    repeatable: true,
  },
};

const COLUMN = 30;

/** Returns the help text. It is built from the table, so that both list the same options. */
function help(): string {
  const lines = Object.entries(OPTIONS).flatMap(([flag, option]) => {
    if (typeof option === "string") return ["", `${option}:`];
    const [first, ...more] = option.help.split("\n");
    return [
      `  --${flag} ${option.takes}`.padEnd(COLUMN) + first,
      ...more.map((line) => " ".repeat(COLUMN) + line),
    ];
  });
  const noPreload = "  --no-preload".padEnd(COLUMN) +
    "load the app in each worker, not once in the master";
  lines.splice(lines.findIndex((line) => line.startsWith("  --max-requests")), 0, noPreload);
  return [
    "Serves a module with forked workers. The module is the same as for deno serve:",
    "export default { fetch(request, info) { ... } }",
    "",
    "Usage: tine serve [options] APP",
    ...lines,
    "",
    "Signals to the master: TERM and INT stop gracefully, or immediately if sent again;",
    "QUIT stops immediately; HUP restarts with new code and drops no connection; USR2",
    "replaces the workers one by one; TTIN and TTOU add and remove one; USR1 reopens logs.",
    "",
    "Exit code: 0 if stopped by a signal, 1 if it failed, 2 if an option is invalid.",
  ].join("\n");
}

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: readonly string[],
  options: {
    string: readonly string[];
    collect: readonly string[];
    boolean: readonly string[];
    negatable: readonly string[];
    default: Record<string, unknown>;
    alias: Record<string, string>;
    unknown: (arg: string, key?: string) => void;
  },
) => Record<string, unknown> & { _: (string | number)[]; help: boolean; preload: boolean };

/**
 * Runs the `serve` command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function serve(args: readonly string[]): Promise<number> {
  const flags = Object.entries(OPTIONS)
    .filter((entry): entry is [string, Option] => typeof entry[1] !== "string");
  const parsed = parseArgs(withDashes(args), {
    string: [...flags.map(([flag]) => flag), "_"],
    collect: flags.filter(([, { repeatable }]) => repeatable).map(([flag]) => flag),
    boolean: ["help", "preload"],
    negatable: ["preload"],
    default: { preload: true },
    alias: { help: "h" },
    unknown: (arg, key) => {
      if (key !== undefined) throw new UsageError(`unknown option ${arg}`);
    },
  });
  if (parsed.help) {
    console.log(help());
    return 0;
  }
  const options: Record<string, unknown> = parsed.preload ? {} : { preload: false };
  for (const [flag, { sets, takes, kind, repeatable }] of flags) {
    const values = [parsed[flag] ?? []].flat();
    if (values.length === 0) continue;
    if (values.includes("")) throw new UsageError(`missing value of --${flag}: expected ${takes}`);
    const understood = values.map((value) => kind(String(value), `--${flag}`));
    options[sets] = repeatable ? understood : understood[0];
  }
  const [app, ...surplus] = parsed._;
  if (app === undefined) {
    throw new UsageError("missing app: expected its module, such as serve app.ts");
  }
  if (surplus.length > 0) throw new UsageError(`expected one app, not also ${surplus.join(", ")}`);
  if ((options.cert === undefined) !== (options.key === undefined)) {
    throw new UsageError("--cert and --key must be given together");
  }
  const { model = "prefork", ...rest } = options;
  let config: Config;
  try {
    config = resolveOptions(rest, flagOf);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (model === "prefork") {
    return await servePrefork(String(app), config);
  }
  const { serveLower } = await import("./lower_rungs.ts");
  const given = Object.keys(rest) as (keyof PreforkOptions)[];
  return await serveLower(model as LowerModel, String(app), config, given, flagOf);
}

function flagOf(name: keyof PreforkOptions): string {
  const [flag] =
    Object.entries(OPTIONS).find(([, option]) =>
      typeof option !== "string" && option.sets === name
    ) ?? ["no-preload"];
  return `--${flag}`;
}

/** Joins a lone dash to its option: the parser would take the dash for an argument. */
function withDashes(args: readonly string[]): string[] {
  return args.flatMap((arg, i) => {
    if (arg === "-" && isOption(args[i - 1])) return [];
    return args[i + 1] === "-" && isOption(arg) ? [`${arg}=-`] : [arg];
  });
}

function isOption(arg: string | undefined): boolean {
  return arg !== undefined && /^--[^=]+$/.test(arg);
}

function text(value: string): string {
  return value;
}

function port(value: string, flag: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && number <= 65535) return number;
  throw new UsageError(`${cannot(flag, value)} a whole number from 0 to 65535`);
}

function hostName(value: string, flag: string): string {
  if (hostnameOf(value) !== undefined) return value;
  throw new UsageError(`${cannot(flag, value)} a host name without a port`);
}

function count(value: string, flag: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && number >= 1 && number <= 2 ** 31 - 1) return number;
  throw new UsageError(`${cannot(flag, value)} a whole number from 1 to 2147483647`);
}

function seconds(value: string, flag: string): number {
  const number = Number(value);
  if (/^[\d.]+$/.test(value) && number >= 0) return number;
  throw new UsageError(`${cannot(flag, value)} a number of seconds`);
}

function size(value: string, flag: string): number {
  const [, digits, unit] = value.match(/^(\d+(?:\.\d+)?)([KMG]?)i?B?$/i) ?? [];
  const factor = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[unit?.toUpperCase() ?? ""] ?? NaN;
  const bytes = Math.floor(Number(digits) * factor);
  if (bytes >= 1) return bytes;
  throw new UsageError(`${cannot(flag, value)} a size such as 65536, 64K or 512M`);
}

function oneOf(words: readonly string[]): Kind {
  return (value, flag) => {
    if (words.includes(value)) return value;
    throw new UsageError(`${cannot(flag, value)} one of ${words.join(", ")}`);
  };
}

function file(path: string, flag: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    throw new AppError(`Cannot read ${path} for ${flag}: ${(error as Error).message}`);
  }
}
