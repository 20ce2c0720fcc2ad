import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { acceptQueue } from "../ffi/accept_queue.ts";
import { type Address, AF_INET, AF_UNIX } from "../ffi/address.ts";
import { SOCK_STREAM, Socket } from "../ffi/socket.ts";
import { estimateBytes } from "../server/prefork/logs/response_bytes.ts";
import {
  LATENCY_BOUNDS,
  REQUEST_METRICS_BYTES,
  RequestMetrics,
  SIZE_BOUNDS,
  sumOfMetrics,
} from "../server/prefork/request_metrics.ts";
import { REQUEST_BYTES, RequestTable } from "../server/prefork/request_table.ts";
import { startReason } from "../server/prefork/start_reason.ts";
import { VERSION } from "../server/version.ts";
import { readStatus, type Status } from "../server/prefork/status/status.ts";
import { Client, ROOT, scratch, type Server, startServer, until, writeApp } from "./support.ts";

Deno.test("startReason() understands what the master notes about workers", () => {
  const ends = [
    ["start", "start"],
    ["SIGHUP", "reload"],
    ["SIGUSR2", "replace"],
    ["leave", "scale"],
    ["stop", "scale"],
    ["1000 requests", "requests"],
    ["300 MB of private memory", "memory"],
    ["killed because its event loop was blocked for 30 s", "timeout"],
    ["killed because it was not ready within 60 s", "timeout"],
    ["killed by SIGKILL", "crash"],
    ["exited with code 1", "crash"],
    ["exited with code 0", "crash"],
  ] as const;
  for (const [end, reason] of ends) assertEquals(startReason(end), reason, end);
});

Deno.test("the version in the code is that of the package", () => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  assertEquals(VERSION, version);
});

function metrics(): RequestMetrics {
  return new RequestMetrics(new ArrayBuffer(REQUEST_METRICS_BYTES), 0);
}

Deno.test("RequestMetrics.record() counts a value that equals a bound in the range below it", () => {
  const one = metrics();
  LATENCY_BOUNDS.forEach((bound) => one.record("GET", 200, bound * 1000, null));
  one.record("GET", 200, 0, null);
  one.record("GET", 200, 60_001, null);
  const { latency, responseBytes } = one;
  assertEquals(latency.counts, [2, ...LATENCY_BOUNDS.slice(1).map(() => 1), 1]);
  assertEquals(latency.count, LATENCY_BOUNDS.length + 2);
  assertAlmostEquals(latency.sum, LATENCY_BOUNDS.reduce((sum, bound) => sum + bound, 60.001));
  assertEquals([responseBytes.count, responseBytes.sum], [0, 0]);
});

Deno.test("RequestMetrics.record() counts sizes that are known, methods and classes", () => {
  const one = metrics();
  one.record("GET", 200, 1, 0);
  one.record("GET", 204, 1, 100);
  one.record("HEAD", 304, 1, 101);
  one.record("PROPFIND", 207, 1, 1e9);
  one.record("get", 599, 1, null);
  one.record("POST", 101, 1, null);
  assertEquals(one.responseBytes, {
    bounds: SIZE_BOUNDS,
    counts: [2, 1, 0, 0, 0, 0, 0, 1],
    sum: 1e9 + 201,
    count: 4,
  });
  const expected = [
    { method: "other", statusClass: "2xx", count: 1 },
    { method: "other", statusClass: "5xx", count: 1 },
    { method: "GET", statusClass: "2xx", count: 2 },
    { method: "POST", statusClass: "1xx", count: 1 },
    { method: "HEAD", statusClass: "3xx", count: 1 },
  ];
  assertEquals(one.responses, expected);
  const sum = sumOfMetrics([one, one]);
  assertEquals(sum.responses, expected.map((row) => ({ ...row, count: 2 * row.count })));
  assertEquals([sum.latency.count, sum.responseBytes.sum], [12, 2e9 + 402]);
  one.clear();
  assertEquals([one.responses, one.latency.count], [[], 0]);
});

Deno.test("RequestTable.offer() keeps the slowest requests of the last minutes, without queries", () => {
  const table = new RequestTable(new ArrayBuffer(3 * REQUEST_BYTES), 0, 3);
  const now = 1e12;
  const offer = (duration: number, since = now) =>
    table.offer({
      method: "GET",
      url: `/${duration}?token`,
      since,
      duration,
      status: 200,
      worker: 1,
    });
  const kept = (at = now) => table.slow(at).map(({ duration }) => duration).sort((a, b) => a - b);
  for (const duration of [300, 100, 200, 150, 50]) offer(duration);
  assertEquals(kept(), [150, 200, 300]);
  offer(1000, now + 60_000);
  assertEquals(kept(), [200, 300, 1000]);
  assertEquals(table.slow(now).find(({ duration }) => duration === 1000), {
    method: "GET",
    url: "/1000",
    since: now + 60_000,
    duration: 1000,
    status: 200,
    worker: 1,
  });
  // Those of five minutes ago leave space for a shorter one.
  assertEquals(kept(now + 301_000), [1000]);
  offer(110, now + 302_000);
  assertEquals(kept(now + 302_000), [110, 1000]);
  // The time counts from the end: one that took six minutes is not too old at once.
  offer(360_000, now);
  assertEquals(kept(now + 360_000), [110, 1000, 360_000]);
  assertEquals(kept(now + 659_000), [360_000]);
  assertEquals(kept(now + 661_000), []);
  table.clear();
  assertEquals(kept(), []);
});

Deno.test("RequestTable.setCurrent() replaces the requests, and truncates what does not fit", () => {
  const table = new RequestTable(new ArrayBuffer(2 * REQUEST_BYTES), 0, 2);
  const requests = ["/a?b", "/ c", "/d"].map((url, i) => ({ method: "GET", url, since: i + 1 }));
  table.setCurrent(requests);
  assertEquals(table.current(), [
    { method: "GET", url: "/a", since: 1 },
    { method: "GET", url: "/ c", since: 2 },
  ]);
  const long = `/${"ä".repeat(1000)}`;
  table.setCurrent([{ method: "GET", url: long, since: 5 }]);
  const [only, ...others] = table.current();
  assert(long.startsWith(only!.url) && only!.url.length > 100);
  assertEquals([others, only!.since], [[], 5]);
});

Deno.test("estimateBytes() is exact for short texts, and for long ones of equal characters", () => {
  for (const text of ["", "hello", "hällo 漢 \u{1f600}", "x".repeat(33), "ä".repeat(100)]) {
    assertEquals(estimateBytes(new Response(text)), new TextEncoder().encode(text).length, text);
  }
  for (const text of ["x".repeat(1e6), "ä".repeat(1e5), "漢".repeat(1e5)]) {
    const bytes = new TextEncoder().encode(text).length;
    const estimate = estimateBytes(new Response(text))!;
    assert(Math.abs(estimate - bytes) <= bytes / 100, `${estimate} of ${bytes}`);
  }
});

/** An app with responses of all kinds. */
const APP = `
import { createServer } from "node:http";
const encoder = new TextEncoder();
const delay = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pages = {
  "/hello": () => new Response("x".repeat(50)),
  "/later": async () => { await delay(150); return new Response("later"); },
  "/none": () => new Response(null, { status: 204 }),
  "/gone": () => new Response("x".repeat(500), { status: 410 }),
  "/throw": () => { throw new Error("no"); },
  "/reject": async () => { throw new Error("no"); },
  "/never": () => new Promise(() => {}),
  "/socket": (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) => socket.send(data);
    return response;
  },
  "/stream": () => new Response(new ReadableStream({
    async start(controller) {
      for (let i = 0; i < 4; i++) {
        controller.enqueue(encoder.encode("x".repeat(10)));
        await delay(50);
      }
      controller.close();
    },
  })),
  "/endless": () => new Response(new ReadableStream({
    async pull(controller) {
      await delay(20);
      controller.enqueue(encoder.encode("x"));
    },
  })),
};
const page = (request) => pages[new URL(request.url).pathname](request);
`;

const SERVERS = {
  fetch: `export default { fetch: page };`,
  "node:http": `
const server = createServer(async (request, response) => {
  try {
    const answer = await page(new Request("http://localhost" + request.url));
    response.statusCode = answer.status;
    const path = request.url.split("?")[0];
    if (/stream|endless/.test(path)) {
      for await (const chunk of answer.body) if (!response.write(chunk)) break;
      response.end();
    } else response.end(await answer.text());
  } catch {
    response.statusCode = 500;
    response.end("no");
  }
});
server.on("upgrade", (request, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n");
});
server.listen(0);`,
};

/** The responses of {@linkcode sendAll}. */
const RESPONSES = {
  "GET 1xx": 1,
  "GET 2xx": 29,
  "POST 2xx": 5,
  "HEAD 2xx": 3,
  "other 2xx": 2,
  "GET 4xx": 3,
  "GET 5xx": 3,
};
const COUNT = Object.values(RESPONSES).reduce((sum, count) => sum + count, 0);

/** Sends requests of all kinds; returns the connection that has become a WebSocket. */
async function sendAll({ port }: Server): Promise<Client> {
  // A worker that is replaced waits for connections that are kept.
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const headers = { connection: "close" };
  const text = async (path: string, method = "GET") =>
    await (await fetch(`http://127.0.0.1:${port}${path}`, { method, client, headers })).text();
  const repeat = async (count: number, path: string, method?: string) => {
    for (let i = 0; i < count; i++) await text(path, method);
  };
  await repeat(20, "/hello?token=secret");
  await repeat(5, "/hello", "POST");
  await repeat(3, "/hello", "HEAD");
  await repeat(2, "/hello", "PROPFIND");
  await repeat(2, "/none");
  await repeat(3, "/gone");
  await repeat(2, "/throw");
  await repeat(1, "/reject");
  await Promise.all([1, 2, 3, 4].map(() => text("/later?token=secret")));
  assertEquals((await text("/stream")).length, 40);
  assertEquals((await text("/stream")).length, 40);
  using endless = await Client.connect(port);
  await endless.say("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await until(() => endless.heard.includes("x\r\n"), "a part of the stream");
  const webSocket = await Client.connect(port);
  await webSocket.say(
    "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await until(() => webSocket.heard.includes(" 101 "), "the WebSocket");
  return webSocket;
}

function responsesOf({ master }: Status): Record<string, number> {
  return Object.fromEntries(
    master.responses.map(({ method, statusClass, count }) => [`${method} ${statusClass}`, count]),
  );
}

for (const kind of ["fetch", "node:http"] as const) {
  Deno.test(`each response of a ${kind} server is counted once, when it has ended`, async () => {
    await using folder = scratch();
    const app = writeApp(folder.path, APP + SERVERS[kind], "app.js");
    await using server = await startServer([], { app });
    const now = () => readStatus(server.pid);
    using _webSocket = await sendAll(server);
    // The client of the endless stream is gone.
    await until(() => now().master.latency.count >= COUNT, "all responses").catch(() => {});
    const status = now();
    assertEquals(responsesOf(status), RESPONSES);
    const { latency, responseBytes, requests, errors } = status.master;
    assertEquals([requests, errors], [COUNT, 3]);
    assertEquals(latency.count, COUNT);
    const slow = latency.counts.slice(LATENCY_BOUNDS.indexOf(0.1) + 1);
    assert(slow.reduce((sum, count) => sum + count, 0) >= 6, latency.counts.join());
    assert(latency.sum >= 4 * 0.14 + 2 * 0.19, `${latency.sum}`);
    const ofWorkers = status.workers.reduce((sum, { latency }) => sum + latency.count, 0);
    assertEquals(ofWorkers, COUNT);
    // Streams are not counted, and what Deno answers itself when the handler has thrown.
    const [count, bytes] = kind === "fetch" ? [40, 2870] : [43, 2876];
    assertEquals([responseBytes.count, responseBytes.sum], [count, bytes]);
    const late = status.slow.filter(({ url }) => url.endsWith("/later"));
    assertEquals(late.map(({ method, status }) => [method, status]), Array(4).fill(["GET", 200]));
    for (const { duration, time, worker } of late) {
      assert(duration >= 0.14 && duration < 10 && [1, 2].includes(worker));
      assert(Math.abs(Date.now() - Date.parse(time)) < 60_000);
    }
    assert(!JSON.stringify(status).includes("secret"));
    await until(
      () => now().workers.some(({ connectionStates }) => connectionStates.upgraded === 1),
      "the upgraded connection",
    );
  });
}

Deno.test("the status shows which requests a worker is answering, the oldest first", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP + SERVERS.fetch, "app.js");
  await using server = await startServer(["--workers", "1"], { app });
  const worker = () => readStatus(server.pid).workers[0]!;
  using idle = await Client.connect(server.port);
  await idle.say("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await until(() => idle.heard.includes("xxx"), "an answer");
  const clients: Client[] = [];
  const before = Date.now();
  try {
    for (let i = 1; i <= 6; i++) {
      const client = await Client.connect(server.port);
      clients.push(client);
      await client.say(
        `POST /never?token=${i} HTTP/1.1\r\nHost: localhost\r\ncontent-length: 0\r\n\r\n`,
      );
      await until(() => worker().inFlight === i, `request ${i}`);
    }
    const { current, connectionStates } = await until(
      () => worker().connectionStates.active === 6 && worker(),
      "six active connections",
    );
    assertEquals(connectionStates, { active: 6, idle: 1, upgraded: 0 });
    const url = `http://localhost/never`;
    assertEquals(
      current.map(({ method, url }) => [method, url]),
      Array(4).fill(["POST", url]),
    );
    const times = current.map(({ since }) => Date.parse(since));
    assertEquals(times, times.toSorted());
    assert(times[0]! >= before - 2000 && times[3]! <= Date.now() + 2000);
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});

Deno.test("sums never decrease while workers end, and the reasons for new ones are counted", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP + SERVERS.fetch, "app.js");
  await using server = await startServer([], { app });
  const starts = () =>
    Object.fromEntries(
      readStatus(server.pid).master.starts
        .filter(({ count }) => count > 0).map(({ reason, count }) => [reason, count]),
    );
  {
    using _webSocket = await sendAll(server);
    await until(() => readStatus(server.pid).master.latency.count >= COUNT, "all responses");
  }
  const watched = (what: string, condition: () => boolean) =>
    until(() => {
      const status = readStatus(server.pid);
      assertEquals(responsesOf(status), RESPONSES);
      const { latency, responseBytes, requests } = status.master;
      assertEquals([latency.count, responseBytes.count, requests], [COUNT, 40, COUNT]);
      assertEquals(status.slow.filter(({ url }) => url.endsWith("/later")).length, 4);
      return condition();
    }, what);
  assertEquals(starts(), { start: 2 });
  const isReplaced = (old: readonly number[], count = 2) => () => {
    const { workers } = readStatus(server.pid);
    return workers.length === count &&
      workers.every(({ state, pid }) => state === "ready" && !old.includes(pid));
  };
  let old = server.workers;
  Deno.kill(old[0]!, "SIGKILL");
  await watched(
    "another worker",
    () => !server.workers.includes(old[0]!) && server.workers.length === 2,
  );
  assertEquals(starts(), { start: 2, crash: 1 });
  old = server.workers;
  server.kill("SIGUSR2");
  await watched("other workers", isReplaced(old));
  assertEquals(starts(), { start: 2, crash: 1, replace: 2 });
  old = server.workers;
  server.kill("SIGHUP");
  await watched("new code", isReplaced(old));
  assertEquals(starts(), { start: 2, crash: 1, replace: 2, reload: 2 });
  server.kill("SIGTTIN");
  await watched("a third worker", isReplaced([], 3));
  assertEquals(starts(), { start: 2, crash: 1, replace: 2, reload: 2, scale: 1 });
});

Deno.test("acceptQueue() knows how many connections wait, and how many may", async () => {
  await using folder = scratch();
  for (const [family, address] of [[AF_INET, ["127.0.0.1", 0]], [AF_UNIX, `${folder.path}/s`]]) {
    using listening = new Socket(family as number, SOCK_STREAM);
    listening.bind(address as Address);
    assertEquals(acceptQueue(listening), undefined);
    listening.listen(7);
    assertEquals(acceptQueue(listening), { length: 0, limit: 7 });
    using clients = new DisposableStack();
    for (let i = 0; i < 3; i++) {
      clients.use(new Socket(family as number, SOCK_STREAM)).connect(listening.getsockname());
    }
    await until(() => acceptQueue(listening)?.length === 3, "three connections");
    listening.close();
    assertEquals(acceptQueue(listening), undefined);
  }
});

Deno.test("the status shows the connections that wait on each listening socket", async () => {
  await using folder = scratch();
  const path = `${folder.path}/app.sock`;
  const addresses = ["--listen", "127.0.0.1:0", "--listen", `unix:${path}`];
  await using server = await startServer([...addresses, "--workers", "1", "--backlog", "7"]);
  const [worker] = server.workers;
  const port = Number(server.url.match(/:(\d+)\//)![1]);
  const queues = () =>
    readStatus(server.pid).listeners.map(({ queue, backlog }) => `${queue} of ${backlog}`).join();
  const areSeen = (expected: string) =>
    until(() => queues() === expected, expected).catch((error) => {
      throw new Error(`${error.message}: ${queues()}`);
    });
  await areSeen("0 of 7,0 of 7");
  Deno.kill(worker!, "SIGSTOP");
  {
    using _first = await Deno.connect({ port });
    using _second = await Deno.connect({ port });
    using _third = await Deno.connect({ transport: "unix", path });
    await areSeen("2 of 7,1 of 7");
    Deno.kill(worker!, "SIGCONT");
    await areSeen("0 of 7,0 of 7");
  }
});
