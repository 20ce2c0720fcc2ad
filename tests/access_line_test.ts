import { assert, assertEquals } from "@std/assert";
import fc from "npm:fast-check@4.10.2";
import { compileFormat } from "../server/prefork/logs/access_line.ts";
import { LONGEST_LINE } from "../server/prefork/logs/log_file.ts";
import { requestIdMaker } from "../server/prefork/logs/request_id.ts";
import { STRFTIME_CONVERSIONS } from "../server/prefork/logs/strftime.ts";
import { parseTraceparent } from "../server/prefork/logs/trace_context.ts";
import { Program, ROOT } from "./support.ts";

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

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: length, maxLength: length });
const address = fc.option(
  fc.record({ transport: fc.constant("tcp" as const), hostname: fc.ipV6(), port: fc.nat(65535) }),
  { nil: undefined },
);
const whole = {
  pid: fc.integer({ min: 1, max: 2 ** 22 }),
  worker: fc.option(fc.integer({ min: 1, max: 128 })),
  time: fc.integer({ min: 0, max: Date.UTC(9999, 0) }),
  remote: fc.option(text, { nil: undefined }),
  remotePort: fc.option(fc.nat(65535), { nil: undefined }),
  peer: address,
  local: address,
  method: text,
  url: text,
  protocol: fc.constantFrom("HTTP/1.1", "HTTP/1.0"),
  host: fc.option(text),
  status: fc.integer({ min: 100, max: 999 }),
  bytes: fc.option(fc.maxSafeNat(), { nil: null }),
  duration: fc.double({ min: 0, max: 1e9, noNaN: true }),
  id: fc.option(hex(24), { nil: undefined }),
  trace: fc.option(fc.record({ traceId: hex(32), spanId: hex(16) }), { nil: undefined }),
};
/** An entry of the formats that have names. */
const entry = fc.record({
  ...whole,
  referer: fc.option(text, { nil: null }),
  agent: fc.option(text, { nil: null }),
});
type NamedEntry = typeof entry extends fc.Arbitrary<infer T> ? T : never;

function lineOf(format: string, { referer, agent, ...rest }: NamedEntry): string {
  const { uses, line } = compileFormat(format);
  return line({
    ...rest,
    requestFields: uses.requestFields.map((name) => name === "referer" ? referer : agent),
    responseFields: [],
  });
}

/** A directive of each kind that a format string can have, with arguments and modifiers. */
const directive = fc.tuple(
  fc.constantFrom("", "", "", "!", "<", ">"),
  fc.constantFrom("", "", "200", "400,501", "!200,304"),
  fc.constantFrom(
    ...[
      "%",
      "a",
      "{c}a",
      "A",
      "b",
      "B",
      "D",
      "h",
      "H",
      "l",
      "L",
      "m",
      "p",
      "P",
      "q",
      "r",
      "s",
      "t",
      "T",
    ],
    ...["u", "U", "v", "V", "{a}C", "{PATH}e", "{A}i", "{b}i", "{a}o", "{trace_id}n", "{span_id}n"],
    ...["{canonical}p", "{local}p", "{remote}p", "{pid}P", "{s}T", "{ms}T", "{us}T"],
    ...["{begin}t", "{end:}t", "{sec}t", "{begin:msec}t", "{end:usec}t", "{msec_frac}t"],
    ...["{usec_frac}t", "{%Y-%m-%d %T %%}t", "{end:%c %G-W%V-%u %j}t"],
  ),
).map((parts) => `%${parts.join("")}`);
const literal = fc.string({ unit: fc.constantFrom(..." ab01[]{}\"'\\|\t<>!,") });
const usual = fc.array(fc.oneof({ weight: 3, arbitrary: directive }, literal), {
  maxLength: 25,
}).map((parts) => `%h${parts.join("")}`);
const formatString = fc.oneof(
  { weight: 20, arbitrary: usual },
  fc.constant("%r".repeat(1024)),
  directive.map((one) => one.repeat(Math.floor(2048 / one.length))),
);

/** A field is shown as it is, or cut, which three dots tell. */
function assertShows(shown: string, field: string): void {
  if (shown === field) return;
  assert(shown.endsWith("...") && field.startsWith(shown.slice(0, -3)), `${field} as ${shown}`);
}

Deno.test("compileFormat() makes one line of ASCII of limited length, whatever the fields contain", () => {
  fc.assert(
    fc.property(fc.constantFrom("common", "combined", "json"), entry, (format, entry) => {
      const line = lineOf(format, entry);
      assert(/^[ -~]+\n$/.test(line), line);
      assert(line.length <= LONGEST_LINE, `${line.length}`);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("compileFormat() makes one line of ASCII of limited length of any format string", () => {
  fc.assert(
    fc.property(formatString, fc.record(whole), fc.infiniteStream(text), (format, entry, texts) => {
      const { uses, line } = compileFormat(format);
      const some = (names: readonly string[]) => names.map(() => texts.next().value as string);
      const made = line({
        ...entry,
        requestFields: some(uses.requestFields),
        responseFields: some(uses.responseFields),
      });
      assert(/^[ -~\t]*\n$/.test(made), `${format} as ${made}`);
      assert(made.length <= LONGEST_LINE, `${format} as ${made.length} characters`);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("compileFormat() makes JSON that contains the entry and nothing else", () => {
  fc.assert(
    fc.property(entry, (entry) => {
      const { time, duration, remote, method, url, referer, agent, id, trace } = entry;
      const { pid, worker, status, bytes } = entry;
      const parsed = JSON.parse(lineOf("json", entry));
      assertEquals(Object.keys(parsed).join(), KEYS);
      assertEquals(Date.parse(parsed.time), time);
      assert(Math.abs(parsed.duration_ms - duration) <= 0.001);
      for (const [name, number] of Object.entries({ pid, worker, status, bytes })) {
        assertEquals(parsed[name], number);
      }
      assertEquals(
        [parsed.request_id, parsed.trace_id, parsed.span_id],
        [id ?? null, trace?.traceId ?? null, trace?.spanId ?? null],
      );
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

const KEYS = "time,remote,method,url,status,bytes,duration_ms,referer,user_agent,pid,worker," +
  "request_id,trace_id,span_id";

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

Deno.test("compileFormat() makes Apache's lines, from which the fields can be parsed", () => {
  const quoted = '"((?:[^"\\\\]|\\\\.)*)"';
  const common = `(.*?) - - \\[[^\\]]*\\] ${quoted} (\\d{3}) (\\d+|-)`;
  const patterns = {
    common: new RegExp(`^${common}\n$`),
    combined: new RegExp(`^${common} ${quoted} ${quoted}\n$`),
  };
  fc.assert(
    fc.property(fc.constantFrom("common", "combined"), entry, (format, entry) => {
      const line = lineOf(format, entry);
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

Deno.test("compileFormat() understands any text, or says in one line what is wrong with it", () => {
  const parts = fc.constantFrom(..."%%%{}<>!,09hirstTZ \\\n\t\0é", "begin:", "%{x}", "pid");
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 12 }), (parts) => {
      try {
        compileFormat(parts.join(""));
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        assert(/^[ -~\t]+$/.test(error.message), error.message);
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("strftime() formats a time as date(1) does, in every time zone", async () => {
  // Also the first and the last days of years of all kinds.
  const days = Array.from({ length: 28 }, (_, i) => Date.UTC(1999 + i, 11, 25 + i % 14, i, 59, i));
  const others = fc.sample(fc.integer({ min: 0, max: Date.UTC(2199, 0) }), 100);
  const seconds = [0, ...days, ...others].map((time) => Math.floor(time / 1000));
  const format = [...STRFTIME_CONVERSIONS].map((letter) => `%${letter}`).join("|");
  const program = `
    import { strftime } from "${new URL("server/prefork/logs/strftime.ts", ROOT)}";
    for (const time of ${JSON.stringify(seconds)}) {
      console.log(strftime(${JSON.stringify(format)}, new Date(time * 1000)));
    }`;
  const input = seconds.map((time) => `@${time}`).join("\n");
  for (const TZ of ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]) {
    const env = { TZ, LC_ALL: "C", NO_COLOR: "1" };
    await using ours = new Program(Deno.execPath(), ["eval", program], { env });
    const script = `date -f <(printf '%s' "$1") "+$2"`;
    await using theirs = new Program("bash", ["-c", script, "", input, format], { env });
    await Promise.all([ours.ended(), theirs.ended()]);
    assertEquals(ours.stdout.split("\n"), theirs.stdout.split("\n"), ours.stderr + theirs.stderr);
  }
});

Deno.test("parseTraceparent() takes what the specification allows, and nothing else", () => {
  const [trace, span] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
  const valid = [`00-${trace}-${span}-01`, `cc-${trace}-${span}-00-what the future brings`];
  for (const field of valid) {
    assertEquals(parseTraceparent(field), { traceId: trace, spanId: span });
  }
  const invalid = [
    ...["", "00", `00-${trace}-${span}`, `00-${trace}-${span}-1`, `00-${trace}-${span}-01-x`],
    ...[
      `ff-${trace}-${span}-01`,
      `00-${"0".repeat(32)}-${span}-01`,
      `00-${trace}-${"0".repeat(16)}-01`,
    ],
    ...[
      `00-${trace.toUpperCase()}-${span}-01`,
      ` 00-${trace}-${span}-01`,
      `cc-${trace}-${span}-00x`,
    ],
  ];
  for (const field of [...invalid, null]) {
    assertEquals(parseTraceparent(field), undefined, `${field}`);
  }
});

Deno.test("requestIdMaker() keeps a sane id, and makes others, which are unique", () => {
  const [one, other] = [requestIdMaker(), requestIdMaker()];
  for (const id of ["a", "Root=1-67891233-abcdef012345678912345678", "!#$[]~", "x".repeat(128)]) {
    assertEquals(one(id), id);
  }
  const insane = [null, "", "a b", 'a"', "a\\", "a\n", "a\0", "\x7f", "é", "x".repeat(129)];
  const made = insane.flatMap((id) => [one(id), other(id)]);
  assertEquals(new Set(made).size, made.length);
  for (const id of made) assert(/^[\da-f]{24}$/.test(id), id);
});
