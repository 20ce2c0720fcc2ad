import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import {
  childrenOf,
  descendants,
  descriptorsOf,
  exchange,
  HELLO,
  isPortFree,
  portOf,
  processState,
  type Program,
  type ProgramOptions,
  readAll,
  ROOT,
  start,
  until,
  within,
  zombiesOf,
} from "./support.ts";

const REQUEST = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
const FROM_SCRATCH_HELLO = "HTTP/1.1 200 OK\n\nHello, World!";

/** Every server, its default port and its reply. */
const SERVERS = [
  ..."abcdefg".split("").map((letter) => ({
    name: `webserver3${letter}`,
    port: 8888,
    reply: HELLO,
  })),
  { name: "from_scratch", port: 8000, reply: FROM_SCRATCH_HELLO },
];

function startServer(name: string, args = ["0"], options?: ProgramOptions): Program {
  return start(`examples/part3/${name}.ts`, args, options);
}

function connect(port: number): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: "127.0.0.1", port });
}

async function send(connection: Deno.Conn, text = REQUEST): Promise<void> {
  await connection.write(new TextEncoder().encode(text));
}

/** Reads as many bytes as the reply has, and does not ask for the end. */
async function receive(connection: Deno.Conn, reply = HELLO): Promise<string> {
  const bytes = new Uint8Array(reply.length);
  for (let count = 0; count < bytes.length;) {
    const read = await within(connection.read(bytes.subarray(count)), 15_000, "the reply");
    if (read === null) return new TextDecoder().decode(bytes.subarray(0, count));
    count += read;
  }
  return new TextDecoder().decode(bytes);
}

/** Whether neither data nor the end comes for a while. */
async function isSilent(connection: Deno.Conn): Promise<boolean> {
  const read = connection.read(new Uint8Array(1)).catch(() => null);
  return await within(read, 300, "data").then(() => false, () => true);
}

/** The sockets of a process, by inode. */
function socketsOf(pid: number): Set<string> {
  return new Set([...descriptorsOf(pid).values()].filter((link) => link.startsWith("socket:")));
}

/** Makes `client3` open this many connections at the same time, each from its own process. */
async function burst(port: number, clients: number): Promise<void> {
  const args = ["--max-clients", `${clients}`, "--max-conns", "1", "--port", `${port}`];
  await using client = start("examples/part3/client3.ts", args);
  const { code } = await client.ended(60_000);
  assertEquals([code, client.stdout], [0, `client3: ${clients} connected, 0 failed\n`]);
}

/** The most merciless burst: children that end while their parent cannot run at all. */
async function endChildrenAtOnce(server: Program, port: number, count: number): Promise<void> {
  const connections = await Promise.all(Array.from({ length: count }, () => connect(port)));
  try {
    await until(() => childrenOf(server.pid).length === count, `${count} children`, 30_000);
    // Stopped only when the last fork is over and the server is back in accept.
    await until(() => processState(server.pid)?.state === "S", "the server to wait");
    server.kill("SIGSTOP");
    await until(() => processState(server.pid)?.state === "T", "the server to stop");
    for (const connection of connections) await send(connection);
    for (const connection of connections) assertEquals(await readAll(connection), HELLO);
    await until(() => zombiesOf(server.pid).length === count, `${count} zombies`);
  } finally {
    server.kill("SIGCONT");
    for (const connection of connections) connection.close();
  }
}

async function noChildLeft(server: Program): Promise<void> {
  await until(() => childrenOf(server.pid).length === 0, "all children to be reaped", 30_000);
}

Deno.test("`webserver3a` prints each request and answers Hello, World!", async () => {
  await using server = startServer("webserver3a");
  const port = await portOf(server);
  assertEquals(await exchange(port, REQUEST), HELLO);
  assertEquals(await exchange(port, "POST /again HTTP/1.1\r\n\r\n"), HELLO);
  await server.printed(/again HTTP\/1\.1\r\n\r\n/);
  assertEquals(
    server.stdout,
    `Serving HTTP on port ${port} ...\nPID: ${server.pid}\n${REQUEST}POST /again HTTP/1.1\r\n\r\n`,
  );
});

Deno.test("`webserver3a` serves one client at a time", async () => {
  await using server = startServer("webserver3a");
  const port = await portOf(server);
  using first = await connect(port);
  using second = await connect(port);
  await send(second, "GET /second HTTP/1.1\r\n\r\n");
  const reply = receive(second);
  assertEquals(await Promise.race([reply, isSilent(first)]), true);
  await send(first, "GET /first HTTP/1.1\r\n\r\n");
  assertEquals(await within(reply, 15_000, "the second reply"), HELLO);
  await server.printed(/GET \/first [^]*GET \/second /);
  assertEquals(childrenOf(server.pid), []);
});

Deno.test("`webserver3b` serves its client for a minute while five others wait in the queue", async () => {
  await using server = startServer("webserver3b");
  const port = await portOf(server);
  const before = socketsOf(server.pid).size;
  const connections = [await connect(port)];
  try {
    await send(connections[0]!);
    assertEquals(await receive(connections[0]!), HELLO);
    for (let i = 0; i < 5; i++) {
      connections.push(await within(connect(port), 15_000, "the connection"));
      await send(connections.at(-1)!, "GET /next HTTP/1.1\r\n\r\n");
    }
    assertEquals(await Promise.all(connections.map(isSilent)), Array(6).fill(true));
    assertEquals(socketsOf(server.pid).size, before + 1); // no other is accepted
    assert(!server.stdout.includes("/next"));
  } finally {
    for (const connection of connections) connection.close();
  }
});

Deno.test("`webserver3b` answers the second client after it has slept for the first", async () => {
  await using server = startServer("webserver3b", ["0", "0.5"]);
  const port = await portOf(server);
  const begin = performance.now();
  assertEquals(await Promise.all([exchange(port), exchange(port)]), [HELLO, HELLO]);
  assert(performance.now() - begin >= 1000, "it slept twice, one after the other");
});

Deno.test("`webserver3c` answers two clients at the same time while both children sleep", async () => {
  await using server = startServer("webserver3c");
  const port = await portOf(server);
  const parentSockets = socketsOf(server.pid);
  using first = await connect(port);
  using second = await connect(port);
  for (const connection of [first, second]) await send(connection);
  assertEquals([await receive(first), await receive(second)], [HELLO, HELLO]);

  const children = childrenOf(server.pid);
  assertEquals(children.length, 2);
  await until(
    () => children.every((child) => processState(child)?.state === "S"),
    "both children to sleep",
  );
  await until(() => socketsOf(server.pid).size === parentSockets.size, "the parent to close");
  assertEquals(socketsOf(server.pid), parentSockets);
  for (const child of children) {
    const sockets = socketsOf(child);
    assertEquals(sockets.difference(parentSockets).size, 1); // its connection
    assertEquals(parentSockets.difference(sockets).size, 1); // the listening socket
  }
  assertEquals(await Promise.all([isSilent(first), isSilent(second)]), [true, true]);

  await server.printed(/(Child PID[^]*){2}GET [^]*\r\n\r\n$/);
  assert(server.stdout.startsWith(
    `Serving HTTP on port ${port} ...\nParent PID (PPID): ${server.pid}\n\n`,
  ));
  const printed = [...server.stdout.matchAll(/^Child PID: (\d+)\. Parent PID (\d+)$/gm)];
  assertEquals(printed.map((line) => Number(line[1])).sort(), children.sort());
  assertEquals(printed.map((line) => Number(line[2])), [server.pid, server.pid]);
});

Deno.test("`webserver3c` ends a connection after its child has slept", async () => {
  await using server = startServer("webserver3c", ["0", "0.1"]);
  assertEquals(await exchange(await portOf(server)), HELLO);
});

Deno.test("`webserver3d` answers, but never ends the connection and leaves a zombie per client", async () => {
  await using server = startServer("webserver3d");
  const port = await portOf(server);
  const before = socketsOf(server.pid).size;
  const connections = await Promise.all(Array.from({ length: 3 }, () => connect(port)));
  try {
    for (const connection of connections) {
      await send(connection);
      assertEquals(await receive(connection), HELLO);
    }
    await until(() => zombiesOf(server.pid).length === 3, "three zombies");
    assertEquals(socketsOf(server.pid).size, before + 3);
    assertEquals(await Promise.all(connections.map(isSilent)), [true, true, true]);
    await server.printed(/\n3\n/);
    assertEquals(server.stdout, `Serving HTTP on port ${port} ...\nPID: ${server.pid}\n1\n2\n3\n`);
    Deno.kill(zombiesOf(server.pid)[0]!, "SIGKILL"); // zombies survive it
    assertEquals(zombiesOf(server.pid).length, 3);
  } finally {
    for (const connection of connections) connection.close();
  }
});

Deno.test("`webserver3d` keeps one descriptor per client, from the first one on", async () => {
  await using server = startServer("webserver3d");
  const port = await portOf(server);
  const before = descriptorsOf(server.pid);
  for (let clients = 1; clients <= 3; clients++) {
    using connection = await connect(port);
    await send(connection);
    assertEquals(await receive(connection), HELLO);
    await server.printed(new RegExp(`^${clients}$`, "m")); // it has forked
    const added = [...descriptorsOf(server.pid)]
      .filter(([fd, file]) => before.get(fd) !== file && !file.includes("_cache_")) // Deno's
      .map(([, file]) => file.replace(/:.*/, ""));
    assertEquals(added, Array(clients).fill("socket"));
  }
});

Deno.test("`webserver3d` ends with EMFILE in accept when no descriptor is left", async () => {
  await using server = startServer("webserver3d", ["0"], { shell: "ulimit -n 256;" });
  const port = await portOf(server);
  const free = 256 - descriptorsOf(server.pid).size;
  const args = ["--max-clients=300", "--max-conns=1", `--port=${port}`];
  await using client = start("examples/part3/client3.ts", args);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /SyscallError: Cannot accept: EMFILE \(Too many open files\)/);
  const served = Number(server.stdout.match(/(\d+)\n$/)?.[1]);
  // Deno may have opened or closed a few of its own in the meantime.
  assert(Math.abs(served - free) <= 4, `served ${served} clients with ${free} descriptors`);
  assertEquals((await client.ended(60_000)).code, 1);
});

Deno.test("`webserver3d` ends with EAGAIN in fork when its user has too many processes", async () => {
  // The limit does not count for root. The program is loaded as root and changes its user before
  // webserver3d begins, for nothing of root's (Deno, this repository) need be readable to others.
  const directory = Deno.makeTempDirSync({ prefix: "tine_test_" });
  const root = tine.getuid() === 0;
  const limit = 40 + (root ? 0 : tasksOf(tine.getuid()));
  Deno.writeTextFileSync(
    `${directory}/limit.ts`,
    `import * as tine from ${JSON.stringify(new URL("mod.ts", ROOT).href)};
    tine.becomeForkable();
    if (${root}) {
      tine.setgid(54321);
      tine.setuid(54321);
      tine.prctl(tine.PR_SET_DUMPABLE, 1); // its own /proc/self is its own again
    }
    tine.setrlimit(tine.RLIMIT_NPROC, { soft: ${limit}, hard: ${limit} });\n`,
  );
  Deno.writeTextFileSync(
    `${directory}/main.ts`,
    `import "./limit.ts";
    import ${JSON.stringify(new URL("examples/part3/webserver3d.ts", ROOT).href)};\n`,
  );
  const connections: Deno.Conn[] = [];
  try {
    await using server = start(`${directory}/main.ts`, ["0"]);
    const port = await portOf(server);
    for (let alive = true; alive && connections.length < limit;) {
      try {
        const connection = await connect(port);
        connections.push(connection);
        await send(connection);
        alive = await receive(connection) === HELLO;
      } catch {
        alive = false;
      }
    }
    assertEquals(await server.ended(), { code: 1, signal: null });
    assertMatch(server.stderr, /Cannot fork: EAGAIN \(Resource temporarily unavailable\)/);
    assertMatch(server.stdout, /\n10\n/);
  } finally {
    for (const connection of connections) connection.close();
    Deno.removeSync(directory, { recursive: true });
  }
});

/** How many processes and threads a user has. */
function tasksOf(uid: number): number {
  let tasks = 0;
  for (const { name } of Deno.readDirSync("/proc")) {
    try {
      if (Number(name) > 0 && Deno.statSync(`/proc/${name}`).uid === uid) {
        tasks += [...Deno.readDirSync(`/proc/${name}/task`)].length;
      }
    } catch {
      // it has ended in the meantime
    }
  }
  return tasks;
}

Deno.test("`webserver3e` reaps the first child that ends, and ends with EINTR in accept", async () => {
  await using server = startServer("webserver3e", ["0", "2"]);
  const port = await portOf(server);
  using connection = await connect(port);
  await send(connection);
  assertEquals(await receive(connection), HELLO);
  const [child] = childrenOf(server.pid);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertEquals(
    server.stdout,
    `Serving HTTP on port ${port} ...\nPID: ${server.pid}\n${REQUEST}Child ${child} terminated with status 0\n\n`,
  );
  assertMatch(
    server.stderr,
    /^error: Uncaught .*SyscallError: Cannot accept: EINTR \(Interrupted system call\)$/m,
  );
});

Deno.test("`webserver3e` has children that sleep for three seconds", async () => {
  await using server = startServer("webserver3e");
  const port = await portOf(server);
  const begin = performance.now();
  assertEquals(await exchange(port), HELLO);
  assert(performance.now() - begin >= 3000);
  await server.ended();
});

Deno.test("`webserver3f` restarts accept, and leaves no zombie after single requests", async () => {
  await using server = startServer("webserver3f");
  const port = await portOf(server);
  for (let i = 0; i < 5; i++) {
    assertEquals(await exchange(port), HELLO);
    await noChildLeft(server);
  }
});

Deno.test("`webserver3f` leaves 127 zombies when 128 children end while it cannot run", async () => {
  await using server = startServer("webserver3f");
  const port = await portOf(server);
  await endChildrenAtOnce(server, port, 128);
  await until(() => zombiesOf(server.pid).length < 128, "the handler to reap one");
  assertEquals(await exchange(port), HELLO); // its child is reaped, or another one for it
  await until(() => childrenOf(server.pid).length === 127, "127 zombies");
  assertEquals(zombiesOf(server.pid).length, 127);
});

Deno.test("`webserver3f` leaves zombies after bursts of 128 clients", async () => {
  await using server = startServer("webserver3f");
  const port = await portOf(server);
  // Signals coalesce when children end at the same time, which no single burst can promise.
  let zombies = 0;
  for (let bursts = 0; zombies === 0 && bursts < 10; bursts++) {
    await burst(port, 128);
    await until(() => childrenOf(server.pid).length === zombiesOf(server.pid).length, "an end");
    assertEquals(await exchange(port), HELLO); // by now every signal was heard
    await until(() => childrenOf(server.pid).length === zombiesOf(server.pid).length, "an end");
    zombies = zombiesOf(server.pid).length;
  }
  assert(zombies > 0);
});

Deno.test("`webserver3g` leaves no zombie when 128 children end while it cannot run", async () => {
  await using server = startServer("webserver3g");
  const port = await portOf(server);
  await endChildrenAtOnce(server, port, 128);
  await noChildLeft(server);
  assertEquals(await exchange(port), HELLO);
  await noChildLeft(server);
});

for (const clients of [128, 1000]) {
  Deno.test(`\`webserver3g\` leaves no zombie after a burst of ${clients} clients`, async () => {
    await using server = startServer("webserver3g");
    const port = await portOf(server);
    await burst(port, clients);
    assertEquals(await exchange(port), HELLO);
    await noChildLeft(server);
    // What the last children have printed may not have been read yet.
    const served = () => server.stdout.match(/^GET /gm)?.length ?? 0;
    await until(() => served() > clients, "every request to be printed");
    assertEquals(served(), clients + 1);
  });
}

/** What one of the article's servers imports, its SIGCHLD handler, and the rest of its code. */
function partsOf(name: string): { imports: Set<string>; handler: string; rest: string } {
  const source = Deno.readTextFileSync(new URL(`examples/part3/${name}.ts`, ROOT));
  const [, imports, code] = source.match(/^import \{([^}]*)\} from "[^"]*";\n([^]*)$/m)!;
  const handler = code!.match(/^function grimReaper[^]*?^\}\n/m)?.[0] ?? "";
  return { imports: new Set(imports!.match(/\w+/g)), handler, rest: code!.replace(handler, "") };
}

Deno.test("`webserver3g` differs from `webserver3f` only in the handler", () => {
  const [f, g] = [partsOf("webserver3f"), partsOf("webserver3g")];
  assertEquals(f.rest, g.rest);
  assert(f.handler !== "" && g.handler !== "" && f.handler !== g.handler);
  // What the handlers call.
  assertEquals([...f.imports.symmetricDifference(g.imports)].sort(), [
    "WNOHANG",
    "wait",
    "waitpid",
  ]);
});

Deno.test("the article's servers check their port and listen in the same lines", () => {
  const { rest } = partsOf("webserver3a");
  const check = rest.match(/^if [^]*?^\}\n/m)![0];
  const listen = rest.match(/^ {2}const listenSocket [^]*?^ {2}console\.log.*\n/m)![0];
  for (const letter of "bcdefgh") {
    assertStringIncludes(partsOf(`webserver3${letter}`).rest, check);
    assertStringIncludes(partsOf(`webserver3${letter}`).rest, listen);
  }
});

Deno.test("`from_scratch` listens on all interfaces, answers and reaps its children", async () => {
  await using server = startServer("from_scratch");
  const port = await portOf(server);
  using connection = await Deno.connect({ hostname: "127.0.0.2", port });
  await send(connection);
  assertEquals(await readAll(connection), FROM_SCRATCH_HELLO);
  const [, child] = await server.printed(/\nChild PID: (\d+)\. Parent PID \d+\n/);
  assertEquals(
    server.stdout,
    `Listening on port ${port} ...\nPID: ${server.pid}\nChild PID: ${child}. Parent PID ${server.pid}\n`,
  );
  await noChildLeft(server);
  for (let i = 0; i < 10; i++) assertEquals(await exchange(port), FROM_SCRATCH_HELLO);
  await noChildLeft(server);
});

Deno.test("`from_scratch` continues to read a request when a child ends in the meantime", async () => {
  await using server = startServer("from_scratch");
  const port = await portOf(server);
  const before = socketsOf(server.pid).size;
  using connection = await connect(port);
  await until(() => socketsOf(server.pid).size === before + 1, "the connection to be accepted");
  assertEquals(childrenOf(server.pid), []); // the parent reads before it forks
  await until(() => processState(server.pid)?.state === "S", "the server to wait in recv");
  server.kill("SIGCHLD");
  await send(connection);
  assertEquals(await readAll(connection), FROM_SCRATCH_HELLO);
});

for (const { name, port: standard, reply } of SERVERS) {
  Deno.test(`\`${name}\` stops on SIGINT with its port free again`, async () => {
    await using server = startServer(name);
    const port = await portOf(server);
    using connection = await connect(port);
    await send(connection);
    assertEquals(await receive(connection, reply), reply);
    const children = descendants(server.pid);
    assert(!isPortFree(port));
    server.kill("SIGINT");
    await within(server.status, 15_000, "the server's end");
    assert(isPortFree(port));
    for (const child of children) { // a terminal sends it to these too
      try {
        Deno.kill(child, "SIGINT");
      } catch {
        // it has ended
      }
    }
    assertEquals(await server.ended(), { code: 130, signal: "SIGINT" });
    assertEquals(server.stderr, "");
  });

  Deno.test(`\`${name}\` listens on port ${standard} by default`, async () => {
    await using server = startServer(name, []);
    // Another program may have it.
    await until(
      () =>
        server.stdout.includes(` on port ${standard} ...\n`) ||
        server.stderr.includes(`:${standard}: EADDRINUSE`),
      `port ${standard}`,
    );
  });
}
