/** What an app holds open when it is loaded before the fork: said at the start, and in workers. */
import { assert, assertEquals, assertMatch, assertStringIncludes, fail } from "@std/assert";
import {
  childrenOf,
  isPortFree,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

const UNSTABLE = ["--unstable-kv", "--unstable-cron"];

/** A TCP server that sends back what it gets, and an HTTP server; both end with the test. */
function startPeers(): { tcp: number; http: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connections: Deno.Conn[] = [];
  const accepting = (async () => {
    for await (const connection of listener) {
      connections.push(connection);
      connection.readable.pipeTo(connection.writable).catch(() => {});
    }
  })();
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    if (request.url.endsWith("/events")) {
      const endless = new ReadableStream<string>({ start: (one) => one.enqueue("data: 1\n\n") });
      return new Response(endless.pipeThrough(new TextEncoderStream()), {
        headers: { "content-type": "text/event-stream" },
      });
    }
    if (request.headers.get("upgrade") !== "websocket") return new Response("answer");
    return Deno.upgradeWebSocket(request).response;
  });
  return {
    tcp: listener.addr.port,
    http: http.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      for (const connection of connections) {
        try {
          connection.close();
        } catch { // by the pipe
        }
      }
      await http.shutdown();
    },
  };
}

/** The lines of the log about what does not survive, without what comes before. */
function linesOf({ stderr }: Server): string[] {
  return [...stderr.matchAll(/Does not survive the fork: (.*)$/gm)].map(([, line]) => line!);
}

/** An app that holds one of each open, and whose routes use them. */
const HOLDING = `import net from "node:net";
import process from "node:process";
import { setInterval as repeat } from "node:timers";
import { setTimeout as wait } from "node:timers/promises";
import { DatabaseSync } from "node:sqlite";
const [folder, tcp, http] = [FOLDER, TCP, HTTP];
const sent = new TextEncoder().encode("sent");
const connection = await Deno.connect({ port: tcp, hostname: "127.0.0.1" });
const socket = net.connect(tcp, "127.0.0.1");
await new Promise((resolve) => socket.on("connect", resolve));
socket.on("error", () => {});
const webSocket = new WebSocket(\`ws://127.0.0.1:\${http}/chat?token=secret\`);
await new Promise((resolve) => webSocket.onopen = resolve);
const subprocess = new Deno.Command("cat", { stdin: "piped" }).spawn();
const kv = await Deno.openKv(folder + "/store");
const database = new DatabaseSync(folder + "/data.sqlite");
database.exec("create table if not exists numbers (n)");
const memory = new DatabaseSync(":memory:");
const worker = new Worker("file://" + folder + "/worker.js", { type: "module", name: "resizer" });
await new Promise((resolve) => worker.onmessage = resolve);
const channel = new BroadcastChannel("news");
Deno.cron("tick", "* * * * *", () => {});
Deno.watchFs(folder);
Deno.addSignalListener("SIGUSR2", () => {});
process.on("SIGTERM", () => {});
setInterval(() => {}, 1234);
setTimeout(() => {}, 99_000);
[5678].forEach((milliseconds) => repeat(() => {}, milliseconds));
wait(97_000);
clearTimeout(setTimeout(() => {}, 98_000));
(await Deno.connect({ port: tcp, hostname: "127.0.0.1" })).close();
const events = new EventSource(\`http://127.0.0.1:\${http}/events\`);
await new Promise((resolve) => events.onopen = resolve);
const file = await Deno.open(folder + "/app.js");
await (await fetch(\`http://127.0.0.1:\${http}/\`)).text();
const uses = {
  "/connection": () => connection.write(sent),
  "/read": () => connection.read(new Uint8Array(1)),
  "/socket": () => new Promise((_, reject) => socket.write(sent, reject)),
  "/websocket": () => webSocket.send("sent"),
  "/subprocess": () => subprocess.status,
  "/kv": () => kv.get(["a"]),
  "/worker": () => worker.postMessage("sent"),
  "/channel": () => channel.postMessage("sent"),
  "/fetch": async () => (await fetch(\`http://127.0.0.1:\${http}/\`)).text(),
  "/memory": () => Object.values(memory.prepare("select 1 + 1").get())[0],
  "/file": async () => (await file.read(new Uint8Array(3))),
};
export default {
  async fetch(request) {
    try {
      return new Response(String(await uses[new URL(request.url).pathname]()));
    } catch (error) {
      return new Response(error.message);
    }
  },
};
`;

function holdingApp(folder: string, { tcp, http }: { tcp: number; http: number }): string {
  const source = HOLDING.replace("FOLDER", JSON.stringify(folder))
    .replace("TCP", String(tcp)).replace("HTTP", String(http));
  // Its pool then has a thread.
  writeApp(folder, "await Deno.stat(import.meta.filename); postMessage('')", "worker.js");
  return writeApp(folder, source, "app.js");
}

/** The place of a text in the app: its file, and the line in which it stands. */
function lineOf(app: string, text: string): string {
  const lines = Deno.readTextFileSync(app).split("\n");
  return `${app}:${lines.findIndex((line) => line.includes(text)) + 1}:`;
}

Deno.test("the start says what an app holds open that does not survive, where it was opened, and what to do", async () => {
  await using folder = scratch();
  await using peers = startPeers();
  const app = holdingApp(folder.path, peers);
  await using server = await startServer([], { app, flags: UNSTABLE });
  const lines = linesOf(server);
  const [cat] = childrenOf(server.pid).filter((pid) => !server.workers.includes(pid));
  const tcp = `127.0.0.1:${peers.tcp}`;
  const expected: [what: string, where: string | undefined, advice: RegExp][] = [
    [`connection to ${tcp}`, "connection = await", /^workers cannot use it\. Open it in onWorker/],
    [`WebSocket to ws://127.0.0.1:${peers.http}/chat`, "new WebSocket", /Open it in onWorkerStart/],
    [
      "response of fetch() or EventSource that has not been read to its end",
      undefined,
      /fetch it in onWorkerStart$/,
    ],
    [`subprocess cat (pid ${cat})`, "new Deno.Command", /Start it in onWorkerStart/],
    [`Deno.openKv() database "${folder.path}/store"`, "Deno.openKv", /Open it in onWorkerStart/],
    [`BroadcastChannel "news"`, "new BroadcastChannel", /stay within one worker/],
    [`Deno.cron() job "tick"`, "Deno.cron", /^it never runs\./],
    [`file watcher of ${folder.path}`, "Deno.watchFs", /get no events/],
    ["listener to SIGUSR2", "Deno.addSignalListener", /Use onWorkerStop$/],
    ["listener to SIGTERM", "process.on", /Use onWorkerStop$/],
    [`connection to ${tcp}`, "net.connect", /use --no-preload$/],
    [`SQLite database ${folder.path}/data.sqlite`, undefined, /can be corrupted/],
    [
      `Web Worker "resizer" (file://${folder.path}/worker.js)`,
      "new Worker",
      /^it does not exist in workers/,
    ],
    ["interval of 1234 ms", "setInterval(() =>", /^it never fires in workers/],
    ["timer of 99000 ms", "setTimeout(() => {}, 99", /^it never fires in workers/],
    ["interval of 5678 ms", "repeat(() =>", /^it never fires in workers/],
    ["timer of 97000 ms", "wait(97", /^it never fires in workers/],
  ];
  const left = [...lines];
  for (const [what, text, advice] of expected) {
    const start = text === undefined ? `${what}: ` : `${what}, from ${lineOf(app, text)}`;
    const at = left.findIndex((line) => line.startsWith(start));
    assert(at >= 0, `no line "${start}..." among\n${left.join("\n")}`);
    const [line] = left.splice(at, 1);
    assertMatch(line!.slice(start.length).replace(/^\d+: /, ""), advice);
  }
  assertEquals(left, [], "nothing else is said");
});

Deno.test("in a worker, what was opened before the fork fails with an error that says so, and the rest works", async () => {
  await using folder = scratch();
  await using peers = startPeers();
  const app = holdingApp(folder.path, peers);
  await using server = await startServer(["--workers", "1"], { app, flags: UNSTABLE });
  const refused: [path: string, what: string, text: string | undefined][] = [
    ["/connection", `connection to 127.0.0.1:${peers.tcp}`, "connection = await"],
    ["/read", `connection to 127.0.0.1:${peers.tcp}`, "connection = await"],
    ["/socket", `connection to 127.0.0.1:${peers.tcp}`, "net.connect"],
    ["/websocket", `WebSocket to ws://127.0.0.1:${peers.http}/chat`, "new WebSocket"],
    ["/subprocess", "subprocess", "new Deno.Command"],
    ["/kv", `Deno.openKv() database "${folder.path}/store"`, "Deno.openKv"],
    ["/worker", `Web Worker "resizer" (file://${folder.path}/worker.js)`, "new Worker"],
  ];
  for (const [path, what, text] of refused) {
    const answer = await within(server.get(path), 10_000, `an answer of ${path}`);
    const at = text === undefined ? "" : `, at ${lineOf(app, text)}`;
    assertStringIncludes(
      answer,
      `Cannot use this ${what} in a worker: it was opened before the fork${at}`,
    );
    assertMatch(answer, /in onWorkerStart, or use --no-preload$/);
  }
  assertEquals(await server.get("/channel"), "undefined");
  for (let i = 0; i < 3; i++) assertEquals(await server.get("/fetch"), "answer");
  assertEquals(await server.get("/memory"), "2");
});

Deno.test("nothing is said of an app that holds nothing, nor with --no-preload, and globals are restored", async () => {
  await using folder = scratch();
  await using peers = startPeers();
  const app = writeApp(
    folder.path,
    `import http from "node:http";
    import net from "node:net";
    const createTimer = () => {
      const timer = setTimeout(() => {}, 0);
      const { constructor: { prototype } } = timer;
      return prototype[Object.getOwnPropertySymbols(prototype)
        .find(({ description }) => description === "createTimer")];
    };
    const before = [createTimer(), Worker, WebSocket, Deno.connect];
    const { connect } = net.Socket.prototype;
    const own = globalThis.BroadcastChannel = class {};
    await new Promise((resolve) => setTimeout(resolve, 1));
    await (await fetch("http://127.0.0.1:${peers.http}/")).text();
    const ask = () => new Promise((resolve, reject) => {
      const options = { timeout: 60_000 }; // which Node's own modules watch
      const request = http.request("http://127.0.0.1:${peers.http}/", options, (response) => {
        let text = "";
        response.on("data", (data) => text += data).on("end", () => resolve(text));
      }).on("error", reject);
      setTimeout(() => request.end(), 5);
    });
    await ask();
    // Its agent keeps the connection, and the next request would take it.
    while (Object.keys(http.globalAgent.freeSockets).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    export default {
      async fetch() {
        const native = [createTimer(), Worker, WebSocket, Deno.connect];
        const descriptor = Object.getOwnPropertyDescriptor(Deno, "connect");
        return Response.json([
          await ask(),
          native.every((one, i) => one !== before[i]),
          "value" in descriptor,
          BroadcastChannel === own,
          net.Socket.prototype.connect === connect && !("_pendingEncoding" in {}),
          typeof native[0] === "function" && !("_timerArgs" in {}),
        ]);
      },
    };`,
    "app.js",
  );
  await using server = await startServer([], { app });
  assertEquals(linesOf(server), []);
  assertEquals(JSON.parse(await server.get("/")), ["answer", true, true, true, true, true]);

  const holding = holdingApp(folder.path, peers);
  await using fresh = await startServer(["--no-preload", "--workers", "1", "--strict"], {
    app: holding,
    flags: UNSTABLE,
  });
  assertEquals(linesOf(fresh), []);
  assertEquals(await fresh.get("/connection"), "4");
});

Deno.test("a subprocess of Node's that runs Deno is told, and no worker or watcher is taken for one", async () => {
  await using folder = scratch();
  writeApp(folder.path, "setInterval(() => {}, 1000);", "child.mjs");
  const app = writeApp(
    folder.path,
    `import { fork } from "node:child_process";
    fork("${folder.path}/child.mjs");
    export default { fetch: () => new Response() };`,
  );
  await using server = await startServer(["--watch"], { app });
  const pattern = /^subprocess \S+ \(pid (\d+)\): workers cannot talk to it/;
  const told = new Set<string>();
  for (let turn = 1;; turn++) {
    await until(() => linesOf(server).length === turn, "the line");
    const [, pid] = linesOf(server).at(-1)!.match(pattern) ?? fail(server.stderr);
    assertStringIncludes(Deno.readTextFileSync(`/proc/${pid}/cmdline`), "child.mjs");
    told.add(pid!);
    if (turn === 2) break;
    const old = server.workers;
    Deno.kill(server.pid, "SIGHUP");
    await server.replaced(old);
  }
  assertEquals(told.size, 2); // not the old code's
});

Deno.test("--strict: an app that holds something open is an error, and nothing is left behind", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `setInterval(() => {}, 1000);
    new Deno.Command("sleep", { args: ["1000"] }).spawn();
    export default { fetch: () => new Response() };`,
  );
  await using server = spawnServer(["--strict", "--pid-file", `${folder.path}/pid`], { app });
  const { code } = await server.ended();
  assertEquals(code, 1);
  const [first, ...lines] = server.stderr.trimEnd().split("\n");
  assertEquals(first, `error: Cannot serve ${app} with --strict:`);
  assertEquals(lines.length, 2, server.stderr);
  // Until it executes its program, it has Deno's name.
  const line = lines[0]!.match(/^Does not .*: subprocess \S+ \(pid (\d+)\), from .*app\.ts:2:/);
  assert(line !== null, lines[0]);
  assertMatch(
    lines[1]!,
    /^Does not survive the fork: interval of 1000 ms, from .*app\.ts:1:1: it /,
  );
  await until(() => {
    try {
      return Deno.readTextFileSync(`/proc/${line![1]}/comm`) !== "sleep\n";
    } catch {
      return true;
    }
  }, "the subprocess to end");
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
});

Deno.test("--strict: a reload with code that holds something open fails, and the old code serves on", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, `export default { fetch: () => new Response("old") };`);
  await using server = await startServer(["--strict"], { app });
  writeApp(
    folder.path,
    `setInterval(() => {}, 1000);
    export default { fetch: () => new Response("new") };`,
  );
  Deno.kill(server.pid, "SIGHUP");
  await server.logged(/^Does not survive the fork: interval of 1000 ms, from /m);
  await server.logged(/The new code cannot be loaded .*the old code stays in use/);
  assertEquals(await server.get("/"), "old");
  assert(!isPortFree(server.port));
});

Deno.test("with OpenTelemetry, the start says that it needs --no-preload, and the master ends", async () => {
  const received: string[] = [];
  await using collector = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      received.push(new URL(request.url).pathname);
      await request.arrayBuffer();
      return Response.json({});
    },
  );
  await using folder = scratch();
  const app = writeApp(folder.path, `export default { fetch: () => new Response("served") };`);
  await using server = await startServer(["--workers", "1"], {
    app,
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: "100",
      OTEL_BSP_SCHEDULE_DELAY: "50",
      OTEL_BLRP_SCHEDULE_DELAY: "50",
    },
  });
  assertEquals(linesOf(server), [
    "OpenTelemetry (OTEL_DENO): workers export nothing. Use --no-preload",
  ]);
  assertEquals(await server.get("/"), "served");
  // By then the exporter waits for the master's event loop, which does not run.
  await new Promise((resolve) => setTimeout(resolve, 400));
  Deno.kill(server.pid, "SIGTERM");
  const { code } = await within(server.ended(), 30_000, "the master's end");
  assertEquals(code, 0);
  assertEquals(received, []); // the master has nothing to export
});

/** A PostgreSQL server that lets everybody in, and never gets a query. */
function startDatabase(): { port: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    for await (const connection of listener) {
      const startup = new Uint8Array(1024);
      await connection.read(startup);
      // AuthenticationOk, ReadyForQuery.
      await connection.write(Uint8Array.of(82, 0, 0, 0, 8, 0, 0, 0, 0, 90, 0, 0, 0, 5, 73));
    }
  })();
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
    },
  };
}

Deno.test("a pg.Client that is connected at the top level is told of, and its queries say why they fail", async () => {
  await using database = startDatabase();
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `import pg from "npm:pg@8";
    const client = new pg.Client({ host: "127.0.0.1", port: ${database.port}, user: "u" });
    await client.connect();
    client.on("error", () => {});
    export default {
      fetch: () => client.query("select 1").then(() => new Response(), ({ message }) =>
        new Response(message)),
    };`,
    "app.js",
  );
  await using server = await startServer(["--workers", "1"], { app });
  const what = `connection to 127.0.0.1:${database.port}`;
  const [line, ...more] = linesOf(server);
  assertEquals(
    line?.replace(/:\d+: /, ": "),
    `${what}, from ${app}:3: workers cannot use it. Open it in onWorkerStart, or use --no-preload`,
  );
  assertEquals(more, []);
  const answer = await within(server.get("/"), 10_000, "the query's end");
  assertStringIncludes(
    answer,
    `Cannot use this ${what} in a worker: it was opened before the fork`,
  );
});

Deno.test("the threads of sharp are told of, if it was used at the top level; otherwise workers can use it", async () => {
  await using folder = scratch();
  const source = (atTop: string) =>
    `import sharp from "npm:sharp@0.34";
    const background = "red";
    const draw = () => sharp({ create: { width: 9, height: 9, channels: 3, background } })
      .resize(3, 3).raw().toBuffer();
    ${atTop}
    export default { fetch: async () => new Response(String((await draw()).length)) };`;
  const unused = writeApp(folder.path, source(""), "unused.js");
  await using server = await startServer(["--workers", "1"], { app: unused });
  assertEquals(linesOf(server), []);
  assertEquals(await server.get("/"), "27");
  const used = writeApp(folder.path, source("await draw();"), "used.js");
  await using other = await startServer(["--workers", "1"], { app: used });
  const [line, ...more] = linesOf(other);
  assertMatch(
    line!,
    /^(\d+ threads|thread) "libvips worker" \(sharp-.*\.node\): workers do not have/,
  );
  assertEquals(more, []);
});
