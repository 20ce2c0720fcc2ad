import type { Address } from "../../ffi/address.ts";
import type { ListenAddress } from "../listen.ts";
import { cannot, checkCount, checkNumber, checkSeconds, timeLimit } from "../options.ts";
import {
  checkListen,
  checkPairs,
  checkTexts,
  type ListenOptions,
  pairs,
  resolveListen,
} from "./listen_option.ts";
import { compileFormat } from "./logs/access_line.ts";
import { type CgroupLimits, countProcessors, readCgroupLimits } from "./host/cgroup.ts";
import { SLOTS } from "./scoreboard.ts";
import { hostnameOf } from "./status/admin_hosts.ts";
import { checkTrusted } from "./trusted_proxies.ts";

/**
 * Options of a preforking server. Times are in seconds, at most 24 days; sizes are in bytes.
 * `Infinity` means no limit. An option that is `undefined` counts as omitted.
 */
export interface PreforkOptions {
  /** The port. The default is 8000; 0 selects a free one. */
  readonly port?: number;
  /** The IPv4 or IPv6 address to listen on. The default is all IPv4 addresses. */
  readonly hostname?: string;
  /**
   * The path of a UNIX socket to listen on instead of a port. Ignored if the service manager
   * listens.
   */
  readonly path?: string;
  /**
   * The permissions of the UNIX socket, in octal, such as `"0660"`: who may connect. The default
   * follows from the umask.
   */
  readonly unixMode?: string;
  /** The group to which the UNIX socket belongs, by name or id. The default is the server's. */
  readonly unixGroup?: string;
  /**
   * The certificate chain for HTTPS, as PEM text. Requires `key`. With several, a client gets the
   * one with the name for which it asks, or else the first one.
   */
  readonly cert?: string | readonly string[];
  /** The certificate's private key, as PEM text; or the key of each one. */
  readonly key?: string | readonly string[];
  /**
   * The addresses to listen on, if there are several: `host:port`, such as `127.0.0.1:8000`,
   * `[::]:443`, or `:8080` on all IPv4 addresses; or `unix:PATH`. It replaces `port`, `hostname`,
   * `path`, `cert` and `key`: each address has certificates of its own, or else serves plain HTTP.
   */
  readonly listen?: readonly (string | ListenOptions)[];
  /**
   * The number of workers. The default is one per processor, or what the cgroup of a container
   * allows, rounded up.
   */
  readonly workers?: number;
  /**
   * Whether the app is loaded once, in the master, and workers are forked from it. Otherwise each
   * worker is a fresh Deno that runs the program again from its start: a program that calls
   * `servePrefork()` runs up to that call, which serves. The default is true.
   */
  readonly preload?: boolean;
  /**
   * Whether the server refuses to start if the app holds something open that does not survive the
   * fork. The default is false: it is logged.
   */
  readonly strict?: boolean;
  /**
   * The user as whom the server and the app run, by name or id. Started by root, the server opens
   * its sockets and creates its files, becomes this user for good, and runs the program again from
   * its start. The default is the user who starts it.
   */
  readonly user?: string;
  /** The group as which they run, by name or id. The default is the user's. Requires `user`. */
  readonly group?: string;
  /**
   * Which permissions the files do not get that the server and the app create, in octal, such as
   * `"027"`. The default is the umask with which the server was started.
   */
  readonly umask?: string;
  /** How many connections the kernel queues until a worker accepts them. The default is 1024. */
  readonly backlog?: number;
  /** The maximum number of open connections per worker. The default is no limit. */
  readonly maxConnections?: number;
  /**
   * A worker is replaced after about this many requests (up to a tenth more). The default is never.
   */
  readonly maxRequests?: number;
  /**
   * A worker that has more private memory than this is replaced. The default is never, or if the
   * cgroup of a container limits the memory: a worker's share of it.
   */
  readonly maxWorkerMemory?: number;
  /**
   * A worker whose event loop is blocked for longer is killed. The default is 30; 0 means never.
   */
  readonly timeout?: number;
  /**
   * How long a stopping worker may take to finish its requests. The default is 30; 0 means no time.
   */
  readonly grace?: number;
  /**
   * For how long a server that was told to stop goes on accepting, while its health checks fail: a
   * load balancer needs that time to notice. The default is 0.
   */
  readonly drainDelay?: number;
  /** How long a worker, or new code at a restart, may take to become ready. The default is 60. */
  readonly bootTimeout?: number;
  /** How long a client may take for a request's header. The default is 15; 0 means no limit. */
  readonly headerTimeout?: number;
  /** How long a connection may be idle between requests. The default is 75; 0 means no limit. */
  readonly idleTimeout?: number;
  /** How long a client may pause within a request's body. The default is 30; 0 means no limit. */
  readonly bodyTimeout?: number;
  /** The maximum size of a request's header. The default is Deno's own limit. */
  readonly maxHeaderBytes?: number;
  /** The maximum size of a request's body. The default is no limit. */
  readonly maxBodyBytes?: number;
  /**
   * The proxies whose word about the client is believed: addresses and networks such as
   * `10.0.0.0/8`, `"loopback"` and `"private"` for those networks, `"unix"` for none but UNIX
   * sockets, whose other end is believed if anything is listed; and `"forwarded"` if these proxies
   * write `Forwarded` instead of `X-Forwarded-For`. The default is none.
   */
  readonly trustProxy?: readonly string[];
  /**
   * Whether each connection begins with a header of the PROXY protocol, version 1 or 2, that names
   * the client. Connections without one, or from others than `trustProxy` lists, are closed. The
   * default is false.
   */
  readonly proxyProtocol?: boolean;
  /**
   * Where the access log goes: a file, or `"-"` for standard output. The default is no access log.
   */
  readonly accessLog?: string;
  /**
   * The format of the access log: `"common"`, `"combined"`, `"json"` or a format string of Apache's
   * mod_log_config, such as `%h %l %u %t "%r" %>s %b`. The default is `"common"`.
   */
  readonly accessLogFormat?: string;
  /**
   * The field of a request's header that contains the request's id, for the access log. If it is
   * given, a request without one gets one that the app can read, and the response has it too. The
   * default is `x-request-id`, only read, and only for the access log.
   */
  readonly requestIdHeader?: string;
  /** A file for the error log and everything else that is written to standard error. */
  readonly errorLog?: string;
  /** A file that contains the master's pid while it runs. */
  readonly pidFile?: string;
  /**
   * Where to serve status, metrics and health: `host:port`, such as `127.0.0.1:9090` or
   * `[::1]:9090` (`:9090` is port 9090 on all IPv4 addresses), or the path of a UNIX socket.
   */
  readonly admin?: string;
  /**
   * Names for which `admin` answers requests over TCP, besides `localhost`, loopback addresses and
   * the address it is bound to. The default is none: a web page could read the status through a
   * name of its own (DNS rebinding).
   */
  readonly adminHosts?: readonly string[];
}

/** {@linkcode PreforkOptions} with the defaults filled in. */
export type Config =
  & Required<Omit<PreforkOptions, Optional | Resolved>>
  & { readonly [name in Optional]: PreforkOptions[name] | undefined }
  & {
    /** Where the server listens: at least one address. A program may have its own instead. */
    readonly listen: readonly ListenAddress[];
    /** Where the admin process listens; `undefined` if there is no admin process. */
    readonly admin: Address | undefined;
    /** The limits of the cgroup that defaults follow; `Infinity` where the option was given. */
    readonly cgroup: CgroupLimits;
    /** The address where it was given: a program that listens itself has one of its own. */
    readonly givenAddress: Pick<PreforkOptions, "port" | "hostname" | "path"> & {
      /** Whether the addresses were given. */
      readonly listen?: true;
    };
  };

type Optional =
  | "path"
  | "unixMode"
  | "unixGroup"
  | "user"
  | "group"
  | "umask"
  | "maxHeaderBytes"
  | "accessLog"
  | "requestIdHeader"
  | "errorLog"
  | "pidFile";

/** Options that a {@linkcode Config} has in another form. */
type Resolved = "cert" | "key" | "listen" | "admin";

/** The check of each option's value. */
const CHECKS: {
  readonly [name in keyof PreforkOptions]-?: (name: string, value: unknown) => void;
} = {
  port: checkPort,
  hostname: checkHost,
  path: checkFile,
  unixMode: checkMode,
  unixGroup: checkAccount,
  cert: checkTexts,
  key: checkTexts,
  listen: checkListen,
  workers: checkWorkers,
  preload: checkBoolean,
  strict: checkBoolean,
  user: checkAccount,
  group: checkAccount,
  umask: checkMode,
  backlog: checkBacklog,
  maxConnections: checkCount,
  maxRequests: checkCount,
  maxWorkerMemory: checkMemory,
  timeout: checkSeconds,
  grace: checkSeconds,
  drainDelay: checkDrainDelay,
  bootTimeout: checkBootTimeout,
  headerTimeout: checkSeconds,
  idleTimeout: checkSeconds,
  bodyTimeout: checkSeconds,
  maxHeaderBytes: checkCount,
  maxBodyBytes: checkCount,
  trustProxy: checkTrustProxy,
  proxyProtocol: checkBoolean,
  accessLog: checkFile,
  accessLogFormat: checkFormat,
  requestIdHeader: checkFieldName,
  errorLog: checkFile,
  pidFile: checkFile,
  admin: checkAdmin,
  adminHosts: checkNames,
};

/** The names of all options. */
export const PREFORK_OPTIONS = Object.keys(CHECKS) as readonly (keyof PreforkOptions)[];

/**
 * Rejects an invalid value of an option.
 *
 * @param option The option.
 * @param value Its value.
 * @param name The option's name in an error message. The default is the option's own name.
 * @throws {RangeError} If the value is out of range.
 * @throws {TypeError} If the value has the wrong type.
 */
export function checkOption(
  option: keyof PreforkOptions,
  value: unknown,
  name: string = option,
): void {
  CHECKS[option](name, value);
}

/**
 * Fills in the defaults and rejects invalid values. Paths become absolute, because the app may
 * change the working directory before files are reopened or removed.
 *
 * @param options The options.
 * @param nameOf Returns the name of an option in an error message. The default is the option's own
 *   name.
 * @throws {RangeError} If a value is out of range.
 * @throws {TypeError} If a value has the wrong type, not each certificate has a key, or `listen` or
 *   `path` is given together with another address.
 */
export function resolveOptions(
  options: PreforkOptions,
  nameOf: (option: keyof PreforkOptions) => string = (option) => option,
): Config {
  const given: Partial<Record<keyof PreforkOptions, unknown>> = {};
  for (const option of PREFORK_OPTIONS) {
    const value = options[option];
    if (value === undefined) continue;
    checkOption(option, value, nameOf(option));
    given[option] = value;
  }
  const limits = readCgroupLimits();
  const { cert, key, listen, ...config } = {
    port: 8000,
    hostname: "0.0.0.0",
    path: undefined,
    unixMode: undefined,
    unixGroup: undefined,
    cert: undefined,
    key: undefined,
    listen: undefined,
    workers: Math.min(countProcessors(limits), MOST_WORKERS),
    preload: true,
    strict: false,
    user: undefined,
    group: undefined,
    umask: undefined,
    backlog: 1024,
    maxConnections: Infinity,
    maxRequests: Infinity,
    maxWorkerMemory: Infinity,
    timeout: 30,
    grace: 30,
    drainDelay: 0,
    bootTimeout: 60,
    headerTimeout: 15,
    idleTimeout: 75,
    bodyTimeout: 30,
    maxHeaderBytes: undefined,
    maxBodyBytes: Infinity,
    trustProxy: [],
    proxyProtocol: false,
    accessLog: undefined,
    accessLogFormat: "common",
    requestIdHeader: undefined,
    errorLog: undefined,
    pidFile: undefined,
    admin: undefined,
    adminHosts: [],
    ...given as PreforkOptions,
  };
  checkPairs([nameOf("cert"), nameOf("key")], cert, key);
  for (const [one, others, instead = "expected only one of them"] of EXCLUSIVE) {
    const other = others.find((other) => options[other] !== undefined);
    if (options[one] === undefined || other === undefined) continue;
    throw new TypeError(`Cannot serve with both ${nameOf(one)} and ${nameOf(other)}: ${instead}`);
  }
  if (config.proxyProtocol && config.trustProxy.length === 0) {
    throw new TypeError(
      `Cannot serve with ${nameOf("proxyProtocol")} and without ${nameOf("trustProxy")}: ` +
        "expected the proxies that may connect",
    );
  }
  const path = absolute(config.path);
  if (config.group !== undefined && config.user === undefined) {
    throw new TypeError(
      `Cannot serve with ${nameOf("group")} and without ${
        nameOf("user")
      }: expected both, or only ` +
        "the user",
    );
  }
  const addresses: readonly ListenAddress[] = listen === undefined
    ? [{ address: path ?? [config.hostname, config.port], certificates: pairs(cert, key) }]
    : resolveListen(listen, absolute);
  const isGiven = [options.port, options.hostname, path, listen].some((one) => one !== undefined);
  const hasPath = addresses.some(({ address }) => typeof address === "string");
  for (const name of ["unixMode", "unixGroup"] as const) {
    // A program may listen on a UNIX socket of its own.
    if (config[name] === undefined || hasPath || !isGiven) continue;
    throw new TypeError(`Cannot serve with ${nameOf(name)} and without a UNIX socket`);
  }
  return {
    ...config,
    path,
    listen: addresses,
    cgroup: {
      processors: options.workers === undefined ? limits.processors : Infinity,
      memory: options.maxWorkerMemory === undefined ? limits.memory : Infinity,
    },
    givenAddress: {
      ...options.port === undefined ? {} : { port: options.port },
      ...options.hostname === undefined ? {} : { hostname: options.hostname },
      ...options.path === undefined ? {} : { path: absolute(options.path) },
      ...listen === undefined ? {} : { listen: true },
    },
    accessLog: config.accessLog === "-" ? "-" : absolute(config.accessLog),
    requestIdHeader: config.requestIdHeader?.toLowerCase(),
    errorLog: absolute(config.errorLog),
    pidFile: absolute(config.pidFile),
    admin: config.admin === undefined ? undefined : adminAddress(config.admin),
    timeout: timeLimit("timeout", config.timeout),
    headerTimeout: timeLimit("headerTimeout", config.headerTimeout),
    idleTimeout: timeLimit("idleTimeout", config.idleTimeout),
    bodyTimeout: timeLimit("bodyTimeout", config.bodyTimeout),
  };
}

/** Options beside which others would have no effect, and what is expected instead. */
const EXCLUSIVE: readonly (readonly [
  one: keyof PreforkOptions,
  others: readonly (keyof PreforkOptions)[],
  instead?: string,
])[] = [
  ["listen", ["port", "hostname", "path"]],
  ["listen", ["cert"], "expected the certificate of each address with it"],
  ["path", ["port", "hostname"]],
  ["path", ["cert"], "a UNIX socket has no certificate"],
];

/** While workers are being replaced there are twice as many. */
const MOST_WORKERS = SLOTS / 2;
const MOST_BACKLOG = 2 ** 31 - 1;
/** No worker has less, in bytes: each would be replaced again and again. Who says 512 means 512M. */
const LEAST_MEMORY = 2 ** 20;

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

function checkMemory(name: string, value: unknown): void {
  checkCount(name, value);
  if (value < LEAST_MEMORY) {
    throw new RangeError(`${cannot(name, value)} at least ${LEAST_MEMORY} bytes, which is 1M`);
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

function checkDrainDelay(name: string, value: unknown): void {
  checkSeconds(name, value);
  if (value === Infinity) throw new RangeError(`${cannot(name, value)} a finite number`);
}

function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== "string") throw new TypeError(`${cannot(name, value)} a string`);
}

function checkMode(name: string, value: unknown): void {
  checkText(name, value);
  if (!/^0?[0-7]{1,3}$/.test(value)) {
    throw new RangeError(`${cannot(name, value)} octal digits from 0 to 777, such as 027`);
  }
}

function checkAccount(name: string, value: unknown): void {
  checkText(name, value);
  if (value === "" || /[:\0\n]/.test(value)) {
    throw new RangeError(`${cannot(name, value)} a name or an id`);
  }
}

function checkHost(name: string, value: unknown): void {
  checkText(name, value);
  // A URL, a port, or IPv6 in the notation used before a port.
  if (
    /[[\]/\s]/.test(value) || (value.includes(":") && !/^[\da-f]*:[\da-f.:]*(%.+)?$/i.test(value))
  ) {
    throw new RangeError(`${cannot(name, value)} an address, such as 0.0.0.0 or ::1, or a name`);
  }
}

function checkNames(name: string, value: unknown): void {
  const isName = (one: unknown) => typeof one === "string" && hostnameOf(one) !== undefined;
  if (!Array.isArray(value) || !value.every(isName)) {
    throw new TypeError(`${cannot(name, value)} an array of host names, without ports`);
  }
}

function checkTrustProxy(name: string, value: unknown): void {
  if (!Array.isArray(value) || !value.every((one) => typeof one === "string")) {
    throw new TypeError(`${cannot(name, value)} an array of addresses and networks`);
  }
  for (const one of value) checkTrusted(name, one);
}

function checkBoolean(name: string, value: unknown): void {
  if (typeof value !== "boolean") throw new TypeError(`${cannot(name, value)} true or false`);
}

/**
 * Rejects a value that is not a path.
 *
 * @throws {RangeError} If it is empty.
 * @throws {TypeError} If it has another type.
 */
export function checkFile(name: string, value: unknown): asserts value is string {
  checkText(name, value);
  if (value === "") throw new RangeError(`${cannot(name, value)} a non-empty path`);
}

function checkFormat(name: string, value: unknown): void {
  checkText(name, value);
  try {
    compileFormat(value);
  } catch (error) {
    throw new RangeError(`${cannot(name, value)} ${(error as Error).message}`);
  }
}

function checkFieldName(name: string, value: unknown): void {
  checkText(name, value);
  if (!/^[!#$%&'*+.^_`|~\w-]+$/.test(value)) {
    throw new RangeError(`${cannot(name, value)} the name of a header field, such as x-request-id`);
  }
}

/**
 * Rejects an invalid address of the admin process. A word that may be a network address is refused
 * as the path of a UNIX socket: it would create a socket that nobody looks for.
 */
function checkAdmin(name: string, value: unknown): void {
  checkFile(name, value);
  const address = networkAddress(value);
  if (address !== undefined) return checkPort(`${name} port`, address[1]);
  if (!value.includes("/") && /:|^[\d.]+$|^localhost$/.test(value)) {
    const example = /^\d+$/.test(value) ? value : "9090";
    throw new RangeError(
      `${
        cannot(name, value)
      } host:port, such as 127.0.0.1:${example} or [::1]:${example}, or the ` +
        "path of a UNIX socket, such as ./admin.sock",
    );
  }
}

/**
 * Parses the address of the admin process.
 *
 * @param text A valid address.
 * @returns The host and the port; `undefined` if it is the path of a UNIX socket.
 */
export function networkAddress(text: string): [host: string, port: number] | undefined {
  const [, host, port] = text.match(/^(\[[^/]*\]|[^:/]*):(\d+)$/) ?? [];
  return host === undefined ? undefined : [host.replace(/^\[(.*)\]$/, "$1"), Number(port)];
}

function adminAddress(text: string): Address {
  return networkAddress(text) ?? absolute(text);
}

/** Makes a path absolute: the app may change the working directory. */
export function absolute(path: string): string;
export function absolute(path: string | undefined): string | undefined;
export function absolute(path: string | undefined): string | undefined {
  // The name of an abstract UNIX socket begins with a NUL byte.
  return path === undefined || /^[/\0]/.test(path) ? path : `${Deno.cwd()}/${path}`;
}
