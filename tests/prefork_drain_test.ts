import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect as connectHttp2 } from "node:http2";
import { Load, type Target } from "./prefork/load.ts";
import type { Status } from "../server/prefork/status/status.ts";
import {
  ask,
  certificate,
  childrenOf,
  Client,
  exchange,
  processState,
  scratch,
  type Server,
  type ServerOptions,
  spawnServer,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

/** A server with an admin socket. */
class Watched implements AsyncDisposable {
  constructor(readonly server: Server, readonly admin: string) {}

  static async start(
    folder: string,
    name: string,
    args: readonly string[],
    options: ServerOptions = {},
  ): Promise<Watched> {
    const admin = `${folder}/${name}.sock`;
    const watched = new Watched(await startServer(["--admin", admin, ...args], options), admin);
    await until(() => watched.get("/readyz").catch(() => ""), "the admin process");
    return watched;
  }

  /** Returns the status code and the body of a page of the admin socket. */
  async get(page: string): Promise<string> {
    const request = `GET ${page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    const reply = await exchange(this.admin, request);
    return reply.replace(/^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/, "$1 ");
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.get("/status.json")).replace(/^200 /, ""));
  }

  async inFlight(): Promise<number> {
    const { workers } = await this.status();
    return workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.server[Symbol.asyncDispose]();
  }
}

/** Runs a step for each value, all at the same time: most of their time they wait. */
async function allAtOnce<T>(
  context: Deno.TestContext,
  values: readonly T[],
  nameOf: (value: T) => string,
  step: (value: T) => Promise<void>,
): Promise<void> {
  const none = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
  await Promise.all(
    values.map((one) => context.step({ name: nameOf(one), fn: () => step(one), ...none })),
  );
}

const HEALTHY = "200 ok\n";
const DRAINING = "503 draining\n";
/** The kinds of servers, by their options. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  "forked workers": [],
  "fresh workers": ["--no-preload"],
  "a server of node:http": [],
};

function appOf(kind: string, folder: string): ServerOptions {
  return kind === "a server of node:http" ? { app: writeApp(folder, NODE, "node.js") } : {};
}

const NODE = `import { createServer } from "node:http";
createServer((request, response) => {
  if (request.method === "GET") return response.end(String(Deno.pid));
  let bytes = 0;
  request.on("data", (data) => bytes += data.length);
  request.on("end", () => response.end(String(bytes)));
}).listen(3000);
`;

Deno.test("a server that drains tells its load balancer first, and its admin socket stays until the end", async (context) => {
  await allAtOnce(
    context,
    Object.entries(KINDS),
    ([kind]) => `with ${kind}`,
    async ([kind, args]) => {
      await using folder = scratch();
      const all = ["--drain-delay", "5", ...args];
      const app = appOf(kind, folder.path);
      await using watched = await Watched.start(folder.path, "admin", all, app);
      const { server } = watched;
      assertEquals(await watched.get("/healthz"), HEALTHY);
      assertEquals(await watched.get("/readyz"), HEALTHY);
      const { workers } = server;

      // One request for the time after the delay, and a client that keeps its connection.
      using slow = await Client.connect(server.port);
      await slow.say("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n");
      await until(async () => await watched.inFlight() === 1, "the request in flight");
      using kept = await Client.connect(server.port);
      await kept.say("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
      await until(() => workers.some((pid) => kept.heard.endsWith(`\r\n\r\n${pid}`)), "the answer");
      assert(!/^connection: close/im.test(kept.heard), kept.heard);

      server.kill("SIGTERM");
      await server.logged(/SIGTERM: draining for 5 s, then stopping 2 workers$/m);
      assertEquals(await watched.get("/healthz"), DRAINING);
      assertEquals(await watched.get("/readyz"), DRAINING);
      await kept.say("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
      await kept.ends();
      assertMatch(kept.heard, /^connection: close\r$/im);
      using fresh = await Client.connect(server.port);
      await fresh.say("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
      await fresh.ends();
      assertMatch(fresh.heard, /^HTTP\/1\.1 200 [^]*^connection: close\r$/im);
      server.kill("SIGHUP"); // too late for new code

      await server.logged(/The drain delay is over: stopping 2 workers, within 30 s$/m);
      assertEquals(await watched.get("/readyz"), DRAINING);
      assertEquals((await watched.status()).master.draining, true);
      assertEquals(await watched.inFlight(), 1);
      await slow.say("hello");
      await slow.ends();
      assertMatch(slow.heard, /^HTTP\/1\.1 200 [^]*\r\n\r\n5$/);
      assertEquals(await server.ended(), { code: 0, signal: null });
      assert(!server.stderr.includes("SIGHUP"), server.stderr);
    },
  );
});

Deno.test("a server that drains replaces a worker that crashes, and the new one knows of it", async () => {
  await using server = await startServer(["--drain-delay", "60", "--workers", "1"]);
  server.kill("SIGTERM");
  await server.logged(/SIGTERM: draining/);
  const { workers } = server;
  Deno.kill(workers[0]!, "SIGKILL");
  await server.replaced(workers, 1);
  using client = await Client.connect(server.port);
  await client.say("GET /pid HTTP/1.1\r\nHost: test\r\n\r\n");
  await client.ends();
  assertMatch(client.heard, /^HTTP\/1\.1 200 [^]*^connection: close\r$/im);
});

Deno.test("clients that follow health checks and `Connection: close` lose no request when servers drain", async () => {
  await using folder = scratch();
  await using stack = new AsyncDisposableStack();
  const servers: Watched[] = [];
  for (const [kind, args] of [...Object.entries(KINDS), ["the last", []] as const]) {
    const all = ["--drain-delay", "4", "--workers", "1", ...args];
    const app = appOf(kind, folder.path);
    servers.push(stack.use(await Watched.start(folder.path, kind, all, app)));
  }
  // A load balancer: it looks every 100 ms, and sends to those that were ready then.
  const ready = new Set<number>();
  let turn = 0;
  let going = true;
  const checks = servers.map(async (watched) => {
    while (going) {
      const isReady = await watched.get("/readyz").catch(() => "") === HEALTHY;
      if (isReady) ready.add(watched.server.port);
      else ready.delete(watched.server.port);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
  await until(() => ready.size === servers.length, "the servers to be ready");
  const next = (): Target => {
    const ports = [...ready];
    return { hostname: "127.0.0.1", port: ports[turn++ % ports.length]! };
  };
  await using kept = new Load(next, { clients: 12, keepAlive: true, pause: 1 });
  await using fresh = new Load(next, { clients: 4, pause: 1 });
  try {
    await until(() => kept.ok > 500 && fresh.ok > 200, "some load", 60_000);
    const draining = servers.slice(0, -1);
    for (const { server } of draining) server.kill("SIGTERM");
    for (const { server } of draining) {
      assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    }
    const [keptBefore, freshBefore] = [kept.ok, fresh.ok];
    await until(() => kept.ok > keptBefore + 100 && fresh.ok > freshBefore + 100, "more load");
    await Promise.all([kept.stop(), fresh.stop()]);
    assertEquals([...kept.failures, ...fresh.failures], [], `${kept}\n${fresh}`);
  } finally {
    going = false;
    await Promise.all(checks);
  }
});

Deno.test("a second signal ends the delay of a server that drains", async () => {
  for (const signal of ["SIGTERM", "SIGQUIT"] as const) {
    await using server = await startServer(["--drain-delay", "60"]);
    server.kill("SIGINT");
    await server.logged(/SIGINT: draining for 60 s, then stopping 2 workers/);
    // Sooner, it would count as the same request.
    await new Promise((resolve) => setTimeout(resolve, 600));
    server.kill(signal);
    await server.logged(new RegExp(`${signal}: stopping 2 workers immediately`));
    assertEquals(await server.ended(), { code: 0, signal: null });
  }
});

Deno.test("a server that stops before it is ready does not drain", async () => {
  await using folder = scratch();
  const source = `export default {
    async onWorkerStart() { console.log("starts"); await new Promise(() => setTimeout(() => {}, 1e6)); },
    fetch: () => new Response(),
  };`;
  const app = writeApp(folder.path, source);
  await using server = spawnServer(["--drain-delay", "60"], { app });
  await server.printed(/starts/);
  server.kill("SIGTERM");
  await server.logged(/SIGTERM: stopping 2 workers, within 30 s/);
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("a server that drains gives up the new code that it was trying", async () => {
  await using folder = scratch();
  const source = (text: string) =>
    `${text}\nexport default { fetch: () => new Response("served") };`;
  const app = writeApp(folder.path, source(""));
  await using server = await startServer(["--drain-delay", "4"], { app });
  writeApp(
    folder.path,
    source("console.log('loading'); await new Promise((r) => setTimeout(r, 60_000));"),
  );
  server.kill("SIGHUP");
  await server.printed(/loading/);
  const canary = childrenOf(server.pid).filter((pid) => !server.workers.includes(pid));
  assertEquals(canary.length, 1);
  server.kill("SIGTERM");
  await server.logged(/SIGTERM: draining/);
  await until(() => processState(canary[0]!) === undefined, "the end of the canary");
  assertEquals(await ask(server.port, "/"), "served");
  assertEquals(await server.ended(), { code: 0, signal: null });
  assert(!/re-executing|cannot be loaded/.test(server.stderr), server.stderr);
});

Deno.test("the workers of a server that drains finish their requests when the master is killed", async () => {
  await using server = await startServer(["--drain-delay", "60"]);
  const { workers } = server;
  const slow = server.get("/sleep?ms=2000");
  await until(() => server.inFlight === 1, "the request");
  server.kill("SIGTERM");
  await server.logged(/SIGTERM: draining/);
  await until(async () => (await ask(server.port, "/")).startsWith("Hello"), "an answer");
  server.kill("SIGKILL");
  assertMatch(await slow, /^\d+$/);
  await until(() => workers.every((pid) => processState(pid) === undefined), "their end");
});

// Busy with requests of different lengths: at no moment none is in flight.
const BUSY = `export default {
  async fetch() {
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 60));
    return new Response("served");
  },
};`;

Deno.test("a busy HTTP/2 client is told to go away, and loses no request", async (context) => {
  await allAtOnce(context, ["http", "https"], (scheme) => `over ${scheme}`, async (scheme) => {
    await using folder = scratch();
    const { cert, key } = await certificate(folder.path);
    const app = writeApp(folder.path, BUSY);
    const args = ["--workers", "1", ...scheme === "https" ? ["--cert", cert, "--key", key] : []];
    await using server = await startServer(args, { app });
    using client = Deno.createHttpClient({
      http1: false,
      caCerts: [Deno.readTextFileSync(cert)],
    });
    let ok = 0;
    // Until the server is gone. All requests share a connection, for as long as it is open.
    const clients = Array.from({ length: 20 }, async () => {
      for (;;) {
        try {
          const response = await fetch(`${scheme}://localhost:${server.port}/`, { client });
          assertEquals(await response.text(), "served");
          ok++;
        } catch (error) {
          return Deno.inspect(error);
        }
      }
    });
    await until(() => ok > 100, "some answers");
    server.kill("SIGTERM");
    assertEquals(await server.ended(), { code: 0, signal: null });
    assert(!server.stderr.includes("killed"), server.stderr);
    const ends = await within(Promise.all(clients), 20_000, "the last answers");
    assertEquals(ends.filter((end) => !end.includes("client error (Connect)")), []);
  });
});

Deno.test("an idle HTTP/2 client keeps its connection while a server drains", async () => {
  await using server = await startServer(["--workers", "1", "--drain-delay", "60"]);
  const session = connectHttp2(`http://localhost:${server.port}`);
  const request = () =>
    new Promise<string>((resolve, reject) => {
      let text = "";
      const stream = session.request({ ":path": "/" });
      stream.on("data", (data: Uint8Array) => text += new TextDecoder().decode(data));
      stream.on("error", reject);
      stream.on("close", () => resolve(text));
    });
  try {
    server.kill("SIGTERM");
    await server.logged(/draining/);
    assertEquals(await request(), "Hello, World!\n");
    // Longer than a client may take that was asked to close its connection.
    await new Promise((resolve) => setTimeout(resolve, 3000));
    assertEquals(await request(), "Hello, World!\n");
  } finally {
    session.destroy();
  }
});
