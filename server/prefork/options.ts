import type { Address } from "../../ffi/address.ts";
import { cannot, checkCount, checkNumber, checkSeconds, timeLimit } from "../options.ts";
import { SLOTS } from "./scoreboard.ts";

/**
 * How a preforking server runs. Times are in seconds, at most 24 days; sizes are in bytes.
 * `Infinity` means no limit. An option that is `undefined` is left out.
 */
export interface PreforkOptions {
  /** The port; 8000 if left out, 0 for a free one. */
  readonly port?: number;
  /** The address to listen on: an IPv4 or IPv6 address; all of IPv4 if left out. */
  readonly hostname?: string;
  /** Listens on a UNIX socket of this path instead of a port, unless the service manager listens. */
  readonly path?: string;
  /** The certificate chain, as PEM text, for HTTPS; with `key`. */
  readonly cert?: string;
  /** The certificate's private key, as PEM text. */
  readonly key?: string;
  /** How many workers; one per processor if left out. */
  readonly workers?: number;
  /** Whether the app is loaded once, in the master, and not in each worker; true if left out. */
  readonly preload?: boolean;
  /** How many connections the kernel holds until a worker accepts them; 1024 if left out. */
  readonly backlog?: number;
  /** How many connections a worker has open at most; no limit if left out. */
  readonly maxConnections?: number;
  /** A worker is replaced after about this many requests (up to a tenth more); never if left out. */
  readonly maxRequests?: number;
  /** A worker that has more memory of its own than this is replaced; never if left out. */
  readonly maxWorkerMemory?: number;
  /** A worker whose event loop stands still for longer is killed; 30 if left out, 0 for never. */
  readonly timeout?: number;
  /** How long a worker that stops may finish its requests; 30 if left out, 0 for not at all. */
  readonly grace?: number;
  /** How long a worker, or new code at a restart, may take to get ready; 60 if left out. */
  readonly bootTimeout?: number;
  /** How long a client may take for a request's header; 15 if left out, 0 for ever. */
  readonly headerTimeout?: number;
  /** How long a connection may be idle between requests; 75 if left out, 0 for ever. */
  readonly idleTimeout?: number;
  /** How long a client may pause within a request's body; 30 if left out, 0 for ever. */
  readonly bodyTimeout?: number;
  /** The largest header; Deno's own limit if left out. */
  readonly maxHeaderBytes?: number;
  /** The largest body of a request; no limit if left out. */
  readonly maxBodyBytes?: number;
  /** Where the access log goes: `"-"` for standard output, or a file; none if left out. */
  readonly accessLog?: string;
  /** How its lines look; `"common"` if left out. */
  readonly accessLogFormat?: "common" | "combined" | "json";
  /** A file for the error log and all that goes to standard error. */
  readonly errorLog?: string;
  /** A file that holds the master's pid while it runs. */
  readonly pidFile?: string;
  /**
   * Where status, metrics and health can be asked for: `host:port`, such as `127.0.0.1:9090` or
   * `[::1]:9090` (`:9090` is port 9090 of every IPv4 address), or a UNIX socket's path.
   */
  readonly admin?: string;
}

/** {@linkcode PreforkOptions} with nothing left out that has a default. */
export type Config =
  & Required<Omit<PreforkOptions, Optional>>
  & { readonly [name in Exclude<Optional, "admin">]: PreforkOptions[name] | undefined }
  & {
    /** Where the admin process listens, if there is to be one. */
    readonly admin: Address | undefined;
  };

type Optional =
  | "path"
  | "cert"
  | "key"
  | "maxHeaderBytes"
  | "accessLog"
  | "errorLog"
  | "pidFile"
  | "admin";

/** What each option takes. */
const CHECKS: {
  readonly [name in keyof PreforkOptions]-?: (name: string, value: unknown) => void;
} = {
  port: checkPort,
  hostname: checkHost,
  path: checkFile,
  cert: checkText,
  key: checkText,
  workers: checkWorkers,
  preload: checkBoolean,
  backlog: checkBacklog,
  maxConnections: checkCount,
  maxRequests: checkCount,
  maxWorkerMemory: checkCount,
  timeout: checkSeconds,
  grace: checkSeconds,
  bootTimeout: checkBootTimeout,
  headerTimeout: checkSeconds,
  idleTimeout: checkSeconds,
  bodyTimeout: checkSeconds,
  maxHeaderBytes: checkCount,
  maxBodyBytes: checkCount,
  accessLog: checkFile,
  accessLogFormat: checkFormat,
  errorLog: checkFile,
  pidFile: checkFile,
  admin: checkFile,
};

/**
 * Fills in the defaults and rejects what makes no sense. Paths become absolute: the app may
 * change the working directory before files are opened anew, or removed.
 *
 * @param options The options.
 * @param nameOf What an error calls an option; its own name if left out.
 * @throws {RangeError} When a value is out of its range.
 * @throws {TypeError} When a value is of another type, or one of `cert` and `key` is missing.
 */
export function resolveOptions(
  options: PreforkOptions,
  nameOf: (option: keyof PreforkOptions) => string = (option) => option,
): Config {
  const given: Partial<Record<keyof PreforkOptions, unknown>> = {};
  for (const option of Object.keys(CHECKS) as (keyof PreforkOptions)[]) {
    const value = options[option];
    if (value === undefined) continue;
    CHECKS[option](nameOf(option), value);
    given[option] = value;
  }
  const config = {
    port: 8000,
    hostname: "0.0.0.0",
    path: undefined,
    cert: undefined,
    key: undefined,
    workers: Math.min(navigator.hardwareConcurrency, MOST_WORKERS),
    preload: true,
    backlog: 1024,
    maxConnections: Infinity,
    maxRequests: Infinity,
    maxWorkerMemory: Infinity,
    timeout: 30,
    grace: 30,
    bootTimeout: 60,
    headerTimeout: 15,
    idleTimeout: 75,
    bodyTimeout: 30,
    maxHeaderBytes: undefined,
    maxBodyBytes: Infinity,
    accessLog: undefined,
    accessLogFormat: "common" as const,
    errorLog: undefined,
    pidFile: undefined,
    admin: undefined,
    ...given as PreforkOptions,
  };
  if ((config.cert === undefined) !== (config.key === undefined)) {
    throw new TypeError(
      `Cannot serve HTTPS with one of ${nameOf("cert")} and ${nameOf("key")}: it takes both`,
    );
  }
  return {
    ...config,
    path: absolute(config.path),
    accessLog: config.accessLog === "-" ? "-" : absolute(config.accessLog),
    errorLog: absolute(config.errorLog),
    pidFile: absolute(config.pidFile),
    admin: config.admin === undefined ? undefined : adminAddress(nameOf("admin"), config.admin),
    timeout: timeLimit("timeout", config.timeout),
    headerTimeout: timeLimit("headerTimeout", config.headerTimeout),
    idleTimeout: timeLimit("idleTimeout", config.idleTimeout),
    bodyTimeout: timeLimit("bodyTimeout", config.bodyTimeout),
  };
}

/** While workers are replaced there are twice as many. */
const MOST_WORKERS = SLOTS / 2;
const MOST_BACKLOG = 2 ** 31 - 1;
const FORMATS: readonly unknown[] = ["common", "combined", "json"];

function checkPort(name: string, value: unknown): void {
  checkNumber(name, value);
  if (!Number.isInteger(value) || value < 0 || value > 65535) {
    throw new RangeError(`${cannot(name, value)} a whole number from 0 to 65535`);
  }
}

function checkWorkers(name: string, value: unknown): void {
  checkCount(name, value);
  if (value > MOST_WORKERS) {
    throw new RangeError(`${cannot(name, value)} at most ${MOST_WORKERS}`);
  }
}

function checkBacklog(name: string, value: unknown): void {
  checkCount(name, value);
  if (value > MOST_BACKLOG) throw new RangeError(`${cannot(name, value)} at most ${MOST_BACKLOG}`);
}

function checkBootTimeout(name: string, value: unknown): void {
  checkSeconds(name, value);
  if (value === 0) throw new RangeError(`${cannot(name, value)} a number above 0`);
}

function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== "string") throw new TypeError(`${cannot(name, value)} a string`);
}

function checkHost(name: string, value: unknown): void {
  checkText(name, value);
  // A URL, a port, or IPv6 as it is written before a port.
  if (
    /[[\]/\s]/.test(value) || (value.includes(":") && !/^[\da-f]*:[\da-f.:]*(%.+)?$/i.test(value))
  ) {
    throw new RangeError(`${cannot(name, value)} an address, such as 0.0.0.0 or ::1, or a name`);
  }
}

function checkBoolean(name: string, value: unknown): void {
  if (typeof value !== "boolean") throw new TypeError(`${cannot(name, value)} true or false`);
}

function checkFile(name: string, value: unknown): void {
  checkText(name, value);
  if (value === "") throw new RangeError(`${cannot(name, value)} a path that is not empty`);
}

function checkFormat(name: string, value: unknown): void {
  if (!FORMATS.includes(value)) {
    throw new RangeError(`${cannot(name, value)} one of ${FORMATS.join(", ")}`);
  }
}

/**
 * Where the admin process listens. A word that may be an address, and is not a UNIX socket's
 * plain names is refused: a socket would be made that nobody looks for.
 */
function adminAddress(name: string, text: string): Address {
  if (text.includes("/")) return absolute(text);
  const [, host, port] = text.match(/^(\[.*\]|[^:]*):(\d+)$/) ?? [];
  if (host !== undefined) {
    checkPort(`${name} port`, Number(port));
    return [host.replace(/^\[(.*)\]$/, "$1"), Number(port)];
  }
  if (/:|^[\d.]+$|^localhost$/.test(text)) {
    const example = /^\d+$/.test(text) ? text : "9090";
    throw new RangeError(
      `${cannot(name, text)} host:port, such as 127.0.0.1:${example} or [::1]:${example}, or the ` +
        "path of a UNIX socket, such as ./admin.sock",
    );
  }
  return absolute(text);
}

function absolute(path: string): string;
function absolute(path: string | undefined): string | undefined;
function absolute(path: string | undefined): string | undefined {
  // An abstract UNIX socket's name begins with a NUL.
  return path === undefined || /^[/\0]/.test(path) ? path : `${Deno.cwd()}/${path}`;
}
