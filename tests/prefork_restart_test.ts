import { assert, assertEquals, assertMatch } from "@std/assert";
import { APPS } from "./prefork/apps.ts";
import { Load } from "./prefork/load.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import * as tine from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  isPortFree,
  processState,
  scratch,
  type Server,
  type ServerOptions,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

/** Clients of both kinds, which ask for `/pid`. */
class Crowd implements AsyncDisposable {
  readonly fresh: Load;
  readonly kept: Load;

  constructor({ port }: Server, clients = 4, pause = 2) {
    const options = { clients, pause };
    this.fresh = new Load({ hostname: "127.0.0.1", port }, options);
    this.kept = new Load({ hostname: "127.0.0.1", port }, { ...options, keepAlive: true });
  }

  /**
   * Ends the load: no request may have failed but those that met the close of an idle connection.
   */
  async unharmed(): Promise<void> {
    const { fresh, kept } = this;
    await until(() => fresh.ok > 50 && kept.ok > 50, "some answers");
    await this[Symbol.asyncDispose]();
    assertEquals(fresh.failures, [], `fresh connections: ${fresh}`);
    assertEquals(kept.failures.length, kept.raced.length, `kept connections: ${kept}`);
    if (kept.raced.length > 0) console.log(`${kept.raced.length} met the close of a connection`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.fresh.stop(), this.kept.stop()]);
  }
}

/** Waits until the app has received this many slow requests. */
async function inFlight(server: Server, count: number): Promise<void> {
  await until(() => server.inFlight >= count, `${count} requests in flight`);
}

/** Waits until the server is gone: all its processes, and its port. */
async function assertGone(server: Server, workers: readonly number[]): Promise<void> {
  assertEquals(await server.ended(), { code: 0, signal: null });
  assertEquals(workers.map(processState), workers.map(() => undefined));
  assert(isPortFree(server.port), "the port is taken");
}

Deno.test("servePrefork() drops no connection of a fetch app when SIGHUP comes 20 times under load", async () => {
  await hangUp([]);
});

Deno.test("servePrefork() drops no connection of an app of Express's when SIGHUP comes 20 times under load", async () => {
  await hangUp([], APPS["an app of Express's"]);
});

Deno.test("servePrefork() drops no connection when SIGHUP comes 20 times to fresh workers under load", async () => {
  await hangUp(["--no-preload"]);
});

async function hangUp(kind: readonly string[], options: ServerOptions = {}): Promise<void> {
  await using server = await startServer(kind, options);
  const { started } = readStatus(server.pid).master;
  await using crowd = new Crowd(server);
  for (let i = 0; i < 20; i++) {
    await server.restarted();
  }
  await crowd.unharmed();
  const { master } = readStatus(server.pid);
  assertEquals([master.generation, master.started], [20, started]);
  assert(!/ended:|killed|failed/.test(server.stderr), server.stderr);
}

Deno.test("servePrefork() serves new code after SIGHUP, and the old code while the new one is broken", async () => {
  await using folder = scratch();
  const good = (text: string) => `export default { fetch: () => new Response("${text}") };`;
  const app = writeApp(folder.path, good("old"));
  await using server = await startServer([], { app });
  assertEquals(await server.get("/"), "old");
  const { workers } = server;
  const broken = {
    [`export default { fetch( };`]: /app\.ts/, // Deno's own words follow
    [`throw new Error("no database");`]: /no database/,
    [`export default { get: () => new Response() };`]: /no fetch function/,
    [`export default { fetch: () => new Response() };\nimport "./missing.ts";`]: /missing\.ts/,
    [`Deno.exit(0);`]: /ended the process with exit code 0 [^]*cannot be loaded \(exit 1\)/,
  };
  for (const [source, reason] of Object.entries(broken)) {
    writeApp(folder.path, source);
    const before = server.stderr.length;
    server.kill("SIGHUP");
    await until(
      () =>
        server.stderr.slice(before).match(
          /The new code cannot be loaded.* (?:stays in use|keep serving)/s,
        ),
      `the refusal of ${source} in ${server.stderr}`,
    );
    assertMatch(server.stderr.slice(before), reason);
    assertEquals(await server.get("/"), "old");
    assertEquals(server.workers, workers, "the old workers are gone");
  }
  // It can be loaded, but no worker can start with it: not even then is there a gap.
  writeApp(folder.path, `${good("new")} export const onWorkerStart = () => Promise.reject("no");`);
  server.kill("SIGHUP");
  await server.logged(/(failed to start: exit 1: no[^]*){6}/);
  assertEquals(server.workers, workers, "the old workers are gone");
  assertEquals(await server.get("/"), "old");
  writeApp(folder.path, good("new"));
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertEquals(await server.get("/"), "new");
});

Deno.test("servePrefork() loads the app in each worker with --no-preload", async () => {
  await using folder = scratch();
  const source = (text: string) =>
    `import { getpid } from "${new URL("../mod.ts", import.meta.url)}";
     const loader = getpid();
     export default { fetch: () => new Response("${text} " + (loader === getpid())) };`;
  const app = writeApp(folder.path, source("old"));
  await using server = await startServer(["--no-preload"], { app });
  assertEquals(await server.get("/"), "old true");
  const old = server.workers;
  writeApp(folder.path, "export default {};");
  server.kill("SIGUSR2"); // new workers, which cannot start
  await server.logged(/failed to start: exit 1: .*no fetch function/);
  assert(server.workers.length > 0);
  assertEquals(await server.get("/"), "old true");
  writeApp(folder.path, source("new"));
  const changed = await server.replaced(old);
  assertEquals(await server.get("/"), "new true");
  writeApp(folder.path, source("newest"));
  server.kill("SIGHUP");
  await server.replaced(changed);
  assertEquals(await server.get("/"), "newest true");
});

Deno.test("servePrefork() handles SIGHUPs in quick succession", async () => {
  await using server = await startServer();
  await using crowd = new Crowd(server);
  const old = server.workers;
  for (let i = 0; i < 20; i++) {
    server.kill("SIGHUP");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await server.replaced(old);
  await crowd.unharmed();
});

withEachKindOfWorker(
  "servePrefork() finishes requests and closes WebSockets on SIGHUP",
  async (kind) => {
    await using server = await startServer(kind);
    const old = server.workers;
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws`);
    const closed = Promise.withResolvers<number>();
    socket.onclose = ({ code }) => closed.resolve(code);
    const opened = Promise.withResolvers<void>();
    socket.onopen = () => opened.resolve();
    await within(opened.promise, 15_000, "the WebSocket");
    const slow = server.get("/sleep?ms=1500");
    const stream = server.get("/stream?count=10&ms=150");
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const upload = server.get("/upload", { method: "POST", body: readable });
    const writer = writable.getWriter();
    await writer.write(new Uint8Array(1000));
    await inFlight(server, 3);
    server.kill("SIGHUP");
    const fresh = await server.replaced(old);
    await writer.write(new Uint8Array(1000));
    await writer.close();
    assertEquals(await upload, "2000");
    assert(fresh.includes(Number(await server.get("/pid"))));
    assert(old.includes(Number(await slow)));
    assertEquals((await stream).trim().split("\n").length, 10);
    assertEquals(await within(closed.promise, 15_000, "the WebSocket's close"), 1001);
    await until(() => old.every((pid) => processState(pid) === undefined), "the old workers' end");
  },
);

/** A WebSocket of which nothing is read before the test does so. */
function openWebSocket(port: number, path = "/ws") {
  const MSG_PEEK = 2;
  const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  socket.connect(["127.0.0.1", port]);
  const hears = (text: string) =>
    until(() => {
      const [ready] = tine.poll([{ fd: socket.fileno(), events: tine.POLLIN }], 0);
      return ready && decode(socket.recv(65536, MSG_PEEK)).includes(text);
    }, text);
  const decode = (bytes: Uint8Array) => String.fromCharCode(...bytes);
  socket.sendall(new TextEncoder().encode(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  ));
  return {
    hears,
    /** Sends a frame, which must be masked. */
    send: (opcode: number, text: string) =>
      socket.sendall(
        Uint8Array.of(
          0x80 | opcode,
          0x80 | text.length,
          0,
          0,
          0,
          0,
          ...new TextEncoder().encode(text),
        ),
      ),
    read: () => decode(socket.recv(65536)),
    [Symbol.dispose]: () => socket.close(),
  };
}

withEachKindOfWorker(
  "servePrefork() lets clients that send on WebSockets read why these are closed",
  async (kind) => {
    await using server = await startServer(kind);
    const { workers } = server;
    using client = openWebSocket(server.port);
    await client.hears("\r\n\r\n");
    client.send(1, "before");
    await client.hears(" before");
    server.kill("SIGHUP");
    await client.hears("The server is restarting");
    // On their way when the server closed.
    for (const message of ["one", "two", "three"]) {
      client.send(1, message);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const [, frames] = client.read().split(" before");
    assertEquals(frames, "\x88\x1a\x03\xe9The server is restarting");
    client.send(8, "\x03");
    assertEquals(client.read(), "");
    client[Symbol.dispose]();
    await until(() => workers.every((pid) => processState(pid) === undefined), "the workers' end");
  },
);

withEachKindOfWorker(
  "servePrefork() finishes accepted requests on SIGTERM under load",
  async (kind) => {
    await using server = await startServer(kind);
    const { workers } = server;
    // They last until the load has begun.
    const slow = server.get("/sleep?ms=5000");
    const stream = server.get("/stream?count=10&ms=500");
    await inFlight(server, 2);
    await using crowd = new Crowd(server);
    await until(() => crowd.fresh.ok > 50, "some load");
    const told = performance.now();
    server.kill();
    await until(() => isPortFree(server.port), "an end to new connections");
    // One that has no connection may be gone already.
    assert(workers.some((pid) => processState(pid)?.ppid === server.pid));
    assert(workers.includes(Number(await slow)));
    assertEquals((await stream).trim().split("\n").length, 10);
    await assertGone(server, workers);
    await crowd[Symbol.asyncDispose]();
    for (const load of [crowd.fresh, crowd.kept]) {
      assertEquals(load.torn, [], String(load));
      const early = load.failures.filter(({ at }) => at < told);
      assertEquals(early, []);
      // When the last process closes the socket, the kernel resets connections not yet accepted.
      const dropped = load.failures.filter(({ why }) => !/refused/.test(why));
      const waiting = dropped.filter(({ why, worker }) =>
        worker === undefined && /reset/.test(why)
      );
      assertEquals(dropped.length, waiting.length, `${load}`);
      if (waiting.length > 0) console.log(`${waiting.length} were waiting to be accepted`);
    }
  },
);

withEachKindOfWorker(
  "servePrefork() kills remaining workers after the grace time, and immediately on a second signal",
  async (kind) => {
    for (const grace of ["0.3", "60"]) {
      await using server = await startServer([...kind, "--grace", grace]);
      const { workers } = server;
      const slow = server.get("/sleep?ms=60000").catch(() => "killed");
      await inFlight(server, 1);
      server.kill();
      await server.logged(/SIGTERM: stopping/);
      // Not immediately: signals that arrive together count as one.
      await until(() => {
        if (grace === "60") server.kill();
        return /killed|immediately/.test(server.stderr);
      }, "the end of patience");
      assertEquals(await slow, "killed");
      await assertGone(server, workers);
    }
  },
);

withEachKindOfWorker(
  "servePrefork() stops gracefully when a terminal sends SIGINT to its process group",
  async (kind) => {
    await using server = await startServer(kind, { shell: `exec setsid bash -c '"$@"' --` });
    const { workers } = server;
    const slow = server.get("/sleep?ms=2000");
    await inFlight(server, 1);
    Deno.kill(-server.pid, "SIGINT");
    assert(workers.includes(Number(await slow)));
    await assertGone(server, workers);
  },
);

Deno.test("servePrefork() stops immediately on SIGQUIT", async () => {
  await using server = await startServer();
  const { workers } = server;
  const slow = server.get("/sleep?ms=60000").catch(() => "killed");
  await inFlight(server, 1);
  server.kill("SIGQUIT");
  assertEquals(await slow, "killed");
  await assertGone(server, workers);
  assert(!/ended:|failed/.test(server.stderr), server.stderr);
});

withEachKindOfWorker(
  "servePrefork() adds, removes and replaces workers under load",
  async (kind) => {
    await using server = await startServer(kind);
    await using crowd = new Crowd(server);
    const [first, second] = server.workers;
    server.kill("SIGTTIN");
    const three = await until(
      () => server.workers.length === 3 && server.workers,
      "a third worker",
    );
    assert(three.includes(first!) && three.includes(second!));
    server.kill("SIGUSR2");
    const others = await server.replaced(three, 3);
    server.kill("SIGTTOU");
    server.kill("SIGTTOU");
    await until(() => server.workers.length < 3, "fewer workers");
    server.kill("SIGTTOU");
    await until(() => server.workers.length === 1, "one worker only");
    assert(others.includes(server.workers[0]!));
    server.kill("SIGTTOU"); // the last one stays
    await server.logged(/(1 worker from now on[^]*){2}/);
    assertEquals(server.workers.length, 1);
    await crowd.unharmed();
    assert(!/ended:|killed|failed/.test(server.stderr), server.stderr);
  },
);

withEachKindOfWorker("servePrefork() replaces workers after --max-requests", async (kind) => {
  await using server = await startServer([...kind, "--max-requests", "50"]);
  await using crowd = new Crowd(server, 2, 20);
  await until(() => crowd.fresh.answers.size >= 6, "three generations of workers", 60_000);
  await crowd.unharmed();
  const counts = new Map(crowd.fresh.answers);
  for (const [pid, count] of crowd.kept.answers) counts.set(pid, (counts.get(pid) ?? 0) + count);
  for (const count of counts.values()) assert(count < 150, `${count} requests to one worker`);
  assert(!/ended:|killed|failed/.test(server.stderr), server.stderr);
});

withEachKindOfWorker(
  "servePrefork() replaces a worker with more than --max-worker-memory",
  async (kind) => {
    await using server = await startServer([
      ...kind,
      "--max-worker-memory",
      "150M",
      "--workers",
      "1",
    ]);
    const slow = server.get("/sleep?ms=2500");
    const fat = Number(await server.get("/leak?mb=200"));
    const pattern = new RegExp(
      `Worker 1 \\(pid ${fat}\\) will be replaced: it uses 2\\d\\d MB of private memory, ` +
        "more than its limit of 157 MB",
      "g",
    );
    await server.logged(pattern);
    await server.replaced([fat], 1);
    // It finishes its requests, for longer than the interval between two checks.
    assertEquals(await slow, `${fat}`);
    assertEquals(server.stderr.match(pattern)?.length, 1, server.stderr);
  },
);
