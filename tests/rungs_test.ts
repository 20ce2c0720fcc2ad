/** What an app and its clients can rely on, whichever model serves: each behaviour on each rung. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { onEachRung as testOnEachRung } from "./rungs.ts";
import {
  ask,
  certificate,
  childrenOf,
  Client,
  descriptorsOf,
  exchange,
  handles,
  isPortFree,
  readAll,
  ROOT,
  scratch,
  type Server,
  startServer,
  until,
  within,
} from "./support.ts";

const APP = new URL("tests/conformance/gateway_app.ts", ROOT).pathname;
const CLOSE = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const REQUEST = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;

const RUNGS = {
  iterative: ["--model", "iterative"],
  forking: ["--model", "forking"],
  prefork: ["--model", "prefork", "--workers", "2"],
};
type Rung = keyof typeof RUNGS;

/** Starts the app on the current rung. */
type Start = (...args: string[]) => Promise<Server>;

/** Tests a behavior of the app on each rung. */
function onEachRung(behavior: string, test: (start: Start, rung: Rung) => Promise<void>): void {
  testOnEachRung(RUNGS, behavior, (args, rung) => {
    return test((...others) => startServer([...args, ...others], { app: APP }), rung);
  });
}

onEachRung("a connection is kept open for several requests", async (start) => {
  await using server = await start();
  using client = await Client.connect(server.port);
  for (let i = 1; i <= 3; i++) {
    await client.say(REQUEST("/"));
    await until(() => client.heard.split("the gateway's app\n").length === i + 1, "an answer");
  }
  assert(!client.closed);
});

onEachRung("bodies stream both ways at the same time, whatever their size", async (start) => {
  await using server = await start();
  {
    using client = await Client.connect(server.port);
    await client.say("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    // Each piece comes back before the next is sent.
    for (const word of ["one", "two", "six"]) {
      await client.say(`3\r\n${word}\r\n`);
      await client.hears(`3\r\n${word}\r\n`);
    }
    await client.say("0\r\n\r\n");
    await client.hears("\r\n0\r\n\r\n");
  }
  const body = new Uint8Array(5_000_000).map((_, i) => i);
  const echo = await server.get("/echo", { method: "POST", body });
  assertEquals(echo.length, new TextDecoder().decode(body).length);
});

onEachRung("a WebSocket may be silent for longer than --idle-timeout", async (start) => {
  await using server = await start("--idle-timeout", "0.5");
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/websocket`);
  const messages: string[] = [];
  socket.onmessage = ({ data }) => messages.push(data);
  await within(new Promise((resolve) => socket.onopen = resolve), 15_000, "the upgrade");
  socket.send("hello");
  await until(() => messages[0] === "echo hello", "the echo");
  await new Promise((resolve) => setTimeout(resolve, 1200));
  socket.send("again");
  await until(() => messages[1] === "echo again", "the second echo");
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await within(closed, 15_000, "the end");
  // The server has seen the end too.
  assertStringIncludes(await ask(server.port, "/"), "app");
});

onEachRung(
  "the app is told the client's and the server's address as under deno serve",
  async (start) => {
    await using four = await start("--host", "127.0.0.1");
    using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    socket.bind(["127.0.0.2", 0]);
    socket.connect(["127.0.0.1", four.port]);
    socket.sendall(new TextEncoder().encode(`GET /who ${CLOSE}`));
    let answer = "";
    for (let data; (data = socket.recv(4096)).length > 0;) answer += new TextDecoder().decode(data);
    const [hostname, port] = socket.getsockname() as tine.InetAddress;
    const { url, addr } = JSON.parse(answer.split("\r\n\r\n")[1]!);
    assertEquals([url, addr], ["http://x/who", { transport: "tcp", hostname, port }]);
    const [, listening] = await four.printed(/^listening (.*)$/m);
    assertEquals(JSON.parse(listening!), {
      transport: "tcp",
      hostname: "127.0.0.1",
      port: four.port,
    });
    assertStringIncludes(
      await exchange(four.port, "GET /who HTTP/1.0\r\n\r\n"),
      `"http://localhost:${four.port}/who"`,
    );
    await using six = await start("--host", "::1");
    assertEquals(six.url, `http://[::1]:${six.port}/`);
    using client = await Deno.connect({ hostname: "::1", port: six.port });
    await client.write(new TextEncoder().encode(`GET /who ${CLOSE}`));
    assertStringIncludes(await readAll(client), `"hostname":"::1","port":${client.localAddr.port}`);
  },
);

onEachRung("a UNIX socket is served with the URLs of deno serve, and removed", async (start) => {
  await using folder = scratch();
  const path = `${folder.path}/a b.sock`;
  await using server = await start("--unix", path);
  const send = async (request: string) => {
    using client = await Deno.connect({ transport: "unix", path });
    await client.write(new TextEncoder().encode(request));
    return JSON.parse((await readAll(client)).split("\r\n\r\n")[1]!);
  };
  const named = await send(`GET /who ${CLOSE}`);
  assertEquals(named.url, "http+unix://x/who");
  assertEquals(named.addr, { transport: "unix", path });
  const host = encodeURIComponent(path).replaceAll(".", "%2E").replaceAll("_", "%5F");
  assertEquals((await send("GET /who HTTP/1.0\r\n\r\n")).url, `http+unix://${host}/who`);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

onEachRung("HTTPS is served with a certificate", async (start) => {
  await using folder = scratch();
  const { cert, key } = await certificate(folder.path);
  await using server = await start("--cert", cert, "--key", key);
  assertMatch(server.url, /^https:/);
  const caCerts = [await Deno.readTextFile(cert)];
  using client = Deno.createHttpClient({ caCerts, poolMaxIdlePerHost: 0 });
  const response = await fetch(`https://localhost:${server.port}/who`, { client });
  assertEquals((await response.json()).url, `https://localhost:${server.port}/who`);
});

onEachRung("idle connections, and those with a slow header, are closed", async (start, rung) => {
  const header = rung === "prefork" ? ["--header-timeout", "0.6"] : [];
  await using server = await start("--idle-timeout", "0.6", ...header);
  using idle = await Client.connect(server.port);
  await idle.say(REQUEST("/"));
  await idle.hears("app");
  await idle.ends();
  using slow = await Client.connect(server.port);
  await slow.say("GET / HT");
  await slow.ends();
  using silent = await Client.connect(server.port);
  await silent.ends();
  // None of these timeouts applies to a running request.
  assertEquals(await ask(server.port, "/slow?1"), "slept 1\n");
});

onEachRung(
  "a client that stops sending a body, or reading a response, blocks others only until a timeout",
  async (start, rung) => {
    const limit = {
      iterative: [],
      forking: ["--max-connections", "2"],
      prefork: ["--max-connections", "2", "--workers", "1", "--body-timeout", "0.8"],
    };
    await using server = await start("--idle-timeout", "0.8", ...limit[rung]);
    for (
      const request of [
        "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        REQUEST("/flood"),
      ]
    ) {
      await using stalled = new AsyncDisposableStack();
      for (let i = 0; i < (rung === "iterative" ? 1 : 2); i++) {
        const client = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
        stalled.use(client);
        await client.write(new TextEncoder().encode(request));
      }
      const answer = ask(server.port, "/");
      assertEquals(
        await within(answer, 15_000, `an answer beside ${request}`),
        "the gateway's app\n",
      );
    }
    // A body may take longer than the timeout.
    using slow = await Client.connect(server.port);
    await slow.say("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
    for (let i = 0; i < 10; i++) {
      await slow.say("x");
      await new Promise((resolve) => setTimeout(resolve, 120));
    }
    await slow.hears("10 bytes\n");
  },
);

onEachRung("a stalled body is answered with 408", async (start, rung) => {
  const limit = rung === "prefork" ? ["--body-timeout", "0.3"] : ["--idle-timeout", "0.3"];
  await using server = await start(...limit);
  using client = await Client.connect(server.port);
  await client.say("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  await client.ends();
  assertMatch(client.heard, /^HTTP\/1\.1 408 /);
});

onEachRung("a handler that throws results in status 500", async (start) => {
  await using server = await start();
  assertMatch(await exchange(server.port, `GET /throw ${CLOSE}`), /^HTTP\/1.1 500 /);
  assertEquals(await ask(server.port, "/"), "the gateway's app\n");
  assertStringIncludes(server.stderr, "thrown by the handler");
});

onEachRung(
  "the app may finish for a client that is gone, but not for ever",
  async (start, rung) => {
    await using server = await start("--idle-timeout", "1");
    {
      using client = await Client.connect(server.port);
      await client.say(REQUEST("/slow?0.3"));
    }
    await server.printed(/slow is over/);
    {
      using client = await Client.connect(server.port);
      await client.say(REQUEST("/endless"));
      await client.hears("and on");
    }
    await server.printed(/cancelled/);
    {
      using client = await Client.connect(server.port);
      await client.say(REQUEST("/never"));
    }
    assertEquals(await ask(server.port, "/"), "the gateway's app\n");
    if (rung === "forking") {
      await until(() => childrenOf(server.pid).length === 0, "the children's end");
    }
  },
);

onEachRung(
  "signals that mean nothing to a server, and a pause, cost nobody anything",
  async (start) => {
    await using server = await start();
    using client = await Client.connect(server.port);
    await client.say(REQUEST("/slow?0.5"));
    await server.printed(/slow begins/);
    for (const signal of ["SIGCHLD", "SIGWINCH", "SIGSTOP", "SIGCONT", "SIGCHLD"] as const) {
      server.kill(signal);
    }
    await client.hears("slept 0.5\n");
    client[Symbol.dispose]();
    assertEquals(await ask(server.port, "/"), "the gateway's app\n");
    assertEquals(server.stderr.match(/error|EINTR/i), null, server.stderr);
  },
);

onEachRung("descriptors of connections that have ended are closed", async (start, rung) => {
  await using server = await start();
  await ask(server.port, "/file");
  const family = [server.pid, ...(rung === "prefork" ? server.workers : [])];
  const waiting = family.filter((pid) => rung === "iterative" || pid !== server.pid);
  // Half a second after its start Deno opens what its signal handlers need, if its loop turns.
  await until(() => waiting.every((pid) => handles(pid, 1)), "Deno's own handler of SIGHUP");
  const count = () => family.map((pid) => descriptorsOf(pid).size);
  for (let i = 0; i < 10; i++) await ask(server.port, "/");
  const before = count();
  for (let i = 0; i < 50; i++) await ask(server.port, "/");
  await until(() => count().every((size, i) => size <= before[i]!), `${before} descriptors`);
});

onEachRung("SIGTERM frees the port, and requests in flight finish", async (start) => {
  await using server = await start("--grace", "20");
  using busy = await Client.connect(server.port);
  await busy.say("POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nhe");
  await server.printed(/length begins/);
  // Half a second after its start, Deno has handlers of its own.
  await new Promise((resolve) => setTimeout(resolve, 700));
  server.kill("SIGTERM");
  await until(() => isPortFree(server.port), "the port to be free");
  // A child of the forking rung looks every 200 ms whether the server stops.
  await new Promise((resolve) => setTimeout(resolve, 500));
  await busy.say("re");
  await busy.hears("4 bytes\n");
  assertStringIncludes(busy.heard.toLowerCase(), "connection: close");
  await busy.ends();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assertMatch(server.stdout, /^stop \d+$/m);
});

onEachRung("SIGTERM ends idle connections, and the server long before --grace", async (start) => {
  await using server = await start("--grace", "60");
  using idle = await Client.connect(server.port);
  await idle.say(REQUEST("/"));
  await idle.hears("app");
  const begin = performance.now();
  server.kill("SIGTERM");
  await idle.ends();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assert(performance.now() - begin < 30_000);
});

onEachRung("a second SIGTERM ends the server immediately, whatever is in flight", async (start) => {
  await using server = await start("--grace", "60");
  using busy = await Client.connect(server.port);
  await busy.say(REQUEST("/slow?60"));
  await server.printed(/slow begins/);
  server.kill("SIGTERM");
  await until(() => isPortFree(server.port), "the server to stop");
  // Two that come at almost the same time may be one request that was sent twice.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert(!busy.closed);
  server.kill("SIGTERM");
  await busy.ends();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
});

onEachRung("two SIGINTs that come together are one", async (start) => {
  for (let attempt = 1;; attempt++) {
    await using server = await start("--grace", "60");
    using busy = await Client.connect(server.port);
    await busy.say(REQUEST("/slow?1"));
    await server.printed(/slow begins/);
    // As `deno task` does with a terminal's: it passes on what the server has already got.
    const first = performance.now();
    server.kill("SIGINT");
    await until(() => isPortFree(server.port), "the server to stop");
    server.kill("SIGINT");
    const isInTime = performance.now() - first < 300; // not so on a busy machine
    if (isInTime) await busy.hears("slept");
    await busy.ends();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    if (isInTime) break;
    assert(attempt < 20, "the second SIGINT came too late each time");
  }
});
