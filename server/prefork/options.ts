import { checkAmount, checkCount } from "../options.ts";
import { SLOTS } from "./scoreboard.ts";

/** How a preforking server runs. Times are in seconds, sizes in bytes. */
export interface PreforkOptions {
  /** The port; 8000 if left out, 0 for a free one. */
  readonly port?: number;
  /** The address to listen on: an IPv4 or IPv6 address; all of IPv4 if left out. */
  readonly hostname?: string;
  /** Listens on a UNIX socket of this path instead of a port. */
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
  /** How long a worker that stops may finish its requests; 30 if left out. */
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
  /** Where status, metrics and health can be asked for: a UNIX socket's path, or `host:port`. */
  readonly admin?: string;
}

/** {@linkcode PreforkOptions} with nothing left out that has a default. */
export type Config =
  & Required<Omit<PreforkOptions, Optional>>
  & { readonly [name in Optional]: PreforkOptions[name] | undefined };

type Optional =
  | "path"
  | "cert"
  | "key"
  | "maxHeaderBytes"
  | "accessLog"
  | "errorLog"
  | "pidFile"
  | "admin";

/**
 * Puts in the defaults and refuses what cannot be meant.
 *
 * @throws {RangeError} When a number is out of its range.
 * @throws {TypeError} When one of `cert` and `key` is missing.
 */
export function resolveOptions(options: PreforkOptions): Config {
  const config: Config = {
    port: 8000,
    hostname: "0.0.0.0",
    path: undefined,
    cert: undefined,
    key: undefined,
    workers: navigator.hardwareConcurrency,
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
    accessLogFormat: "common",
    errorLog: undefined,
    pidFile: undefined,
    admin: undefined,
    ...options,
  };
  for (const name of ["workers", "maxConnections", "maxRequests", "maxWorkerMemory"] as const) {
    checkCount(name, config[name]);
  }
  for (const name of ["backlog", "maxBodyBytes", "maxHeaderBytes"] as const) {
    if (config[name] !== undefined) checkCount(name, config[name]);
  }
  for (
    const name of [
      "timeout",
      "grace",
      "bootTimeout",
      "headerTimeout",
      "idleTimeout",
      "bodyTimeout",
    ] as const
  ) checkAmount(name, config[name]);
  // While workers are replaced there are twice as many.
  if (config.workers > SLOTS / 2) {
    throw new RangeError(
      `Cannot serve with ${config.workers} workers: it takes at most ${SLOTS / 2}`,
    );
  }
  if ((config.cert === undefined) !== (config.key === undefined)) {
    throw new TypeError("Cannot serve HTTPS with one of cert and key: it takes both");
  }
  return {
    ...config,
    // The app may change the working directory before they are opened anew.
    accessLog: config.accessLog === "-" ? "-" : absolute(config.accessLog),
    errorLog: absolute(config.errorLog),
    pidFile: absolute(config.pidFile),
  };
}

function absolute(path: string | undefined): string | undefined {
  return path === undefined || path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}
