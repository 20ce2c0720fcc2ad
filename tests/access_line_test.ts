import { assert, assertEquals } from "@std/assert";
import fc from "npm:fast-check@4.10.2";
import { ACCESS_LOG_FORMATS, type Entry, formatEntry } from "../server/prefork/logs/access_line.ts";
import { LONGEST_LINE } from "../server/prefork/logs/log_file.ts";

// Text that forges lines, ends quotes, or moves a terminal's cursor; and harmless text.
const hostile = fc.constantFrom(
  ...[
    "\n",
    "\r",
    "\0",
    "\x1b[2J",
    '"',
    "\\",
    '\\"',
    "\\x",
    "\\u00",
    " ",
    "\t",
    "\x7f",
    "\x9b",
    "%",
  ],
  ...[
    "é",
    "\u2028",
    "\u{1f4a9}",
    "\ud83d",
    "\udca9",
    "\ufeff",
    "HTTP/1.1",
    '" 200 0\n1.2.3.4 - - [',
  ],
  ...["a", "GET", '{"pid":1}', "x".repeat(1000), '"'.repeat(500), "\u{1f4a9}".repeat(700)],
);
/** Any text, half characters and all, up to several times as long as a line. */
const text = fc.array(
  fc.oneof(fc.string({ unit: fc.nat(0xffff).map((unit) => String.fromCharCode(unit)) }), hostile),
  {
    maxLength: 20,
  },
).map((parts) => parts.join(""));

const entry: fc.Arbitrary<Entry> = fc.record({
  pid: fc.integer({ min: 1, max: 2 ** 22 }),
  time: fc.integer({ min: 0, max: Date.UTC(9999, 0) }),
  remote: fc.option(text, { nil: undefined }),
  method: text,
  url: text,
  status: fc.integer({ min: 100, max: 999 }),
  bytes: fc.option(fc.maxSafeNat(), { nil: null }),
  duration: fc.double({ min: 0, max: 1e9, noNaN: true }),
  referer: fc.option(text, { nil: null }),
  agent: fc.option(text, { nil: null }),
});

/** A field is shown as it is, or cut, which three dots tell. */
function assertShows(shown: string, field: string): void {
  if (shown === field) return;
  assert(shown.endsWith("...") && field.startsWith(shown.slice(0, -3)), `${field} as ${shown}`);
}

Deno.test("formatEntry() returns one line of ASCII of limited length, whatever the fields contain", () => {
  fc.assert(
    fc.property(fc.constantFrom(...ACCESS_LOG_FORMATS), entry, (format, entry) => {
      const line = formatEntry(format, entry);
      assert(/^[ -~]+\n$/.test(line), line);
      assert(line.length <= LONGEST_LINE, `${line.length}`);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("formatEntry() returns JSON that contains the entry and nothing else", () => {
  fc.assert(
    fc.property(entry, (entry) => {
      const { time, duration, remote, method, url, referer, agent, ...numbers } = entry;
      const parsed = JSON.parse(formatEntry("json", entry));
      assertEquals(Object.keys(parsed).join(), KEYS);
      assertEquals(Date.parse(parsed.time), time);
      assert(Math.abs(parsed.duration_ms - duration) <= 0.001);
      for (const [name, number] of Object.entries(numbers)) assertEquals(parsed[name], number);
      assertShows(parsed.method, method);
      assertShows(parsed.url, url);
      const optional = [[parsed.remote, remote], [parsed.referer, referer]];
      // An empty one is as good as none.
      for (const [shown, field] of [...optional, [parsed.user_agent, agent]]) {
        if (field) assertShows(shown, field);
        else assertEquals(shown, null);
      }
    }),
    { numRuns: 1000 },
  );
});

const KEYS = "time,remote,method,url,status,bytes,duration_ms,referer,user_agent,pid";

const NAMED: Record<string, string> = { b: "\b", t: "\t", n: "\n", v: "\v", r: "\r" };

/** What Apache's escapes stand for, a character for each byte. */
function unescape(text: string): string {
  return text.replace(
    /\\(?:x([0-9a-f]{2})|(.))/g,
    (_, hex, named) => hex ? String.fromCharCode(parseInt(hex, 16)) : NAMED[named] ?? named,
  );
}

/** A text's UTF-8, a character for each byte. */
function utf8(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}

Deno.test("formatEntry() returns Apache's lines, from which the fields can be parsed", () => {
  const quoted = '"((?:[^"\\\\]|\\\\.)*)"';
  const common = `(.*?) - - \\[[^\\]]*\\] ${quoted} (\\d{3}) (\\d+|-)`;
  const patterns = {
    common: new RegExp(`^${common}\n$`),
    combined: new RegExp(`^${common} ${quoted} ${quoted}\n$`),
  };
  fc.assert(
    fc.property(fc.constantFrom("common", "combined"), entry, (format, entry) => {
      const line = formatEntry(format, entry);
      const found = line.match(patterns[format]);
      if (found === null) throw new Error(`No field may end early: ${line}`);
      const [, , request, status, bytes, referer, agent] = found;
      assertEquals([status, bytes], [String(entry.status), String(entry.bytes || "-")]);
      assert(request!.endsWith(" HTTP/1.1"), line);
      const { method, url } = entry;
      if (!line.includes("...")) {
        assertEquals(unescape(request!), utf8(`${method} ${url} HTTP/1.1`));
      }
      if (format === "common") return;
      // A field of a header is bytes, each of which Deno gives as a character.
      for (const [shown, field] of [[referer, entry.referer], [agent, entry.agent]]) {
        if (field === null) assertEquals(shown, "-");
        else if (/^[\0-\xff]*$/.test(field!)) assertShows(unescape(shown!), field!);
      }
    }),
    { numRuns: 1000 },
  );
});
