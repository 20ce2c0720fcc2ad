/** Programs that listen themselves, as `tine serve` takes them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import http2 from "node:http2";
import { readStatus } from "../server/prefork/status/status.ts";

import {
  ask,
  certificate,
  childrenOf,
  Client,
  exchange,
  isPortFree,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

/** Starts a program that listens itself, on the port that `--port 0` selects. */
async function startProgram(
  folder: string,
  source: string,
  args: string[] = [],
): Promise<Server> {
  return await startServer(args, { app: writeApp(folder, source, "main.ts") });
}

/** Starts a program whose own address counts: no `--port` is given. */
function spawnProgram(folder: string, source: string, args: string[] = []): Server {
  const app = writeApp(folder, source, "main.ts");
  return spawnServer(args, { app, ownAddress: true });
}

/** Waits until each worker has answered. */
async function allAnswer(server: Server, path = "/sleep", port = server.port): Promise<void> {
  const { workers } = server;
  const seen = new Set<number>();
  await until(async () => {
    const answers = Array.from({ length: 8 }, () => ask(port, path));
    for (const pid of await Promise.all(answers)) seen.add(Number(pid));
    return workers.every((pid) => seen.has(pid));
  }, "an answer of each worker");
}

/** Sees all workers answer, before and after a restart. */
async function allAnswerTwice(server: Server): Promise<void> {
  await allAnswer(server);
  await server.restarted();
  await allAnswer(server);
}

const SLEEP = "await new Promise((resolve) => setTimeout(resolve, 20));";

/** Each answers with its pid, after a moment. */
const PROGRAMS = {
  "Deno.serve(handler)":
    `Deno.serve(async () => { ${SLEEP} return new Response(\`\${Deno.pid}\`); });`,
  "Deno.serve(options, handler)":
    `Deno.serve({ port: 1 }, async () => { ${SLEEP} return new Response(\`\${Deno.pid}\`); });`,
  "Deno.serve({ handler })": `const server = Deno.serve({
     hostname: "127.0.0.1",
     handler: async () => { ${SLEEP} return new Response(\`\${Deno.pid}\`); },
   });
   server.unref();
   server.ref();`,
  "await server.finished": `
   const server = Deno.serve(async () => { ${SLEEP} return new Response(\`\${Deno.pid}\`); });
   await server.finished;`,
  "a late Deno.serve()": `setTimeout(() => {
     Deno.serve(async () => { ${SLEEP} return new Response(\`\${Deno.pid}\`); });
   }, 300);`,
  "http.createServer().listen(port)": `
   import http from "node:http";
   const server = http.createServer(async (_, response) => { ${SLEEP} response.end(\`\${Deno.pid}\`); });
   server.listen(1);`,
  "listen(port, host, backlog, callback)": `
   import { createServer } from "node:http";
   createServer(async (_, response) => { ${SLEEP} response.end(\`\${Deno.pid}\`); })
     .listen(1, "localhost", 100, () => console.log("listening"));`,
  "listen({ port, host })": `
   import { createServer } from "node:http";
   const server = createServer(async (_, response) => { ${SLEEP} response.end(\`\${Deno.pid}\`); });
   await new Promise((resolve) => server.listen({ port: 1, host: "127.0.0.1" }, resolve));`,
};

for (const [name, source] of Object.entries(PROGRAMS)) {
  Deno.test(`tine serve takes a program with ${name}, and every worker answers`, async () => {
    await using folder = scratch();
    await using server = await startProgram(folder.path, source);
    assertEquals(server.workers.length, 2);
    assertEquals(childrenOf(server.pid).length, 2);
    await allAnswerTwice(server);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  });
}

Deno.test("a program that awaits its server is served while its timers set others", async () => {
  const poll = "function poll() { setTimeout(poll, 500); }\npoll();\n";
  const awaiting = [PROGRAMS["listen({ port, host })"], PROGRAMS["await server.finished"]];
  await Promise.all(awaiting.map(async (source) => {
    await using folder = scratch();
    await using server = await startProgram(folder.path, poll + source);
    await allAnswer(server);
  }));
});

Deno.test("a program that listens and awaits nothing of its server is loaded to its end", async () => {
  await using folder = scratch();
  const source = `
   import http from "node:http";
   let answer = "early";
   http.createServer((_, response) => response.end(answer)).listen(1);
   for (let times = 0; times < 6; times++) await new Promise((resolve) => setTimeout(resolve, 500));
   answer = "late";`;
  await using server = await startProgram(folder.path, source);
  assertEquals(await ask(server.port, "/"), "late");
});

Deno.test("Deno.serve() returns in the master, and calls onListen once in each worker", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `const server = Deno.serve({
       port: 0,
       onListen: ({ port }) => console.log("onListen", Deno.pid, port === server.addr.port),
     }, () => new Response("hello"));
     console.log("returned", Deno.pid);
     server.finished.then(() => console.log("finished", Deno.pid));`,
  );
  const { workers } = server;
  assertEquals(await server.get("/"), "hello");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  const lines = server.stdout.trimEnd().split("\n");
  const pidsIn = (word: string) =>
    lines.filter((line) => line.startsWith(word)).map((line) => Number(line.split(" ")[1])).sort();
  assertEquals(pidsIn("returned"), [server.pid]);
  assertEquals(pidsIn("onListen"), workers.sort());
  assertEquals(pidsIn("finished"), workers.sort());
  assert(!server.stdout.includes("false"), server.stdout);
});

Deno.test("Deno.serve() calls onError, and its status is counted and logged", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `Deno.serve({ onError: (error) => new Response(error.message, { status: 503 }) }, (request) => {
       if (request.url.endsWith("/thrown")) throw new Error("thrown");
       return Promise.reject(new Error("rejected"));
     });`,
    ["--workers", "1", "--access-log", `${folder.path}/log`],
  );
  assertEquals(await server.get("/thrown"), "thrown");
  assertEquals(await server.get("/rejected"), "rejected");
  const [worker] = readStatus(server.pid).workers;
  assertEquals([worker!.requests, worker!.errors], [2, 2]);
  const statuses = await until(() => {
    const lines = [...Deno.readTextFileSync(`${folder.path}/log`).matchAll(/" (\d+) .*\n/g)];
    return lines.length >= 2 && lines.map(([, status]) => status);
  }, "two lines of the log");
  assertEquals(statuses, ["503", "503"]);
});

Deno.test("Deno.serve() ends with shutdown() and an aborted signal, in that worker only", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `const stopper = new AbortController();
     const server = Deno.serve({ signal: stopper.signal }, (request) => {
       if (request.url.endsWith("/abort")) setTimeout(() => stopper.abort(), 10);
       if (request.url.endsWith("/shutdown")) setTimeout(() => server.shutdown(), 10);
       return new Response(\`\${Deno.pid}\`);
     });
     server.finished.then(() => console.log("finished", Deno.pid));`,
    ["--workers", "3"],
  );
  const seen = [];
  for (const path of ["/abort", "/shutdown"]) {
    const pid = await ask(server.port, path);
    await server.printed(new RegExp(`finished ${pid}\\n`));
    seen.push(pid);
  }
  for (let i = 0; i < 10; i++) assert(!seen.includes(await ask(server.port, "/")));
});

Deno.test("a server of Node's reports its address and its events once, in each worker", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     const server = http.createServer((_, response) => response.end("hello"));
     server.on("listening", () => console.log("event", Deno.pid, server.address().port));
     server.on("close", () => console.log("close", Deno.pid));
     server.listen(0, () => console.log("callback", Deno.pid));
     console.log("returned", Deno.pid, server.listening);`,
  );
  const { workers, port } = server;
  assertEquals(await server.get("/"), "hello");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  const lines = server.stdout.trimEnd().split("\n").sort();
  const expected = workers.flatMap((pid) => [
    `callback ${pid}`,
    `close ${pid}`,
    `event ${pid} ${port}`,
  ]);
  assertEquals(lines, [...expected, `returned ${server.pid} true`].sort());
});

Deno.test("a server of Node's is counted, limited and logged", async () => {
  await using folder = scratch();
  const log = `${folder.path}/log`;
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     http.createServer((request, response) => {
       if (request.url === "/error") response.statusCode = 502;
       request.on("error", () => {});
       let size = 0;
       request.on("data", (data) => size += data.length);
       request.on("end", () => response.end(String(size)));
     }).listen();`,
    ["--workers", "1", "--access-log", log, "--access-log-format", "json"]
      .concat(["--max-body-bytes", "1000", "--max-header-bytes", "2000", "--body-timeout", "1"])
      .concat(["--header-timeout", "1", "--idle-timeout", "2"]),
  );
  assertEquals(await server.get("/a?b=c", { headers: { "user-agent": "me" } }), "0");
  assertEquals(await server.get("/error"), "0");
  const body = (size: number) => ({ method: "POST", body: "x".repeat(size) });
  assertEquals(await server.get("/", body(1000)), "1000");
  assertMatch(await server.get("/", body(1001)), /too large/);
  const stream = new Blob(["x".repeat(3000)]).stream();
  assertMatch(await server.get("/", { method: "POST", body: stream }), /too large/);
  assertMatch(await server.get("/", { headers: { long: "x".repeat(2000) } }), /too large/);
  const cut = (text: string) => exchange(server.port, text);
  assertMatch(
    await cut("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"),
    /^HTTP\/1.1 408 /,
  );
  assertMatch(await cut("GET / HTTP/1.1\r\nHost"), /^HTTP\/1.1 408 /); // half a header
  assertEquals(await cut(""), ""); // idle
  const lines = await until(() => {
    const lines = Deno.readTextFileSync(log).trimEnd().split("\n").map((line) => JSON.parse(line));
    return lines.length === 7 && lines;
  }, "a line for each request");
  assertEquals(lines.map(({ status }) => status), [200, 502, 200, 413, 413, 431, 408]);
  const [{ method, url, remote, bytes, user_agent, pid }] = lines;
  assertEquals({ method, url, remote, bytes, user_agent }, {
    method: "GET",
    url: "/a?b=c",
    remote: "127.0.0.1",
    bytes: 1,
    user_agent: "me",
  });
  const [worker] = readStatus(server.pid).workers;
  assertEquals([worker!.pid, worker!.requests, worker!.errors], [pid, 7, 1]);
  await until(() => readStatus(server.pid).workers[0]!.inFlight === 0, "no request in flight");
});

Deno.test("a server of Node's that is replaced finishes its requests and closes its connections", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     import { existsSync } from "node:fs";
     http.createServer((request, response) => {
       if (request.url === "/stream") response.write("begun ");
       const interval = setInterval(() => {
         if (request.url !== "/" && !existsSync("${folder.path}/go")) return;
         clearInterval(interval);
         response.end(String(Deno.pid));
       }, 10);
     }).listen();`,
    ["--workers", "1"],
  );
  const { workers: [old] } = server;
  using slow = await Client.connect(server.port);
  using stream = await Client.connect(server.port);
  using idle = await Client.connect(server.port);
  await slow.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  await stream.say("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
  await idle.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await idle.hears(`${old}`);
  await stream.hears("begun");
  server.kill("SIGHUP");
  await server.replaced([old!], 1);
  await until(
    () => readStatus(server.pid).workers.some(({ state }) => state === "stopping"),
    "the end of the old worker",
  );
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  // It still answers on the connections that it has, for the last time.
  await idle.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  for (const client of [slow, stream, idle]) await client.ends();
  assertMatch(slow.heard, new RegExp(`onnection: close[^]*${old}`));
  assertMatch(stream.heard, new RegExp(`${old}[^]*0\r\n\r\n$`));
  assertMatch(
    idle.heard,
    new RegExp(`onnection: keep-alive[^]*${old}[^]*onnection: close[^]*${old}`),
  );
  assert(await ask(server.port, "/") !== `${old}`);
});

Deno.test("a program's streams of HTTP/2 are requests, which a server that stops finishes", async () => {
  await using folder = scratch();
  const log = `${folder.path}/log`;
  await using server = await startProgram(
    folder.path,
    `import http2 from "node:http2";
     import { existsSync } from "node:fs";
     const server = http2.createServer(); // without a listener to "request", as gRPC's
     server.on("stream", (stream) => {
       const timer = setInterval(() => {
         if (!existsSync("${folder.path}/answer")) return;
         clearInterval(timer);
         stream.respond({ ":status": 201 });
         stream.end("answer");
       }, 20);
     });
     server.listen(1);`,
    ["--workers", "1", "--access-log", log, "--access-log-format", "json"],
  );
  const client = http2.connect(`http://localhost:${server.port}`);
  try {
    const goesAway = new Promise((resolve) => client.on("goaway", resolve));
    const stream = client.request({ ":path": "/a?b=c" });
    const answer = new Promise<string>((resolve, reject) => {
      let text = "";
      stream.on("data", (data: Uint8Array) => text += new TextDecoder().decode(data));
      stream.on("error", reject);
      stream.on("close", () => resolve(text));
    });
    const state = () => {
      const { requests, inFlight } = readStatus(server.pid).workers[0]!;
      return [requests, inFlight];
    };
    await until(() => state()[1] === 1, "the request");
    assertEquals(state(), [1, 1]);
    server.kill();
    // It closes idle connections at that time.
    await within(goesAway, 20_000, "GOAWAY");
    await new Promise((resolve) => setTimeout(resolve, 200));
    Deno.writeTextFileSync(`${folder.path}/answer`, "");
    assertEquals(await within(answer, 20_000, "the answer"), "answer");
    assertEquals(await server.ended(), { code: 0, signal: null });
  } finally {
    client.destroy();
  }
  const { method, url, status } = JSON.parse(Deno.readTextFileSync(log));
  assertEquals({ method, url, status }, { method: "GET", url: "/a?b=c", status: 201 });
});

Deno.test("a WebSocket on a server of Node's may be silent, and is closed with 1001", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     const server = http.createServer((_, response) => response.end("hello"));
     server.on("upgrade", (request, socket) => {
       socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n" +
         "Connection: Upgrade\\r\\n\\r\\n");
       socket.on("end", () => socket.end());
     });
     server.listen();`,
    ["--workers", "1", "--idle-timeout", "1", "--header-timeout", "1"],
  );
  using silent = await Client.connect(server.port);
  using client = await Client.connect(server.port);
  await client.say(
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  );
  await client.hears("101 Switching");
  await silent.ends(); // a connection without a request is closed
  assert(!client.closed);
  const counted = () => readStatus(server.pid).workers[0]!;
  await until(() => counted().connections === 1, "the end of the other connection");
  assertEquals(counted().requests, 1);
  server.kill();
  await client.hears("The server is restarting");
  client[Symbol.dispose]();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("a TCP server of Node's is shared, and its connections may be silent", async () => {
  await using folder = scratch();
  await using server = await startProgram(
    folder.path,
    `import net from "node:net";
     net.createServer((socket) => {
       socket.on("data", (data) => socket.write(data));
       socket.write(\`\${Deno.pid}\\n\`);
     }).listen(0, () => console.log("listening"));`,
    ["--idle-timeout", "0.5", "--header-timeout", "0.5"],
  );
  assertMatch(server.url, /^tcp /);
  server.port = Number(server.url.match(/:(\d+)$/)?.[1]);
  using first = await Client.connect(server.port);
  await first.hears("\n");
  const seen = new Set<number>();
  await until(async () => {
    using client = await Client.connect(server.port);
    await client.hears("\n");
    return seen.add(parseInt(client.heard)).size === 2;
  }, "an answer of each worker");
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await first.say("echo");
  await first.hears("echo");
  server.kill();
  await first.ends();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

/** Returns the paths of all UNIX sockets that listen. */
function readListening(): string[] {
  const LISTENING = "00010000"; // __SO_ACCEPTCON among the flags
  return Deno.readTextFileSync("/proc/net/unix").split("\n")
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([, , , flags, , , , path]) => flags === LISTENING && path ? [path] : []);
}

Deno.test("a worker starts the first server of node:http that its program has when it serves", async () => {
  await using folder = scratch();
  const [port] = freePorts();
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     let isAsked = false;
     export default {
       async fetch() {
         if (!isAsked) {
           isAsked = true;
           const server = http.createServer((_, response) => response.end("Node's"));
           await new Promise((resolve) => server.listen(${port}, "127.0.0.1", resolve));
         }
         return new Response("Deno's");
       },
     };`,
  );
  assertEquals(await server.get("/"), "Deno's");
  assertEquals(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "Node's");
});

Deno.test("each worker asks the master for the sockets that its program wants later", async () => {
  await using folder = scratch();
  const [port] = freePorts();
  const path = `${folder.path}/socket`;
  await using server = await startProgram(
    folder.path,
    `import http from "node:http";
     const sleep = () => new Promise((resolve) => setTimeout(resolve, 20));
     const answer = async () => { await sleep(); return new Response(\`\${Deno.pid}\`); };
     const server = http.createServer((_, response) => response.end());
     await new Promise((resolve) => server.listen(0, resolve));
     const { addr } = Deno.serve({ hostname: "127.0.0.1", port: ${port}, onListen() {} }, answer);
     console.log("later", addr.port);
     setTimeout(() => http.createServer((_, response) => response.end("path")).listen("${path}"), 50);`,
  );
  await server.printed(new RegExp(`later ${port}\nlater ${port}`));
  for (const generation of [1, 2, 3]) {
    await allAnswer(server, "/", port);
    await until(() => readListening().some((one) => one === path), "a server at the path");
    const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    assertEquals(await (await fetch("http://localhost/", { client })).text(), "path");
    client.close();
    const [worker] = server.workers;
    if (generation === 1) Deno.kill(worker!, "SIGKILL");
    if (generation === 2) server.kill("SIGHUP");
    await server.replaced(generation === 3 ? [] : generation === 2 ? server.workers : [worker!]);
  }
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  assert(!server.stderr.includes("EADDRINUSE"), server.stderr);
});

Deno.test("a program may close a server and listen on the same address again", async () => {
  await using folder = scratch();
  const [port] = freePorts();
  const source = `import http from "node:http";
    const probe = http.createServer();
    probe.listen(${port}, () => {
      const { port } = probe.address();
      probe.close(() => {
        http.createServer((_, response) => setTimeout(() => response.end(\`\${Deno.pid}\`), 20))
          .listen(port);
      });
    });`;
  for (const args of [[], ["--no-preload"]]) {
    await using server = await startProgram(folder.path, source, args);
    await allAnswerTwice(server);
    assert(!server.stderr.includes("EADDRINUSE"), server.stderr);
  }
});

for (const name of ["await server.finished", "listen({ port, host })"] as const) {
  Deno.test(`tine serve --no-preload takes a program with ${name}`, async () => {
    await using folder = scratch();
    await using server = await startProgram(folder.path, PROGRAMS[name], ["--no-preload"]);
    await allAnswerTwice(server);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  });
}

/** Two free ports. */
function freePorts(): [number, number] {
  using first = Deno.listen({ port: 0 });
  using second = Deno.listen({ port: 0 });
  return [first.addr.port, second.addr.port];
}

for (const mode of ["--preload", "--no-preload"]) {
  Deno.test(`a program's port is closed while a worker finishes a request, with ${mode}`, async () => {
    await using folder = scratch();
    const app = writeApp(
      folder.path,
      `Deno.serve({ port: 0 }, async (request) => new Response(await request.text()));`,
    );
    const args = mode === "--preload" ? [] : [mode];
    await using server = await startServer([...args, "--workers", "1"], { app });
    using client = await Client.connect(server.port);
    await client.say("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await until(() => readStatus(server.pid).workers[0]?.inFlight === 1, "the request");
    server.kill();
    await until(() => isPortFree(server.port), "the end of the listening socket");
    await client.say("ves");
    await client.hears("halves");
    assertEquals(await server.ended(), { code: 0, signal: null });
  });
}

Deno.test("a program with several servers has a shared socket for each", async () => {
  await using folder = scratch();
  const [one, other] = freePorts();
  const path = `${folder.path}/socket`;
  await using server = spawnProgram(
    folder.path,
    `import http from "node:http";
     const sleep = () => new Promise((resolve) => setTimeout(resolve, 20));
     Deno.serve({ port: ${one} }, async () => { await sleep(); return new Response(\`\${Deno.pid}\`); });
     http.createServer(async (_, response) => { await sleep(); response.end(\`\${Deno.pid}\`); })
       .listen(${other}, "127.0.0.1");
     http.createServer((_, response) => response.end("path")).listen("${path}");`,
  );
  const line = `Serving http://0.0.0.0:${one}/, unix:${path}, http://127.0.0.1:${other}/ with`;
  await server.logged(new RegExp(RegExp.escape(line)));
  for (const generation of [1, 2]) {
    await allAnswer(server, "/", one);
    await allAnswer(server, "/", other);
    const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    assertEquals(await (await fetch("http://localhost/", { client })).text(), "path");
    client.close();
    if (generation === 2) break;
    await server.restarted();
  }
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["main.ts"]);
});

/** Starts a program that cannot be served, and returns what it says. */
async function refused(folder: string, source: string, args: string[] = []): Promise<string> {
  await using server = spawnProgram(folder, source, args);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertEquals(server.stdout, "");
  assertMatch(server.stderr, /^error: [^\n]*\n$/);
  return server.stderr;
}

Deno.test("tine serve says in one line why a program cannot be served", async () => {
  await using folder = scratch();
  const [one, other] = freePorts();
  const two = `Deno.serve({ port: ${one} }, () => new Response());
    Deno.serve({ port: ${other} }, () => new Response());`;
  assertMatch(
    await refused(folder.path, two, ["--port", "0"]),
    new RegExp(`only to a program with one server.* 0.0.0.0:${one}, 0.0.0.0:${other}\n`),
  );
  assertMatch(await refused(folder.path, "export const app = 1;"), /has no default export/);
  const raw = `const listener = Deno.listen({ port: ${one} });
    for await (const connection of listener) connection.close();`;
  assertMatch(await refused(folder.path, raw), new RegExp(`listens on 0.0.0.0:${one} by other`));
  using _taken = Deno.listen({ port: one });
  for (
    const source of [
      `Deno.serve({ port: ${one} }, () => new Response());`,
      `import http from "node:http"; http.createServer().listen(${one}, "0.0.0.0");`,
      // Express 5 calls the program's callback with the error, which most programs ignore.
      `import http from "node:http";
       http.createServer().listen(${one}, "0.0.0.0").on("error", () => {});`,
      `try { Deno.serve({ port: ${one} }, () => new Response()); } catch { /* ignored */ }`,
    ]
  ) {
    assertMatch(await refused(folder.path, source), /EADDRINUSE/);
  }
});

Deno.test("a certificate is for each server of Deno's, and a server of Node's without one is refused", async () => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  const tls = ["--cert", cert, "--key", key, "--header-timeout", "1", "--idle-timeout", "1"];
  const source = `Deno.serve(({ url }) => new Response(new URL(url).protocol));`;
  for (const mode of [[], ["--no-preload"]]) {
    await using server = await startProgram(folder.path, source, [...tls, ...mode]);
    assertMatch(server.url, /^https:/);
    using client = Deno.createHttpClient({ caCerts: [Deno.readTextFileSync(cert)] });
    const response = await fetch(`https://localhost:${server.port}/`, { client });
    assertEquals(await response.text(), "https:");
    // No answer in plain text: the header of a request is not complete.
    assertEquals(await exchange(server.port, "\x16\x03\x01", 30_000), "");
  }
  const plain = `import http from "node:http"; http.createServer().listen(0);`;
  assertMatch(await refused(folder.path, plain, tls), /without encryption.*--cert/);
  await using server = spawnProgram(folder.path, plain, [...tls, "--no-preload"]);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /without encryption.*--cert/);
});

Deno.test("tine serve refuses a program that starts workers itself, and leaves nothing behind", async () => {
  await using folder = scratch();
  // The children would start more of them, were they not refused.
  const isChild = `if (Deno.env.has("NODE_UNIQUE_ID")) Deno.exit();`;
  const cluster = `import cluster from "node:cluster";
    import http from "node:http";
    ${isChild}
    if (cluster.isPrimary) cluster.fork();
    else http.createServer().listen(0);`;
  const later = `import { fork } from "node:cluster";
    ${isChild}
    setTimeout(fork, 50);`;
  for (const source of [cluster, later]) {
    assertMatch(await refused(folder.path, source), /it uses node:cluster/);
  }
  const nested = `import { servePrefork } from "${new URL("../mod.ts", import.meta.url)}";
    await servePrefork({ fetch: () => new Response() }, { port: 0, workers: 1 });`;
  assertMatch(await refused(folder.path, nested), /cannot call servePrefork\(\)/);
});

Deno.test("a program that listens itself may export what its workers run", async () => {
  await using folder = scratch();
  const body = `http.createServer((_, response) => response.end(String(started))).listen(1);
    let started;
    const onWorkerStart = async (worker) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      started = worker.pid;
    };
    const onWorkerStop = ({ number }) => console.log("stopped", number);`;
  const programs = {
    "main.ts": `import http from "node:http"; ${body} export { onWorkerStart, onWorkerStop };`,
    "main.cjs": `const http = require("node:http"); ${body}
      Object.assign(exports, { onWorkerStart, onWorkerStop });`,
  };
  for (const [name, source] of Object.entries(programs)) {
    const app = writeApp(folder.path, source, name);
    for (const mode of [[], ["--no-preload"]]) {
      await using server = await startServer(["--workers", "1", ...mode], { app });
      assertEquals(await server.get("/"), String(server.workers[0]));
      server.kill();
      assertEquals(await server.ended(), { code: 0, signal: null });
      assertEquals(server.stdout, "stopped 1\n");
    }
  }
});

Deno.test("a program finds its worker's number in TINE_WORKER", async () => {
  await using folder = scratch();
  const source = `const loaded = Deno.env.get("TINE_WORKER");
    Deno.serve(() => Response.json([loaded ?? null, Deno.env.get("TINE_WORKER"), Deno.pid]));`;
  for (const [args, isLoadedInWorker] of [[[], false], [["--no-preload"], true]] as const) {
    await using server = await startProgram(folder.path, source, [...args]);
    const numbers = new Map(readStatus(server.pid).workers.map(({ pid, number }) => [pid, number]));
    const seen = new Set<string>();
    await until(async () => {
      const [loaded, number, pid] = JSON.parse(await ask(server.port, "/"));
      assertEquals(Number(number), numbers.get(pid));
      assertEquals(loaded, isLoadedInWorker ? number : null);
      return seen.add(number).size === 2;
    }, "an answer of each worker");
  }
});
