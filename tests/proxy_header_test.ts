import { assert, assertEquals } from "@std/assert";
import fc from "npm:fast-check@4.10.2";
import { LARGEST_HEADER, parseProxyHeader } from "../server/prefork/worker/proxy_header.ts";

const text = (line: string) => Uint8Array.from(line, (char) => char.charCodeAt(0));

/** A header of version 2. */
function version2(
  command: number,
  form: number,
  addresses: readonly number[],
  more = 0,
): Uint8Array {
  const rest = [...addresses, ...Array<number>(more).fill(4)];
  const length = [rest.length >> 8, rest.length & 255];
  return Uint8Array.of(
    13,
    10,
    13,
    10,
    0,
    13,
    10,
    81,
    85,
    73,
    84,
    10,
    command,
    form,
    ...length,
    ...rest,
  );
}

const IPV4 = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
const IPV6 = [0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1, ...Array(16).fill(0), 0, 5, 0, 80];
const UNIX = [...text("/run/client.sock"), ...Array(200).fill(0)];

/** Returns the client's address and what follows the header, or what is wrong. */
function parse(bytes: Uint8Array): string {
  const header = parseProxyHeader(bytes);
  if (header.kind !== "complete") return header.kind;
  const { client } = header;
  const name = client === undefined
    ? "the proxy"
    : "hostname" in client
    ? `${client.hostname} ${client.port}`
    : `unix ${"path" in client ? client.path : ""}`;
  return `${name}, ${bytes.length - header.size} more`;
}

Deno.test("parseProxyHeader() reads version 1", () => {
  const cases = {
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n": "203.0.113.9 4711, 0 more",
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\n": "203.0.113.9 4711, 16 more",
    "PROXY TCP6 2001:DB8:0::1 ::1 5 80\r\n": "2001:db8::1 5, 0 more",
    "PROXY TCP6 ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n":
      "ffff:f:f:f:f:f:f:ffff 65535, 0 more",
    "PROXY UNKNOWN\r\n": "the proxy, 0 more",
    "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\nx": "the proxy, 1 more",
    "": "incomplete",
    "PROX": "incomplete",
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r": "incomplete",
    [`PROXY UNKNOWN ${"x".repeat(91)}\r\n`]: "the proxy, 0 more",
    [`PROXY UNKNOWN ${"x".repeat(92)}\r\n`]: "invalid",
    [`PROXY UNKNOWN ${"x".repeat(92)}`]: "incomplete",
    [`PROXY UNKNOWN ${"x".repeat(93)}`]: "invalid",
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\n": "invalid",
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\r\n": "invalid",
    "PROXY TCP4 203.0.113.9 192.0.2.1 65536 80\r\n": "invalid",
    "PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n": "invalid",
    "PROXY TCP4  203.0.113.9 192.0.2.1 4711 80\r\n": "invalid",
    "PROXY TCP4 2001:db8::1 ::1 4711 80\r\n": "invalid",
    "PROXY TCP6 203.0.113.9 192.0.2.1 4711 80\r\n": "invalid",
    "PROXY TCP4 203.0.113.999 192.0.2.1 4711 80\r\n": "invalid",
    "PROXY UDP4 203.0.113.9 192.0.2.1 4711 80\r\n": "invalid",
    "PROXY UNKNOWNS\r\n": "invalid",
    "proxy UNKNOWN\r\n": "invalid",
    "GET / HTTP/1.1\r\n": "invalid",
    "P\r\n": "invalid",
    "\x16\x03\x01": "invalid",
  };
  for (const [line, result] of Object.entries(cases)) assertEquals(parse(text(line)), result, line);
});

Deno.test("parseProxyHeader() reads version 2", () => {
  assertEquals(parse(version2(0x21, 0x11, IPV4)), "203.0.113.9 4711, 0 more");
  assertEquals(parse(version2(0x21, 0x11, IPV4, 500)), "203.0.113.9 4711, 0 more");
  assertEquals(
    parse(Uint8Array.of(...version2(0x21, 0x11, IPV4, 3), 1, 2)),
    "203.0.113.9 4711, 2 more",
  );
  assertEquals(parse(version2(0x21, 0x21, IPV6)), "2001:db8::1 5, 0 more");
  const mapped = [...Array(10).fill(0), 255, 255, 203, 0, 113, 9, ...IPV6.slice(16)];
  assertEquals(parse(version2(0x21, 0x21, mapped)), "203.0.113.9 5, 0 more");
  assertEquals(parse(version2(0x21, 0x31, UNIX)), "unix /run/client.sock, 0 more");
  assertEquals(parse(version2(0x21, 0x31, Array(216).fill(0))), "unix , 0 more");
  assertEquals(parse(version2(0x20, 0x00, [])), "the proxy, 0 more");
  assertEquals(parse(version2(0x20, 0x11, IPV4)), "the proxy, 0 more");
  assertEquals(parse(version2(0x21, 0x00, [], 7)), "the proxy, 0 more");
  const wrong = [
    version2(0x22, 0x11, IPV4), // no such command
    version2(0x11, 0x11, IPV4), // version 1
    version2(0x21, 0x12, IPV4), // UDP
    version2(0x21, 0x41, IPV4),
    version2(0x21, 0x11, IPV4.slice(1)),
    version2(0x21, 0x21, IPV4),
    version2(0x21, 0x31, IPV6),
    version2(0x20, 0x00, [], LARGEST_HEADER - 15),
  ];
  for (const bytes of wrong) assertEquals(parse(bytes), "invalid");
  assertEquals(parse(version2(0x20, 0x00, [], LARGEST_HEADER - 16)), "the proxy, 0 more");
});

Deno.test("parseProxyHeader() decides when the last byte has arrived, and not before", () => {
  const ends = fc.uint8Array({ maxLength: 40 });
  const headers = fc.constantFrom(
    text("PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"),
    text("PROXY UNKNOWN\r\n"),
    version2(0x21, 0x11, IPV4, 20),
    version2(0x21, 0x21, IPV6),
    version2(0x20, 0, []),
  );
  fc.assert(fc.property(headers, ends, (header, rest) => {
    for (let i = 0; i < header.length; i++) {
      assertEquals(parseProxyHeader(header.subarray(0, i)).kind, "incomplete");
    }
    const result = parseProxyHeader(Uint8Array.of(...header, ...rest));
    assertEquals(result.kind === "complete" && result.size, header.length);
  }));
});

Deno.test("parseProxyHeader() never throws, and never names a client that is not in the header", () => {
  const beginnings = fc.constantFrom(
    text("PROXY TCP4 "),
    text("PROXY "),
    version2(0x21, 0x11, []).subarray(0, 12),
    text(""),
  );
  fc.assert(
    fc.property(beginnings, fc.uint8Array({ maxLength: 300 }), (beginning, rest) => {
      const bytes = Uint8Array.of(...beginning, ...rest);
      const result = parseProxyHeader(bytes);
      if (result.kind === "complete") assert(result.size <= bytes.length);
    }),
    { numRuns: 5000 },
  );
});
