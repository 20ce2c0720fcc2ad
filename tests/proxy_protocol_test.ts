import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  certificate,
  descriptorsOf,
  readAll,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

const encoder = new TextEncoder();
const VERSION_1 = encoder.encode("PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n");
const VERSION_2 = Uint8Array.of(
  ...[13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10, 0x21, 0x11, 0, 15],
  ...[203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0, 80, 4, 0, 0], // with an empty TLV
);
const LOCAL = Uint8Array.of(...VERSION_2.subarray(0, 12), 0x20, 0, 0, 0);
const CLIENT = '{"transport":"tcp","hostname":"203.0.113.9","port":4711}';
const GET = "GET /addr HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const ARGS = ["--trust-proxy", "127.0.0.1", "--proxy-protocol"];

function connect(server: Server): Promise<Deno.Conn> {
  return server.url.startsWith("http")
    ? Deno.connect({ port: server.port })
    : Deno.connect({ transport: "unix", path: server.url });
}

/** Sends a header and a request, in pieces of a size, and reads until the server closes. */
async function send(
  server: Server,
  header: Uint8Array,
  request = GET,
  size = 1e6,
): Promise<string> {
  const connection = await connect(server);
  try {
    const bytes = Uint8Array.of(...header, ...encoder.encode(request));
    for (let i = 0; i < bytes.length; i += size) {
      await connection.write(bytes.subarray(i, i + size));
      if (size < bytes.length) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return await within(readAll(connection), 15_000, "the end of the connection");
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe) {
      return "reset";
    }
    throw error;
  } finally {
    connection.close();
  }
}

Deno.test("`--proxy-protocol` shows the client that the header names, however slowly it comes", async () => {
  await using folder = scratch();
  const log = `${folder.path}/access.log`;
  await using server = await startServer([...ARGS, "--access-log", log]);
  for (const size of [1e6, 1, 7]) {
    for (const header of [VERSION_1, VERSION_2]) {
      assertStringIncludes(await send(server, header, GET, size), CLIENT);
    }
  }
  assertMatch(await send(server, LOCAL), /"127.0.0.1","port":[1-9]/);
  // A proxy that is trusted may be behind one that speaks the PROXY protocol.
  const forwarded = GET.replace("\r\n", "\r\nX-Forwarded-For: 6.6.6.6\r\n");
  assertStringIncludes(await send(server, VERSION_1, forwarded), CLIENT);
  assertStringIncludes(await send(server, LOCAL, forwarded), '"hostname":"6.6.6.6"');
  await until(() => Deno.readTextFileSync(log).split("\n").length > 9, "9 lines");
  const clients = Deno.readTextFileSync(log).split("\n").map((line) => line.split(" ")[0]!);
  assertEquals(clients.slice(0, 9).sort(), [
    "127.0.0.1",
    ...Array(7).fill("203.0.113.9"),
    "6.6.6.6",
  ]);
});

Deno.test("a connection without a header, or from somebody else, is closed and answers nothing", async () => {
  {
    await using server = await startServer([...ARGS, "--header-timeout", "1"]);
    const wrong = ["", "PROXY TCP4 203.0.113.9\r\n", "\r\n\r\n", "PROXY TCP4 a b c d\r\n"];
    for (const header of wrong) {
      assertMatch(await send(server, encoder.encode(header)), /^(reset)?$/, header);
    }
    // Half a header, and nothing at all: within the time for a header.
    const started = performance.now();
    const [half, nothing] = await Promise.all([
      send(server, VERSION_2.subarray(0, 20), ""),
      send(server, new Uint8Array(), ""),
    ]);
    assertEquals([half, nothing], ["", ""]);
    assert(performance.now() - started < 10_000);
    assertStringIncludes(await send(server, VERSION_1), CLIENT);
  }
  await using server = await startServer(["--trust-proxy", "192.0.2.1", "--proxy-protocol"]);
  assertMatch(await send(server, VERSION_1), /^(reset)?$/);
});

Deno.test("`--proxy-protocol` works with a UNIX socket, TLS, HTTP/2 and WebSockets", async () => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  {
    const path = `${folder.path}/app.sock`;
    await using server = await startServer([
      "--unix",
      path,
      "--trust-proxy",
      "unix",
      "--proxy-protocol",
    ]);
    server.url = path;
    const several = await Promise.all(
      Array.from({ length: 20 }, (_, i) => send(server, i % 2 ? VERSION_1 : VERSION_2, GET, 20)),
    );
    for (const one of several) assertStringIncludes(one, CLIENT);
    assertStringIncludes(await send(server, LOCAL), JSON.stringify({ transport: "unix", path }));
  }
  {
    await using server = await startServer([...ARGS, "--cert", cert, "--key", key]);
    const connection = await Deno.connect({ port: server.port });
    await connection.write(VERSION_2);
    const caCerts = [Deno.readTextFileSync(cert)];
    using secure = await Deno.startTls(connection, { hostname: "localhost", caCerts });
    await secure.write(encoder.encode(GET));
    assertStringIncludes(await readAll(secure), CLIENT);
  }
  await using server = await startServer([...ARGS, "--workers", "1", "--idle-timeout", "1"]);
  // The preface of HTTP/2, and its empty settings: the server answers with its own.
  const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
  const frames = await send(server, VERSION_1, preface);
  assertEquals(frames.charCodeAt(3), 4, Deno.inspect(frames));
  const connection = await connect(server);
  using _ = connection;
  const upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
  await connection.write(Uint8Array.of(...VERSION_1, ...encoder.encode(upgrade)));
  const buffer = new Uint8Array(1000);
  assertMatch(
    new TextDecoder().decode(buffer.subarray(0, (await connection.read(buffer))!)),
    / 101 /,
  );
  // It may be silent for longer than the idle timeout.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  await connection.write(Uint8Array.of(0x81, 0x82, 0, 0, 0, 0, 104, 105));
  const count = await within(connection.read(buffer), 15_000, "the echo");
  assertMatch(new TextDecoder().decode(buffer.subarray(2, count!)), /^\d+ hi$/);
});

Deno.test("the limits of a connection hold behind the PROXY protocol", async () => {
  const args = [...ARGS, "--workers", "1", "--body-timeout", "1.5", "--idle-timeout", "1.5"];
  await using server = await startServer([
    ...args,
    "--header-timeout",
    "1.5",
    "--max-body-bytes",
    "100",
  ]);
  const begin = (line: string) => `${line} HTTP/1.1\r\nHost: a\r\n`;
  const [text, stream, late, slow, large, idle] = await Promise.all([
    send(server, VERSION_1, `${begin("POST /text")}Content-Length: 9\r\n\r\nhalf`),
    send(server, VERSION_2, `${begin("POST /upload")}Content-Length: 9\r\n\r\nhalf`),
    send(server, VERSION_2, `${begin("GET /")}Half: `),
    // Its connection is not idle.
    send(server, VERSION_1, `${begin("GET /sleep?ms=4000")}Connection: close\r\n\r\n`),
    send(server, VERSION_1, `${begin("POST /upload")}Content-Length: 101\r\n\r\nhalf`),
    send(server, VERSION_1, `${begin("GET /")}\r\n`),
  ]);
  assertEquals([text, stream, late, slow, large, idle].map((one) => one.slice(9, 12)), [
    "408",
    "408",
    "408",
    "200",
    "413",
    "200",
  ]);
});

Deno.test("requests behind the PROXY protocol survive a restart, and connections beyond the limit wait", async () => {
  await using server = await startServer([...ARGS, "--max-connections", "20"]);
  const old = server.workers;
  let isDone = false;
  let count = 0;
  const client = async () => {
    while (!isDone) {
      assertStringIncludes(await send(server, count++ % 2 ? VERSION_1 : VERSION_2), CLIENT);
    }
  };
  const clients = Promise.all(Array.from({ length: 60 }, client));
  clients.catch(() => {});
  await until(() => count > 200, "200 requests", 60_000);
  server.kill("SIGHUP");
  await server.replaced(old);
  const before = count;
  await until(() => count > before + 200, "200 more requests", 60_000);
  isDone = true;
  await clients;
  server.kill("SIGTERM");
  assertEquals((await server.ended()).code, 0, server.stderr);
});

Deno.test("nobody else gets a response from the worker's own address", async () => {
  await using server = await startServer([...ARGS, "--workers", "1", "--no-preload"]);
  assertStringIncludes(await send(server, VERSION_1), CLIENT);
  const [worker] = server.workers;
  const sockets = new Set(descriptorsOf(worker!).values());
  // Sockets that listen on 127.0.0.1.
  const ports = Deno.readTextFileSync("/proc/net/tcp").split("\n").flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    const [address, port] = local?.split(":") ?? [];
    const isOurs = state === "0A" && address === "0100007F" && sockets.has(`socket:[${inode}]`);
    return isOurs ? [parseInt(port!, 16)] : [];
  });
  assertEquals(ports.length, 1);
  const connecting = Deno.connect({ port: ports[0]! });
  const outcome = connecting.then(() => "connected");
  const pause = new Promise((resolve) => setTimeout(() => resolve("waits"), 500));
  assertEquals(await Promise.race([outcome, pause]), "waits");
  server.kill("SIGKILL");
  await connecting.then((connection) => connection.close(), () => {});
});

Deno.test("`--proxy-protocol` requires `--trust-proxy`, and other models refuse it", async () => {
  const cases: [args: string[], message: string][] = [
    [
      ["--proxy-protocol"],
      "Cannot serve with --proxy-protocol and without --trust-proxy: expected the proxies",
    ],
    [[...ARGS, "--model", "iterative"], "does not apply to --model iterative"],
  ];
  for (const [args, message] of cases) {
    await using server = spawnServer(args);
    assertEquals((await server.ended()).code, 2);
    assertStringIncludes(server.stderr, message);
    assertEquals(server.stderr.replace("Try --help.\n", "").split("\n").length, 2, server.stderr);
  }
});

Deno.test("`--proxy-protocol` works with a server of `node:http`, and refuses one of `node:https`", async () => {
  await using folder = scratch();
  const log = `${folder.path}/access.log`;
  const source = (create: string, module = "node:http") =>
    `import { createServer } from "${module}";
     const server = ${create}((request, response) => {
       const { remoteAddress, remotePort } = request.socket;
       response.end(JSON.stringify([remoteAddress, remotePort]));
     });
     server.on("upgrade", (request, socket) => socket.end("upgraded " + socket.remoteAddress));
     server.listen(0, "127.0.0.1");`;
  const app = writeApp(folder.path, source("createServer"));
  {
    const args = [...ARGS, "--access-log", log, "--header-timeout", "1", "--idle-timeout", "1"];
    await using server = await startServer(args, { app, ownAddress: true });
    for (const size of [1e6, 1, 7]) {
      for (const header of [VERSION_1, VERSION_2]) {
        assertMatch(await send(server, header, GET, size), /\["203.0.113.9",4711\]$/);
      }
    }
    assertMatch(await send(server, LOCAL), /\["127.0.0.1",[1-9]\d*\]$/);
    const upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    assertEquals(await send(server, VERSION_1, upgrade), "upgraded 203.0.113.9");
    assertMatch(await send(server, encoder.encode("")), /^(reset)?$/);
    const silent = [VERSION_2.subarray(0, 20), new Uint8Array(), VERSION_1];
    const answers = await Promise.all(silent.map((header) => send(server, header, "")));
    assertEquals(answers.slice(0, 2).every((one) => /^(reset)?$/.test(one)), true, `${answers}`);
    await until(() => Deno.readTextFileSync(log).split("\n").length > 8, "8 lines");
    const clients = Deno.readTextFileSync(log).split("\n").map((line) => line.split(" ")[0]!);
    assertEquals(clients.slice(0, 8).sort(), ["127.0.0.1", ...Array(7).fill("203.0.113.9")]);
  }
  {
    await using server = await startServer(["--trust-proxy", "192.0.2.1", "--proxy-protocol"], {
      app,
      ownAddress: true,
    });
    assertMatch(await send(server, VERSION_1), /^(reset)?$/);
  }
  await certificate(folder.path);
  const https = `import { readFileSync } from "node:fs";\n` + source(
    'createServer.bind(null, { cert: readFileSync("cert.pem"), key: readFileSync("key.pem") })',
    "node:https",
  );
  const secure = writeApp(folder.path, https, "https.ts");
  await using server = spawnServer(ARGS, { app: secure, ownAddress: true, cwd: folder.path });
  assertEquals((await server.ended()).code, 1);
  assertMatch(
    server.stderr,
    /A server of Node's with TLS cannot serve 127.0.0.1:\d+ behind the PROXY/,
  );
});
