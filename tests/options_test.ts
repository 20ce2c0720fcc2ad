import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { MODELS, onEachRung } from "./rungs.ts";
import { PREFORK_OPTIONS, resolveOptions } from "../server/prefork/options.ts";
import {
  ask,
  DENO,
  exchange,
  exists,
  freePort,
  portOf,
  type Program,
  readAll,
  ROOT,
  scratch,
  Server,
  spawnServer,
  startFunction,
  startServer,
  until,
  writeApp,
} from "./support.ts";

const OPTIONS = PREFORK_OPTIONS;

Deno.test("resolveOptions() treats an undefined option as omitted", () => {
  assertEquals(OPTIONS.length, 36);
  for (const option of OPTIONS) {
    assertEquals(resolveOptions({ [option]: undefined }), resolveOptions({}), option);
  }
});

Deno.test("resolveOptions() rejects a value of another type", () => {
  const numbers = "port workers backlog maxConnections maxRequests maxWorkerMemory timeout grace " +
    "bootTimeout drainDelay headerTimeout idleTimeout bodyTimeout maxHeaderBytes maxBodyBytes";
  const texts = "hostname path unixMode unixGroup user group umask accessLog " +
    "accessLogFormat requestIdHeader errorLog " +
    "pidFile admin";
  const wrong: Record<string, unknown[]> = {
    ...Object.fromEntries(numbers.split(" ").map((name) => [name, ["1", null, true, {}, [1], 1n]])),
    ...Object.fromEntries(texts.split(" ").map((name) => [name, [1, null, true, {}, ["x"]]])),
    cert: [1, null, true, {}, [], [1]],
    key: [1, null, true, {}, [], [1]],
    listen: [1, null, true, ":80", {}, []],
    preload: [1, null, "false"],
    strict: [1, null, "true"],
    proxyProtocol: [1, null, "true"],
    trustProxy: ["::1", null, {}, [1]],
    adminHosts: ["x", null, {}, [1], ["x:9090"], ["http://x"], ["x/y"], ["[::1]"], [""]],
  };
  for (const [option, values] of Object.entries(wrong)) {
    for (const value of values) {
      const error = assertThrows(() => resolveOptions({ [option]: value }), TypeError);
      const shown = Deno.inspect(value);
      assert(
        error.message.startsWith(`Cannot serve with ${option} ${shown}: expected `),
        `${error}`,
      );
    }
  }
  assertEquals(Object.keys(wrong).length, OPTIONS.length);
});

Deno.test("resolveOptions() says what is wrong with a format of the access log, or a header's name", () => {
  const formats = {
    xml: "one of common, combined, json, or a format string, such as '%h %l %u %t \"%r\" %>s %b'",
    "": "one of common, combined, json, or a format string, such as '%h %l %u %t \"%r\" %>s %b'",
    "%h %": "a directive, such as %h, instead of % at its end",
    "%{": "a directive, such as %h, instead of %{ at its end",
    "%h %>": "a directive, such as %h, instead of %> at its end",
    "%{user-agent": "a directive, such as %h, instead of %{ at its end",
    "%i": "%{NAME}i instead of %i",
    "%400{}i": "%{NAME}i instead of %400{}i",
    "%{x}h": "%h instead of %{x}h",
    "%{m}T": "%T or %{s|ms|us}T instead of %{m}T",
    "%{tid}P": "%P or %{pid}P instead of %{tid}P",
    "%{%Q}t": "%t or %{[begin:|end:]FORMAT}t with a format of strftime(3) instead of %{%Q}t",
    "%h\n": "one line of printable ASCII, with \\t for a tab",
    "%hé": "one line of printable ASCII, with \\t for a tab",
    "%h\\n": "one line of printable ASCII without \\n",
    ["%h".repeat(1025)]: "at most 2048 characters",
  };
  for (const [accessLogFormat, takes] of Object.entries(formats)) {
    const error = assertThrows(() => resolveOptions({ accessLogFormat }), RangeError);
    const shown = Deno.inspect(accessLogFormat);
    assertEquals(error.message, `Cannot serve with accessLogFormat ${shown}: expected ${takes}`);
  }
  for (const letter of "cdEfFgGIjJkKMnNOQRSwWxXyYzZ^") {
    const error = assertThrows(
      () => resolveOptions({ accessLogFormat: `%h %${letter}` }),
      RangeError,
    );
    const known = letter === "n"
      ? `%{trace_id|span_id}n instead of %n`
      : `a directive that is known (%%, %a or %{c}a, %A, %b, %B, %{NAME}C, %D, %{NAME}e, %h, %H, %{NAME}i, ` +
        "%l, %L, %m, %{trace_id|span_id}n, %{NAME}o, %p or %{canonical|local|remote}p, %P or %{pid}P, %q, %r, " +
        "%s, %t or %{[begin:|end:]FORMAT}t with a format of strftime(3), %T or %{s|ms|us}T, %u, %U, %v, %V) " +
        `instead of %${letter}`;
    assertMatch(error.message, /^Cannot serve with accessLogFormat "%h %.": expected /);
    assertEquals(error.message.slice(error.message.indexOf("expected") + 9), known);
  }
  for (const requestIdHeader of ["", "two words", "x:y", "x-é", "x\n"]) {
    assertThrows(
      () => resolveOptions({ requestIdHeader }),
      RangeError,
      "expected the name of a header field, such as x-request-id",
    );
  }
  assertEquals(resolveOptions({ requestIdHeader: "X-Id" }).requestIdHeader, "x-id");
});

Deno.test("resolveOptions() rejects a number that is out of range", () => {
  const counts = ["backlog", "maxConnections", "maxRequests", "maxWorkerMemory", "maxHeaderBytes"];
  const times = "timeout grace bootTimeout drainDelay headerTimeout idleTimeout bodyTimeout".split(
    " ",
  );
  const wrong: [string, number[], string][] = [
    ["port", [70_000, 1.5, -1, NaN, Infinity], "a whole number from 0 to 65535"],
    ["workers", [129, Infinity], "at most 128"],
    ["backlog", [2 ** 31, Infinity], "at most 2147483647"],
    ["bootTimeout", [0], "a number above 0"],
    ["maxWorkerMemory", [512, 2 ** 20 - 1], "at least 1048576 bytes, which is 1M"],
    ["drainDelay", [Infinity], "a finite number"],
    ...[...counts, "maxBodyBytes", "workers"].map((name) =>
      [name, [0, -1, 1.5, NaN], "a whole number of at least 1"] as [string, number[], string]
    ),
    ...times.map((name) =>
      [name, [-1, NaN, -Infinity], "a number of at least 0"] as typeof wrong[0]
    ),
    ...times.map((name) =>
      [name, [2_147_484, 1e300], "at most 2147483 seconds, which is 24 days"] as typeof wrong[0]
    ),
  ];
  for (const [option, values, takes] of wrong) {
    for (const value of values) {
      const error = assertThrows(() => resolveOptions({ [option]: value }), RangeError);
      assertEquals(error.message, `Cannot serve with ${option} ${value}: expected ${takes}`);
    }
  }
  for (const hostname of ["[::1]", "localhost:8000", "http://localhost", "two words"]) {
    assertThrows(
      () => resolveOptions({ hostname }),
      RangeError,
      `hostname "${hostname}": expected an address, such as 0.0.0.0 or ::1, or a name`,
    );
  }
  for (const hostname of ["", "::", "::1", "fe80::1%eth0", "::ffff:127.0.0.1", "ä.example"]) {
    assertEquals(resolveOptions({ hostname }).hostname, hostname);
  }
  assertThrows(
    () => resolveOptions({ pidFile: "" }),
    RangeError,
    'Cannot serve with pidFile "": expected a non-empty path',
  );
  assertThrows(
    () => resolveOptions({ cert: "x" }),
    TypeError,
    "Cannot serve HTTPS with only one of cert and key: expected both",
  );
});

Deno.test("resolveOptions() accepts the longest times, and Infinity for no limit", () => {
  const limits = ["timeout", "headerTimeout", "idleTimeout", "bodyTimeout"] as const;
  for (const option of limits) {
    assertEquals(resolveOptions({ [option]: 2_147_483 })[option], 2_147_483);
    assertEquals(resolveOptions({ [option]: Infinity }), resolveOptions({ [option]: 0 }));
  }
  for (const option of ["grace", "bootTimeout"] as const) {
    assertEquals(resolveOptions({ [option]: Infinity })[option], Infinity);
  }
  const { maxConnections, maxHeaderBytes } = resolveOptions({
    maxConnections: Infinity,
    maxHeaderBytes: Infinity,
  });
  assertEquals([maxConnections, maxHeaderBytes], [Infinity, Infinity]);
});

Deno.test("resolveOptions() makes every path absolute", () => {
  const config = resolveOptions({
    path: "app.sock",
    accessLog: "logs/access.log",
    errorLog: "./error.log",
    pidFile: "/run/tine.pid",
    admin: "../admin.sock",
  });
  const folder = Deno.cwd();
  assertEquals(
    [config.path, config.accessLog, config.errorLog, config.pidFile, config.admin],
    [
      `${folder}/app.sock`,
      `${folder}/logs/access.log`,
      `${folder}/./error.log`,
      "/run/tine.pid",
      `${folder}/../admin.sock`,
    ],
  );
  const { accessLog, path } = resolveOptions({ accessLog: "-", path: "\0abstract" });
  assertEquals([accessLog, path], ["-", "\0abstract"]);
});

Deno.test("resolveOptions() parses the address of the admin process", () => {
  const folder = Deno.cwd();
  const admin = {
    "127.0.0.1:9090": ["127.0.0.1", 9090],
    "localhost:9090": ["localhost", 9090],
    ":9090": ["", 9090],
    "[::1]:9090": ["::1", 9090],
    "/run/x.sock": "/run/x.sock",
    "./x.sock": `${folder}/./x.sock`,
    "x.sock": `${folder}/x.sock`,
    "./9090": `${folder}/./9090`,
    "a/b:9090": `${folder}/a/b:9090`,
  };
  for (const [text, address] of Object.entries(admin)) {
    assertEquals(resolveOptions({ admin: text }).admin, address as tine.Address);
  }
  for (
    const text of ["9090", "127.0.0.1", "localhost", "localhost:", "::1", "::1:9090", "x:http"]
  ) {
    const port = text === "9090" ? text : "9090";
    assertThrows(
      () => resolveOptions({ admin: text }),
      RangeError,
      `Cannot serve with admin "${text}": expected host:port, such as 127.0.0.1:${port}`,
    );
  }
  assertThrows(
    () => resolveOptions({ admin: "localhost:70000" }),
    RangeError,
    "Cannot serve with admin port 70000: expected a whole number from 0 to 65535",
  );
});

/** The status of the answer to a request for `/status.json` that names these hosts. */
async function askFor(port: number, target: string, host: string | undefined): Promise<string> {
  const header = host === undefined ? "" : `Host: ${host}\r\n`;
  const request = `GET ${target} HTTP/1.1\r\n${header}Connection: close\r\n\r\n`;
  return (await exchange(port, request)).split("\r\n\r\n")[0]!.split(" ")[1]!;
}

Deno.test("serve --admin answers for loopback names, its own address and each --admin-host only", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, "export default { fetch: () => new Response() };");
  const port = freePort();
  const always = [
    "localhost",
    `LOCALHOST:${port}`,
    "localhost.",
    "127.0.0.1",
    "127.9.9.9:1",
    "[::1]",
  ];
  const never = ["evil.example", `evil.example:${port}`, "localhost.evil.example", "a b", "a@b:c"]
    .concat("127.0.0.1.evil.example", "127evil.example", "evil.example#@localhost");
  const cases: [args: string[], ok: string[], refused: string[]][] = [
    [["--admin", `127.0.0.1:${port}`], [], ["10.1.2.3", "metrics.example", "[fe80::1]"]],
    // Bound to all addresses: whichever was asked for, no name led there.
    [["--admin", `:${port}`], ["10.1.2.3", "[fe80::1]:80"], ["metrics.example"]],
    [
      ["--admin", `127.0.0.1:${port}`, "--admin-host", "Metrics.example", "--admin-host=10.1.2.3"],
      ["metrics.example", `METRICS.example:${port}`, "10.1.2.3"],
      ["10.1.2.4"],
    ],
  ];
  for (const [args, ok, refused] of cases) {
    await using server = await startServer([...args, "--workers", "1"], { app });
    const answer = (host?: string, target = "/status.json") => askFor(port, target, host);
    assertEquals(
      // The admin process is forked when the workers are ready.
      await until(() => answer().catch(() => undefined), "an answer of the admin process"),
      "200",
    );
    for (const host of [...always, ...ok]) assertEquals(await answer(host), "200", host);
    for (const host of [...never, ...refused]) assertEquals(await answer(host), "403", host);
    for (const page of ["/", "/metrics", "/healthz", "/none"]) {
      assertEquals(await answer("evil.example", page), "403", page);
    }
    assertEquals(await answer("localhost", "http://evil.example/status.json"), "403");
    assertEquals(await answer("evil.example", "http://localhost/status.json"), "403");
    const refusal = await exchange(port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assertMatch(refusal, /\r\n\r\nThis host is not admitted: .*--admin-host NAME\n$/);
    assert(!/error|stack/i.test(server.stderr), server.stderr);
  }
});

Deno.test("serve --admin answers for every host on a UNIX socket, and --admin-host takes names only", async () => {
  await using folder = scratch();
  await using server = await startServer(["--admin", `${folder.path}/admin.sock`]);
  const path = `${folder.path}/admin.sock`;
  await until(() => askAt(path, "/healthz").catch(() => undefined), "the admin process");
  const connection = await Deno.connect({ transport: "unix", path });
  const request = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
  await connection.write(new TextEncoder().encode(request));
  assertMatch(await readAll(connection), /^HTTP\/1\.1 200 /);
  connection.close();
  server.kill();
  for (const name of ["x:9090", "http://x", ""]) {
    await using refused = spawnServer(["--admin", ":0", "--admin-host", name]);
    assertEquals((await refused.ended()).code, 2);
    assertMatch(
      refused.stderr,
      /^error: .*--admin-host.*: expected (a host name without a port|NAME)/,
    );
  }
});

/** Asks over a UNIX socket, on a connection of its own. */
async function askAt(path: string, page = "/"): Promise<string> {
  using client = Deno.createHttpClient({
    proxy: { transport: "unix", path },
    poolMaxIdlePerHost: 0,
  });
  const response = await fetch(`http://localhost${page}`, { client });
  return await response.text();
}

/** An app that moves to another folder as it is loaded. */
const WANDERER = `
Deno.chdir("elsewhere");
export default { fetch: () => new Response(Deno.cwd()) };
`;

onEachRung(
  MODELS,
  "serve removes its own socket when the app changes the directory",
  async (model) => {
    await using folder = scratch();
    const app = writeApp(folder.path, WANDERER);
    Deno.mkdirSync(`${folder.path}/elsewhere`);
    for (const name of ["app.sock", "admin.sock"]) {
      Deno.writeTextFileSync(`${folder.path}/elsewhere/${name}`, "another's");
    }
    const args = ["--unix", "app.sock", "--model", model];
    if (model === "prefork") args.push("--workers", "1", "--admin", "admin.sock");
    await using server = await startServer(args, { app, cwd: folder.path });
    assertEquals(server.url, `unix:${folder.path}/app.sock`);
    assertEquals(await askAt(`${folder.path}/app.sock`), `${folder.path}/elsewhere`);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    const names = (path: string) => [...Deno.readDirSync(path)].map(({ name }) => name).sort();
    assertEquals(names(folder.path), ["app.ts", "elsewhere"]);
    assertEquals(names(`${folder.path}/elsewhere`), ["admin.sock", "app.sock"]);
  },
);

Deno.test("serve --admin listens on a port of one address or of all, or on a UNIX socket", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, "export default { fetch: () => new Response() };");
  const port = freePort();
  for (
    const [admin, hosts] of [
      [`localhost:${port}`, ["127.0.0.1"]],
      [`[::1]:${port}`, ["::1"]],
      [`:${port}`, ["127.0.0.1", "127.0.0.2"]],
      ["./x.sock", []],
      [`${folder.path}/x.sock`, []],
    ] as const
  ) {
    const args = ["--admin", admin, "--workers", "1"];
    await using server = await startServer(args, { app, cwd: folder.path });
    // The admin process is forked when the workers are ready.
    const answer = async (ask: () => Promise<string>) =>
      await until(() => ask().catch(() => undefined), `an answer at ${admin}`);
    for (const host of hosts) assertEquals(await answer(() => ask(port, "/healthz", host)), "ok\n");
    if (hosts.length === 0) {
      assertEquals(await answer(() => askAt(`${folder.path}/x.sock`, "/healthz")), "ok\n");
    }
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
  }
});

/** An app whose requests take until there is a file. */
const PATIENT = `
const isThere = (name) => [...Deno.readDirSync(".")].some((entry) => entry.name === name);
export default {
  async fetch() {
    Deno.writeTextFileSync("busy", "");
    while (!isThere("done")) await new Promise((resolve) => setTimeout(resolve, 20));
    return new Response(Deno.env.get("NAME"));
  },
};
`;

onEachRung(
  MODELS,
  "serve does not remove the socket of a server started after it",
  async (model) => {
    await using folder = scratch();
    const app = writeApp(folder.path, PATIENT);
    const path = `${folder.path}/app.sock`;
    const args = ["--unix", path, "--model", model];
    const start = (NAME: string) => startServer(args, { app, cwd: folder.path, env: { NAME } });
    await using first = await start("first");
    const answer = askAt(path);
    answer.catch(() => {});
    await until(() => exists(`${folder.path}/busy`), "the request");
    first.kill();
    await until(
      () => Deno.connect({ transport: "unix", path }).then((it) => it.close(), () => true),
      "the first server to listen no more",
    );
    await using second = await start("second");
    Deno.writeTextFileSync(`${folder.path}/done`, "");
    assertEquals(await answer, "first");
    assertEquals(await first.ended(), { code: 0, signal: null }, first.stderr);
    assertEquals(await askAt(path), "second");
    second.kill();
    assertEquals(await second.ended(), { code: 0, signal: null });
    assert(!exists(path));
  },
);

Deno.test("serve does not remove the service manager's socket, even with --unix of its path", async () => {
  await using folder = scratch();
  const path = `${folder.path}/app.sock`;
  const app = writeApp(folder.path, "export default { fetch: () => new Response('served') };");
  const cli = new URL("server/cli.ts", ROOT).pathname;
  await using server = startFunction(
    () => {
      // The manager's part: a socket as descriptor 3, and this pid.
      const socket = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
      socket.bind(Deno.args[0]!);
      socket.listen(5);
      Deno.env.set("LISTEN_PID", String(tine.getpid()));
      Deno.env.set("LISTEN_FDS", "1");
      const high = tine.fcntl(socket.fileno(), tine.F_DUPFD_CLOEXEC, 500);
      tine.dup2(high, 3);
      tine.execve(Deno.execPath(), [Deno.execPath(), "run", "-A", ...Deno.args.slice(1)]);
    },
    [path, cli, "serve", "--unix", path, "--workers", "1", app],
    { flags: ["-A"] },
  );
  await until(() => /Serving unix:/.test(server.stderr), "the ready line");
  assertEquals(await askAt(path), "served");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assert(Deno.lstatSync(path).isSocket);
});

Deno.test("serve does not remove the sockets of a server that was started while it ended", async () => {
  await using folder = scratch();
  const [path, admin] = [`${folder.path}/app.sock`, `${folder.path}/admin.sock`];
  const app = writeApp(
    folder.path,
    `export default {
      async fetch(request) {
        if (request.method === "GET") return new Response("served");
        console.error("begun");
        await new Promise((resolve) => setTimeout(resolve, 3000));
        return new Response("slow");
      },
    };`,
  );
  const args = ["--unix", path, "--admin", admin];
  await using old = await startServer(args, { app });
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const slow = fetch("http://localhost/", { method: "POST", client }).then((one) => one.text());
  await until(() => old.stderr.includes("begun"), "the request to begin");
  old.kill();
  await old.logged(/SIGTERM: stopping/);
  await using next = await startServer(args, { app });
  assertEquals(await askAt(path), "served");
  assertEquals(await slow, "slow");
  assertEquals(await old.ended(), { code: 0, signal: null });
  assertEquals(await askAt(path), "served");
  assert(Deno.lstatSync(admin).isSocket);
  next.kill();
  assertEquals(await next.ended(), { code: 0, signal: null });
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
});

Deno.test("serve does not wait for a server at its path that does not accept", async () => {
  await using folder = scratch();
  const path = `${folder.path}/app.sock`;
  using socket = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
  socket.bind(path);
  socket.listen(0);
  using client = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
  client.connect(path); // now the backlog is full
  await using server = spawnServer(["--unix", path]);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /^error: Cannot bind \S+app\.sock: EADDRINUSE/);
});

Deno.test("servePrefork() serves with Infinity for every time limit, and port undefined", async () => {
  await using folder = scratch();
  const script = writeApp(
    folder.path,
    `import { servePrefork } from ${JSON.stringify(new URL("server/mod.ts", ROOT).href)};
     const options = {
       port: undefined, path: ${JSON.stringify(`${folder.path}/app.sock`)}, workers: 1,
       timeout: Infinity, grace: Infinity, bootTimeout: Infinity, headerTimeout: Infinity,
       idleTimeout: Infinity, bodyTimeout: Infinity, maxHeaderBytes: Infinity,
     };
     const app = { fetch: async (request) => new Response(await request.text()) };
     Deno.exit(await servePrefork(app, options));`,
    "main.ts",
  );
  await using server = new Server(DENO, ["run", "-A", "--no-lock", script]);
  await server.logged(/Serving unix:/);
  const path = `${folder.path}/app.sock`;
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode("hello"));
      controller.close();
    },
  });
  const response = await fetch("http://localhost/", { method: "POST", body, client });
  assertEquals(await response.text(), "hello");
  client.close();
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assert(!/error|Infinity/i.test(server.stderr), server.stderr);
});

/** Starts a server of a lower rung with no time limit at all. */
function startUnlimited(serve: string): Program {
  return startFunction(
    async () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
      const servers: Record<string, CallableFunction> = await import(Deno.args[0]!);
      const stop = new AbortController();
      const serve = Deno.args[1]!;
      if (serve === "serveIterative") tine.signal(tine.SIGTERM, () => stop.abort());
      const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      listenSocket.bind(["127.0.0.1", 0]);
      listenSocket.listen(16);
      console.log(`port ${listenSocket.getsockname()[1]}`);
      const app = serve.includes("Fetch")
        ? { fetch: () => new Response("hello") }
        : (connection: tine.Socket) => connection.sendall(connection.recv(5));
      const times = { timeout: Infinity, grace: Infinity, idleTimeout: Infinity };
      await servers[serve]!(listenSocket, app, { ...times, signal: stop.signal });
      Deno.exit();
    },
    [new URL("server/mod.ts", ROOT).href, serve],
    { flags: ["-A"] },
  );
}

for (
  const serve of ["serveIterative", "serveForking", "serveFetchIterative", "serveFetchForking"]
) {
  Deno.test(`${serve}() accepts Infinity for no time limit`, async () => {
    await using server = startUnlimited(serve);
    const port = await portOf(server);
    const request = serve.includes("Fetch") ? "GET / HTTP/1.0\r\n\r\n" : "hello";
    assertMatch(await exchange(port, request), /hello$/);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    assert(!/error/i.test(server.stderr), server.stderr);
  });
}
