import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  certificate,
  descriptorsOf,
  handles,
  listeningPorts,
  processState,
  scratch,
  type Server,
  type ServerOptions,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

const APP = `
if (Deno.env.has("OTHER_DENO")) {
  // As if Deno kept what lies behind a request elsewhere.
  Object.defineProperty(Symbol.prototype, "description", { value: "unknown" });
}
const all = async (stream) => {
  let text = "";
  for await (const chunk of stream) {
    text += typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk);
  }
  return text;
};
/** How an app may read a body. */
const ways = {
  "text": (request) => request.text(),
  "blob": async (request) => (await request.blob()).text(),
  "stream": (request) => all(request.body),
  "text stream": (request) => all(request.textStream?.() ?? request.body),
  "prototype": (request) => Request.prototype.text.call(request),
  "response": (request) => new Response(request.body).text(),
  "copy": (request) => new Request(request).text(),
  "copy of a copy": (request) => new Request(new Request(request, { headers: {} })).text(),
  "clone": (request) => request.clone().text(),
  "clone of a clone": (request) => request.clone().clone().text(),
  "cloned": (request) => (request.clone(), request.text()),
  "both": async (request) => (await Promise.all([request.clone().text(), request.text()]))[1],
  "body, then clone": (request) => (request.body, request.clone().text()),
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** The paths of all requests for computations. */
const computed = [];
export default {
  fetch(request) {
    const [, ms] = /compute.ms=([0-9]+)/.exec(request.url) ?? [];
    if (ms !== undefined) {
      const end = performance.now() + Number(ms);
      while (performance.now() < end);
      computed.push(new URL(request.url).pathname);
      return new Response("computed");
    }
    const answer = this.answer(request);
    // Deno waits for whatever can be waited for.
    return request.url.endsWith("/text?lazy")
      ? { then: (...args) => answer.then(...args) }
      : answer;
  },
  async answer(request) {
    if (!URL.canParse(request.url)) {
      const { url, method } = request;
      let isImmutable = false;
      try {
        request.headers.set("x-new", "1");
      } catch {
        isImmutable = true;
      }
      return new Response([method, url, isImmutable, await request.text()].join(" "));
    }
    const { pathname, searchParams } = new URL(request.url);
    const ms = Number(searchParams.get("ms"));
    switch (pathname) {
      case "/read":
        return new Response((await ways[searchParams.get("way")](request)).length + " read");
      case "/sleep":
        await sleep(ms);
        return new Response("slept");
      case "/computed":
        return Response.json(computed);
      case "/events":
        return new Response(new ReadableStream({
          async start(controller) {
            controller.enqueue(new TextEncoder().encode("first "));
            await sleep(ms);
            controller.enqueue(new TextEncoder().encode("last"));
            controller.close();
          },
        }));
      case "/late":
      case "/first": {
        const reader = request.body.getReader({ mode: "byob" });
        if (pathname === "/first") await reader.read(new Uint8Array(1));
        return new Response(new ReadableStream({
          async start(controller) {
            controller.enqueue(new TextEncoder().encode("first "));
            await sleep(ms);
            let bytes = 0;
            try {
              for (;;) {
                const { done, value } = await reader.read(new Uint8Array(5000));
                if (done) break;
                bytes += value.length;
              }
            } catch (error) {
              console.error("the app gets", error.message);
            }
            controller.enqueue(new TextEncoder().encode(bytes + " late"));
            controller.close();
          },
        }));
      }
      case "/big":
        return new Response(new Uint8Array(30_000_000));
      case "/text":
        return new Response((await request.text()).length + " read");
      case "/stream": {
        let bytes = 0;
        for await (const chunk of request.body) bytes += chunk.length;
        return new Response(bytes + " read");
      }
      case "/echo":
        return new Response(request.body);
      case "/careless":
        await request.text().catch(() => {});
        return new Response("the app does not care");
      case "/hoard": {
        const files = [];
        try {
          for (;;) files.push(Deno.openSync("/dev/null"));
        } catch {
          await sleep(ms);
        }
        for (const file of files) file.close();
        return new Response("let go");
      }
      case "/touch":
        return new Response("used: " + request.bodyUsed);
      case "/cancel":
        await request.body.cancel();
        return new Response("canceled");
      case "/cloned":
        request.clone();
        return new Response("cloned");
      case "/background":
        request.text().catch(() => {});
        return new Response("accepted");
      case "/throw":
        throw new Error("as the test wants it");
      case "/ws": {
        await sleep(ms);
        // Some frameworks hand on a request of their own.
        const own = searchParams.has("proxy") ? new Proxy(request, {}) : request;
        const { socket, response } = Deno.upgradeWebSocket(own, { idleTimeout: 0 });
        socket.onmessage = ({ data }) => socket.send("heard " + data);
        return response;
      }
      case "/ws-refused":
        try {
          return Deno.upgradeWebSocket(request).response;
        } catch {
          return new Response("no WebSocket");
        }
    }
    return new Response("Hello, World!");
  },
};
`;

/** A server with one worker, so that it is known who has a connection. */
async function serve(args: string[], options: ServerOptions = {}): Promise<Server> {
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  return await startServer(["--workers", "1", ...args], { app, ...options });
}

/** A client that says what it wants when it wants. */
class Client implements Disposable {
  readonly opened = performance.now();
  constructor(readonly connection: Deno.Conn) {}

  static async connect({ port }: Server): Promise<Client> {
    return new Client(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async say(text: string): Promise<void> {
    await this.connection.write(new TextEncoder().encode(text));
  }

  /** Says it again and again, until the server does not hear any more. */
  async repeat(text: string, ms: number): Promise<void> {
    try {
      for (;;) {
        await this.say(text);
        await new Promise((resolve) => setTimeout(resolve, ms));
      }
    } catch {
      // closed
    }
  }

  /** What comes next. */
  async hear(): Promise<string> {
    const buffer = new Uint8Array(65536);
    const count = await within(this.connection.read(buffer), 15_000, "the server's answer");
    return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
  }

  /** All that comes until the server closes, and how many seconds after the connection that is. */
  async end(): Promise<{ text: string; seconds: number }> {
    const text = await within(this.#readAll(), 15_000, "the server to close");
    return { text, seconds: (performance.now() - this.opened) / 1000 };
  }

  async #readAll(): Promise<string> {
    const buffer = new Uint8Array(65536);
    let text = "";
    try {
      for (let count; (count = await this.connection.read(buffer)) !== null;) {
        text += new TextDecoder().decode(buffer.subarray(0, count));
      }
    } catch (error) {
      // A client that is still sending may get no other end.
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
    return text;
  }

  [Symbol.dispose](): void {
    try {
      this.connection.close();
    } catch {
      // already closed
    }
  }
}

/** The states of the connections to a port, on the server's side, as the kernel numbers them. */
function connections(port: number): string[] {
  const own = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // sl, local address, remote address, state
  return Deno.readTextFileSync("/proc/net/tcp").split("\n")
    .map((line) => line.trim().split(/ +/))
    .filter(([, local, , state]) => local?.endsWith(own) && state !== "0A") // LISTEN
    .map(([, , , state]) => state!);
}

/** How many connections to a port are open on the server's side. */
function established(port: number): number {
  return connections(port).filter((state) => state === "01").length;
}

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`;
}

function post(path: string, length: number, body = ""): string {
  return `POST ${path} HTTP/1.1\r\nHost: test\r\nContent-Length: ${length}\r\n\r\n${body}`;
}

Deno.test("--header-timeout answers an unfinished header with 408 while others are served", async () => {
  await using server = await serve(["--header-timeout", "0.6"]);
  using slow = await Client.connect(server);
  const header = slow.repeat("x", 200);
  const ending = slow.end();
  using other = await Client.connect(server);
  let served = 0;
  const ended = ending.then(() => true);
  while (
    !await Promise.race([
      ended,
      other.say(get("/")).then(() => other.hear()).then(() => false),
    ])
  ) {
    served++;
  }
  const { text, seconds } = await ending;
  assertStringIncludes(text, "HTTP/1.1 408 Request Timeout\r\n");
  assertStringIncludes(text, "connection: close\r\n");
  assert(seconds >= 0.6 && seconds < 10, `closed after ${seconds} seconds`);
  assert(served > 1, "the other client was not served");
  await header;
});

Deno.test("--header-timeout closes a connection without data, or with an unfinished second header", async () => {
  await using server = await serve(["--header-timeout", "0.4"]);
  using silent = await Client.connect(server);
  using second = await Client.connect(server);
  await second.say(get("/"));
  assertMatch(await second.hear(), /Hello, World!$/);
  // The kernel's clock, which determines the order, may tick only every 10 milliseconds.
  await new Promise((resolve) => setTimeout(resolve, 30));
  await second.say("GET /half HTT");
  assertEquals((await silent.end()).text, "");
  assertMatch((await second.end()).text, /^HTTP\/1\.1 408 /);
});

/** The paths of all requests that the app has computed something for. */
async function computedOf(client: Client): Promise<string[]> {
  await client.say("GET /computed HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  return JSON.parse((await client.end()).text.split("\r\n\r\n")[1]!);
}

for (const protocol of ["HTTP", "HTTPS"]) {
  Deno.test(`--header-timeout spares requests that wait for the worker, with ${protocol}`, async () => {
    await using folder = scratch();
    const { cert, key } = await certificate(folder.path);
    const secure = protocol === "HTTPS";
    const tls = secure ? ["--cert", cert, "--key", key] : [];
    // A busy machine needs a while for the clients' side of 60 handshakes.
    const [timeout, ms] = secure ? ["1", 35] : ["0.4", 15];
    await using server = await serve([
      "--header-timeout",
      timeout,
      "--idle-timeout",
      timeout,
      ...tls,
    ]);
    const caCerts = [await Deno.readTextFile(cert)];
    const connect = async () =>
      new Client(
        secure
          ? await Deno.connectTls({ hostname: "localhost", port: server.port, caCerts })
          : await Deno.connect({ hostname: "127.0.0.1", port: server.port }),
      );
    const clients = await Promise.all(Array.from({ length: 60 }, connect));
    const answers: string[] = [];
    // Each waits for its turn for longer than the timeout.
    const end = performance.now() + 3000;
    const working = Promise.all(clients.map(async (client) => {
      try {
        do {
          await client.say(get(`/compute?ms=${ms}`));
          answers.push((await client.hear()).replace(/^[^]*\r\n\r\n/, ""));
        } while (performance.now() < end);
      } catch (error) {
        answers.push(String(error));
      }
    }));
    using slow = await connect();
    await slow.say("GET /half HTT");
    if (secure) await assertRejects(() => slow.end(), Deno.errors.UnexpectedEof);
    else assertMatch((await slow.end()).text, /^HTTP\/1\.1 408 /);
    await working;
    assertEquals(answers, answers.map(() => "computed"));
    using counting = await connect();
    assertEquals((await computedOf(counting)).length, answers.length);
    for (const client of clients) client[Symbol.dispose]();
  });
}

Deno.test("a request that the app gets is never answered with 408, however late its header is complete", async () => {
  await using server = await serve(["--header-timeout", "0.4"]);
  using busy = await Client.connect(server);
  let done = false;
  const working = (async () => {
    while (!done) {
      await busy.say(get("/compute?ms=30"));
      await busy.hear();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  })();
  // They complete their headers before, while and after the timeout expires.
  const answers = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    using client = await Client.connect(server);
    await client.say(`GET /late/${i}/compute?ms=1 HTTP/1.1\r\n`);
    const ending = client.end().catch(() => ({ text: "" }));
    await new Promise((resolve) => setTimeout(resolve, 60 * i));
    await client.say("Host: test\r\nConnection: close\r\n\r\n").catch(() => {});
    return (await ending).text;
  }));
  done = true;
  await working;
  const computed = await computedOf(busy);
  const outcomes = answers.map((text, i) => {
    const isComputed = computed.includes(`/late/${i}/compute`);
    return `${isComputed ? "computed" : "not computed"}, ${text.split("\r\n")[0] || "closed"}`;
  });
  assertEquals(outcomes.filter((one) => /^computed.*408|^not.*200/.test(one)), []);
  assert(outcomes.includes("computed, HTTP/1.1 200 OK"), "none was in time");
  assert(outcomes.includes("not computed, HTTP/1.1 408 Request Timeout"), "none was late");
});

/** An HTTP/2 frame, RFC 9113 section 4.1. */
function frame(type: number, flags: number, stream: number, payload: number[]): number[] {
  return [0, 0, payload.length, type, flags, 0, 0, 0, stream, ...payload];
}

Deno.test("HTTP/2 without TLS is idle after a response, and never gets HTTP/1.1", async () => {
  await using server = await serve(["--header-timeout", "0.3", "--idle-timeout", "1.5"]);
  using client = await Client.connect(server);
  using unused = await Client.connect(server);
  const preface = [
    ...new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ...frame(4, 0, 0, []), // SETTINGS
  ];
  await unused.connection.write(Uint8Array.from(preface));
  await client.connection.write(Uint8Array.from([
    ...preface,
    // HEADERS that end the stream: GET / of http, with the authority "x"
    ...frame(1, 5, 1, [0x82, 0x84, 0x86, 0x41, 1, 0x78]),
  ]));
  let text = "";
  while (!text.includes("Hello, World!")) text += await client.hear();
  // The kernel's clock, which tells what came first, may tick only every 10 milliseconds.
  await new Promise((resolve) => setTimeout(resolve, 30));
  await client.connection.write(Uint8Array.from(frame(8, 0, 0, [0, 0, 0, 1]))); // WINDOW_UPDATE
  const { text: rest, seconds } = await client.end();
  assert(!(text + rest).includes("HTTP/1.1"), text + rest);
  assert(seconds >= 1.5, `closed after ${seconds} seconds`);
  assert(!(await unused.end()).text.includes("HTTP/1.1"));
});

Deno.test("--idle-timeout closes an idle connection, not earlier and not by the header's limit", async () => {
  await using server = await serve(["--idle-timeout", "1.2", "--header-timeout", "0.2"]);
  using client = await Client.connect(server);
  await client.say(get("/"));
  assertMatch(await client.hear(), /Hello, World!$/);
  await new Promise((resolve) => setTimeout(resolve, 700)); // idle, for less than the limit
  await client.say(get("/"));
  assertMatch(await client.hear(), /Hello, World!$/);
  const { text, seconds } = await client.end();
  assertEquals(text, "");
  assert(seconds >= 1.8, `closed after ${seconds} seconds`);
});

Deno.test("timeouts do not affect a slow handler, an idle stream or a WebSocket", async () => {
  const all = ["--header-timeout", "0.6", "--idle-timeout", "0.6", "--body-timeout", "0.6"];
  await using server = await serve(all);
  using slow = await Client.connect(server);
  await slow.say(get("/sleep?ms=1500"));
  using posting = await Client.connect(server);
  await posting.say(post("/sleep?ms=1500", 2, "xx"));
  using quiet = await Client.connect(server);
  await quiet.say(get("/events?ms=1500"));
  const socket = await openWebSocket(server, "/ws");
  assertMatch(await slow.hear(), /slept$/);
  assertMatch(await posting.hear(), /slept$/);
  assertMatch((await quiet.end()).text, /first[^]*last/);
  await useWebSocket(socket);
});

async function openWebSocket(server: Server, path: string): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}`);
  await within(new Promise((resolve) => socket.onopen = resolve), 15_000, "the WebSocket to open");
  return socket;
}

/** Asks over a WebSocket, waits for the answer, and closes it. */
async function useWebSocket(socket: WebSocket): Promise<void> {
  const heard = new Promise((resolve) => socket.onmessage = ({ data }) => resolve(data));
  socket.send("me");
  assertEquals(await within(heard, 15_000, "the WebSocket's answer"), "heard me");
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await within(closed, 15_000, "the WebSocket to close");
}

Deno.test("timeouts do not affect WebSockets, but all other connections", async () => {
  await using server = await serve(["--idle-timeout", "0.6"]);
  // While those wait that are upgraded later, others are.
  const sockets = await Promise.all(
    ["/ws", "/ws?ms=100", "/ws?ms=50&proxy", "/ws?proxy", "/ws?ms=150&proxy"]
      .map((path) => openWebSocket(server, path)),
  );
  using refused = await Client.connect(server);
  await refused.say(get("/ws-refused"));
  assertMatch(await refused.hear(), /no WebSocket$/);
  using idle = await Client.connect(server);
  await idle.say(get("/"));
  assertMatch(await idle.hear(), /Hello, World!$/);
  await Promise.all([refused.end(), idle.end()]);
  for (const socket of sockets) await useWebSocket(socket);
});

Deno.test("--idle-timeout closes a connection whose client does not read", async () => {
  await using server = await serve(["--idle-timeout", "0.5"]);
  const [worker] = server.workers;
  using client = await Client.connect(server);
  await client.say(get("/big"));
  assertEquals(established(server.port), 1);
  await until(() => established(server.port) === 0, "the connection to be closed");
  // Nor does the kernel go on offering what the client does not read.
  await until(() => connections(server.port).length === 0, "the connection to be reset");
  assertEquals(server.workers, [worker]);
});

Deno.test("--body-timeout answers a stalled body with 408, however the app reads it", async () => {
  await using server = await serve(["--body-timeout", "0.4"]);
  await Promise.all(["/text", "/text?lazy", "/stream", "/careless"].map(async (path) => {
    using client = await Client.connect(server);
    await client.say(post(path, 100, "half"));
    const { text, seconds } = await client.end();
    assertMatch(text, /^HTTP\/1\.1 408 /, path);
    assert(seconds >= 0.4, `${path}: closed after ${seconds} seconds`);
  }));
  // The response has begun: nothing is left but to end it.
  using client = await Client.connect(server);
  await client.say(post("/echo", 100, "half"));
  const { text } = await client.end();
  assertStringIncludes(text, "half");
  assert(!text.includes("\r\n0\r\n"), "the response has ended as if it were whole");
  await until(
    () => readStatus(server.pid).workers[0]!.inFlight === 0,
    "the end of the last request",
  );
});

/** How the app can read a body. */
const WAYS = [
  "text",
  "blob",
  "stream",
  "text stream",
  "prototype",
  "response",
  "copy",
  "copy of a copy",
  "clone",
  "clone of a clone",
  "cloned",
  "both",
  "body, then clone",
].map((way) => `/read?way=${encodeURIComponent(way)}`);

const LENGTH = "Content-Length: 100\r\n";
const CHUNKED = "Transfer-Encoding: chunked\r\n";

for (
  const [name, env] of [["", {}], [", also where Deno keeps it elsewhere", {
    OTHER_DENO: "1",
  }]] as const
) {
  Deno.test(`--body-timeout and --max-body-bytes apply however a body is read${name}`, async () => {
    await using server = await serve(["--body-timeout", "1.5", "--max-body-bytes", "200"], { env });
    await Promise.all(WAYS.flatMap((way) =>
      [
        // What is sent in two pieces, and what comes back.
        [LENGTH, "x".repeat(60), "x".repeat(40), /^HTTP\/1\.1 200 [^]*\r\n100 read$/],
        [CHUNKED, `3c\r\n${"x".repeat(60)}\r\n`, `5\r\nabcde\r\n0\r\n\r\n`, /\r\n65 read$/],
        [LENGTH, "x".repeat(60), "", /^HTTP\/1\.1 408 /],
        [CHUNKED, `3c\r\n${"x".repeat(60)}\r\n`, "", /^HTTP\/1\.1 408 /],
        [
          CHUNKED,
          `3c\r\n${"x".repeat(60)}\r\n`,
          `96\r\n${"x".repeat(150)}\r\n`,
          /^HTTP\/1\.1 413 /,
        ],
        [CHUNKED, `fa\r\n${"x".repeat(250)}\r\n0\r\n\r\n`, "", /^HTTP\/1\.1 413 /],
      ].map(async ([field, first, second, answer]) => {
        using client = await Client.connect(server);
        await client.say(`POST ${way} HTTP/1.1\r\nHost: test\r\n${field}\r\n${first}`);
        if (second !== "") {
          await new Promise((resolve) => setTimeout(resolve, 50));
          await client.say(second as string);
        }
        assertMatch(await client.hear(), answer as RegExp, `${way}: ${field}${first}${second}`);
      })
    ));
    await until(() => readStatus(server.pid).workers[0]!.inFlight === 0, "the end of all requests");
  });
}

/** Requests whose URL is none, and how they begin. */
const NO_URLS = {
  "PUT /a HTTP/1.1\r\nHost: a b": "PUT http://a b/a true hello",
  "brew s://] HTTP/1.1\r\nHost: a": "brew s://]/ true hello",
};

for (
  const [name, env] of [["", {}], [", also where Deno keeps it elsewhere", {
    OTHER_DENO: "1",
  }]] as const
) {
  Deno.test(`an app gets a request with a body that has no valid URL${name}`, async () => {
    await using server = await serve([], { env });
    for (const [beginning, answer] of Object.entries(NO_URLS)) {
      using client = await Client.connect(server);
      await client.say(`${beginning}\r\nConnection: close\r\n${CHUNKED}\r\n`);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await client.say("5\r\nhello\r\n0\r\n\r\n");
      assertStringIncludes((await client.end()).text, `\r\n\r\n${answer}`);
    }
  });
}

Deno.test("--body-timeout allows a slow body that takes longer", async () => {
  await using server = await serve(["--body-timeout", "1", "--max-body-bytes", "100"]);
  await Promise.all(["/text", "/stream"].map(async (path) => {
    using client = await Client.connect(server);
    await client.say(post(path, 10));
    for (let i = 0; i < 10; i++) {
      await client.say("x");
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    assertMatch(await client.hear(), /10 read$/);
  }));
});

Deno.test("--max-body-bytes rejects a body that is too long with 413, and closes the connection of a client that continues to send", async () => {
  await using server = await serve(["--max-body-bytes", "1000"]);
  using honest = await Client.connect(server);
  await honest.say(post("/text", 1000, "x".repeat(1000)));
  assertMatch(await honest.hear(), /1000 read$/);

  using announced = await Client.connect(server);
  await announced.say(post("/text", 1001));
  assertMatch(await announced.hear(), /^HTTP\/1\.1 413 [^]*connection: close/i);
  const sending = announced.repeat("x", 50);

  await Promise.all(["/text", "/stream", "/careless"].map(async (path) => {
    using chunked = await Client.connect(server);
    await chunked.say(`POST ${path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n`);
    const sending = chunked.repeat(`190\r\n${"x".repeat(400)}\r\n`, 50);
    assertMatch((await chunked.end()).text, /^HTTP\/1\.1 413 /, path);
    await sending;
  }));
  await announced.end();
  await sending;
});

/** The app answers and has not read the body, which has not arrived. */
const UNREAD = {
  "/": 200,
  "/sleep?ms=50": 200,
  "/events?ms=50": 200,
  "/touch": 200,
  "/cancel": 200,
  "/cloned": 200,
  "/throw": 500,
};

const PIECE = `fa0\r\n${"x".repeat(4000)}\r\n`;

Deno.test("--max-body-bytes and --body-timeout hold for a body that the app leaves unread", async () => {
  await using server = await serve(["--body-timeout", "0.5", "--max-body-bytes", "5000"]);
  const paths = { ...UNREAD, "/background": 200 };
  await Promise.all(
    Object.entries(paths).map(async ([path, status]) => {
      const header = `POST ${path} HTTP/1.1\r\nHost: test\r\n`;
      using silent = await Client.connect(server);
      await silent.say(`${header}Content-Length: 4000\r\n\r\nhalf`);
      using endless = await Client.connect(server);
      await endless.say(`${header}Transfer-Encoding: chunked\r\n\r\n`);
      const sending = endless.repeat(PIECE, 50);
      for (const client of [silent, endless]) {
        const { text, seconds } = await client.end();
        assertMatch(text, new RegExp(`^HTTP/1\\.1 ${status} `), path);
        assertEquals(text.match(/HTTP\/1/g)?.length, 1, text);
        if (client === silent) assert(seconds >= 0.5, `${path}: closed after ${seconds} seconds`);
      }
      await sending;
    }),
  );
});

Deno.test("a client that goes on sending a body that nobody reads is cut off", async () => {
  await using server = await serve(["--max-body-bytes", "5000"]);
  await Promise.all(
    ["/", "/sleep?ms=50", "/touch", "/cancel", "/cloned", "/throw"].map(async (path) => {
      using client = await Client.connect(server);
      await client.say(`POST ${path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n`);
      const sending = client.repeat(PIECE, 50);
      assertMatch((await client.end()).text, /^HTTP\/1\.1 [25]00 /, path);
      await sending;
    }),
  );
});

Deno.test("--max-body-bytes ends a client that floods the server with a body that nobody reads", async () => {
  await using server = await serve(["--max-body-bytes", "1M"]);
  await Promise.all(["/", "/touch", "/cancel"].map(async (path) => {
    const { megabytes, text } = await flood(server, path);
    assert(megabytes < 100, `${path}: the server took ${megabytes} MB`);
    assertMatch(text, /^HTTP\/1\.1 200 /, path);
  }));
});

Deno.test("--max-body-bytes ends a client that floods the server while the response is streamed", async () => {
  await using server = await serve(["--max-body-bytes", "1M"]);
  const [worker] = server.workers;
  const before = processState(worker!)!.rss;
  for (const path of ["/events?ms=3000", "/late?ms=3000", "/first?ms=3000"]) {
    const { megabytes, text } = await flood(server, path);
    assert(megabytes < 100, `${path}: the server took ${megabytes} MB`);
    assertMatch(text, /^HTTP\/1\.1 200 [^]*first $/m, path);
    const { rss } = processState(worker!)!;
    assert(rss < before + 100_000_000, `${path}: the worker has grown from ${before} to ${rss}`);
  }
});

Deno.test("an app that streams its response may read the request's body later, within --max-body-bytes", async () => {
  await using server = await serve(["--max-body-bytes", "100000", "--body-timeout", "1.5"]);
  const end = "0\r\n\r\n";
  await Promise.all(["/late", "/first"].map(async (path) => {
    const connect = async () => {
      const client = await Client.connect(server);
      await client.say(`POST ${path}?ms=2000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n`);
      await client.say("Transfer-Encoding: chunked\r\n\r\n");
      return client;
    };
    const bytes = 20 * 4000 - (path === "/first" ? 1 : 0);
    using pausing = await connect();
    const answer = pausing.end();
    await pausing.say(PIECE.repeat(15));
    await new Promise((resolve) => setTimeout(resolve, 2100)); // meanwhile the app does not read
    await pausing.say(`${PIECE.repeat(5)}${end}`);
    using early = await connect();
    await early.say(`${PIECE.repeat(20)}${end}`);
    using silent = await connect();
    await silent.say(PIECE);
    assertMatch((await answer).text, new RegExp(`${bytes} late`), path);
    assertMatch((await early.end()).text, new RegExp(`${bytes} late`), path);
    assertMatch((await silent.end()).text, /first \s*$/, path);
  }));
  const errors = /the app gets No part of the request's body arrived/g;
  await until(() => server.stderr.match(errors)?.length === 2, "the errors that the app gets");
});

/** Sends a body until the server closes, 300 MB at most. */
async function flood(server: Server, path: string): Promise<{ megabytes: number; text: string }> {
  using client = await Client.connect(server);
  await client.say(`POST ${path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const answer = client.end();
  const chunk = new TextEncoder().encode(`10000\r\n${"x".repeat(65_536)}\r\n`);
  let megabytes = 0;
  const send = async () => {
    // What the kernel holds is a few.
    while (megabytes < 300) {
      for (let sent = 0; sent < chunk.length;) {
        sent += await client.connection.write(chunk.subarray(sent));
      }
      megabytes += 1 / 16;
    }
  };
  // A client that only writes is told as well.
  await within(send().catch(() => {}), 15_000, "the server to close");
  return { megabytes, text: (await answer).text };
}

Deno.test("a body that the app leaves unread may come to its end, slowly, and nothing follows the answer", async () => {
  const limits = ["--body-timeout", "1", "--header-timeout", "0.3", "--max-body-bytes", "50"];
  await using server = await serve([...limits, "--idle-timeout", "0.3"]);
  await Promise.all(
    Object.entries(UNREAD).map(async ([path, status]) => {
      using client = await Client.connect(server);
      await client.say(`POST ${path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n`);
      const answer = client.end();
      for (let i = 0; i < 12; i++) {
        await new Promise((resolve) => setTimeout(resolve, 150));
        await client.say("2\r\nxx\r\n");
      }
      await client.say("0\r\n\r\n");
      const { text, seconds } = await answer;
      assertMatch(text, new RegExp(`^HTTP/1\\.1 ${status} [^]*connection: close\r\n`), path);
      assertEquals(text.match(/HTTP\/1/g)?.length, 1, text);
      assert(seconds >= 1.8, `${path}: closed after ${seconds} seconds`);
    }),
  );
});

Deno.test("a client whose body exceeds --max-body-bytes unread gets the whole answer", async () => {
  await using server = await serve(["--max-body-bytes", "1000"]);
  using client = await Client.connect(server);
  await client.say(
    `POST /big HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n${PIECE}`,
  );
  // Longer than another client may linger.
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const { text } = await client.end();
  assert(text.length > 30_000_000, `${text.length} bytes`);
});

Deno.test("--max-header-bytes rejects a header that is too long with 431", async () => {
  await using server = await serve(["--max-header-bytes", "1000"]);
  using client = await Client.connect(server);
  await client.say(get("/").replace("\r\n\r\n", `\r\nX-Long: ${"x".repeat(800)}\r\n\r\n`));
  assertMatch(await client.hear(), /Hello, World!$/);
  await client.say(get("/").replace("\r\n\r\n", `\r\nX-Long: ${"x".repeat(1000)}\r\n\r\n`));
  assertMatch((await client.end()).text, /^HTTP\/1\.1 431 /);
});

Deno.test("--max-header-bytes counts what the client sends, to the byte", async () => {
  await using server = await serve(["--max-header-bytes", "300"]);
  const long = `/${"x".repeat(40)}?${"y".repeat(40)}`;
  const beginnings = {
    "the least": "GET / HTTP/1.0\r\n",
    "a host": "GET / HTTP/1.1\r\nHost: a.name.that.is.rather.long.example:8080\r\n",
    "a long target": `DELETE ${long} HTTP/1.1\r\nHost: test\r\n`,
    "a target beyond ASCII": "GET /\u00e4\u20ac\u{1f600} HTTP/1.1\r\nHost: test\r\n",
    "a field twice": "GET / HTTP/1.1\r\nHost: test\r\nAccept: a/b\r\nAccept: c/d\r\n",
  };
  for (const [name, beginning] of Object.entries(beginnings)) {
    for (const [bytes, status] of [[300, 200], [301, 431]] as const) {
      const rest = bytes - new TextEncoder().encode(beginning).length;
      using client = await Client.connect(server);
      await client.say(`${beginning}X-Rest: ${"x".repeat(rest - 12)}\r\n\r\n`);
      assertMatch(
        await client.hear(),
        new RegExp(`^HTTP/1\\.[01] ${status} `),
        `${name}, ${bytes}`,
      );
    }
  }
});

Deno.test("--max-connections lets clients wait in the backlog, and serves them in turn", async () => {
  await using server = await serve(["--max-connections", "3"]);
  const clients: Client[] = [];
  for (let i = 0; i < 3; i++) {
    const client = await Client.connect(server);
    clients.push(client);
    await client.say(get("/"));
    assertMatch(await client.hear(), /Hello, World!$/);
  }
  await until(() => readStatus(server.pid).workers[0]!.connections === 3, "the count of three");
  using waiting = await Client.connect(server); // connected by the kernel
  await waiting.say(get("/"));
  const answer = waiting.hear();
  // Not while the others are open: they are being served.
  for (let i = 0; i < 10; i++) {
    await clients[0]!.say(get("/sleep?ms=20"));
    assertMatch(await clients[0]!.hear(), /slept$/);
  }
  assertEquals(await Promise.race([answer, "none yet"]), "none yet");
  clients[1]![Symbol.dispose]();
  assertMatch(await answer, /Hello, World!$/);
  for (const client of clients) client[Symbol.dispose]();
});

Deno.test("a worker stops accepting before its descriptors run out, and continues when some are free", async () => {
  await using server = await serve(["--header-timeout", "0"], { shell: "ulimit -n 1200;" });
  const [worker] = server.workers;
  const clients = await Promise.all(Array.from({ length: 1500 }, () => Client.connect(server)));
  await until(() => readStatus(server.pid).workers[0]!.connections >= 600, "hundreds to be open");
  for (let i = 0; i < 3; i++) {
    assert(descriptorsOf(worker!).size < 1200);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const client of clients) client[Symbol.dispose]();
  using client = await Client.connect(server);
  await client.say(get("/"));
  assertMatch(await client.hear(), /Hello, World!$/);
  assertEquals(server.workers, [worker]);
});

Deno.test("a worker whose app uses all descriptors accepts again when some are free, and loses no request", async () => {
  await using server = await serve([], { shell: "ulimit -n 200;" });
  const { workers } = server;
  // Half a second after its start Deno makes what it needs for signals, and panics if it cannot.
  await until(() => handles(workers[0]!, 15), "Deno's own handler of SIGTERM");
  using hoarding = await Client.connect(server);
  await hoarding.say(get("/hoard?ms=500"));
  const answer = hoarding.hear();
  using waiting = await Client.connect(server);
  await waiting.say(get("/"));
  assertMatch(await waiting.hear(), /Hello, World!$/);
  assertMatch(await answer, /let go$/);
  assertEquals(server.workers, workers);
});

Deno.test("servePrefork() can be reached only at its own port", async () => {
  await using server = await startServer();
  assertEquals(server.workers.flatMap(listeningPorts), [server.port, server.port]);
});
