/** The options of the `serve` command: what each sets, and how its text is understood. */
import { cannot } from "../options.ts";
import type { ListenOptions } from "../prefork/listen_option.ts";
import type { PreforkOptions } from "../prefork/options.ts";
import { hostnameOf } from "../prefork/status/admin_hosts.ts";
import { UsageError } from "./usage.ts";

/** Understands the text of an option. `name` is for the error message. */
export type Kind = (text: string, name: string) => unknown;

/** What can be set, beside the app. */
export type Setting = keyof PreforkOptions | "model";

/** An option: what it sets, its argument, and its help text. */
export interface Option {
  readonly sets: Setting | "config";
  readonly takes: string;
  readonly kind: Kind;
  readonly help: string;
  /** The environment variable that sets it too. */
  readonly variable?: string;
  /** Whether it may be given several times. */
  readonly repeatable?: true;
}

/** The models of a server. */
export const MODELS = ["iterative", "forking", "prefork"] as const;
/** One of {@linkcode MODELS}. */
export type Model = typeof MODELS[number];

/** The options of `serve` that take no argument, but for `--help`. */
export const SWITCHES = ["no-preload", "strict", "proxy-protocol", "watch"] as const;

/** The options by their flags, in the order of the help text. A string begins a group. */
export const OPTIONS: Record<string, Option | string> = {
  listening: "Listening",
  port: {
    sets: "port",
    takes: "N",
    kind: port,
    help: "port (default $PORT or 8000; 0 for any free port)",
    variable: "PORT",
  },
  host: {
    sets: "hostname",
    takes: "ADDRESS",
    kind: text,
    help: "address (default $HOST or 0.0.0.0)",
    variable: "HOST",
  },
  unix: { sets: "path", takes: "PATH", kind: text, help: "a UNIX socket instead of a port" },
  cert: {
    sets: "cert",
    takes: "FILE",
    kind: text,
    help: "certificate chain (PEM): serves HTTPS; may be given\nseveral times, for several names",
    repeatable: true,
  },
  key: {
    sets: "key",
    takes: "FILE",
    kind: text,
    help: "the certificate's private key (PEM)",
    repeatable: true,
  },
  backlog: {
    sets: "backlog",
    takes: "N",
    kind: count,
    help: "connections that may wait to be accepted (default 1024)",
  },
  "unix-mode": {
    sets: "unixMode",
    takes: "MODE",
    kind: text,
    help: "who may connect to the UNIX socket, such as 0660",
  },
  "unix-group": {
    sets: "unixGroup",
    takes: "NAME",
    kind: text,
    help: "the group to which the UNIX socket belongs, or its id",
  },
  listen: {
    sets: "listen",
    takes: "ADDRESS",
    kind: listenAddress,
    help: "one of several addresses: host:port, [::]:port, :port or\n" +
      "unix:PATH, with ,cert=FILE,key=FILE for HTTPS",
    repeatable: true,
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
    help:
      "worker processes (default $WEB_CONCURRENCY or one per\nprocessor, or as the cgroup allows)",
    variable: "WEB_CONCURRENCY",
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
    help:
      "replace a worker with more private memory, such as 512M\n(default its share of what the cgroup allows)",
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
  "drain-delay": {
    sets: "drainDelay",
    takes: "S",
    kind: seconds,
    help: "when told to stop, go on accepting for S seconds while\nhealth checks fail (default 0)",
  },
  user: {
    sets: "user",
    takes: "NAME",
    kind: text,
    help: "the user as whom all runs, or its id: root opens the\n" +
      "sockets, and the app is loaded as the user",
  },
  group: {
    sets: "group",
    takes: "NAME",
    kind: text,
    help: "the group as which all runs (default the user's)",
  },
  umask: {
    sets: "umask",
    takes: "MASK",
    kind: text,
    help: "permissions that created files do not get, such as 027",
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
  "trust-proxy": {
    sets: "trustProxy",
    takes: "CIDR,...",
    kind: words,
    help: "believe these proxies who the client is: networks,\n" +
      "loopback, private, unix; forwarded if they write that\n" +
      "header; may be given several times",
    repeatable: true,
  },
  operation: "Operation",
  config: {
    sets: "config",
    takes: "FILE",
    kind: text,
    help: "a configuration file (default tine.json, if there is one)",
  },
  "access-log": {
    sets: "accessLog",
    takes: "FILE",
    kind: text,
    help: "one line per request; - for standard output",
  },
  "access-log-format": {
    sets: "accessLogFormat",
    takes: "FORMAT",
    kind: text,
    help: "common (default), combined, json or Apache's, such as\n" +
      "'%h %l %u %t \"%r\" %>s %b %D'",
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
    help: "serve /, /status.json, /metrics, /healthz and /readyz\n" +
      "there: host:port, or the path of a UNIX socket",
  },
  "admin-host": {
    sets: "adminHosts",
    takes: "NAME",
    kind: hostName,
    help: "answer there for this host name too, besides localhost\n" +
      "and the address; may be given several times",
    repeatable: true,
  },
  "request-id-header": {
    sets: "requestIdHeader",
    takes: "NAME",
    kind: text,
    help: "the field with a request's id, for the app and the client;\n" +
      "made if missing (default x-request-id, for logs only)",
  },
};

/** Returns the flag that sets an option. */
export function flagOf(name: Setting): string {
  if (name === "strict") return "--strict";
  if (name === "proxyProtocol") return "--proxy-protocol";
  const [flag] =
    Object.entries(OPTIONS).find(([, option]) =>
      typeof option !== "string" && option.sets === name
    ) ?? ["no-preload"];
  return `--${flag}`;
}

function text(value: string): string {
  return value;
}

function port(value: string, name: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && number <= 65535) return number;
  throw new UsageError(`${cannot(name, value)} a whole number from 0 to 65535`);
}

function hostName(value: string, name: string): string {
  if (hostnameOf(value) !== undefined) return value;
  throw new UsageError(`${cannot(name, value)} a host name without a port`);
}

/** Splits a list, whose words are checked with the options of all sources. */
function words(value: string): string[] {
  return value.split(",");
}

/** Understands `ADDRESS,cert=FILE,key=FILE`, with any number of certificates. */
function listenAddress(value: string): string | ListenOptions {
  const [address = "", ...rest] = value.split(/,(?=(?:cert|key)=)/);
  if (rest.length === 0) return value;
  const valuesOf = (name: string) =>
    rest.filter((one) => one.startsWith(name)).map((one) => one.slice(name.length));
  const [cert, key] = [valuesOf("cert="), valuesOf("key=")];
  return { address, ...cert.length > 0 && { cert }, ...key.length > 0 && { key } };
}

function count(value: string, name: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && number >= 1 && number <= 2 ** 31 - 1) return number;
  throw new UsageError(`${cannot(name, value)} a whole number from 1 to 2147483647`);
}

function seconds(value: string, name: string): number {
  const number = Number(value);
  if (/^[\d.]+$/.test(value) && number >= 0) return number;
  throw new UsageError(`${cannot(name, value)} a number of seconds`);
}

function size(value: string, name: string): number {
  const [, digits, unit] = value.match(/^(\d+(?:\.\d+)?)([KMG]?)i?B?$/i) ?? [];
  const factor = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[unit?.toUpperCase() ?? ""] ?? NaN;
  const bytes = Math.floor(Number(digits) * factor);
  if (bytes >= 1) return bytes;
  throw new UsageError(`${cannot(name, value)} a size such as 65536, 64K or 512M`);
}

function oneOf(words: readonly string[]): Kind {
  return (value, name) => {
    if (words.includes(value)) return value;
    throw new UsageError(`${cannot(name, value)} one of ${words.join(", ")}`);
  };
}
