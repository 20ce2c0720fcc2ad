import { assert, assertEquals, assertMatch } from "@std/assert";
import { certificate, exchange, scratch, startServer, until, writeApp } from "./support.ts";

const FETCH_APP = `
  const empty = new Response(null, { status: 204 });
  // Once twenty requests wait for it, all get it in the same turn.
  const waiting = [];
  const together = () => new Promise((resolve) => {
    if (waiting.push(resolve) === 20) for (const resolve of waiting) resolve(empty);
  });
  export default {
    async fetch(request) {
      const { pathname, searchParams } = new URL(request.url);
      const id = request.headers.get("x-id");
      if (pathname === "/empty") return together();
      if (pathname === "/immutable") return Response.redirect("http://x/");
      if (pathname === "/fetched") return await fetch("data:,x"); // immutable, too
      if (pathname === "/own") return new Response("own", { headers: { "x-id": "mine" } });
      if (pathname === "/stream") return new Response(new Blob(["x"]).stream());
      if (pathname === "/error") throw new Error("wrong");
      if (pathname === "/websocket") {
        const { socket, response } = Deno.upgradeWebSocket(request);
        socket.onopen = () => socket.close(1000, id);
        return response;
      }
      const all = [...request.headers].filter(([name]) => name === "x-id").length;
      return Response.json({
        id,
        all,
        copy: (request.method === "GET" ? new Request(request) : request).headers.get("x-id"),
        has: request.headers.has("X-Id"),
        body: await request.text(),
        worker: Deno.env.get("TINE_WORKER"),
        pid: Deno.pid,
      });
    },
  };`;

const NODE_APP = `
  import http from "node:http";
  http.createServer(async (request, response) => {
    if (request.url === "/own") response.setHeader("X-Out", ["a", "b"]);
    const id = request.headers["x-id"];
    const all = request.rawHeaders.filter((name) => name.toLowerCase() === "x-id").length;
    let body = "";
    for await (const chunk of request) body += chunk;
    response.end(JSON.stringify({
      id, all, copy: id, has: id !== undefined, body,
      worker: process.env.TINE_WORKER, pid: process.pid,
    }));
  }).on("upgrade", (request, socket) => {
    socket.end("HTTP/1.1 101 Switching Protocols\\r\\nx: " + request.headers["x-id"] + "\\r\\n\\r\\n");
  }).listen();`;

/** The lines of an access log, when there are as many as expected. */
async function linesOf(log: string, count: number): Promise<string[]> {
  return await until(() => {
    const lines = Deno.readTextFileSync(log).split("\n").slice(0, -1);
    return lines.length === count && lines;
  }, `${count} lines`);
}

const FORMAT = "%L|%{TINE_WORKER}e|%P|%s|%{x-id}i|%{x-out}o|%m %U%q|%H|%A|%p|%V|%v|%D";

const VARIANTS = [["fetch", []], ["fetch", ["--no-preload"]], ["node", []]] as const;
for (const [kind, args] of VARIANTS) {
  const app = kind === "fetch" ? FETCH_APP : NODE_APP;
  const name = `${kind === "fetch" ? "an app" : "a server of Node's"}${
    args.length === 0 ? "" : " with --no-preload"
  }`;
  Deno.test(`${name}: requests have ids, which the app, the client and the access log see`, async () => {
    await using folder = scratch();
    const log = `${folder.path}/log`;
    const ownAddress = kind === "node";
    await using server = await startServer(
      [...args, "--request-id-header", "X-Id", "--access-log", log, "--access-log-format", FORMAT]
        .concat(ownAddress ? ["--port", "0"] : []),
      { app: writeApp(folder.path, app) },
    );
    const url = `http://127.0.0.1:${server.port}`;
    const seen: { id: string; worker: string; pid: number; header: string }[] = [];
    const ask = async (headers: HeadersInit, init: RequestInit = {}) => {
      const response = await fetch(`${url}/?a=b`, { ...init, headers });
      const said = await response.json();
      assertEquals([said.all, said.has, said.copy], [1, true, said.id]);
      assertEquals(response.headers.get("x-id"), said.id);
      seen.push({ ...said, header: said.id });
      return said;
    };
    assertEquals((await ask({ "x-id": "given" })).id, "given");
    for (const id of ["", "not sane", 'a"b', "x".repeat(129)]) {
      assertMatch((await ask({ "X-ID": id })).id, /^[\da-f]{24}$/);
    }
    assertEquals((await ask({}, { method: "POST", body: "text" })).body, "text");
    // On connections of their own, so that both workers get some.
    await Promise.all(Array.from({ length: 40 }, async () => {
      const text = await exchange(
        server.port,
        "GET /?a=b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
      );
      const said = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
      assertMatch(text.toLowerCase(), new RegExp(`\r\nx-id: ${said.id}\r\n`));
      seen.push(said);
    }));
    if (kind === "node") {
      const upgrade = "GET /?a=b HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
      const [, id] = (await exchange(server.port, upgrade)).match(/^x: ([\da-f]{24})\r$/m)!;
      await until(() => Deno.readTextFileSync(log).includes(`${id}|`), "the line of an upgrade");
    }
    const extra = kind === "node" ? 1 : 0;
    assertEquals(new Set(seen.map(({ id }) => id)).size, seen.length);
    const lines = (await linesOf(log, seen.length + extra))
      .filter((line) => line.split("|")[3] === "200");
    for (const line of lines) {
      const [id, worker, pid, status, field, out, request, protocol, local, port, , machine, took] =
        line.split("|");
      const one = seen.find((one) => one.id === id)!;
      assert(one !== undefined, line);
      assertEquals([worker, pid], [one.worker, String(one.pid)]);
      assertEquals([status, field, out], ["200", id, "-"]);
      assertMatch(request!, /^(GET|POST) \/\?a=b$/);
      assertEquals([protocol, local, port], [
        "HTTP/1.1",
        kind === "fetch" ? "0.0.0.0" : "::",
        String(server.port),
      ]);
      assertEquals(machine, Deno.hostname());
      assertMatch(took!, /^[1-9]\d*$/);
    }
    assertEquals(new Set(lines.map((line) => line.split("|")[10])), new Set(["127.0.0.1", "h"]));
  });
}

Deno.test("a response of any kind has the id of its request", async () => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  const log = `${folder.path}/log`;
  await using server = await startServer(
    ["--request-id-header", "x-id", "--cert", cert, "--key", key, "--workers", "1"]
      .concat(["--access-log", log, "--access-log-format", "%U %s %L %{X-Id}o %V %{host}i"]),
    { app: writeApp(folder.path, FETCH_APP) },
  );
  using client = Deno.createHttpClient({ caCerts: [Deno.readTextFileSync(cert)] });
  const url = `https://localhost:${server.port}`;
  const get = async (path: string, id: string) => {
    const headers = { "x-id": id };
    const response = await fetch(`${url}${path}`, { client, headers, redirect: "manual" });
    await response.body?.cancel();
    return [response.status, response.headers.get("x-id")];
  };
  assertEquals(await get("/immutable", "1"), [302, "1"]);
  assertEquals(await get("/own", "2"), [200, "2"]);
  assertEquals(await get("/stream", "3"), [200, "3"]);
  assertEquals(await get("/fetched", "4"), [200, "4"]);
  // The same response again and again, at the same time.
  const ids = Array.from({ length: 20 }, (_, i) => `e${i}`);
  assertEquals(
    await Promise.all(ids.map((id) => get("/empty", id))),
    ids.map((id) => [204, id]),
  );
  const lines = await linesOf(log, 24);
  const host = `localhost localhost:${server.port}`;
  for (
    const line of ["/immutable 302 1 1", "/own 200 2 2", "/stream 200 3 3", "/empty 204 e7 e7"]
  ) {
    assert(lines.includes(`${line} ${host}`), `${line} ${host} in ${lines.join("\n")}`);
  }
});

Deno.test("an upgraded connection has an id, and so has a request whose handler fails", async () => {
  await using folder = scratch();
  const log = `${folder.path}/log`;
  await using server = await startServer(
    ["--request-id-header", "x-id", "--access-log", log, "--access-log-format", "%U %s %L %{a}o"],
    { app: writeApp(folder.path, FETCH_APP) },
  );
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/websocket`);
  const { reason } = await new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
  assertMatch(reason, /^[\da-f]{24}$/);
  await (await fetch(`http://127.0.0.1:${server.port}/error`, { headers: { "x-id": "e" } })).text();
  assertEquals((await linesOf(log, 2)).sort(), ["/error 500 e -", `/websocket 101 ${reason} -`]);
});

Deno.test("without --request-id-header, ids are in the access log alone", async () => {
  await using folder = scratch();
  const log = `${folder.path}/log`;
  const app = writeApp(
    folder.path,
    `export default { fetch: ({ headers }) => new Response(headers.get("x-request-id")) };`,
  );
  await using server = await startServer(
    ["--access-log", log, "--access-log-format", "json"],
    { app },
  );
  const get = async (headers: HeadersInit) => {
    const response = await fetch(`http://127.0.0.1:${server.port}/`, { headers });
    assertEquals(response.headers.get("x-request-id"), null);
    return await response.text();
  };
  assertEquals([await get({ "x-request-id": "a" }), await get({})], ["a", ""]);
  const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await get({ "x-request-id": "b", traceparent: trace });
  const lines = (await linesOf(log, 3)).map((line) => JSON.parse(line));
  const [made, ...others] = lines.map(({ request_id }) => request_id)
    .sort((a, b) => b.length - a.length || a.localeCompare(b));
  assertEquals(others, ["a", "b"]);
  assertMatch(made, /^[\da-f]{24}$/);
  for (const { request_id, trace_id, span_id, worker, pid } of lines) {
    assertEquals(
      [trace_id, span_id],
      request_id === "b" ? ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"] : [null, null],
    );
    assert(worker === 1 || worker === 2);
    assert(server.workers.includes(pid));
  }
});
