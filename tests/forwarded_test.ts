import { assert, assertEquals } from "@std/assert";
import fc from "npm:fast-check@4.10.2";
import { formatIp, includesIp, parseIp, parseNetwork } from "../server/prefork/ip_address.ts";
import { checkTrusted, trustedProxies } from "../server/prefork/trusted_proxies.ts";
import { readForwarded } from "../server/prefork/worker/forwarded.ts";

const PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"];

/** Returns what is read of a header, in short. */
function read(header: Record<string, string>, trusted: readonly string[] = PROXIES) {
  const fields = (name: string) => header[name] ?? null;
  const { client, scheme, host } = readForwarded(fields, trustedProxies(trusted)!);
  const address = client &&
    (client.port ? `${formatIp(client.ip)} ${client.port}` : formatIp(client.ip));
  return [address, scheme, host].map((one) => one ?? "-").join(" ");
}

const clientOf = (chain: string) => read({ "x-forwarded-for": chain }).slice(0, -4);
const ofForwarded = (forwarded: string) => read({ forwarded });

Deno.test("parseIp() accepts addresses as RFC 4291 and RFC 5952 write them, and nothing else", () => {
  const same = [
    "0.0.0.0",
    "255.255.255.255",
    "127.0.0.1",
    "::",
    "::1",
    "2001:db8::1",
    "1::",
    "fe80::1",
  ]
    .concat(["1:2:3:4:5:6:7:8", "1:2:3:4:5:6::", "::3:4:5:6:7:8", "2001:db8:0:1:1:1:1:1"]);
  const other = {
    "::ffff:192.0.2.1": "192.0.2.1",
    "::FFFF:c000:201": "192.0.2.1",
    "0:0:0:0:0:ffff:1.2.3.4": "1.2.3.4",
    "2001:DB8:0:0::0001": "2001:db8::1",
    "1:0:0:2:0:0:0:3": "1:0:0:2::3",
    "1:2:3:4:5:6:7::": "1:2:3:4:5:6:7:0",
    "64:ff9b::192.0.2.33": "64:ff9b::c000:221",
  };
  for (const [text, formatted] of [...same.map((one) => [one, one]), ...Object.entries(other)]) {
    const ip = parseIp(text!);
    assertEquals(ip === undefined ? "nothing" : formatIp(ip), formatted, text);
  }
  const wrong = [
    "",
    " ",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4 ",
    "0x1.2.3.4",
  ]
    .concat([
      "1.2.3.-4",
      "1e1.2.3.4",
      ":",
      ":::",
      "1:",
      ":1",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "12345::",
    ])
    .concat([
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "::1.2.3",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "g::",
    ])
    .concat([
      "[::1]",
      "fe80::1%eth0",
      "::01.2.3.4",
      "::1/128",
      "localhost",
      "\u0661.2.3.4",
      "1::2 ",
    ]);
  for (const text of wrong) assertEquals(parseIp(text), undefined, text);
});

Deno.test("parseIp() agrees with the URL parser about IPv6", () => {
  const group = fc.integer({ min: 0, max: 0xffff });
  fc.assert(fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
    const text = groups.map((one) => one.toString(16)).join(":");
    const ip = parseIp(text)!;
    const known = URL.parse(`http://[${text}]/`)!.hostname.slice(1, -1);
    if (typeof ip !== "number") assertEquals(formatIp(ip), known);
    assertEquals(parseIp(known), ip);
    assertEquals(parseIp(formatIp(ip)), ip);
  }));
});

Deno.test("parseIp() never throws", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...":.0123456789abcdefg%[]/ ") }), (text) => {
      const ip = parseIp(text);
      if (ip !== undefined) assertEquals(parseIp(formatIp(ip)), ip);
    }),
  );
});

Deno.test("a network includes the addresses that share its first bits", () => {
  const cases: [network: string, inside: string[], outside: string[]][] = [
    ["10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], [
      "11.0.0.0",
      "9.255.255.255",
      "::a00:1",
    ]],
    ["192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127"]],
    ["255.255.255.255", ["255.255.255.255"], ["255.255.255.254", "127.255.255.255"]],
    ["0.0.0.0/0", ["0.0.0.0", "255.1.1.1"], ["::", "::1"]],
    ["2001:db8::/33", ["2001:db8:7fff::1"], ["2001:db8:8000::", "2001:db9::", "32.1.13.184"]],
    ["::1", ["::1"], ["::2", "::", "0.0.0.1"]],
    ["::/0", ["::", "ffff::"], ["1.2.3.4"]],
    ["::ffff:10.0.0.0/104", ["10.9.9.9"], ["11.9.9.9", "::a09:909"]],
  ];
  for (const [text, inside, outside] of cases) {
    const network = parseNetwork(text)!;
    for (const one of inside) assert(includesIp(network, parseIp(one)!), `${one} in ${text}`);
    for (const one of outside) assert(!includesIp(network, parseIp(one)!), `${one} not in ${text}`);
  }
});

Deno.test("checkTrusted() accepts networks and words only", () => {
  for (const one of ["10.0.0.0/8", "::1", "fd00::/8", "loopback", "private", "unix", "forwarded"]) {
    checkTrusted("x", one);
  }
  const wrong = ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/08", "::/129", "fd00::1/8"]
    .concat([
      "::ffff:10.0.0.0/8",
      "localhost",
      "*",
      "10.0.0.0 ",
      "10.0.0.0/8/8",
      "toString",
      "all",
    ]);
  for (const one of wrong) {
    let message = "nothing";
    try {
      checkTrusted("--trust-proxy", one);
    } catch (error) {
      message = (error as Error).message;
    }
    assertEquals(
      message,
      `Cannot serve with --trust-proxy ${
        Deno.inspect(one)
      }: expected an address, a network such as ` +
        "10.0.0.0/8 or fd00::/8, loopback, private, unix or forwarded",
    );
  }
  assertEquals(trustedProxies([]), undefined);
});

Deno.test("the words loopback and private stand for the networks of RFC 1918 and RFC 4193, and no more", () => {
  const networks = {
    loopback: ["127.0.0.0-127.255.255.255", "::1-::1"],
    private: ["10.0.0.0-10.255.255.255", "172.16.0.0-172.31.255.255"]
      .concat(["192.168.0.0-192.168.255.255", "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
  };
  const outside = ["126.255.255.255", "128.0.0.0", "::", "::2", "9.255.255.255", "11.0.0.0"]
    .concat(["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "169.254.1.1"])
    .concat(["fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", "fe80::1", "203.0.113.9"]);
  for (const [word, ranges] of Object.entries(networks)) {
    const { includes } = trustedProxies([word])!;
    const inside = ranges.flatMap((range) => range.split("-"));
    for (const one of inside) assert(includes(parseIp(one)!), `${one} in ${word}`);
    for (const one of outside) assert(!includes(parseIp(one)!), `${one} not in ${word}`);
  }
});

Deno.test("X-Forwarded-For names the first address from the right that is not a proxy's", () => {
  const cases = {
    "203.0.113.9": "203.0.113.9",
    "6.6.6.6, 203.0.113.9": "203.0.113.9", // the client wrote the first one
    "6.6.6.6, 203.0.113.9, 10.0.0.2, 10.9.9.9": "203.0.113.9",
    "10.0.0.5, 203.0.113.9,10.0.0.2": "203.0.113.9",
    "10.0.0.5, 10.0.0.4": "10.0.0.5", // all are proxies
    "2001:db8:1::5, 2001:db8:1:7::4": "2001:db8:1::5",
    "6.6.6.6, unknown, 10.0.0.4": "10.0.0.4", // nobody knows who connected to it
    "6.6.6.6, _hidden": "-",
    "6.6.6.6, 10.0.0.4, ": "6.6.6.6",
    " ,, 203.0.113.9 ,": "203.0.113.9",
    "203.0.113.9:4711": "203.0.113.9 4711",
    "2001:db8::1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:DB8::1]:443": "2001:db8::1 443",
    "::ffff:203.0.113.9": "203.0.113.9",
    "6.6.6.6, ::ffff:10.0.0.4": "6.6.6.6",
    "fe80::1%eth0": "fe80::1",
    "[fe80::1%25eth0]:80": "fe80::1 80",
    "203.0.113.9:65536": "-",
    "203.0.113.9:": "-",
    "[203.0.113.9]": "-",
    "[::1": "-",
    '"203.0.113.9"': "-",
    "203.0.113.9%eth0": "-",
    "203.0.113.09": "-",
    "client.example": "-",
    "": "-",
    ",": "-",
  };
  for (const [chain, client] of Object.entries(cases)) assertEquals(clientOf(chain), client, chain);
});

Deno.test("Forwarded names the client, its scheme and its host, as the proxies wrote them", () => {
  const cases = {
    "for=203.0.113.9": "203.0.113.9 - -",
    "For=203.0.113.9;Proto=HTTPS;By=10.0.0.1;HOST=example.com": "203.0.113.9 https example.com",
    'for="[2001:db8::1]:4711"; proto=https': "2001:db8::1 4711 https -",
    'for="203.0.113.9:_port";host="example.com:8443"': "203.0.113.9 - example.com:8443",
    'for="\\203.0.113.9"': "203.0.113.9 - -",
    "for=6.6.6.6;proto=http;host=evil, for=203.0.113.9;proto=https": "203.0.113.9 https -",
    "for=6.6.6.6, for=203.0.113.9;proto=https;host=a, for=10.0.0.4;proto=http;host=b":
      "203.0.113.9 https a",
    "for=203.0.113.9, for=10.0.0.4;proto=https;host=b": "203.0.113.9 https b",
    "for=6.6.6.6;proto=https, for=unknown;proto=http": "- http -",
    "for=6.6.6.6, for=_hidden, for=10.0.0.4": "10.0.0.4 - -",
    "for=6.6.6.6, for=10.0.0.4, by=10.0.0.1;proto=http": "- http -",
    'for="6.6.6.6, for=203.0.113.9': "203.0.113.9 - -", // the client opened a quote
    'for="6.6.6.6, for="[2001:db8::1]"': "2001:db8::1 - -",
    'for="6.6.6.6\\, for=203.0.113.9;host="a"': "203.0.113.9 - a",
    'for=203.0.113.9;host="a, for=6.6.6.6"': "203.0.113.9 - -", // the host that the client sent
    'host="a, for=6.6.6.6;x=";for="203.0.113.9"': "203.0.113.9 - -",
    'for=203.0.113.9;host="a\\", for=\\"6.6.6.6"': "203.0.113.9 - -",
    "for=203.0.113.9;for=6.6.6.6": "- - -",
    "for=203.0.113.9 6.6.6.6": "- - -",
    "for=[2001:db8::1]": "- - -",
    'for="2001:db8::1"': "- - -",
    "203.0.113.9": "- - -",
    "for=": "- - -",
    'for=203.0.113.9;proto=gopher;host="a/b"': "203.0.113.9 - -",
    ",": "- - -",
  };
  for (const [header, origin] of Object.entries(cases)) {
    assertEquals(ofForwarded(header), origin, header);
  }
});

Deno.test("only one of the headers counts, so that a proxy that writes the other is not needed to remove it", () => {
  const both = { "x-forwarded-for": "203.0.113.9", forwarded: "for=6.6.6.6;host=evil" };
  assertEquals(read(both), "203.0.113.9 - -");
  assertEquals(read({ ...both, "x-forwarded-for": "" }), "- - -");
  const other = {
    forwarded: "for=203.0.113.9",
    "x-forwarded-for": "6.6.6.6",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "evil",
  };
  assertEquals(read(other, [...PROXIES, "forwarded"]), "203.0.113.9 - -");
  const { forwarded: _, ...without } = other;
  assertEquals(read(without, [...PROXIES, "forwarded"]), "- - -");
});

Deno.test("the last of several schemes and hosts counts, if it is valid", () => {
  const url = (proto: string, host: string) =>
    read({ "x-forwarded-proto": proto, "x-forwarded-host": host }).slice(2);
  assertEquals(url("https", "example.com"), "https example.com");
  assertEquals(url("evil, HTTPS", "evil, a.example:8443 "), "https a.example:8443");
  assertEquals(url("http", "[2001:db8::1]:80"), "http [2001:db8::1]:80");
  const hosts = [
    "a/b",
    "a b",
    "a@b",
    "a\\b",
    "a?b",
    "a#b",
    "a:b",
    "a:99999",
    "[::1",
    "::1",
    "1.2.3.4.5",
  ]
    .concat(["", ",", "\u00e9", "%41", "a".repeat(10_000), "[:::]", "a:80:80", "<a>", "a,"]);
  for (const host of hosts) assertEquals(url("ftp", host), "- -", host);
  assertEquals(url("https,", ""), "- -");
  assertEquals(url("javascript", "a_b"), "- a_b");
});

const ADDRESS = fc.oneof(fc.ipV4(), fc.ipV6());
/** What a client may send: any text, much of it like what a proxy writes. */
const SENT = fc.array(
  fc.oneof(
    ADDRESS,
    fc.constantFrom(
      "for=",
      '"',
      "\\",
      ",",
      ";",
      "=",
      "[",
      "]",
      ":",
      " ",
      "10.0.0.1",
      "proto=https",
      "host=",
      "unknown",
    ),
    fc.string({ maxLength: 4 }),
  ),
  { maxLength: 12 },
).map((parts) => parts.join(""));
const TRUSTED_ADDRESS = fc.tuple(fc.nat(255), fc.nat(255)).map(([a, b]) => `10.0.${a}.${b}`);

Deno.test("whatever the client sends, the client is whom the first proxy saw", () => {
  const fieldsOf = (name: string, value: string) => (field: string) =>
    field === name ? value : null;
  const proxies = trustedProxies(PROXIES)!;
  const isClient = (ip: string) => !proxies.includes(parseIp(ip)!);
  fc.assert(
    fc.property(
      SENT,
      ADDRESS.filter(isClient),
      fc.array(TRUSTED_ADDRESS, { maxLength: 3 }),
      fc.constantFrom(",", ", "),
      SENT,
      (sent, client, others, comma, host) => {
        const expected = formatIp(parseIp(client)!);
        const chain = [sent, client, ...others].join(comma);
        const found = readForwarded(fieldsOf("x-forwarded-for", chain), proxies).client;
        assertEquals(found && formatIp(found.ip), expected, chain);

        const node = client.includes(":") ? `"[${client}]"` : client;
        const quoted = `"${host.replace(/["\\]/g, "\\$&")}"`;
        for (const first of [`for=${node};host=${quoted}`, `host=${quoted};for=${node}`]) {
          const elements = [sent, first, ...others.map((one) => `for=${one};proto=http`)].join(
            comma,
          );
          const { client: read } = readForwarded(fieldsOf("forwarded", elements), proxies);
          assertEquals(read && formatIp(read.ip), expected, elements);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("readForwarded() never throws, and is fast with a header of 60,000 characters", () => {
  const proxies = trustedProxies(["0.0.0.0/0", "::/0"])!;
  fc.assert(fc.property(SENT, fc.boolean(), (text, only) => {
    const fields = () => text;
    readForwarded(fields, { ...proxies, onlyForwarded: only });
  }));
  const start = performance.now();
  const pieces = [
    ",",
    " ",
    '"',
    "\\",
    '\\"',
    "for=",
    'for="',
    'for=",',
    ';for=a"',
    "%",
    "1.1.1.1,",
    "for=1.1.1.1,",
  ]
    .concat([":", "a.", "a", "[", "a=b;", "a=,", 'a="b",', "1,", "%a", "for=1.1.1.1 ", "x, y"]);
  for (const piece of pieces) {
    const text = piece.repeat(60_000 / piece.length);
    for (
      const all of [text, `${text}1`, `"${text}`, `${text}"`, `a=${text}"`, `1.1.1.1, ${text}`]
    ) {
      for (const onlyForwarded of [true, false]) {
        readForwarded((name) => name === "forwarded" && !onlyForwarded ? null : all, {
          ...proxies,
          onlyForwarded,
        });
      }
    }
  }
  const each = (performance.now() - start) / pieces.length / 12;
  assert(each < 200, `${each} ms`); // a quadratic search takes seconds
});
