/**
 * The lines of the access log: a format is compiled once, into a function that returns the line of a
 * request.
 */
import type { Entry, Uses } from "./access_entry.ts";
import { apachePieces, parseFormat, type Piece } from "./access_format.ts";
import { escapeJson } from "./escape.ts";
import { LONGEST_LINE } from "./log_file.ts";
import { jsonTime } from "./log_time.ts";

/** The formats of an access log that have names. */
const NAMES: readonly string[] = ["common", "combined", "json"];

/** A compiled format. */
export interface LineFormat {
  /** What of a request it shows. */
  readonly uses: Readonly<Uses>;
  /**
   * Returns the line of a request, including its newline: ASCII, at most {@linkcode LONGEST_LINE}
   * characters.
   */
  readonly line: (entry: Entry) => string;
}

/**
 * Compiles a format.
 *
 * @param format `common`, `combined`, `json` or a format string.
 * @throws {RangeError} If it is none of these. The message says what is expected instead.
 */
export function compileFormat(format: string): LineFormat {
  const uses: Uses = {
    requestFields: [],
    responseFields: [],
    host: false,
    id: false,
    trace: false,
  };
  if (format === "json") {
    uses.requestFields.push("referer", "user-agent");
    uses.id = uses.trace = true;
    return { uses, line: formatJson };
  }
  if (format === "common" || format === "combined") {
    return { uses, line: compile(apachePieces(format, uses)) };
  }
  if (!format.includes("%")) {
    const example = `a format string, such as '%h %l %u %t "%r" %>s %b'`;
    throw new RangeError(`one of ${NAMES.join(", ")}, or ${example}`);
  }
  return { uses, line: compile(parseFormat(format, uses)) };
}

/** Returns the function that joins the pieces of a line. */
function compile(pieces: readonly Piece[]): (entry: Entry) => string {
  // One text before each field, and one after the last.
  const fields: ((entry: Entry) => string)[] = [];
  const texts = [""];
  for (const piece of [...pieces, "\n"]) {
    if (typeof piece === "string") texts[fields.length] += piece;
    else texts[fields.push(piece)] = "";
  }
  const [first] = texts as [string];
  const build = (values: readonly string[]) =>
    values.reduce((line, value, i) => line + value + texts[i + 1], first);
  return (entry) => {
    let line = first;
    for (let i = 0; i < fields.length; i++) line += fields[i]!(entry) + texts[i + 1];
    if (line.length <= LONGEST_LINE) return line;
    return fit(line, fields.map((field) => field(entry)), build, /(?:[^\\]|\\x..|\\[^x])*/y);
  };
}

function formatJson(entry: Entry): string {
  const { pid, worker, time, remote, status, bytes, duration, method, url, id, trace } = entry;
  const [referer, agent] = entry.requestFields;
  const start = `{"time":"${jsonTime(time)}","remote":`;
  const result = `","status":${status},"bytes":${bytes},` +
    `"duration_ms":${Math.round(duration * 1000) / 1000},"referer":`;
  const ids = `,"pid":${pid},"worker":${worker},"request_id":${textOrNull(id)},` +
    `"trace_id":${textOrNull(trace?.traceId)},"span_id":${textOrNull(trace?.spanId)}}\n`;
  const build = ([remote, method, url, referer, agent]: readonly string[]) =>
    `${start}${textOrNull(remote)},"method":"${method}","url":"${url}${result}` +
    `${textOrNull(referer)},"user_agent":${textOrNull(agent)}${ids}`;
  const fields = [remote ?? "", method, url, referer ?? "", agent ?? ""].map(escapeJson);
  const line = build(fields);
  return line.length <= LONGEST_LINE
    ? line
    : fit(line, fields, build, /(?:[^\\]|\\u....|\\[^u])*/y);
}

/**
 * Builds a line that is too long once more, with its longest fields truncated.
 *
 * @param whole Matches the longest prefix of complete escape sequences.
 */
function fit(
  line: string,
  fields: readonly string[],
  build: (fields: readonly string[]) => string,
  whole: RegExp,
): string {
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
      const shown = field.slice(0, Math.max(length - CUT.length, 0));
      cut[i] = length < CUT.length ? "" : whole.exec(shown)![0] + CUT;
    }
    room -= cut[i]!.length;
  }
  return build(cut);
}

/** Marks where a field was truncated. */
const CUT = "...";

function textOrNull(escaped: string | undefined): string {
  return escaped ? `"${escaped}"` : "null";
}
