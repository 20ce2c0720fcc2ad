import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { readCommandLine } from "../server/cli/command_line.ts";
import { readSettings } from "../server/cli/settings.ts";
import { dnsNames, validity } from "../server/prefork/certificate_content.ts";
import { tlsOf } from "../server/prefork/certificates.ts";
import { type PreforkOptions, resolveOptions } from "../server/prefork/options.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import {
  certificate,
  exists,
  readAll,
  ROOT,
  scratch,
  spawnServer,
  start,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

/** A client's connection. */
interface Target {
  /** `https://127.0.0.1:8000/`, `http://[::1]:8000/`, or `unix:PATH`. */
  readonly url: string;
  /** The certificates that the client trusts. */
  readonly trusts?: readonly string[];
  /** The name for which the client asks. */
  readonly name?: string;
}

async function connect({ url, trusts = [], name = "localhost" }: Target): Promise<Deno.Conn> {
  if (url.startsWith("unix:")) return await Deno.connect({ transport: "unix", path: url.slice(5) });
  const { protocol, hostname, port } = new URL(url);
  const loopback = { "0.0.0.0": "127.0.0.1", "[::]": "::1" }[hostname] ??
    hostname.replace(/[[\]]/g, "");
  const connection = await Deno.connect({ hostname: loopback, port: Number(port) });
  if (protocol === "http:") return connection;
  const tls = await Deno.startTls(connection, { hostname: name, caCerts: [...trusts] });
  await tls.handshake();
  return tls;
}

/** Sends a request on a new connection, and returns the body of the response. */
async function ask(target: Target, path = "/url"): Promise<string> {
  using connection = await connect(target);
  await send(connection, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  const reply = await within(readAll(connection), 15_000, `the answer of ${target.url}`);
  return reply.slice(reply.indexOf("\r\n\r\n") + 4);
}

async function send(connection: Deno.Conn, text: string): Promise<void> {
  for (let bytes = new TextEncoder().encode(text); bytes.length > 0;) {
    bytes = bytes.subarray(await connection.write(bytes));
  }
}

/** Whether a server of TLS has a certificate that a client who trusts only this one accepts. */
async function has(url: string, file: string, name = "localhost"): Promise<boolean> {
  try {
    (await connect({ url, trusts: [Deno.readTextFileSync(file)], name })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.InvalidData) return false; // UnknownIssuer
    throw error;
  }
}

/** Creates a certificate in a folder of its own. */
async function certificateIn(folder: string, ...names: string[]) {
  Deno.mkdirSync(folder, { recursive: true });
  return await certificate(folder, names.length === 0 ? undefined : names);
}

/** Changes from when until when a certificate is valid. Nobody checks here who has signed it. */
function setValidity(file: string, ...times: readonly [from: string, until: string]): void {
  const base64 = Deno.readTextFileSync(file).replace(/-----.*-----|\s/g, "");
  let rest = atob(base64);
  let changed = "";
  for (const time of times) {
    const at = rest.indexOf("\x17\x0d") + 2; // a UTCTime of 13 bytes
    changed += rest.slice(0, at) + time;
    rest = rest.slice(at + time.length);
  }
  const lines = btoa(changed + rest).match(/.{1,64}/g)!;
  const [begin, end] = ["BEGIN", "END"].map((word) => `-----${word} CERTIFICATE-----\n`);
  Deno.writeTextFileSync(file, `${begin}${lines.join("\n")}\n${end}`);
}

/** A port that is free over IPv4 and IPv6. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "::", port: 0 });
  return listener.addr.port;
}

withEachKindOfWorker(
  "serve --listen answers on all addresses, without a refusal over SIGHUP, and stops on all",
  async (kind) => {
    await using folder = scratch();
    const { cert, key } = await certificateIn(folder.path);
    const trusts = [Deno.readTextFileSync(cert)];
    const path = `${folder.path}/app.sock`;
    const addresses = ["127.0.0.1:0", "[::1]:0", `unix:${path}`]
      .concat([`127.0.0.1:0,cert=${cert},key=${key}`]);
    await using server = await startServer(
      [...kind, ...addresses.flatMap((address) => ["--listen", address])],
    );
    const urls = server.url.split(", ");
    assertEquals(readStatus(server.pid).master.url, server.url);
    const shown = [/^http:\/\/127.0.0.1:\d+\/$/, /^http:\/\/\[::1\]:\d+\/$/, /^unix:/]
      .concat(/^https:\/\/127.0.0.1:\d+\/$/);
    assertEquals(urls.length, shown.length);
    shown.forEach((pattern, i) => assertMatch(urls[i]!, pattern));
    const targets = urls.map((url) => ({ url, trusts }));
    assertEquals(
      await Promise.all(targets.map((target) => ask(target))),
      ["http:", "http:", "http+unix:", "https:"].map((scheme) => `${scheme}//localhost/url`),
    );

    let asked = 0;
    let stop = false;
    const clients = targets.map(async (target) => {
      for (; !stop; asked++) assertMatch(await ask(target), /localhost\/url$/);
    });
    const { workers } = server;
    server.kill("SIGHUP");
    await Promise.race([server.replaced(workers), Promise.all(clients)]);
    const before = asked;
    await until(() => asked > before + 20, "requests to the new workers");
    stop = true;
    await Promise.all(clients);

    const [first] = server.workers;
    Deno.kill(first!, "SIGKILL");
    await until(() => server.workers.length === 2 && !server.workers.includes(first!), "a worker");
    // The requests in progress are answered, on each address, and none is accepted any more.
    const last = targets.map((target) => ask(target, "/sleep?ms=2000"));
    await until(() => server.inFlight === last.length, "the requests in flight");
    server.kill();
    for (const answer of last) assertMatch(await answer, /^\d+$/);
    assertEquals(await server.ended(), { code: 0, signal: null });
    for (const target of targets) await assertRejects(() => ask(target));
    assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), [
      "cert.pem",
      "key.pem",
    ]);
  },
);

Deno.test("serve --listen limits the connections of a worker over all addresses", async () => {
  const args = ["--workers", "1", "--max-connections", "1"];
  await using server = await startServer([
    ...args,
    ...["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
  ]);
  const [first, second] = server.url.split(", ").map((url) => ({ url })) as [Target, Target];
  const idle = await connect(first);
  await send(idle, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  assert(await idle.read(new Uint8Array(1000)));
  await until(() => readStatus(server.pid).workers[0]!.connections === 1, "the connection");
  const answer = ask(second);
  await assertRejects(() => within(answer, 700, "an answer, while the worker is full"));
  idle.close();
  assertEquals(await answer, "http://localhost/url");
});

Deno.test("serve --listen [::]:PORT accepts IPv4, unless another address does on that port", async () => {
  const remote = async (url: string) => JSON.parse(await ask({ url }, "/addr")).hostname;
  const port = freePort();
  const [ipv4, ipv6] = [`http://127.0.0.1:${port}/`, `http://[::1]:${port}/`];
  {
    await using _ = await startServer(["--listen", `[0:0::0]:${port}`]);
    assertEquals([await remote(ipv4), await remote(ipv6)], ["::ffff:127.0.0.1", "::1"]);
  }
  for (const other of ["127.0.0.1", "0.0.0.0"]) {
    const both = [`[::]:${port}`, `${other}:${port}`].flatMap((address) => ["--listen", address]);
    await using _ = await startServer(both);
    assertEquals([await remote(ipv4), await remote(ipv6)], ["127.0.0.1", "::1"]);
  }
  await using _ = await startServer(["--listen", `:${port}`]);
  assertEquals(await remote(ipv4), "127.0.0.1");
  await assertRejects(() => ask({ url: ipv6 }), Deno.errors.ConnectionRefused);
});

withEachKindOfWorker(
  "serve reads certificates again at SIGHUP and SIGUSR2, and keeps the old ones if they are bad",
  async (kind) => {
    await using folder = scratch();
    const { path } = folder;
    const used = await certificateIn(`${path}/used`);
    const old = await certificateIn(`${path}/old`);
    const other = await certificateIn(`${path}/new`);
    const install = ({ cert, key }: { cert: string; key: string }) => {
      Deno.copyFileSync(cert, used.cert);
      Deno.copyFileSync(key, used.key);
    };
    install(old);
    // --cert for one address, and a relative name for another.
    await using server = await startServer(
      [
        ...kind,
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0,cert=used/cert.pem,key=used/key.pem",
      ],
      { cwd: path },
    );
    const [, url] = server.url.split(", ") as [string, string];
    const all = async (cert: string) => {
      for (let i = 0; i < 6; i++) assert(await has(url, cert), server.stderr);
    };
    const replaceWorkers = async (signal: Deno.Signal) => {
      const { workers } = server;
      server.kill(signal);
      await server.replaced(workers);
    };
    await all(old.cert);

    for (const [signal, next] of [["SIGUSR2", other], ["SIGHUP", old]] as const) {
      const before = signal === "SIGUSR2" ? old : other;
      const connection = await connect({ url, trusts: [Deno.readTextFileSync(before.cert)] });
      const rest = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
      await send(connection, `GET /sleep?ms=2000 ${rest}`);
      await until(() => server.inFlight === 1, "the request");
      install(next);
      await replaceWorkers(signal);
      await all(next.cert);
      assert(!await has(url, before.cert));
      assertMatch(await within(readAll(connection), 15_000, "the answer"), / 200 OK\r\n/);
      connection.close();
    }

    Deno.copyFileSync(other.cert, used.cert); // which is not that of the key
    await replaceWorkers("SIGUSR2");
    const kept = /used\/cert\.pem and its key \S+: .*\. The old certificates stay in use/;
    await server.logged(kept);
    assertEquals(server.stderr.match(new RegExp(kept, "g"))?.length, 1, server.stderr);
    await all(old.cert);
    Deno.removeSync(used.key);
    await replaceWorkers("SIGUSR2");
    await server.logged(/Cannot read .*key\.pem: No such.*The old certificates stay in use/);
    await all(old.cert);
    const { workers } = server;
    server.kill("SIGHUP");
    await server.logged(/the old code stays in use/);
    assertEquals(server.workers, workers);
    await all(old.cert);
    install(other);
    await replaceWorkers("SIGHUP");
    await all(other.cert);
  },
);

withEachKindOfWorker(
  "serve with several certificates gives a client the one with the name it asks for",
  async (kind) => {
    await using folder = scratch();
    const { path } = folder;
    const first = await certificateIn(`${path}/1`, "a.example");
    const second = await certificateIn(`${path}/2`, "b.example", "*.b.example");
    const given = [first, second].flatMap(({ cert, key }) => ["--cert", cert, "--key", key]);
    await using server = await startServer([...kind, ...given]);
    const { url } = server;
    for (const name of ["b.example", "B.example", "x.b.example"]) {
      assert(await has(url, second.cert, name), name);
      assert(!await has(url, first.cert, name), name);
    }
    assert(await has(url, first.cert, "a.example"));
    // A client rejects it, but not for its issuer.
    for (const name of ["c.example", "x.y.b.example", "127.0.0.1"]) {
      await assertRejects(
        () => connect({ url, name, trusts: [Deno.readTextFileSync(first.cert)] }),
        Error,
        "certificate not valid for name",
      );
    }
    const { cert } = await certificateIn(`${path}/2`, "b.example");
    await server.restarted("SIGUSR2");
    assert(await has(url, cert, "b.example"));
    assertEquals(
      await ask({ url, name: "b.example", trusts: [Deno.readTextFileSync(cert)] }),
      "https://localhost/url",
    );
  },
);

withEachKindOfWorker(
  "serve --listen has a program's only server listen on all addresses",
  async (kind) => {
    await using folder = scratch();
    const { path } = folder;
    const { cert, key } = await certificateIn(path);
    const app = writeApp(
      path,
      `const server = Deno.serve({ port: 1, onListen: () => console.log("listening") }, (request) => {
         if (!request.url.endsWith("/end")) return new Response(request.url);
         setTimeout(() => server.shutdown(), 10);
         return new Response(String(Deno.pid));
       });
       server.finished.then(() => console.log("finished", Deno.pid));`,
    );
    const listen = ["--listen", "127.0.0.1:0", "--listen", `[::1]:0,cert=${cert},key=${key}`]
      .concat(["--listen", `unix:${path}/socket`]);
    await using server = await startServer([...kind, ...listen], { app });
    const trusts = [Deno.readTextFileSync(cert)];
    const targets = server.url.split(", ").map((url) => ({ url, trusts }));
    const all = ["http:", "https:", "http+unix:"].map((scheme) => `${scheme}//localhost/url`);
    const askAll = () => Promise.all(targets.map((target) => ask(target)));
    assertEquals(await askAll(), all);
    await server.printed(/(listening\n){2}/);
    assertEquals(server.stdout, "listening\n".repeat(2));
    await server.restarted();
    assertEquals(await askAll(), all);
    // Its worker gives up all of them.
    const pid = await ask(targets[0]!, "/end");
    // Until then, it may close a connection without a request.
    await server.printed(new RegExp(`finished ${pid}\n`));
    for (let i = 0; i < 4; i++) assertEquals(await askAll(), all);
  },
);

Deno.test("serve --listen refuses a program that cannot listen on the addresses", async () => {
  await using folder = scratch();
  const programs: [source: string, message: RegExp][] = [
    [
      "import http from 'node:http'; http.createServer().listen(1);",
      /A server of Node's can listen on one address only, and 2 are given: 127.0.0.1:0, \[::1\]:0$/m,
    ],
    [
      "Deno.serve({ port: 1 }, () => new Response()); export default { fetch: () => new Response() }",
      /only to a program with one server: this one has a default export, and listens on 127/,
    ],
    [
      "for (const port of [1, 2]) Deno.serve({ port }, () => new Response());",
      /only to a program with one server: this one listens on 0.0.0.0:1, 0.0.0.0:2/,
    ],
  ];
  const listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
  await Promise.all(programs.flatMap(([source, message], i) => {
    const app = writeApp(folder.path, source, `${i}.ts`);
    return [[], ["--no-preload"]].map(async (kind) => {
      await using server = spawnServer([...kind, ...listen], { app });
      assertEquals((await server.ended()).code, 1, server.stderr);
      assertMatch(server.stderr, message);
    });
  }));
});

Deno.test("serve and check refuse --unix-mode for a program that listens on ports alone", async () => {
  await using folder = scratch();
  const programs = [
    ["export default { fetch: () => new Response() };", "0.0.0.0:8000"],
    ["Deno.serve({ port: 0 }, () => new Response());", "0.0.0.0:\\d+"],
  ];
  await Promise.all(programs.flatMap(([source, address], i) => {
    const app = writeApp(folder.path, source!, `${i}.ts`);
    const line = new RegExp(
      "^(error: |\\S+Z \\[master \\d+\\] )Cannot serve with --unix-(mode|group) and without a UNIX " +
        `socket: the program listens on ${address}$`,
      "m",
    );
    const commands = [
      ["serve", "--unix-mode", "0600", app],
      ["check", "--unix-group", `${Deno.gid()}`, app],
      // Which of a fresh worker's own servers is the last, nobody knows.
      ...i === 0 ? [["serve", "--unix-mode", "0600", "--no-preload", app]] : [],
    ];
    return commands.map(async (args) => {
      await using server = start("server/cli.ts", args, { flags: ["-A"] });
      assertEquals((await server.ended()).code, 1, server.stderr);
      assertMatch(server.stderr, line);
    });
  }));
  const socket = `${folder.path}/own.sock`;
  const app = writeApp(
    folder.path,
    `for (const options of [{ port: 0 }, { path: ${JSON.stringify(socket)} }]) {
       Deno.serve(options, () => new Response());
     }`,
  );
  await using server = start("server/cli.ts", ["serve", "--unix-mode", "0604", app], {
    flags: ["-A"],
  });
  await server.logged(/Serving/);
  assertEquals(Deno.lstatSync(socket).mode! & 0o777, 0o604);
});

withEachKindOfWorker(
  "serve says that a socket file has been deleted, and makes it again at SIGHUP",
  async (kind) => {
    await using folder = scratch();
    const [socket, admin] = [`${folder.path}/app.sock`, `${folder.path}/admin.sock`];
    const own = writeApp(
      folder.path,
      `import { createServer } from "node:http";
       createServer((_, response) => response.end("http+unix://localhost/url"))
         .listen(${JSON.stringify(socket)});`,
    );
    const all = ["--admin", admin, "--unix-mode", "0660", ...kind];
    for (const options of [{ ownAddress: true, app: own }, {}]) {
      const given = "app" in options ? [] : ["--unix", socket];
      await using server = await startServer([...all, ...given], options);
      const { workers } = server;
      assertEquals(await ask({ url: `unix:${socket}` }), "http+unix://localhost/url");
      using early = await connect({ url: `unix:${socket}` });
      await send(early, "GET /url HTTP/1.1\r\nHost: localhost\r\n");
      for (const path of [socket, admin]) Deno.removeSync(path);
      for (const path of [socket, admin]) {
        await server.logged(
          new RegExp(`The socket file ${path} has been deleted, and no client can`),
        );
      }
      server.kill("SIGHUP");
      await server.replaced(workers);
      assertEquals(await ask({ url: `unix:${socket}` }), "http+unix://localhost/url");
      assertEquals(Deno.statSync(socket).mode! & 0o777, 0o660);
      await until(
        () => ask({ url: `unix:${admin}` }, "/readyz").catch(() => ""),
        "the admin process",
      );
      await send(early, "Connection: close\r\n\r\n");
      assertMatch(await readAll(early), /^HTTP\/1\.1 200 OK\r\n/);
      assertEquals(server.stderr.match(/has been deleted/g)?.length, 2, server.stderr);
      server.kill();
      assertEquals((await server.ended()).code, 0);
      assertEquals([exists(socket), exists(admin)], [false, false]);
      assertEquals(server.stderr.match(/has been deleted/g)?.length, 2, server.stderr);
    }
  },
);

Deno.test("serve loads new code at SIGHUP also where a deleted socket file cannot be made again", async () => {
  await using folder = scratch();
  const socket = `${folder.path}/run/app.sock`;
  Deno.mkdirSync(`${folder.path}/run`);
  await using server = await startServer(["--listen", `unix:${socket}`, "--listen", "127.0.0.1:0"]);
  const { workers } = server;
  Deno.removeSync(`${folder.path}/run`, { recursive: true });
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertMatch(
    server.stderr,
    /The socket file \S+ cannot be made again: .*ENOENT.* or start the server/,
  );
  const [, url] = server.url.split(", ");
  assertEquals(await ask({ url: url! }), "http://localhost/url");
});

Deno.test("check shows all addresses and their certificates, and none of their text", async () => {
  await using folder = scratch();
  const { cert, key } = await certificateIn(folder.path);
  const app = writeApp(folder.path, "export default { fetch: () => new Response() };");
  const listen = ["127.0.0.1:1", `[::]:443,cert=${cert},key=${key}`, "unix:/x"];
  const args = ["check", app, ...listen.flatMap((address) => ["--listen", address])];
  await using text = start("server/cli.ts", args, { flags: ["-A"] });
  assertEquals((await text.ended()).code, 0, text.stderr);
  for (const url of ["http://127.0.0.1:1/", "https://[::]:443/", "unix:/x"]) {
    assertMatch(
      text.stdout,
      new RegExp(`^  ${url.replace(/[[\]]/g, "\\$&")} +the default exp`, "m"),
    );
  }
  assert(text.stdout.includes(`  ${listen.join(", ")}  --listen\n`), text.stdout);
  await using json = start("server/cli.ts", [...args, "--json"], { flags: ["-A"] });
  assertEquals((await json.ended()).code, 0, json.stderr);
  const { options } = JSON.parse(json.stdout);
  const { value } = options.find(({ name }: { name: string }) => name === "listen");
  assertEquals(value, [
    "127.0.0.1:1",
    { address: "[::]:443", cert: [cert], key: [key] },
    "unix:/x",
  ]);
  assert(!json.stdout.includes("BEGIN"));
});

Deno.test("SIGHUP cannot change the addresses of a server, which keep their certificates", async () => {
  await using folder = scratch();
  const { path } = folder;
  const { cert } = await certificateIn(path);
  const configure = (...listen: unknown[]) =>
    Deno.writeTextFileSync(`${path}/tine.json`, JSON.stringify({ listen, workers: 2 }));
  const plain = "127.0.0.1:0";
  const tls = { address: "[::1]:0", cert: "cert.pem", key: "key.pem" };
  configure(plain, tls);
  await using server = await startServer(["--config", `${path}/tine.json`], { ownAddress: true });
  const trusts = [Deno.readTextFileSync(cert)];
  const targets = server.url.split(", ").map((url) => ({ url, trusts }));
  for (const changed of [[tls, plain], [plain, "127.0.0.1:1"]]) {
    configure(...changed);
    await server.restarted();
    assertEquals(await ask(targets[0]!), "http://localhost/url");
    assertEquals(await ask(targets[1]!), "https://localhost/url");
  }
  await server.logged(/SIGHUP cannot change .*\n/);
  assertEquals(server.stderr.match(/SIGHUP cannot change .*/g), [
    "SIGHUP cannot change listen: stop the server and start it again for that",
  ]);
});

Deno.test("a service manager's sockets get the certificates of their addresses", async () => {
  await using folder = scratch();
  const { path } = folder;
  const { cert, key } = await certificateIn(path);
  const launcher = writeApp(
    path,
    `import * as tine from ${JSON.stringify(new URL("mod.ts", ROOT).href)};
     const sockets = [0, 1].map(() => {
       const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
       socket.bind(["127.0.0.1", 0]);
       socket.listen(5);
       return socket;
     });
     const fds = sockets.map((socket) => tine.fcntl(socket.fileno(), tine.F_DUPFD_CLOEXEC, 500));
     fds.forEach((fd, i) => tine.dup2(fd, 3 + i));
     Deno.env.set("LISTEN_PID", String(tine.getpid()));
     Deno.env.set("LISTEN_FDS", "2");
     const ports = sockets.map((socket) => socket.getsockname()[1]);
     const args = Deno.args.map((arg) => arg.replace(/PORT([01])/, (_, i) => ports[i]));
     tine.execve(Deno.execPath(), [Deno.execPath(), ...args]);`,
    "launcher.ts",
  );
  const launch = (...addresses: string[]) => {
    const { pathname } = new URL("server/cli.ts", ROOT);
    const app = new URL("tests/prefork/app.ts", ROOT).pathname;
    const args = ["run", "--no-lock", "-A", pathname, "serve", "--workers", "1"];
    const listen = addresses.flatMap((address) => ["--listen", address]);
    return start(launcher, [...args, ...listen, app], { flags: ["-A"] });
  };
  const tls = `,cert=${cert},key=${key}`;
  await using server = launch(`127.0.0.1:PORT1${tls}`, "0.0.0.0:PORT0");
  const ready = () => server.stderr.match(/Serving (http:\S+), (https:\S+) with/);
  const [, http, https] = await until(ready, "the server").catch((error) => {
    throw new Error(`${error.message}: ${server.stderr}`);
  });
  const trusts = [Deno.readTextFileSync(cert)];
  assertEquals(await ask({ url: http! }), "http://localhost/url");
  assertEquals(await ask({ url: https!, trusts }), "https://localhost/url");
  await using wrong = launch(`127.0.0.1:PORT1${tls}`, "127.0.0.1:1");
  assertEquals((await wrong.ended()).code, 1, wrong.stderr);
  assertMatch(
    wrong.stderr,
    /^error: Cannot tell which certificate is for 127\.0\.0\.1:\d+, on which/m,
  );
});

Deno.test("`resolveOptions()` rejects addresses and certificates that cannot be served", () => {
  const wrong: [options: PreforkOptions, message: string][] = [
    [{ listen: [":80", "x"] }, 'listen "x": expected host:port, such as 127.0.0.1:8000, [::]:8000'],
    [{ listen: ["8080"] }, 'listen "8080": expected host:port, such as 127.0.0.1:8080'],
    [{ listen: ["::1:80"] }, 'listen "::1:80": expected host:port'],
    [{ listen: ["http://x:80"] }, 'listen "http://x:80": expected host:port'],
    [{ listen: ["unix:"] }, 'listen "unix:": expected host:port'],
    [{ listen: [":70000"] }, 'listen ":70000": expected a port from 0 to 65535'],
    [{ listen: ["[::1]:80", "[0:0::1]:80"] }, 'Cannot serve with listen "[0:0::1]:80" twice'],
    [{ listen: ["unix:/x", "unix:/x"] }, 'Cannot serve with listen "unix:/x" twice'],
    [
      { listen: [{ address: "unix:/x", cert: "c", key: "k" }] },
      'Cannot serve HTTPS on listen "unix:/x": a UNIX socket has no certificate',
    ],
    [
      { listen: [{ address: ":80", cert: "c" }] },
      "Cannot serve HTTPS with only one of listen cert and listen key: expected both",
    ],
    [
      { listen: [{ address: ":80", cert: ["c", "d"], key: "k" }] },
      "Cannot serve HTTPS with 2 of listen cert and 1 of listen key: expected a key for each",
    ],
    [
      { cert: ["c"], key: ["k", "l"] },
      "Cannot serve HTTPS with 1 of cert and 2 of key: expected a",
    ],
    [{ listen: [":80"], port: 1 }, "with both listen and port: expected only one of them"],
    [{ listen: [":80"], path: "/x" }, "with both listen and path: expected only one of them"],
    [{ path: "/x", port: 8000 }, "with both path and port: expected only one of them"],
    [{ path: "/x", hostname: "::" }, "with both path and hostname: expected only one of them"],
    [
      { path: "/x", cert: "c", key: "k" },
      "with both path and cert: a UNIX socket has no certificate",
    ],
    [
      { listen: [":80"], cert: "c", key: "k" },
      "with both listen and cert: expected the certificate of each address with it",
    ],
    [{ unixMode: "0660", listen: [":80", "[::]:80"] }, "with unixMode and without a UNIX socket"],
    [{ unixGroup: "0", hostname: "::" }, "with unixGroup and without a UNIX socket"],
    [{ listen: [{ address: ":80", port: 1 } as { address: string }] }, "listen { address: "],
  ];
  for (const [options, message] of wrong) {
    assertThrows(() => resolveOptions(options), Error, message);
  }
  const { listen } = resolveOptions({
    listen: ["[::]:1", "localhost:1", "[::]:2", "[::1]:1", ":0", ":0", "unix:x", "[fe80::1%lo]:1"],
  });
  assertEquals(listen.map(({ address, dualStack }) => [address, dualStack]), [
    [["::", 1], false],
    [["localhost", 1], undefined],
    [["::", 2], true],
    [["::1", 1], undefined],
    [["0.0.0.0", 0], undefined],
    [["0.0.0.0", 0], undefined],
    [`${Deno.cwd()}/x`, undefined],
    [["fe80::1%lo", 1], undefined],
  ]);
});

Deno.test("an address overrides those of lower rank, whatever its form", async () => {
  await using folder = scratch();
  const { path } = folder;
  const { cert, key } = await certificateIn(path);
  const read = (content: unknown, ...args: string[]) => {
    Deno.writeTextFileSync(`${path}/tine.json`, JSON.stringify(content));
    const line = ["--config", `${path}/tine.json`, ...args, "app.ts"];
    return readSettings(readCommandLine(line)!.line).config.listen;
  };
  const addresses = (...line: Parameters<typeof read>) =>
    read(...line).map(({ address }) => address);
  const listen = { listen: ["[::]:1", "unix:app.sock"] };
  assertEquals(addresses(listen), [["::", 1], `${path}/app.sock`]);
  assertEquals(addresses(listen, "--port", "2"), [["0.0.0.0", 2]]);
  assertEquals(addresses(listen, "--unix", "/x"), ["/x"]);
  assertEquals(addresses({ port: 1, hostname: "::1" }, "--unix", "/x"), ["/x"]);
  assertEquals(read({ port: 1, cert, key }, "--unix", "/x").map((one) => one.certificates), [[]]);
  assertEquals(addresses({ port: 1, hostname: "::1", path: "x" }, "--listen", ":3"), [[
    "0.0.0.0",
    3,
  ]]);
  Deno.env.set("PORT", "4");
  try {
    assertEquals(addresses({}, "--listen", ":3"), [["0.0.0.0", 3]]);
    assertEquals(addresses(listen), [["0.0.0.0", 4]]);
    assertEquals(addresses({ hostname: "::1" }, "--unix", "/x"), ["/x"]);
  } finally {
    Deno.env.delete("PORT");
  }
  const refused = "Cannot serve with both --listen and cert in ";
  assertThrows(() => read({ cert, key }, "--listen", ":3"), Error, refused);
  assertThrows(() => read({}, "--listen", ":3", "--port", "1"), Error, "both --listen and --port");
  assertThrows(() => read({}, "--port", "1", "--unix", "/x"), Error, "both --unix and --port");
  assertThrows(() => read({}, "--host", "::", "--unix", "/x"), Error, "both --unix and --host");
  const both = `Cannot serve with both path in ${path}/tine.json and port in `;
  assertThrows(() => read({ path: "/x", port: 1 }), Error, both);
  const files = { cert, key };
  const [{ certificates }] = read({
    listen: [{ address: ":1", cert: ["cert.pem"], key: "key.pem" }],
  }) as [
    ReturnType<typeof read>[0],
  ];
  assertEquals(certificates, [{
    cert: Deno.readTextFileSync(cert),
    key: Deno.readTextFileSync(key),
    files,
  }]);
  const missing = `Cannot read ${path}/none for listen in ${path}/tine.json: No such file`;
  assertThrows(
    () => read({ listen: [{ address: ":1", cert: "none", key: "none" }] }),
    Error,
    missing,
  );
});

Deno.test("dnsNames() returns the names of a certificate", async () => {
  await using folder = scratch();
  const names = ["a.example", "*.B.example", "x".repeat(60) + ".example", ...Array(9).fill("c.d")];
  const { cert } = await certificateIn(folder.path, ...names);
  const chain = Deno.readTextFileSync(cert);
  assertEquals(dnsNames(chain + chain), names.map((name) => name.toLowerCase()));
  assertEquals(dnsNames("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"), []);
  assertEquals(dnsNames(""), []);
});

Deno.test("validity() returns from when until when a certificate is valid", async () => {
  await using folder = scratch();
  const cert = `${folder.path}/cert.pem`;
  const openssl = async (...args: string[]) => {
    const { stdout } = await new Deno.Command("openssl", { args, stderr: "null" }).output();
    return new TextDecoder().decode(stdout);
  };
  for (const days of ["2", "20000"]) { // a UTCTime and, from 2050 on, a GeneralizedTime
    await openssl(
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-keyout", `${folder.path}/key.pem`, "-out", cert, "-days", days, "-subj", "/CN=x"],
    );
    const dates = await openssl("x509", "-in", cert, "-noout", "-dates");
    const [from, until] = [...dates.matchAll(/=(.*)/g)].map(([, date]) => Date.parse(date!));
    assertEquals(validity(Deno.readTextFileSync(cert)), { from: from!, until: until! });
  }
  const { cert: old } = await certificateIn(folder.path);
  setValidity(old, "990101000000Z", "491231235959Z");
  const [from, until] = [Date.parse("1999-01-01T00:00:00Z"), Date.parse("2049-12-31T23:59:59Z")];
  assertEquals(validity(Deno.readTextFileSync(old)), { from, until });
  assertEquals(validity("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"), undefined);
  assertEquals(validity(""), undefined);
});

Deno.test("serve warns of a certificate that is not valid now, at the start and when it is read again", async () => {
  await using folder = scratch();
  const { path } = folder;
  const expired = await certificateIn(`${path}/a`, "a.example", "b.example");
  const early = await certificateIn(`${path}/b`, "c.example");
  const past = ["990101000000Z", "200229235958Z"] as const;
  setValidity(expired.cert, ...past);
  setValidity(early.cert, "490101000000Z", "490201000000Z");
  const listen = [`127.0.0.1:0,cert=${expired.cert},key=${expired.key}`]
    .concat(`[::1]:0,cert=${expired.cert},key=${expired.key},cert=${early.cert},key=${early.key}`);
  await using server = await startServer(listen.flatMap((address) => ["--listen", address]));
  const warnings = () =>
    [...server.stderr.matchAll(/ The certificate (.*): clients refuse it\n/g)].map(([, it]) => it);
  const both = [
    `${expired.cert} of a.example expired on 2020-02-29T23:59:58Z`,
    `${early.cert} of c.example is not valid before 2049-01-01T00:00:00Z`,
  ];
  assertEquals(warnings(), both);
  let { workers } = server;
  await certificateIn(`${path}/b`, "c.example"); // renewed
  server.kill("SIGUSR2");
  workers = await server.replaced(workers);
  assertEquals(warnings(), [...both, both[0]]);
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertEquals(warnings(), [...both, both[0], both[0]]);

  await using lower = await startServer(
    ["--model", "forking", "--cert", expired.cert, "--key", expired.key],
  );
  assertMatch(lower.stderr, /a\.example expired on 2020-02-29T23:59:58Z/);
});

Deno.test("a worker asks to be replaced when clients have asked for many names", () => {
  let asked = 0;
  const certificate = { cert: "", key: "" };
  assertEquals(tlsOf([], () => {}), undefined);
  assertEquals(tlsOf([certificate], () => {}), certificate);
  const { choose } = tlsOf([certificate, certificate], () => asked++)!;
  for (let i = 0; i < 9999; i++) choose!(`${i}.example`);
  assertEquals(asked, 0);
  for (let i = 0; i < 9999; i++) choose!(`${i}.example`);
  assertEquals(asked, 1);
});

Deno.test("the limits for clients tell two sockets apart that have the same port", async () => {
  await using folder = scratch();
  const { cert, key } = await certificateIn(folder.path);
  const port = freePort();
  const listen = [`[::]:${port},cert=${cert},key=${key}`, `0.0.0.0:${port}`]
    .flatMap((address) => ["--listen", address]);
  await using _ = await startServer(["--workers", "1", "--header-timeout", "1", ...listen]);
  using connection = await connect({ url: `http://127.0.0.1:${port}/` });
  await send(connection, "GET / HTTP/1.1\r\nHo");
  const answer = await within(readAll(connection), 15_000, "the end of the connection");
  assertMatch(answer, /^HTTP\/1.1 408 /);
});
