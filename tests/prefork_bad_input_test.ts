import { assert, assertEquals, assertMatch } from "@std/assert";
import * as tine from "../mod.ts";
import { HANDLED_SIGNALS } from "../server/prefork/signals.ts";
import { run, scratch, type Server, spawnServer, startServer, writeApp } from "./support.ts";

const APP = `export default { fetch: () => new Response("served") };`;

/** Runs a program that must fail immediately, with one line, and without leaving anything. */
async function fails(server: Server, code: number, message: RegExp): Promise<void> {
  await using ending = server;
  assertEquals(await ending.ended(), { code, signal: null }, server.stderr);
  const [line, ...rest] = server.stderr.trimEnd().split("\n");
  assertMatch(line!, /^error: /);
  assertMatch(line!, message);
  assert(!/^\s+at /m.test(server.stderr), server.stderr);
  assertEquals(rest, code === 2 ? ["Try --help."] : []);
  assertEquals(server.stdout, "");
}

Deno.test("serve rejects an invalid command line", async () => {
  const cases: [string[], RegExp][] = [
    [
      ["--workers", "0"],
      /Cannot serve with --workers "0": expected a whole number from 1 to 2147483647$/,
    ],
    [["--workers", "abc"], /--workers "abc": expected a whole number from 1 to 2147483647$/],
    [["--workers", "1000"], /Cannot serve with --workers 1000: expected at most 128/],
    [
      ["--port", "65536"],
      /Cannot serve with --port "65536": expected a whole number from 0 to 65535$/,
    ],
    [["--port", ""], /missing value of --port: expected N$/],
    [["--unknown", "1"], /unknown option --unknown/],
    [["--cert", "cert.pem"], /HTTPS with only one of --cert and --key: expected both$/],
    [["--timeout", "soon"], /Cannot serve with --timeout "soon": expected a number of seconds$/],
    [["--grace", "9999999"], /with --grace 9999999: expected at most 2147483 seconds, which is/],
    [["--boot-timeout", "0"], /with --boot-timeout 0: expected a number above 0/],
    [["--drain-delay", "1m"], /with --drain-delay "1m": expected a number of seconds/],
    [["--admin", "9090"], /with --admin "9090": expected host:port, such as 127\.0\.0\.1:9090 or/],
    [["--admin", "localhost:70000"], /with --admin port 70000: expected a whole number from 0 to/],
    [["--__proto__", "1"], /unknown option --__proto__/],
    [["--toString"], /unknown option --toString/],
    [
      ["--max-worker-memory", "12Q"],
      /--max-worker-memory "12Q": expected a size such as 65536, 64K or 512M$/,
    ],
    [["another.ts"], /expected one app, not also \S+\/app\.ts$/],
  ];
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  Deno.writeTextFileSync(`${folder.path}/cert.pem`, "");
  for (const [args, message] of cases) {
    await fails(spawnServer(args, { app, cwd: folder.path }), 2, message);
  }
  await fails(
    spawnServer([], { app: "" }),
    2,
    /missing app: expected its module, such as serve app\.ts$/,
  );
});

Deno.test("serve reports what is wrong with an app", async () => {
  await using folder = scratch();
  const cases: [string, RegExp][] = [
    [`export const fetch = () => new Response();`, /no default export/],
    [`export default { get: () => new Response() };`, /no fetch function/],
    [`\nthrow new Error("no database");`, /Error: no database at .*app\.ts:2:7$/],
    [`${APP}\nexport const onWorkerStart = 1;`, /onWorkerStart is not a function/],
  ];
  for (const [source, message] of cases) {
    const app = writeApp(folder.path, source);
    await fails(spawnServer(["--unix", `${folder.path}/socket`], { app }), 1, message);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
  }
  await fails(spawnServer([], { app: `${folder.path}/none.ts` }), 1, /there is no file .*none\.ts/);
  await fails(spawnServer([], { app: folder.path }), 1, /is a directory: name the file in it/);
  // In Deno's own words, which are more than one line.
  const inDenos: [string, RegExp][] = [
    [`export default { fetch( };`, /^error: .*\n[^]*app\.ts:1:\d+/],
    [`import "./missing.ts";\n${APP}`, /^error: Module not found ".*missing\.ts"/],
  ];
  for (const [source, message] of inDenos) {
    const app = writeApp(folder.path, source);
    await using server = spawnServer(["--pid-file", `${folder.path}/pid`], { app });
    assertEquals(await server.ended(), { code: 1, signal: null });
    assertMatch(server.stderr, message);
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
  }
});

Deno.test("serve reports what is wrong with an address", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  using taken = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  taken.bind(["0.0.0.0", 0]);
  taken.listen(1);
  const [, port] = taken.getsockname() as tine.InetAddress;
  await fails(
    spawnServer(["--port", `${port}`], { app }),
    1,
    new RegExp(`${port}.*EADDRINUSE.*choose another --port`),
  );
  // RFC 5737: an address that is not in use.
  await fails(spawnServer(["--host", "192.0.2.1"], { app }), 1, /192\.0\.2\.1.*EADDRNOTAVAIL/);
  await fails(spawnServer(["--host", "no-address"], { app }), 1, /no-address/);
  const missing = `${folder.path}/missing/socket`;
  await fails(spawnServer(["--unix", missing], { app }), 1, /missing\/socket.*ENOENT/);
});

Deno.test("serve reports what is wrong with a file that it must write", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  const missing = `${folder.path}/missing/file`;
  for (
    const [args, message] of [
      [
        ["--access-log", missing],
        /Cannot open \S+\/missing\/file: ENOENT .* Create the folder, or/,
      ],
      [["--access-log", folder.path], /Cannot open \S+: EISDIR/],
      [["--access-log", "/proc/access.log"], /Cannot open \/proc\/access\.log: ENOENT/],
      [["--error-log", missing], /Cannot open \S+\/missing\/file: ENOENT .* Create the folder, or/],
      [["--pid-file", missing], /Cannot write pid file \S+: ENOENT .* Create the folder, or/],
      [["--pid-file", folder.path], /Cannot read pid file \S+: Is a directory/],
    ] as const
  ) {
    await fails(spawnServer([...args], { app }), 1, message);
  }
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["app.ts"]);
});

Deno.test("serve reports what is wrong with a certificate", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  const text = writeApp(folder.path, "no certificate", "text.pem");
  const args = (cert: string) => ["--cert", cert, "--key", text];
  const missing = `${folder.path}/none.pem`;
  await fails(spawnServer(args(missing), { app }), 1, /Cannot read .*none\.pem for --cert/);
  await fails(spawnServer(args(text), { app }), 1, /certificate/);
});

Deno.test("serve takes over a stale UNIX socket, and no other file", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, APP);
  const path = `${folder.path}/socket`;
  const args = ["--unix", path];
  {
    // Killed, it leaves its socket.
    await using killed = await startServer(args, { app });
    const { workers } = killed;
    for (const pid of [killed.pid, ...workers]) Deno.kill(pid, "SIGKILL");
    await killed.ended();
  }
  assert(Deno.lstatSync(path).isSocket);
  {
    await using living = await startServer(args, { app });
    await fails(spawnServer(args, { app }), 1, /socket.*EADDRINUSE.*choose another --port, --unix/);
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    assertEquals(await (await fetch("http://localhost/", { client })).text(), "served");
    living.kill();
    assertEquals(await living.ended(), { code: 0, signal: null });
  }
  Deno.writeTextFileSync(path, "mine");
  await fails(spawnServer(args, { app }), 1, /socket.*EADDRINUSE.*It is not a socket: remove it/);
  assertEquals(Deno.readTextFileSync(path), "mine");
});

Deno.test("servePrefork() throws EACCES for a privileged port", async () => {
  const first = Number(Deno.readTextFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
  if (first <= 1) return; // here, every user may bind to every port
  const printed = await run(
    async () => {
      tine.becomeForkable({ signals: JSON.parse(Deno.args[1]!) });
      const { servePrefork } = await import(Deno.args[0]!);
      if (tine.getuid() === 0) {
        tine.setgid(54321);
        tine.setuid(54321);
      }
      try {
        await servePrefork({ fetch: () => new Response() }, { port: Number(Deno.args[2]) });
      } catch (error) {
        console.log((error as Error).message);
      }
    },
    [
      new URL("../server/prefork.ts", import.meta.url).href,
      JSON.stringify(HANDLED_SIGNALS),
      `${first - 1}`,
    ],
    { flags: ["--allow-all"] },
  );
  assertMatch(printed, new RegExp(`:${first - 1}.*EACCES|EACCES.*${first - 1}`));
});
