import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  exchange,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

const HEADERS = {
  "x-forwarded-for": "6.6.6.6, 203.0.113.9:4711, 127.0.0.1",
  "x-forwarded-proto": "https",
  "x-forwarded-host": "example.com",
};
const CLIENT = '{"transport":"tcp","hostname":"203.0.113.9","port":4711}';

/** Requests a path, and returns the body. */
async function get(server: Server, path: string, headers: HeadersInit = {}): Promise<string> {
  using client = server.url.startsWith("unix:")
    ? Deno.createHttpClient({ proxy: { transport: "unix", path: server.url.slice(5) } })
    : Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const response = await fetch(`http://127.0.0.1:${server.port || 80}${path}`, { headers, client });
  return await response.text();
}

Deno.test("with `--trust-proxy`, the app, the URL and the access log name the proxy's client", async () => {
  await using folder = scratch();
  const log = `${folder.path}/access.log`;
  const args = [
    "--trust-proxy",
    "loopback,192.0.2.0/24",
    "--trust-proxy",
    "::1",
    "--access-log",
    log,
  ];
  await using server = await startServer(args);
  assertEquals(await get(server, "/addr", HEADERS), CLIENT);
  assertEquals(await get(server, "/url?a=b", HEADERS), "https://example.com/url?a=b");
  assertEquals(
    await get(server, "/url", { ...HEADERS, "x-forwarded-host": "a.example:443" }),
    "https://a.example/url",
  );
  assertEquals(
    await get(server, "/url", { "x-forwarded-proto": "https" }),
    `https://127.0.0.1:${server.port}/url`,
  );
  const forwarded = 'for=6.6.6.6, for="[2001:db8::1]:5";proto=https;host="b.example:8443"';
  assertEquals(await get(server, "/url", { forwarded }), "https://b.example:8443/url");
  assertStringIncludes(await get(server, "/addr", { forwarded }), '"2001:db8::1","port":5}');
  // Nothing said, or nothing known.
  assertStringIncludes(await get(server, "/addr"), '"hostname":"127.0.0.1"');
  const unknown = { "x-forwarded-for": "6.6.6.6, unknown" };
  assertStringIncludes(await get(server, "/addr", unknown), '"hostname":"127.0.0.1"');
  // Each proxy may add a line of its own, and the first one may be the client's.
  const lines = ["6.6.6.6", "203.0.113.9:4711"].map((one) => `X-Forwarded-For: ${one}\r\n`).join(
    "",
  );
  const request = `GET /addr HTTP/1.1\r\nHost: a\r\n${lines}Connection: close\r\n\r\n`;
  assertStringIncludes(await exchange(server.port, request), CLIENT);
  await until(() => Deno.readTextFileSync(log).split("\n").length > 9, "9 lines");
  const clients = Deno.readTextFileSync(log).split("\n").map((line) => line.split(" ")[0]!);
  assertEquals(clients.slice(0, 9).sort(), [
    ...Array(3).fill("127.0.0.1"),
    ...Array(2).fill("2001:db8::1"),
    ...Array(4).fill("203.0.113.9"),
  ]);
});

Deno.test("without `--trust-proxy`, or from others, nothing that a client says is believed", async () => {
  for (const args of [[], ["--trust-proxy", "192.0.2.1,private,unix"]]) {
    await using server = await startServer(args);
    const headers = { ...HEADERS, forwarded: "for=6.6.6.6;proto=https;host=evil" };
    assertMatch(
      await get(server, "/addr", headers),
      /^{"transport":"tcp","hostname":"127.0.0.1","port":[1-9]\d*}$/,
    );
    assertEquals(await get(server, "/url", headers), `http://127.0.0.1:${server.port}/url`);
  }
});

Deno.test("the other end of a UNIX socket is a proxy, whatever `--trust-proxy` says", async () => {
  await using folder = scratch();
  const path = `${folder.path}/app.sock`;
  const log = `${folder.path}/access.log`;
  const args = ["--unix", path, "--access-log", log, "--no-preload"];
  await using server = await startServer([...args, "--trust-proxy", "unix"]);
  server.url = `unix:${path}`;
  assertEquals(await get(server, "/url", HEADERS), "https://example.com/url");
  // No network is trusted.
  const headers = { "x-forwarded-for": "6.6.6.6, 203.0.113.9:4711" };
  assertEquals(await get(server, "/addr", headers), CLIENT);
  assertEquals(
    await get(server, "/addr", { "x-forwarded-for": "6.6.6.6, 127.0.0.1" }),
    CLIENT.replace(/"203.*/, '"127.0.0.1","port":0}'),
  );
  assertEquals(await get(server, "/addr"), JSON.stringify({ transport: "unix", path }));
  await until(() => Deno.readTextFileSync(log).split("\n").length > 4, "4 lines");
  const clients = Deno.readTextFileSync(log).split("\n").map((line) => line.split(" ")[0]!);
  assertEquals(clients.slice(0, 4).sort(), ["-", "127.0.0.1", "127.0.0.1", "203.0.113.9"]);
});

Deno.test("the limits of a connection hold, whichever client a proxy names", async () => {
  const args = ["--trust-proxy", "loopback", "--workers", "1", "--body-timeout", "1.5"];
  args.push("--idle-timeout", "1.5", "--header-timeout", "1.5");
  await using server = await startServer(args);
  const begin = (line: string) =>
    `${line} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9:1\r\n`;
  const [stuck, streamed, late, slow] = await Promise.all([
    exchange(server.port, `${begin("POST /text")}Content-Length: 9\r\n\r\nhalf`),
    exchange(server.port, `${begin("POST /upload")}Content-Length: 9\r\n\r\nhalf`),
    exchange(server.port, `${begin("GET /")}Half: `),
    // Its connection is not idle.
    exchange(server.port, `${begin("GET /sleep?ms=4000")}Connection: close\r\n\r\n`),
  ]);
  assertMatch(stuck, /^HTTP\/1.1 408 /);
  assertMatch(streamed, /^HTTP\/1.1 408 /);
  assertMatch(late, /^HTTP\/1.1 408 /);
  assertMatch(slow, /^HTTP\/1.1 200 /);
});

Deno.test("the access log names the client of a server of `node:http`, whose socket is left alone", async () => {
  await using folder = scratch();
  const log = `${folder.path}/access.log`;
  const app = writeApp(
    folder.path,
    `import { createServer } from "node:http";
     createServer((request, response) => response.end(request.socket.remoteAddress)).listen(0);`,
  );
  const args = ["--trust-proxy", "loopback", "--access-log", log];
  await using server = await startServer(args, { app, ownAddress: true });
  assertMatch(await get(server, "/", HEADERS), /^(::ffff:)?127.0.0.1$/);
  await get(server, "/");
  await until(() => Deno.readTextFileSync(log).split("\n").length > 2, "2 lines");
  const clients = Deno.readTextFileSync(log).split("\n").map((line) => line.split(" ")[0]!);
  assertEquals(clients.slice(0, 2).sort(), ["127.0.0.1", "203.0.113.9"]);
});

Deno.test("`--trust-proxy` refuses in one line what it does not understand, and other models refuse it", async () => {
  const cases: [args: string[], message: string][] = [
    [
      ["--trust-proxy", "loopback,10.0.0.1/8"],
      'Cannot serve with --trust-proxy "10.0.0.1/8": expected an address, ',
    ],
    [["--trust-proxy", "loopback,"], 'Cannot serve with --trust-proxy "": expected an address, '],
    [
      ["--trust-proxy", "loopback", "--model", "forking"],
      "--trust-proxy does not apply to --model forking",
    ],
  ];
  for (const [args, message] of cases) {
    await using server = spawnServer(args);
    assertEquals((await server.ended()).code, 2);
    assertStringIncludes(server.stderr, message);
    assertEquals(server.stderr.replace("Try --help.\n", "").split("\n").length, 2, server.stderr);
  }
});
