import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { AppError, loadApp } from "../server/app/load_app.ts";
import {
  childrenOf,
  descriptorsOf,
  exchange,
  handles,
  portOf,
  processState,
  type Program,
  readAll,
  ROOT,
  scratch,
  start,
  startFunction,
  until,
  within,
  zombiesOf,
} from "./support.ts";

const APP = new URL("tests/conformance/gateway_app.ts", ROOT).pathname;
const RUNGS = ["iterative", "forking"] as const;

/** Starts a rung; the address is a path or an IPv6 address, 127.0.0.1 if left out. */
function startRung(
  rung: string,
  options: Record<string, unknown> = {},
  address: string[] = [],
  env: Record<string, string> = {},
): Program {
  const args = [rung, APP, JSON.stringify(options), ...address];
  return start("tests/conformance/serve.ts", args, { flags: ["-A"], env });
}

const CLOSE = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async function get(port: number, path: string): Promise<string> {
  const answer = await exchange(port, `GET ${path} ${CLOSE}`);
  return answer.slice(answer.indexOf("\r\n\r\n") + 4);
}

/** A client that keeps its connection. */
class Client implements Disposable {
  heard = "";
  closed = false;
  readonly #connection: Deno.Conn;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
    this.#read();
  }

  static async connect(port: number): Promise<Client> {
    return new Client(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(65536);
    try {
      for (let count; (count = await this.#connection.read(buffer)) !== null;) {
        this.heard += new TextDecoder().decode(buffer.subarray(0, count));
      }
    } catch {
      // reset, or closed by us
    }
    this.closed = true;
  }

  async say(text: string): Promise<void> {
    await this.#connection.write(new TextEncoder().encode(text));
  }

  async hears(text: string): Promise<void> {
    await until(() => this.heard.includes(text), `${JSON.stringify(text)} in ${this.heard}`);
  }

  async ends(): Promise<void> {
    await until(() => this.closed, "the end of the connection");
  }

  [Symbol.dispose](): void {
    try {
      this.#connection.close();
    } catch {
      // closed already
    }
  }
}

/** A process's sockets of a port, by their states. */
function socketsOf(pid: number, port: number): string[] {
  const own = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const links = new Set(descriptorsOf(pid).values());
  // sl, local address, remote address, state, ..., inode
  return Deno.readTextFileSync("/proc/net/tcp").split("\n")
    .map((line) => line.trim().split(/ +/))
    .filter(([, local, ...rest]) => local?.endsWith(own) && links.has(`socket:[${rest[7]}]`))
    .map(([, , , state]) => ({ "01": "established", "0A": "listening" })[state!] ?? state!);
}

for (const rung of RUNGS) {
  Deno.test(`the ${rung} rung keeps a connection for several requests`, async () => {
    await using server = startRung(rung);
    using client = await Client.connect(await portOf(server));
    for (let i = 1; i <= 3; i++) {
      await client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await until(() => client.heard.split("the gateway's app\n").length === i + 1, "an answer");
    }
    assertEquals(server.stdout.match(/^start/gm)?.length, 1);
  });

  Deno.test(`the ${rung} rung streams both ways at the same time`, async () => {
    await using server = startRung(rung);
    using client = await Client.connect(await portOf(server));
    await client.say("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    // Each piece comes back before the next is sent.
    for (const word of ["one", "two", "six"]) {
      await client.say(`3\r\n${word}\r\n`);
      await client.hears(`3\r\n${word}\r\n`);
    }
    await client.say("0\r\n\r\n");
    await client.hears("\r\n0\r\n\r\n");
  });

  Deno.test(`the ${rung} rung upgrades to a WebSocket and lets it be for longer than idle`, async () => {
    await using server = startRung(rung, { idleTimeout: 0.2 });
    const socket = new WebSocket(`ws://127.0.0.1:${await portOf(server)}/websocket`);
    const messages: string[] = [];
    socket.onmessage = ({ data }) => messages.push(data);
    await within(new Promise((resolve) => socket.onopen = resolve), 15_000, "the upgrade");
    socket.send("hello");
    await until(() => messages[0] === "echo hello", "the echo");
    await new Promise((resolve) => setTimeout(resolve, 600));
    socket.send("again");
    await until(() => messages[1] === "echo again", "the second echo");
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.close();
    await within(closed, 15_000, "the end");
    // The server has seen the end too.
    assertStringIncludes(await get(await portOf(server), "/"), "app");
  });

  Deno.test(`the ${rung} rung tells the app who asks, and where, as deno serve does`, async () => {
    await using four = startRung(rung);
    const port = await portOf(four);
    const asked = JSON.parse(await get(port, "/who"));
    assertEquals(asked.url, "http://x/who");
    assertEquals(asked.addr.hostname, "127.0.0.1");
    assertEquals(Object.keys(asked.addr).toSorted(), ["hostname", "port", "transport"]);
    assertStringIncludes(
      four.stdout,
      `listening {"transport":"tcp","hostname":"127.0.0.1","port":${port}}`,
    );
    assertStringIncludes(
      await exchange(port, "GET /who HTTP/1.0\r\n\r\n"),
      `"http://localhost:${port}/who"`,
    );
    await using six = startRung(rung, {}, ["::1"]);
    using client = await Deno.connect({ hostname: "::1", port: await portOf(six) });
    await client.write(new TextEncoder().encode(`GET /who ${CLOSE}`));
    assertStringIncludes(await readAll(client), `"hostname":"::1","port":${client.localAddr.port}`);
  });

  Deno.test(`the ${rung} rung serves a UNIX socket, with the URLs of deno serve`, async () => {
    await using folder = scratch();
    const path = `${folder.path}/a b.sock`;
    await using server = startRung(rung, {}, [path]);
    await portOf(server);
    const ask = async (request: string) => {
      using client = await Deno.connect({ transport: "unix", path });
      await client.write(new TextEncoder().encode(request));
      return JSON.parse((await readAll(client)).split("\r\n\r\n")[1]!);
    };
    const named = await ask(`GET /who ${CLOSE}`);
    assertEquals(named.url, "http+unix://x/who");
    assertEquals(named.addr, { transport: "unix", path });
    const host = encodeURIComponent(path).replaceAll(".", "%2E").replaceAll("_", "%5F");
    assertEquals((await ask("GET /who HTTP/1.0\r\n\r\n")).url, `http+unix://${host}/who`);
  });

  Deno.test(`the ${rung} rung speaks HTTPS with a certificate`, async () => {
    await using folder = scratch();
    const { cert, key } = await certificate(folder.path);
    await using server = startRung(rung, { cert, key });
    const port = await portOf(server);
    using client = Deno.createHttpClient({ caCerts: [cert], poolMaxIdlePerHost: 0 });
    const response = await fetch(`https://localhost:${port}/who`, { client });
    assertEquals((await response.json()).url, `https://localhost:${port}/who`);
  });

  Deno.test(`the ${rung} rung ends a connection that is idle, or slow with a header`, async () => {
    await using server = startRung(rung, { idleTimeout: 0.3 });
    const port = await portOf(server);
    using idle = await Client.connect(port);
    await idle.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await idle.hears("app");
    await idle.ends();
    using slow = await Client.connect(port);
    await slow.say("GET / HT");
    await slow.ends();
    using silent = await Client.connect(port);
    await silent.ends();
    // None of them took a request that goes on for one.
    assertEquals(await get(port, "/slow?1"), "slept 1\n");
  });

  Deno.test(`the ${rung} rung answers 500 when the app throws, and goes on`, async () => {
    await using server = startRung(rung);
    const port = await portOf(server);
    assertMatch(await exchange(port, `GET /throw ${CLOSE}`), /^HTTP\/1.1 500 /);
    assertEquals(await get(port, "/"), "the gateway's app\n");
    assertStringIncludes(server.stderr, "thrown by the handler");
  });

  Deno.test(`the ${rung} rung lets the app finish for a client that is gone, but not for ever`, async () => {
    await using server = startRung(rung, { idleTimeout: 1 });
    const port = await portOf(server);
    {
      using client = await Client.connect(port);
      await client.say("GET /slow?0.3 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    await server.printed(/slow is over/);
    {
      using client = await Client.connect(port);
      await client.say("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
      await client.hears("and on");
    }
    await server.printed(/cancelled/);
    {
      using client = await Client.connect(port);
      await client.say("GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assertEquals(await get(port, "/"), "the gateway's app\n");
    await until(() => childrenOf(server.pid).length === 0, "the children's end");
  });

  Deno.test(`the ${rung} rung stops on SIGTERM after the request in flight`, async () => {
    await using server = startRung(rung, { grace: 20 });
    using busy = await Client.connect(await portOf(server));
    await busy.say("GET /slow?0.5 HTTP/1.1\r\nHost: x\r\n\r\n");
    await server.printed(/^start/m);
    // Half a second after its start, Deno has handlers of its own.
    await new Promise((resolve) => setTimeout(resolve, 200));
    server.kill("SIGTERM");
    await busy.hears("slept 0.5\n");
    assertStringIncludes(busy.heard.toLowerCase(), "connection: close");
    await busy.ends();
    assertEquals((await server.ended()).code, 0);
    assertMatch(server.stdout, /^stop \d+$/m);
    assertMatch(server.stdout, /^stopped$/m);
  });

  Deno.test(`the ${rung} rung stops on SIGTERM at once when its clients are idle`, async () => {
    await using server = startRung(rung, { grace: 20 });
    using idle = await Client.connect(await portOf(server));
    await idle.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await idle.hears("app");
    const start = performance.now();
    server.kill("SIGTERM");
    await idle.ends();
    assertEquals((await server.ended()).code, 0);
    assert(performance.now() - start < 10_000);
  });

  Deno.test(`the ${rung} rung stops on a second SIGTERM, whatever is in flight`, async () => {
    await using server = startRung(rung, { grace: 60 });
    using busy = await Client.connect(await portOf(server));
    await busy.say("GET /slow?60 HTTP/1.1\r\nHost: x\r\n\r\n");
    await server.printed(/^start/m);
    server.kill("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 300));
    server.kill("SIGTERM");
    await busy.ends();
    assertEquals((await server.ended()).code, 0);
  });
}

Deno.test("the iterative rung serves one client at a time", async () => {
  await using server = startRung("iterative");
  const port = await portOf(server);
  using first = await Client.connect(port);
  await first.say("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
  await first.hears("pid");
  const second = get(port, "/who");
  await first.say("GET /slow?0.2 HTTP/1.1\r\nHost: x\r\n\r\n");
  await first.hears("slept");
  assertEquals(server.stderr, "");
  first[Symbol.dispose]();
  assertEquals(JSON.parse(await second).pid, server.pid);
  await until(() => server.stderr.trim().split("\n").length === 2, "two log lines");
  assertMatch(server.stderr, /^127\.0\.0\.1:\d+ ok \d+\.\d{3}s$/m);
});

Deno.test("the iterative rung keeps no descriptor of connections that have ended", async () => {
  await using server = startRung("iterative");
  const port = await portOf(server);
  await get(port, "/file");
  // Half a second after its start Deno opens what its signal handlers need.
  await until(() => handles(server.pid, 1), "Deno's own handler of SIGHUP");
  for (let i = 0; i < 5; i++) await get(port, "/");
  const before = descriptorsOf(server.pid).size;
  for (let i = 0; i < 50; i++) await get(port, "/");
  await until(() => descriptorsOf(server.pid).size <= before, `${before} descriptors`);
});

Deno.test("the forking rung serves clients at once, each in a child that has the hooks", async () => {
  await using server = startRung("forking", { maxChildren: 3 });
  const port = await portOf(server);
  using first = await Client.connect(port);
  using second = await Client.connect(port);
  for (const client of [first, second]) {
    await client.say("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
    await client.hears("pid");
  }
  const children = childrenOf(server.pid);
  assertEquals(children.length, 2);
  assertEquals(
    server.stdout.match(/^start .*$/gm)?.toSorted(),
    [`start ${Math.min(...children)} 1`, `start ${Math.max(...children)} 2`],
  );
  // A child has its connection, and not the socket that listens.
  for (const child of children) assertEquals(socketsOf(child, port), ["established"]);
  assertEquals(socketsOf(server.pid, port), ["listening"]);
  first[Symbol.dispose]();
  await server.printed(new RegExp(`^stop ${Math.min(...children)}$`, "m"));
  await until(() => childrenOf(server.pid).length === 1, "the child's end");
  await until(
    () => /^127\.0\.0\.1:\d+ pid \d+ exit 0 \d+\.\d{3}s 1\/3$/m.test(server.stderr),
    "the log line",
  );
  // The number is free again. A child can read files and run commands.
  assertStringIncludes(await get(port, "/file"), "The app of the gateway's tests");
  assertEquals(await get(port, "/command"), "from echo\n");
  assert(server.stdout.match(/^start \d+ 1$/gm)!.length > 1);
});

Deno.test("the forking rung ends a connection while its child still works", async () => {
  await using server = startRung("forking", {}, [], { STOP_SECONDS: "3" });
  const start = performance.now();
  assertEquals(await get(await portOf(server), "/"), "the gateway's app\n");
  // A duplicate of the connection, kept by the child or the parent, would have kept it open.
  assert(performance.now() - start < 3000);
  assertEquals(childrenOf(server.pid).length, 1);
  await server.printed(/^stop/m);
});

Deno.test("the forking rung ends a child that stands still, exits or is killed, alone", async () => {
  await using server = startRung("forking", { timeout: 1 });
  const port = await portOf(server);
  using witness = await Client.connect(port);
  await witness.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await witness.hears("app");
  assertEquals(await exchange(port, `GET /loop ${CLOSE}`), "");
  assertEquals(await exchange(port, `GET /exit ${CLOSE}`), "");
  await until(() => /killed by SIGALRM[^]*exit 3/.test(server.stderr), "two log lines");
  // Longer than the timeout, with an event loop that turns.
  await witness.say("GET /slow?1.5 HTTP/1.1\r\nHost: x\r\n\r\n");
  await witness.hears("slept 1.5");
  assertEquals(zombiesOf(server.pid), []);
});

Deno.test("the forking rung's children stop when the server is killed", async () => {
  await using server = startRung("forking");
  using client = await Client.connect(await portOf(server));
  await client.say("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
  await client.hears("pid");
  const [child] = childrenOf(server.pid);
  server.kill("SIGKILL");
  try {
    await client.ends();
    await until(() => !/[SR]/.test(processState(child!)?.state ?? ""), "the child's end");
  } finally {
    if (processState(child!) !== undefined) tine.kill(child!, tine.SIGKILL);
  }
});

Deno.test("serveConnection() serves no stranger who comes to the throw-away address", async () => {
  await using program = startFunction(
    async () => {
      const { serveConnection } = await import(Deno.args[0]!);
      const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      listenSocket.bind(["127.0.0.1", 0]);
      listenSocket.listen(1);
      const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      client.connect(listenSocket.getsockname());
      const [connection] = listenSocket.accept();
      const text = (socket: tine.Socket) => {
        let all = "";
        for (let data; (data = socket.recv(4096)).length > 0;) {
          all += new TextDecoder().decode(data);
        }
        return all;
      };
      const request = new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n");
      const strangers: tine.Socket[] = [];
      const serve = Deno.serve;
      Object.assign(Deno, {
        serve(options: Deno.ServeTcpOptions, handler: Deno.ServeHandler<Deno.NetAddr>) {
          const server = serve(options, handler);
          for (let i = 0; i < 3; i++) {
            const stranger = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
            stranger.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 10);
            stranger.connect([server.addr.hostname, server.addr.port]);
            if (i > 0) stranger.sendall(request);
            strangers.push(stranger);
          }
          return server;
        },
      });
      let served = 0;
      const end = serveConnection(connection, {
        fetch: () => new Response(`served ${++served}`),
      });
      client.sendall(request);
      await end;
      console.log(text(client).split("\r\n\r\n")[1]);
      for (const stranger of strangers) {
        let heard: string;
        try {
          heard = text(stranger);
        } catch (error) {
          heard = (error as tine.SyscallError).code;
        }
        console.log("stranger", /served/.test(heard));
      }
      console.log("end", served);
    },
    [new URL("server/gateway/connection.ts", ROOT).href],
    { flags: ["-A"] },
  );
  await program.ended();
  assertEquals(
    program.stdout,
    "served 1\nstranger false\nstranger false\nstranger false\nend 1\n",
    program.stderr,
  );
});

Deno.test("webserver3h.ts serves an app, a child for each connection", async () => {
  await using server = start("examples/part3/webserver3h.ts", [APP, "0"], { flags: ["-A"] });
  const port = await portOf(server);
  using first = await Client.connect(port);
  await first.say("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
  await first.hears("pid");
  assertEquals(await get(port, "/slow?0.1"), "slept 0.1\n");
  assertEquals(JSON.parse(first.heard.split("\r\n\r\n")[1]!).pid, childrenOf(server.pid)[0]);
  first[Symbol.dispose]();
  await until(() => childrenOf(server.pid).length === 0, "all children reaped");
});

Deno.test("webserver3h.ts says in one line what is wrong with its arguments", async () => {
  for (
    const [args, code, message] of [
      [[], 2, /^Usage: deno run -A webserver3h\.ts app\.ts \[port\]\n$/],
      [[APP, "eighty"], 2, /^Usage: /],
      [["nowhere.ts"], 1, /^Cannot load nowhere\.ts: there is no file \/\S+\/nowhere\.ts\n$/],
    ] as const
  ) {
    await using server = start("examples/part3/webserver3h.ts", [...args], { flags: ["-A"] });
    assertEquals((await server.ended()).code, code);
    assertMatch(server.stderr, message);
  }
});

Deno.test("loadApp() takes hooks from the module or the app, and calls them as methods", async () => {
  await using folder = scratch();
  await Deno.writeTextFile(
    `${folder.path}/ä #1.ts`,
    `export const onWorkerStart = () => "of the module";
     export default {
       text: "of the app",
       fetch() { return new Response(this.text); },
       onWorkerStop() { return this.text; },
     };`,
  );
  const app = await loadApp(`${folder.path}/ä #1.ts`);
  const response = await app.fetch(new Request("http://x/"), {} as Deno.ServeHandlerInfo);
  assertEquals(await response.text(), "of the app");
  const worker = { pid: 1, number: 1 };
  assertEquals(String(app.onWorkerStart?.(worker)), "of the module");
  assertEquals(String(app.onWorkerStop?.(worker)), "of the app");
  assertEquals(app.onListen, undefined);
});

Deno.test("loadApp() says in one line what is wrong with a module", async () => {
  await using folder = scratch();
  const cases: Record<string, [source: string, message: RegExp]> = {
    syntax: ["export default {\n  fetch( { }\n", /SyntaxError: .* at \S+syntax\.ts:\d+:\d+$/],
    nested: ['import "./gone.ts";', /Module not found "\S+gone\.ts" at \S+nested\.ts:1:8$/],
    throws: [
      '\nthrow new Error("no\\ndatabase");',
      /it threw at its top level: Error: no database at \S+throws\.ts:2:7$/,
    ],
    text: ['throw "text";', /it threw at its top level: text$/],
    empty: ["", /it has no default export\. An app is a module with export default \{ fetch/],
    other: ["export default 1;", /its default export has no fetch function\. An app is/],
    hook: [
      "export default { fetch: () => new Response(), onListen: 1 };",
      /its onListen is not a function$/,
    ],
  };
  for (const [name, [source, message]] of Object.entries(cases)) {
    const file = `${folder.path}/${name}.ts`;
    await Deno.writeTextFile(file, source);
    await assertAppError(file, message);
  }
  await assertAppError("nowhere.ts", /^Cannot load nowhere\.ts: there is no file \/.*nowhere\.ts$/);
  await assertAppError(folder.path, /is a directory: name the file in it$/);
  await assertAppError("https://127.0.0.1:1/app.ts", /Import .* failed/);
  await assertAppError("", /give its file$/);
});

async function assertAppError(specifier: string, message: RegExp): Promise<void> {
  try {
    await loadApp(specifier);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    assertMatch(error.message, message);
    assert(!error.message.includes("\n"));
    return;
  }
  throw new Error(`${specifier} was loaded`);
}

/** A certificate for localhost and its key. */
async function certificate(folder: string): Promise<{ cert: string; key: string }> {
  const [cert, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
  const { success } = await new Deno.Command("openssl", {
    args: ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
      .concat(["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"])
      .concat(["-addext", "subjectAltName=DNS:localhost"])
      .concat(["-addext", "basicConstraints=critical,CA:FALSE"]),
    stderr: "null",
  }).output();
  assert(success, "openssl failed");
  return { cert: await Deno.readTextFile(cert), key: await Deno.readTextFile(key) };
}
