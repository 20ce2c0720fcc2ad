/**
 * Format strings of the access log, which are those of Apache's mod_log_config. A format string is
 * parsed once, into the pieces of a line.
 *
 * @see {@link https://httpd.apache.org/docs/2.4/mod/mod_log_config.html#formats mod_log_config}
 */
import { getenv } from "../../../ffi/environment.ts";
import { readText } from "../../../ffi/proc.ts";
import type { Entry, Uses } from "./access_entry.ts";
import { escapeBytes, escapePath, escapeText } from "./escape.ts";
import { apacheTime, timeFormat } from "./log_time.ts";

/** A piece of a line: text that is always the same, or text of a request's, escaped. */
export type Piece = string | ((entry: Entry) => string);

/** A directive: how it is written, and the pieces it stands for. */
interface Directive {
  /** Its forms, for error messages. */
  readonly forms: string;
  /**
   * Returns the pieces.
   *
   * @param argument What stands between braces; `""` if nothing does.
   * @param uses Where it notes what it needs.
   * @returns `undefined` if the argument is invalid.
   */
  pieces(argument: string, uses: Uses): readonly Piece[] | undefined;
}

/** The longest format string, in characters: half a line is left for what the directives stand for. */
const LONGEST_FORMAT = 2048;

const remote = ({ remote }: Entry) => escapeText(remote ?? "-");
const time = ({ time }: Entry) => apacheTime(time);
const method = ({ method }: Entry) => escapeText(method);
const url = ({ url }: Entry) => escapeText(url);
const protocol = ({ protocol }: Entry) => protocol;
const status = ({ status }: Entry) => String(status);
// Apache does not distinguish an empty body from no body.
const bytes = ({ bytes }: Entry) => String(bytes || "-");

const DIRECTIVES: Record<string, Directive> = {
  "%": plain("%%", "%"),
  a: choice("%a or %{c}a", { "": remote, c: ({ peer }) => escapeText(hostnameOf(peer) ?? "-") }),
  A: plain("%A", ({ local }) => escapeText(hostnameOf(local) ?? "-")),
  b: plain("%b", bytes),
  B: plain("%B", ({ bytes }) => String(bytes ?? "-")),
  C: {
    forms: "%{NAME}C",
    pieces(name, uses) {
      if (name === "") return undefined;
      const cookie = requestField("cookie", uses);
      return [(entry) => shown(cookieOf(cookie(entry), name.toLowerCase()))];
    },
  },
  D: plain("%D", ({ duration }) => String(Math.floor(duration * 1000))),
  e: {
    forms: "%{NAME}e",
    pieces(name) {
      if (name === "") return undefined;
      const value = escapeText(getenv(name) ?? "-");
      return [() => value]; // it may have to be cut
    },
  },
  h: plain("%h", remote),
  H: plain("%H", protocol),
  i: {
    forms: "%{NAME}i",
    pieces(name, uses) {
      if (name === "") return undefined;
      const field = requestField(name, uses);
      return [(entry) => shown(field(entry))];
    },
  },
  l: plain("%l", "-"),
  L: {
    forms: "%L",
    pieces(argument, uses) {
      uses.id = true;
      return argument === "" ? [({ id }) => id ?? "-"] : undefined;
    },
  },
  m: plain("%m", method),
  n: {
    forms: "%{trace_id|span_id}n",
    pieces(name, uses) {
      uses.trace = true;
      return {
        trace_id: [({ trace }: Entry) => trace?.traceId ?? "-"],
        span_id: [({ trace }: Entry) => trace?.spanId ?? "-"],
      }[name];
    },
  },
  o: {
    forms: "%{NAME}o",
    pieces(name, uses) {
      if (name === "") return undefined;
      const index = indexIn(uses.responseFields, name);
      return [({ responseFields }) => shown(responseFields[index]!)];
    },
  },
  p: choice("%p or %{canonical|local|remote}p", {
    "": localPort,
    canonical: localPort,
    local: localPort,
    remote: ({ remotePort }) => String(remotePort ?? "-"),
  }),
  P: choice("%P or %{pid}P", { "": pid, pid }),
  q: plain("%q", ({ url }) => escapeText(url.slice(endOfPath(url)))),
  r: plain("%r", method, " ", url, " ", protocol),
  s: plain("%s", status),
  t: {
    forms: "%t or %{[begin:|end:]FORMAT}t with a format of strftime(3)",
    pieces(argument) {
      const [, at, text = ""] = argument.match(/^(?:(begin|end)(?::|$))?(.*)$/)!;
      const format = timeFormat(text);
      if (format === undefined) return undefined;
      return [
        at === "end"
          ? ({ time, duration }) => format(Math.floor(time + duration))
          : ({ time }) => format(time),
      ];
    },
  },
  T: choice("%T or %{s|ms|us}T", {
    "": ({ duration }) => String(Math.floor(duration / 1000)),
    s: ({ duration }) => String(Math.floor(duration / 1000)),
    ms: ({ duration }) => String(Math.floor(duration)),
    us: ({ duration }) => String(Math.floor(duration * 1000)),
  }),
  u: {
    forms: "%u",
    pieces(argument, uses) {
      const credentials = requestField("authorization", uses);
      return argument === "" ? [(entry) => userOf(credentials(entry))] : undefined;
    },
  },
  U: plain("%U", ({ url }) => escapePath(url.slice(0, endOfPath(url)))),
  v: {
    forms: "%v",
    pieces(argument) {
      const name = escapeText(machineName());
      return argument === "" ? [() => name] : undefined;
    },
  },
  V: {
    forms: "%V",
    pieces(argument, uses) {
      uses.host = true;
      const machine = escapeText(machineName());
      if (argument !== "") return undefined;
      return [({ host }) => {
        const name = host?.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1").toLowerCase();
        return name ? escapeBytes(name) : machine;
      }];
    },
  },
};

/**
 * Returns the pieces of the formats `common` and `combined`, which are Apache's but for the user,
 * and for the version: it is always HTTP/1.1, because Deno does not expose it.
 */
export function apachePieces(format: "common" | "combined", uses: Uses): readonly Piece[] {
  const request = [' "', method, " ", url, ' HTTP/1.1" '];
  const common = [remote, " - - ", time, ...request, status, " ", bytes];
  if (format === "common") return common;
  const [referer, agent] = [requestField("referer", uses), requestField("user-agent", uses)];
  const quoted = (field: typeof referer) => [' "', (entry: Entry) => shown(field(entry)), '"'];
  return [...common, ...quoted(referer), ...quoted(agent)];
}

/**
 * Parses a format string.
 *
 * @param format The format string.
 * @param uses Where what it needs is noted.
 * @returns The pieces of a line.
 * @throws {RangeError} If it is no format string. The message says what is expected instead.
 */
export function parseFormat(format: string, uses: Uses): readonly Piece[] {
  if (format.length > LONGEST_FORMAT) throw new RangeError(`at most ${LONGEST_FORMAT} characters`);
  if (!PRINTABLE.test(format)) throw new RangeError(`${ONE_LINE}, with \\t for a tab`);
  const pieces: Piece[] = [];
  // A directive, of which the end may be missing; an escape; text.
  const tokens = /%(?:[<>!,\d]|\{[^}]*\})*(.?)|\\([\\"nrt])|[^%\\]+|\\/g;
  for (const [token, letter, escaped] of format.matchAll(tokens)) {
    if (escaped === "n" || escaped === "r") throw new RangeError(`${ONE_LINE} without ${token}`);
    if (letter !== undefined) pieces.push(...parseDirective(token, letter, uses));
    else pieces.push(escaped === "t" ? "\t" : escaped ?? token);
  }
  return pieces;
}

const ONE_LINE = "one line of printable ASCII";
const PRINTABLE = /^[ -~\t]*$/;

function parseDirective(token: string, letter: string, uses: Uses): readonly Piece[] {
  if (letter === "" || letter === "{") {
    throw new RangeError(`a directive, such as %h, instead of ${token} at its end`);
  }
  const directive = Object.hasOwn(DIRECTIVES, letter) ? DIRECTIVES[letter] : undefined;
  if (directive === undefined) {
    const known = Object.values(DIRECTIVES).map(({ forms }) => forms).join(", ");
    throw new RangeError(`a directive that is known (${known}) instead of ${token}`);
  }
  const argument = token.match(/\{([^}]*)\}[^{}]*$/)?.[1] ?? "";
  const pieces = directive.pieces(argument, uses);
  if (pieces === undefined) throw new RangeError(`${directive.forms} instead of ${token}`);
  const modifiers = token.replace(/\{.*\}/, "");
  const statuses = modifiers.match(/\d+/g)?.map(Number);
  if (statuses === undefined) return pieces;
  const isShown = modifiers.split("!").length % 2 === 1;
  return pieces.map((piece, i) => {
    const otherwise = i === 0 ? "-" : "";
    return (entry) => {
      if (statuses.includes(entry.status) !== isShown) return otherwise;
      return typeof piece === "string" ? piece : piece(entry);
    };
  });
}

/** A directive without an argument. */
function plain(forms: string, ...pieces: readonly Piece[]): Directive {
  return { forms, pieces: (argument) => argument === "" ? pieces : undefined };
}

/** A directive whose argument is one of some words, or is omitted. */
function choice(forms: string, pieces: Record<string, Piece>): Directive {
  return {
    forms,
    pieces: (argument) => Object.hasOwn(pieces, argument) ? [pieces[argument]!] : undefined,
  };
}

function pid({ pid }: Entry): string {
  return String(pid);
}

/**
 * Returns the host of an address; `undefined` if it has none. A client of IPv4 has its usual form,
 * also where the socket is one of IPv6.
 */
export function hostnameOf(address: Deno.Addr | undefined): string | undefined {
  if (address === undefined || !("hostname" in address)) return undefined;
  const { hostname } = address;
  return hostname.startsWith("::ffff:") ? hostname.replace(/^::ffff:(?=\d+\.)/, "") : hostname;
}

function localPort({ local }: Entry): string {
  return local && "port" in local ? String(local.port) : "-";
}

function requestField(name: string, { requestFields }: Uses): (entry: Entry) => string | null {
  const index = indexIn(requestFields, name);
  return ({ requestFields }) => requestFields[index]!;
}

function indexIn(names: string[], name: string): number {
  const lower = name.toLowerCase();
  if (!names.includes(lower)) names.push(lower);
  return names.indexOf(lower);
}

function shown(field: string | null): string {
  return field === null ? "-" : escapeBytes(field);
}

function endOfPath(url: string): number {
  const end = url.indexOf("?");
  return end === -1 ? url.length : end;
}

/** Returns the value of a cookie. As with Apache, an empty one is none. */
function cookieOf(field: string | null, name: string): string | null {
  for (const pair of field?.split(";") ?? []) {
    const [, found, value] = pair.match(/^\s*([^=]*?)\s*=\s*(.*?)\s*$/s) ?? [];
    if (found?.toLowerCase() === name && value !== "") return value!;
  }
  return null;
}

/** Returns the user of HTTP's Basic authentication. */
function userOf(credentials: string | null): string {
  const [, encoded] = credentials?.match(/^Basic +([a-z\d+/=]+)$/i) ?? [];
  if (encoded === undefined) return "-";
  try {
    const [user] = atob(encoded).split(":", 1);
    return user === "" ? '""' : escapeBytes(user!);
  } catch {
    return "-"; // it is not base64
  }
}

/** Returns the machine's name, which is Apache's name for a server that has not been given one. */
function machineName(): string {
  return readText("/proc/sys/kernel/hostname").trim();
}
