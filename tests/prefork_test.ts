import { assert, assertEquals, assertMatch } from "@std/assert";
import * as tine from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import {
  ask,
  certificate,
  childrenOf,
  descriptorsOf,
  listeningPorts,
  scratch,
  spawnServer,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

/** What curl prints. */
async function curl(...args: string[]): Promise<string> {
  const { stdout, stderr, success } = await new Deno.Command("curl", {
    args: ["--silent", "--show-error", "--max-time", "15", ...args],
  }).output();
  if (!success) throw new Error(`curl failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

withEachKindOfWorker(
  "servePrefork() serves with every worker, and never with the master",
  async (kind) => {
    await using server = await startServer(kind);
    const { workers } = server;
    assertEquals(workers.length, 2);
    assertEquals(childrenOf(server.pid).sort(), workers.sort());
    const seen = new Set<string>();
    await until(async () => {
      // At once, so that one worker cannot take them all.
      const answers = Array.from({ length: 8 }, () => ask(server.port, "/sleep?ms=20"));
      for (const pid of await Promise.all(answers)) seen.add(pid);
      return seen.size === 2;
    }, "an answer of each worker");
    assertEquals([...seen].map(Number).sort(), workers);
    // A socket of the master's that is connected over TCP would be a client's.
    const inodes = Deno.readTextFileSync("/proc/net/tcp").matchAll(/ 01 (?:\S+ +){5}(\d+)/g);
    const connected = [...inodes].map(([, inode]) => `socket:[${inode}]`);
    for (const link of descriptorsOf(server.pid).values()) assert(!connected.includes(link));
  },
);

Deno.test("servePrefork() schedules workers so that they preempt no process when they wake up", async () => {
  await using server = await startServer();
  const policies = [server.pid, ...server.workers].map((pid) => {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[38]);
  });
  assertEquals(policies, [tine.SCHED_OTHER, tine.SCHED_BATCH, tine.SCHED_BATCH]);
});

withEachKindOfWorker("servePrefork() streams bodies in and out", async (kind) => {
  await using server = await startServer(kind);
  const url = `http://127.0.0.1:${server.port}`;
  // Out: the first piece is here long before the last one exists.
  const response = await fetch(`${url}/stream?count=3&ms=500`);
  const pieces: number[] = [];
  for await (const _ of response.body!) pieces.push(performance.now());
  assertEquals(pieces.length, 3);
  assert(pieces[2]! - pieces[0]! > 150, `all at once: ${pieces}`);
  // In and out at the same time.
  for (const path of ["/echo", "/transform"]) {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const answer = fetch(url + path, { method: "POST", body: readable });
    const reader = (await within(answer, 15_000, `${path}'s header`)).body!
      .pipeThrough(new TextDecoderStream()).getReader();
    for (const piece of ["first", "second", "third"]) {
      writer.write(new TextEncoder().encode(piece));
      assertEquals((await within(reader.read(), 15_000, `${path}'s ${piece} piece`)).value, piece);
    }
    writer.close();
    assert((await within(reader.read(), 15_000, `${path}'s end`)).done);
  }
  assertEquals(
    await server.get("/upload", { method: "POST", body: new Uint8Array(5_000_000) }),
    "5000000",
  );
});

Deno.test("servePrefork() serves HTTPS with HTTP/2", async () => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  await using server = await startServer(["--cert", cert, "--key", key]);
  assertMatch(server.url, /^https:/);
  const url = `https://localhost:${server.port}/`;
  const format = ["--write-out", "%{http_version}"];
  const trust = ["--cacert", cert];
  assertEquals(await curl("--http2", ...trust, ...format, url), "Hello, World!\n2");
  assertEquals(await curl("--http1.1", ...trust, ...format, url), "Hello, World!\n1.1");
});

Deno.test("servePrefork() serves the admin socket in plain HTTP, without the app's limits", async () => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  const log = `${folder.path}/access.log`;
  const rules = ["--max-requests", "3", "--max-connections", "1", "--access-log", log];
  await using server = await startServer([
    ...["--cert", cert, "--key", key, "--admin", "127.0.0.1:0"],
    ...rules,
  ]);
  const { workers } = server;
  const pid = await until(() => readStatus(server.pid).admin?.pid, "the admin process");
  const port = listeningPorts(server.pid).find((port) => port !== server.port);
  const healthz = ["--max-time", "10", `http://127.0.0.1:${port}/healthz`];
  await until(() => curl(...healthz).catch(() => false), "the first answer");
  using _idle = await Deno.connect({ port: port! });
  for (let i = 0; i < 8; i++) assertEquals(await curl(...healthz), "ok\n");
  assertEquals(readStatus(server.pid).admin?.pid, pid);
  assertEquals(new Set(childrenOf(server.pid)), new Set([pid, ...workers]));
  assertEquals(Deno.readTextFileSync(log), "");
  // Each process has the sockets that it needs.
  assertEquals(listeningPorts(pid), [port]);
  for (const worker of workers) {
    assert(!listeningPorts(worker).includes(port!), "a worker has the admin socket");
  }
});

Deno.test("servePrefork() calls the app's functions as methods of the app", async () => {
  await using folder = scratch();
  const file = writeApp(
    folder.path,
    `class Router {
       #greeting = "kept this";
       fetch = (request) => new Response(this.#greeting + new URL(request.url).pathname);
     }
     class Plain {
       greeting = "kept this too";
       fetch() { return new Response(this.greeting); }
     }
     export default Deno.env.get("APP") === "plain" ? new Plain() : new Router();`,
  );
  {
    await using server = await startServer([], { app: file });
    assertEquals(await server.get("/path"), "kept this/path");
  }
  await using server = await startServer([], { app: file, env: { APP: "plain" } });
  assertEquals(await server.get("/path"), "kept this too");
});

Deno.test("servePrefork() logs and counts the status that the client gets, whatever the app returns", async () => {
  await using folder = scratch();
  const file = writeApp(
    folder.path,
    `const later = (then) => ({ then });
     export default {
       fetch(request) {
         switch (new URL(request.url).pathname) {
           case "/response": return new Response("", { status: 201 });
           case "/promise": return Promise.resolve(new Response("", { status: 202 }));
           case "/thenable": return later((resolve) => resolve(new Response("", { status: 203 })));
           case "/rejected": return later((_, reject) => reject(new Error("rejected")));
           case "/nothing": return undefined;
           case "/number": return Promise.resolve(1);
         }
       },
     };`,
  );
  const log = `${folder.path}/log`;
  await using server = await startServer(
    ["--workers", "1", "--access-log", log, "--access-log-format", "json"],
    { app: file },
  );
  const expected = [];
  for (
    const [path, status] of [["/response", 201], ["/promise", 202], ["/thenable", 203]]
      .concat(["/rejected", "/nothing", "/number"].map((path) => [path, 500])) as [string, number][]
  ) {
    // The app is called within the limits for a body when there may be one.
    for (const init of [{}, { method: "POST", body: new Blob(["text"]).stream() }]) {
      const response = await fetch(`http://127.0.0.1:${server.port}${path}`, init);
      await response.body?.cancel();
      assertEquals(response.status, status, path);
      expected.push([path, status]);
    }
  }
  const logged = await until(() => {
    const lines = Deno.readTextFileSync(log).trimEnd().split("\n");
    return lines.length === expected.length && lines.map((line) => JSON.parse(line));
  }, "a line for each request");
  assertEquals(logged.map(({ url, status }) => [url, status]), expected);
  const [worker] = readStatus(server.pid).workers;
  assertEquals([worker!.requests, worker!.errors, worker!.inFlight], [12, 6, 0]);
});

withEachKindOfWorker("servePrefork() waits for onWorkerStart and onWorkerStop", async (kind) => {
  await using folder = scratch();
  const file = writeApp(
    folder.path,
    `let ready = false;
     const later = () => new Promise((resolve) => setTimeout(resolve, 100));
     export default { fetch: () => new Response(String(ready)) };
     export async function onWorkerStart({ pid, number }) {
       await later();
       ready = true;
       console.log("start", number, pid);
     }
     export async function onWorkerStop({ pid, number }) {
       await later();
       console.log("stop", number, pid);
     }`,
  );
  await using server = await startServer(kind, { app: file });
  const { workers } = server;
  assertEquals(await server.get("/"), "true");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  for (const hook of ["start", "stop"]) {
    const lines = [...server.stdout.matchAll(new RegExp(`^${hook} (\\d) (\\d+)$`, "gm"))];
    assertEquals(lines.map(([, number]) => number).sort(), ["1", "2"]);
    assertEquals(lines.map(([, , pid]) => Number(pid)).sort(), workers.sort());
  }
});

withEachKindOfWorker(
  "servePrefork() gives each worker a channel that no other process has",
  async (kind) => {
    await using server = await startServer([...kind, "--workers", "3"]);
    // A worker's end of its talk with the master is the one socket of this kind.
    const packets = Deno.readTextFileSync("/proc/net/unix").split("\n").map((line) =>
      line.split(/\s+/)
    )
      .filter((columns) => columns[4] === "0005").map((columns) => `socket:[${columns[6]}]`);
    const channels = server.workers.map((pid) =>
      [...descriptorsOf(pid).values()].filter((socket) => packets.includes(socket))
    );
    assertEquals(channels.map((sockets) => sockets.length), [1, 1, 1]);
    const masters = [...descriptorsOf(server.pid).values()].filter((link) =>
      packets.includes(link)
    );
    assertEquals(masters.length, 3);
    assertEquals(new Set([...channels.flat(), ...masters]).size, 6);
  },
);

withEachKindOfWorker(
  "servePrefork() gives an app's subprocesses the signals and descriptors that plain Deno gives",
  async (kind) => {
    await using server = await startServer(kind);
    const line = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd";
    const { stdout } = await new Deno.Command("sh", { args: ["-c", line] }).output();
    assertEquals(
      await server.get(`/command?run=${encodeURIComponent(line)}`),
      new TextDecoder().decode(stdout), // what a subprocess of plain Deno has
    );
  },
);

Deno.test("servePrefork() shares what the app has loaded among all workers", async () => {
  await using folder = scratch();
  const dataset = 50e6;
  writeApp(
    folder.path,
    `const dataset = new Uint8Array(${dataset}).fill(1);
     const sum = () => String(dataset.reduce((sum, byte) => sum + byte, 0));
     export default { fetch: () => new Response(sum()) };`,
  );
  await using server = await startServer([], { app: `${folder.path}/app.ts` });
  assertEquals(await server.get("/"), String(dataset));
  for (const { memory } of readStatus(server.pid).workers) {
    assert(memory!.sharedBytes > dataset, `${memory!.sharedBytes} bytes are shared`);
    assert(memory!.privateBytes < dataset / 2, `${memory!.privateBytes} bytes are not`);
  }
});

Deno.test("servePrefork() never returns the same UUID from two workers", async () => {
  await using server = await startServer(["--workers", "4"]);
  const seen = new Set<string>();
  for (let round = 0; round < 25; round++) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(server.port, "/uuid")));
    for (const uuid of answers.flatMap((text) => text.split("\n"))) seen.add(uuid);
  }
  assertEquals(seen.size, 20_000);
});

Deno.test("servePrefork() has workers that can read files even if the app read many while it was loaded", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `await Promise.all(Array.from({ length: 500 }, () => Deno.readTextFile("/proc/self/smaps")));
     const read = () => Deno.readTextFile(import.meta.filename);
     export default { fetch: async () => new Response((await read()).slice(0, 5)) };`,
  );
  await using server = spawnServer([], { app });
  const [, port] = await server.logged(/Serving http:\/\/\S+:(\d+)\/ with/, 40_000);
  server.port = Number(port);
  assertMatch(server.stderr, /Waiting until the runtime ends them/);
  assertEquals(await server.get("/"), "await");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});
