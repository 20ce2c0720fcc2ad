import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { readStatus } from "../server/prefork/status/status.ts";
import { withEachKindOfWorker } from "./rungs.ts";
import {
  certificate,
  readAll,
  scratch,
  type Server,
  startServer,
  until,
  within,
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
    const last = targets.map((target) => ask(target, "/sleep?ms=500"));
    await until(() => inFlight(server) === last.length, "the requests in flight");
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

function inFlight(server: Server): number {
  return readStatus(server.pid).workers.reduce((sum, worker) => sum + worker.inFlight, 0);
}

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
      await send(connection, `GET /sleep?ms=1500 ${rest}`);
      await until(() => inFlight(server) === 1, "the request");
      install(next);
      await replaceWorkers(signal);
      await all(next.cert);
      assert(!await has(url, before.cert));
      assertMatch(await within(readAll(connection), 15_000, "the answer"), / 200 OK\r\n/);
      connection.close();
    }

    Deno.copyFileSync(other.cert, used.cert); // which is not that of the key
    await replaceWorkers("SIGUSR2");
    const kept = /used\/cert\.pem and its key: .*\. The old certificates stay in use/;
    assertEquals(server.stderr.match(new RegExp(kept, "g"))?.length, 1, server.stderr);
    await all(old.cert);
    Deno.removeSync(used.key);
    await replaceWorkers("SIGUSR2");
    assertMatch(server.stderr, /Cannot read .*key\.pem: No such.*The old certificates stay in use/);
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
    const { workers } = server;
    server.kill("SIGUSR2");
    await server.replaced(workers);
    assert(await has(url, cert, "b.example"));
    assertEquals(
      await ask({ url, name: "b.example", trusts: [Deno.readTextFileSync(cert)] }),
      "https://localhost/url",
    );
  },
);
