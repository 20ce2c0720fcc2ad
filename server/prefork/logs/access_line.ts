/**
 * Formats the line of one request in an access log, in one of three formats. Text from clients is
 * escaped, so that no client can forge a line or a terminal control sequence.
 */
import { LONGEST_LINE } from "./log_file.ts";

/** The formats of an access log. */
export const ACCESS_LOG_FORMATS = ["common", "combined", "json"] as const;
/** One of {@linkcode ACCESS_LOG_FORMATS}. */
export type AccessLogFormat = typeof ACCESS_LOG_FORMATS[number];

/** The contents of a line. */
export interface Entry {
  /** The worker's pid. */
  readonly pid: number;
  /** When the request arrived, in milliseconds since 1970. */
  readonly time: number;
  /** The client's address; `undefined` for a client of a UNIX socket. */
  readonly remote: string | undefined;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly status: number;
  /** The size of the response's body; `null` if it is not known. */
  readonly bytes: number | null;
  /** The time from the request to the end of the response, in milliseconds. */
  readonly duration: number;
  readonly referer: string | null;
  readonly agent: string | null;
}

/**
 * Formats an entry.
 *
 * @param format The format.
 * @param entry The entry.
 * @returns The line, including its newline: ASCII, at most {@linkcode LONGEST_LINE} characters.
 */
export function formatEntry(format: AccessLogFormat, entry: Entry): string {
  return format === "json" ? formatJson(entry) : formatApache(format, entry);
}

/**
 * Formats an entry as Apache's `"%h %l %u %t \"%r\" %>s %b"`; Combined appends the two header
 * fields. The version is always HTTP/1.1, because Deno does not expose it.
 */
function formatApache(format: AccessLogFormat, entry: Entry): string {
  const { time, remote, status, bytes, method, url, referer, agent } = entry;
  const combined = format === "combined";
  const start = ` - - [${apacheTime(time)}] "`;
  // Apache does not distinguish an empty body from no body.
  const result = `" ${status} ${bytes || "-"}`;
  const build = ([remote, method, url, referer, agent]: readonly string[]) =>
    `${remote}${start}${method} ${url} HTTP/1.1${result}` +
    (combined ? ` "${referer}" "${agent}"\n` : "\n");
  const fields = [escapeText(remote ?? "-"), escapeText(method), escapeText(url)];
  if (combined) {
    fields.push(referer === null ? "-" : escapeBytes(referer));
    fields.push(agent === null ? "-" : escapeBytes(agent));
  }
  return fit(fields, build, /(?:[^\\]|\\x..|\\[^x])*/y);
}

function formatJson(entry: Entry): string {
  const { pid, time, remote, status, bytes, duration, method, url, referer, agent } = entry;
  const start = `{"time":"${jsonTime(time)}","remote":`;
  const result = `","status":${status},"bytes":${bytes},` +
    `"duration_ms":${Math.round(duration * 1000) / 1000},"referer":`;
  const build = ([remote, method, url, referer, agent]: readonly string[]) =>
    `${start}${textOrNull(remote)},"method":"${method}","url":"${url}${result}` +
    `${textOrNull(referer)},"user_agent":${textOrNull(agent)},"pid":${pid}}\n`;
  const fields = [remote ?? "", method, url, referer ?? "", agent ?? ""].map(escapeJson);
  return fit(fields, build, /(?:[^\\]|\\u....|\\[^u])*/y);
}

/**
 * Builds a line. If it would be too long, its longest fields are truncated.
 *
 * @param whole Matches the longest prefix of complete escape sequences.
 */
function fit(
  fields: readonly string[],
  build: (fields: readonly string[]) => string,
  whole: RegExp,
): string {
  const line = build(fields);
  if (line.length <= LONGEST_LINE) return line;
  let room = LONGEST_LINE - (line.length - fields.reduce((sum, { length }) => sum + length, 0));
  // Short fields stay whole. The space they leave is used for the long ones.
  let left = fields.length;
  const cut = [...fields];
  const order = [...fields.keys()].sort((a, b) => fields[a]!.length - fields[b]!.length);
  for (const i of order) {
    const field = fields[i]!;
    const length = Math.floor(room / left--);
    if (field.length > length) {
      whole.lastIndex = 0;
      cut[i] = whole.exec(field.slice(0, length - CUT.length))![0] + CUT;
    }
    room -= cut[i]!.length;
  }
  return build(cut);
}

/** Marks where a field was truncated. */
const CUT = "...";

const encoder = new TextEncoder();
const UNSAFE = /[^ !#-[\]-~]/;
const EACH_UNSAFE = /[^ !#-[\]-~]/g;
const NAMED: Record<string, string> = {
  "\b": "\\b",
  "\t": "\\t",
  "\n": "\\n",
  "\v": "\\v",
  "\r": "\\r",
  '"': '\\"',
  "\\": "\\\\",
};

/** Escapes text as Apache does, byte by byte of its UTF-8 encoding. */
function escapeText(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return escapeBytes(String.fromCharCode(...encoder.encode(text.slice(0, LONGEST_LINE))));
}

/** Escapes a header field, in which each character is a byte, as Apache does. */
function escapeBytes(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return text.slice(0, LONGEST_LINE).replace(
    EACH_UNSAFE,
    (byte) => NAMED[byte] ?? `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Returns the contents of a JSON string, without its quotes, in ASCII. */
function escapeJson(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return JSON.stringify(text.slice(0, LONGEST_LINE)).slice(1, -1).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function textOrNull(escaped: string | undefined): string {
  return escaped ? `"${escaped}"` : "null";
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** `20/Nov/2026:13:00:01 +0000`, in local time. */
const apacheTime = perSecond((date) => {
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.abs(offset) / 60)}${
    two(Math.abs(offset) % 60)
  }`;
  return `${two(date.getDate())}/${MONTHS[date.getMonth()]}/${date.getFullYear()}` +
    `:${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone}`;
});

const isoSecond = perSecond((date) => date.toISOString().slice(0, 19));

/** `2026-11-20T13:00:01.123Z`. */
function jsonTime(time: number): string {
  return `${isoSecond(time)}.${String(time % 1000).padStart(3, "0")}Z`;
}

/** Caches a formatted time for as long as the second lasts. */
function perSecond(format: (date: Date) => string): (time: number) => string {
  let second = -1;
  let text = "";
  return (time) => {
    const now = Math.floor(time / 1000);
    if (now !== second) {
      second = now;
      text = format(new Date(time));
    }
    return text;
  };
}

function two(number: number): string {
  return String(Math.floor(number)).padStart(2, "0");
}
