import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import { AppError, loadApp } from "../server/app/load_app.ts";
import {
  childrenOf,
  Client,
  descriptorsOf,
  exchange,
  handles,
  portOf,
  processState,
  type Program,
  ROOT,
  run,
  scratch,
  start,
  startFunction,
  until,
  zombiesOf,
} from "./support.ts";

const APP = new URL("tests/conformance/gateway_app.ts", ROOT).pathname;

/** Starts a rung, on 127.0.0.1. */
function startRung(
  rung: string,
  options: Record<string, unknown> = {},
  env: Record<string, string> = {},
): Program {
  const args = [rung, APP, JSON.stringify(options)];
  return start("tests/conformance/serve.ts", args, { flags: ["-A"], env });
}

const CLOSE = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async function get(port: number, path: string): Promise<string> {
  const answer = await exchange(port, `GET ${path} ${CLOSE}`);
  return answer.slice(answer.indexOf("\r\n\r\n") + 4);
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

Deno.test("the iterative rung closes the descriptors of connections that have ended", async () => {
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

Deno.test("every rung refuses a socket that does not listen", async () => {
  const output = await run(
    async () => {
      tine.becomeForkable();
      const app = { fetch: () => new Response() };
      const log = (line: string) => {
        console.log(line);
        Deno.exit();
      };
      for (
        const serve of [
          (socket: tine.Socket) => tine.serveIterative(socket, () => {}, { log }),
          (socket: tine.Socket) => tine.serveForking(socket, () => {}, { log }),
          (socket: tine.Socket) => tine.serveFetchIterative(socket, app, { log }),
          (socket: tine.Socket) => tine.serveFetchForking(socket, app, { log }),
        ]
      ) {
        const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
        socket.bind(["127.0.0.1", 0]);
        try {
          await serve(socket);
        } catch (error) {
          console.log(String(error));
        }
      }
    },
    [],
    { flags: ["-A"] },
  );
  assertEquals(output, "SyscallError: Cannot accept: EINVAL (Invalid argument)\n".repeat(4));
});

Deno.test("the forking rung serves clients at the same time, each in a child that runs the hooks", async () => {
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
  await server.printed(/(start \d+ \d\n[^]*){2}/);
  assertEquals(
    server.stdout.match(/^start .*$/gm)?.toSorted(),
    [`start ${Math.min(...children)} 1`, `start ${Math.max(...children)} 2`],
  );
  // A child has its connection, and not the socket that listens.
  for (const child of children) assertEquals(socketsOf(child, port), ["established"]);
  await until(() => socketsOf(server.pid, port).length === 1, "the parent to close");
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
  await server.printed(/(^start \d+ 1\n[^]*){2}/m);
});

Deno.test("the forking rung ends a connection while its child still works", async () => {
  await using server = startRung("forking", {}, { STOP_SECONDS: "3" });
  assertEquals(await get(await portOf(server), "/"), "the gateway's app\n");
  // A duplicate of the connection, kept by the child or the parent, would have kept it open.
  const [child] = childrenOf(server.pid);
  assertMatch(processState(child!)?.state ?? "", /^[RS]$/, "the child has ended");
  await server.printed(/^stop/m);
});

Deno.test("the forking rung loses only the child that hangs, exits or is killed", async () => {
  await using server = startRung("forking", { timeout: 2 });
  const port = await portOf(server);
  using witness = await Client.connect(port);
  await witness.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  await witness.hears("app");
  assertEquals(await exchange(port, `GET /loop ${CLOSE}`), "");
  assertEquals(await exchange(port, `GET /exit ${CLOSE}`), "");
  await until(() => /killed by SIGALRM[^]*exit 3/.test(server.stderr), "two log lines");
  // Longer than the timeout, with an event loop that turns.
  await witness.say("GET /slow?2.5 HTTP/1.1\r\nHost: x\r\n\r\n");
  await witness.hears("slept 2.5");
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

Deno.test("serveConnection() does not serve other clients of the throw-away address", async () => {
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

Deno.test("serveConnection() serves no other process that comes to the throw-away address of a UNIX socket", async () => {
  await using folder = scratch();
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      const { serveConnection } = await import(Deno.args[0]!);
      const requests = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20));
      let strangers: number[] = [];

      /** Another process that asks as long as it can. Its exit code is 42 if the app answered. */
      function ask(path: string, ready: tine.Descriptor): number {
        for (let fd = 3; fd < 100; fd++) {
          try {
            if (fd !== ready.fileno()) new tine.Descriptor(fd).close(); // the server's
          } catch {
            // there is none
          }
        }
        const stranger = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
        stranger.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 10);
        stranger.connect(path);
        ready.write(new Uint8Array(1));
        let heard = "";
        try {
          for (let data = requests; data.length > 0;) {
            stranger.sendall(requests);
            data = stranger.recv(65536);
            heard += new TextDecoder().decode(data);
          }
        } catch {
          // its connection has been ended
        }
        return /served/.test(heard) ? 42 : 0;
      }

      const [read, write] = tine.pipe();
      const serve = Deno.serve;
      Object.assign(Deno, {
        serve(options: Deno.ServeUnixOptions, handler: Deno.ServeHandler<Deno.UnixAddr>) {
          const server = serve(options, handler);
          strangers = [1, 2, 3, 4].map(() => tine.forkChild(() => ask(server.addr.path, write)));
          for (const _ of strangers) read.read(1);
          return server;
        },
      });
      const listenSocket = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
      listenSocket.bind(Deno.args[1]!);
      listenSocket.listen(1);
      let served = 0;
      // Which of them the server reads first is a matter of chance.
      for (let round = 0; round < 80; round++) {
        using client = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
        client.connect(Deno.args[1]!);
        const [connection] = listenSocket.accept();
        const end = serveConnection(connection, {
          fetch: () => new Response(`served ${++served}`),
        });
        client.sendall(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
        await end;
        const answer = new TextDecoder().decode(client.recv(4096)).split("\r\n\r\n")[1];
        const statuses = strangers.map((pid) => tine.waitpid(pid).status);
        const codes = statuses.map((status) => status?.kind === "exited" && status.code);
        if (answer !== `served ${round + 1}` || codes.join("") !== "0000") {
          console.log(round, answer, codes);
        }
      }
      console.log("end", served);
      Deno.exit();
    },
    [new URL("server/mod.ts", ROOT).href, `${folder.path}/socket`],
    { flags: ["-A"] },
  );
  await program.printed(/^end \d+$/m, 60_000); // 320 forks
  assertEquals(program.stdout, "end 80\n");
});

Deno.test("webserver3h.ts serves an app with a child for each connection", async () => {
  await using server = start("examples/part3/webserver3h.ts", [APP, "0"], { flags: ["-A"] });
  const port = await portOf(server);
  using first = await Client.connect(port);
  await first.say("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
  await first.hears("pid");
  assertEquals(await get(port, "/slow?0.1"), "slept 0.1\n");
  assert(childrenOf(server.pid).includes(JSON.parse(first.heard.split("\r\n\r\n")[1]!).pid));
  first[Symbol.dispose]();
  await until(() => childrenOf(server.pid).length === 0, "all children reaped");
});

Deno.test("webserver3h.ts reports in one line that it finds no app", async () => {
  await using server = start("examples/part3/webserver3h.ts", ["nowhere.ts"], { flags: ["-A"] });
  assertEquals((await server.ended()).code, 1);
  assertMatch(server.stderr, /^Cannot load nowhere\.ts: there is no file \/\S+\/nowhere\.ts\n$/);
});

Deno.test("loadApp() finds hooks in the module or the app, and calls them as methods", async () => {
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

Deno.test("loadApp() reports in one line what is wrong with a module", async () => {
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
  await assertAppError("", /expected a file$/);
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
