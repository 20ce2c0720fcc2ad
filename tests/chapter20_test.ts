import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import {
  childrenOf,
  descriptorsOf,
  isPortFree,
  portOf,
  processState,
  type Program,
  readAll,
  ROOT,
  start,
  startFunction,
  until,
  within,
  zombiesOf,
} from "./support.ts";

const SLEEPERS = ["zombieprob", "zombiesol", "zombiepoll"];
const SERVERS = ["echoserver", "lockingserver", "errorserver"];

// Thu Jul  1 06:06:42 2004, local time, which the source shows.
const TIME = /(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d \d{4}/;

function example(name: string): string {
  return `examples/chapter20/${name}.ts`;
}

/** A folder that goes with the test. */
function temporaryFolder(): Disposable & { path: string } {
  const path = Deno.makeTempDirSync({ prefix: "tine_test_" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** What `ps` says of a process: its state and its command. */
async function ps(pid: number): Promise<string> {
  const args = ["-o", "stat=,args=", "-p", String(pid)];
  const { stdout } = await new Deno.Command("ps", { args }).output();
  return new TextDecoder().decode(stdout).trim();
}

/** Runs a command as the user that a process runs as. */
async function runBeside(pid: number, ...command: string[]): Promise<string> {
  const uid = Deno.statSync(`/proc/${pid}`).uid!;
  if (uid !== tine.getuid()) {
    command.unshift("setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups");
  }
  const { success, stdout, stderr } = await new Deno.Command(command[0]!, {
    args: command.slice(1),
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

/** Lowers a soft limit of a process that runs. Returns what sets it as high as it can be. */
async function lowerLimit(
  pid: number,
  resource: "nofile" | "nproc",
  soft: number,
): Promise<() => Promise<void>> {
  const prlimit = ["prlimit", "--pid", String(pid)];
  const hard = await runBeside(pid, ...prlimit, `--${resource}`, "--output=HARD", "--noheadings");
  await runBeside(pid, ...prlimit, `--${resource}=${soft}:`);
  return async () => {
    await runBeside(pid, ...prlimit, `--${resource}=${hard}:`);
  };
}

/** The lines of a program, less those of its child, which come whenever it has its turn. */
function parentLines(program: Program): string[] {
  return program.stdout.split("\n").filter((line) => !line.startsWith("Child "));
}

async function forkedChild(program: Program): Promise<number> {
  return Number((await program.printed(/The child will be PID (\d+)\n/))[1]);
}

/** The sockets among the descriptors of a process. */
function socketsOf(pid: number): string[] {
  return [...descriptorsOf(pid).values()].filter((file) => file.startsWith("socket:"));
}

/** Sends a line to an echo server, and closes once it has come back. */
async function echo(port: number, text = "hello"): Promise<void> {
  using connection = await Deno.connect({ port });
  await connection.write(new TextEncoder().encode(text));
  await connection.closeWrite();
  assertEquals(await within(readAll(connection), 15_000, "the echo"), text);
}

/** Returns the only running child of a server. */
async function livingChild(server: Program): Promise<number> {
  return await until(
    () => childrenOf(server.pid).find((pid) => processState(pid)?.state !== "Z"),
    "a child",
  );
}

Deno.test("zombieprob leaves a zombie when its child ends before it does", async () => {
  await using program = start(example("zombieprob"), ["0.1", "600"]);
  const child = await forkedChild(program);
  await until(() => zombiesOf(program.pid).includes(child), "the zombie");
  assertMatch(await ps(child), /^Z.*<defunct>$/);
  await program.printed(/^Child sleeping 0.1 seconds...$/m);
  await program.printed(/^Sleeping 600 seconds...$/m);
  assertEquals(program.stdout.split("\n").sort(), [
    "",
    `Before the fork, my PID is ${program.pid}`,
    "Child sleeping 0.1 seconds...",
    `Hello from the parent. The child will be PID ${child}`,
    "Sleeping 600 seconds...",
  ]);
});

Deno.test("zombieprob reports that it has slept if nothing interrupts it", async () => {
  await using program = start(example("zombieprob"), ["0", "0.3"]);
  const child = await forkedChild(program);
  assertEquals(await program.ended(), { code: 0, signal: null });
  assertEquals(parentLines(program), [
    `Before the fork, my PID is ${program.pid}`,
    `Hello from the parent. The child will be PID ${child}`,
    "Sleeping 0.3 seconds...",
    "Sleep done.",
    "",
  ]);
});

Deno.test("zombiesol reaps its child and stops sleeping when the child ends", async () => {
  await using program = start(example("zombiesol"), ["0.2", "600"]);
  const child = await forkedChild(program);
  assertEquals(await program.ended(), { code: 0, signal: null });
  assertStringIncludes(program.stdout, "Child sleeping 0.2 seconds...\n");
  assertEquals(parentLines(program), [
    `Before the fork, my PID is ${program.pid}`,
    `Hello from the parent. The child will be PID ${child}`,
    "Sleeping 600 seconds...",
    `Reaped child process ${child}`,
    "Sleep done.",
    "",
  ]);
  assertEquals(processState(child), undefined);
});

Deno.test("zombiepoll leaves a zombie while it sleeps, and reaps it when it wakes up", async () => {
  await using program = start(example("zombiepoll"), ["0", "1"]);
  const child = await forkedChild(program);
  // Time goes by for a process that is stopped, but it does not see it.
  Deno.kill(program.pid, "SIGSTOP");
  await until(() => zombiesOf(program.pid).includes(child), "the zombie");
  assertMatch(await ps(child), /^Z.*<defunct>$/);
  Deno.kill(program.pid, "SIGCONT");
  await program.printed(/Reaped child process/);
  assertEquals(processState(child), undefined);
  assertEquals(await program.ended(), { code: 0, signal: null });
  assertMatch(program.stdout, /^Child sleeping 0 seconds...$[^]*^Child terminating.$/m);
  assertEquals(parentLines(program), [
    `Before the fork, my PID is ${program.pid}`,
    `Hello from the parent. The child will be PID ${child}`,
    "Parent sleeping 1 seconds...",
    "Parent sleep done.",
    `Reaped child process ${child}`,
    "Parent sleeping 1 seconds...",
    "Parent sleep done.",
    "",
  ]);
});

Deno.test("zombiepoll continues if its child is alive when it wakes up", async () => {
  await using program = start(example("zombiepoll"), ["600", "0.1"]);
  const child = await forkedChild(program);
  try {
    assertEquals((await within(program.status, 30_000, "its end")).code, 0);
    await until(() => processState(child)?.state === "S", "the child to sleep");
  } finally {
    Deno.kill(child, "SIGKILL");
  }
  await program.ended(); // the child had its output open too
  assertEquals(parentLines(program), [
    `Before the fork, my PID is ${program.pid}`,
    `Hello from the parent. The child will be PID ${child}`,
    "Parent sleeping 0.1 seconds...",
    "Parent sleep done.",
    "Parent sleeping 0.1 seconds...",
    "Parent sleep done.",
    "",
  ]);
});

Deno.test("echoserver returns every byte when three clients send 8 MiB each at the same time", async () => {
  await using server = start(example("echoserver"), ["0"]);
  const port = await portOf(server);
  const clients = await Promise.all([1, 2, 3].map(async () => ({
    connection: await Deno.connect({ port }),
    data: randomBytes(8 << 20),
  })));
  await until(() => childrenOf(server.pid).length === 3, "a child for each client");

  const readers = clients.map(({ connection }) => readBytes(connection, 8 << 20));
  const writers = clients.map(async ({ connection, data }) => {
    for (let at = 0; at < data.length;) {
      at += await connection.write(data.subarray(at, at + 50_000));
    }
    await connection.closeWrite();
  });
  await within(Promise.all(writers), 60_000, "the server to read");
  const echoes = await within(Promise.all(readers), 60_000, "the echoes");
  clients.forEach(({ connection, data }, i) => {
    assert(isSame(data, echoes[i]!), `Client ${i} got other bytes than it sent`);
    connection.close();
  });
});

function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  return bytes;
}

/** All bytes up to the end of the stream, of which `count` are expected. */
async function readBytes(connection: Deno.Conn, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count + 1);
  let at = 0;
  for (;;) {
    const read = await connection.read(bytes.subarray(at));
    if (!read) return bytes.subarray(0, at);
    at += read;
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

Deno.test("echoserver reaps a child when the next client connects", async () => {
  await using server = start(example("echoserver"), ["0"]);
  const port = await portOf(server);

  const first = await Deno.connect({ port });
  const [, handler] = await server.printed(/being handled by PID (\d+)\n/);
  const child = Number(handler);
  const { port: firstPort } = first.localAddr as Deno.NetAddr;
  first.close();
  await until(() => zombiesOf(server.pid).includes(child), "the zombie");

  using second = await Deno.connect({ port });
  await server.printed(/Reaped/);
  assertEquals(processState(child), undefined);
  const [, other] = await server.printed(/Reaped[^]*PID (\d+)\n/);
  const { port: secondPort } = second.localAddr as Deno.NetAddr;
  assertEquals(server.stdout.split("\n"), [
    `Parent at ${server.pid} listening for connections`,
    `on port ${port}`,
    `Child from ('127.0.0.1', ${firstPort}) being handled by PID ${child}`,
    `Reaped child process ${child}`,
    `Child from ('127.0.0.1', ${secondPort}) being handled by PID ${other}`,
    "",
  ]);
});

Deno.test("echoserver listens on all interfaces with a backlog of 1 when it starts", async () => {
  await using server = start(example("echoserver"), ["0"]);
  const port = await portOf(server);
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  assertMatch(Deno.readTextFileSync("/proc/net/tcp"), new RegExp(` 00000000:${hex} .* 0A `));

  // Linux lets one more in than the backlog says, and drops what comes after.
  Deno.kill(server.pid, "SIGSTOP");
  const clients = [1, 2, 3].map(() => new tine.Socket(tine.AF_INET, tine.SOCK_STREAM));
  const outcomes = clients.map((client) => {
    client.setsockopt(tine.SOL_SOCKET, tine.SO_SNDTIMEO, 0.3);
    try {
      client.connect(["127.0.0.1", port]);
      return "connected";
    } catch (error) {
      return (error as tine.SyscallError).code;
    } finally {
      client.close();
    }
  });
  Deno.kill(server.pid, "SIGCONT");
  assertEquals(outcomes, ["connected", "connected", "EINPROGRESS"]);
});

Deno.test("echoserver closes unneeded descriptors after it has forked", async () => {
  await using server = start(example("echoserver"), ["0"]);
  const port = await portOf(server);
  const before = socketsOf(server.pid);
  using _connection = await Deno.connect({ port });
  await server.printed(/being handled/);
  const child = await livingChild(server);
  await until(() => socketsOf(server.pid).length === before.length, "the parent to close");
  assertEquals(socketsOf(server.pid), before);
  const shared = before.filter((socket) => socketsOf(child).includes(socket));
  assertEquals(before.length - shared.length, 1, "The child has the listening socket");
  assertEquals(socketsOf(child).length - shared.length, 1, "The child has the connection");
});

Deno.test("echoserver continues when a client resets its connection", async () => {
  await using server = start(example("echoserver"), ["0"]);
  const port = await portOf(server);
  const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  client.connect(["127.0.0.1", port]);
  client.sendall(new Uint8Array(10));
  client.recv(1, tine.MSG_PEEK);
  const child = await livingChild(server);
  client.close(); // unread data: a reset
  await until(() => zombiesOf(server.pid).includes(child), "the child's end");
  await until(() => server.stderr.includes("SyscallError: Cannot recv: ECONNRESET"), "the error");
  await echo(port);
});

/** Sends a byte to a server and waits for the first of its answer. */
async function oneByte(port: number): Promise<void> {
  using connection = await Deno.connect({ port });
  await connection.write(new Uint8Array(1));
  await within(connection.read(new Uint8Array(1)), 15_000, "the server's answer");
}

for (const name of SERVERS) {
  Deno.test(`${name} continues when accept() fails`, async () => {
    using folder = temporaryFolder();
    await using server = start(example(name), ["0"], { cwd: folder.path });
    const port = await portOf(server);
    const raiseLimit = await lowerLimit(server.pid, "nofile", 3);
    using connection = await Deno.connect({ port });
    await until(() => server.stderr.includes("SyscallError: Cannot accept: EMFILE"), "the error");
    await raiseLimit();
    await connection.write(new TextEncoder().encode("hello"));
    const buffer = new Uint8Array(100);
    await within(connection.read(buffer), 15_000, "the server's answer");
    assertMatch(new TextDecoder().decode(buffer), /^(hello\0|Welcome, 127.0.0.1.\n)/);
  });

  Deno.test(`${name} ends on SIGINT, and its port is free`, async () => {
    using folder = temporaryFolder();
    await using server = start(example(name), ["0"], { cwd: folder.path });
    const port = await portOf(server);
    await oneByte(port);
    await until(() => zombiesOf(server.pid).length === 1, "the child's end");
    assert(!isPortFree(port));
    server.kill("SIGINT");
    assertEquals((await server.ended()).signal, "SIGINT");
    assert(isPortFree(port));

    // The port as an argument.
    await using again = start(example(name), [String(port)], { cwd: folder.path });
    await until(() => oneByte(port).then(() => true, () => false), "the server to listen");
    await again.printed(/from/);
    assertMatch(again.stdout, new RegExp(`^Parent at ${again.pid} .*\\non port ${port}\\n`));
  });

  Deno.test(`${name}'s child without _exit() does what the comment says`, async () => {
    const exit =
      "    _exit(0); // or the child would go on in the loop, where accept fails again and " +
      "again: EBADF\n";
    const source = Deno.readTextFileSync(new URL(example(name), ROOT));
    assertStringIncludes(source, exit);
    using folder = temporaryFolder();
    Deno.writeTextFileSync(
      `${folder.path}/main.ts`,
      source.replace(exit, "").replace("../../mod.ts", new URL("mod.ts", ROOT).href),
    );
    await using server = start(`file://${folder.path}/main.ts`, ["0"], { cwd: folder.path });
    const port = await portOf(server);
    await oneByte(port);
    await until(() => server.stderr.match(/Cannot accept .*EBADF/g)?.[99], "a hundred errors");
    await livingChild(server);
    await oneByte(port); // the parent has not closed its socket
  });
}

Deno.test("lockingserver remembers a client that reconnects", async () => {
  using folder = temporaryFolder();
  // A constant clock, so that the answers are those of the source.
  const clock = `${folder.path}/clock.ts`;
  Deno.writeTextFileSync(
    clock,
    `globalThis.Date = class extends Date { constructor() { super(2004, 6, 1, 6, 6, 42); } };`,
  );
  Deno.writeTextFileSync(`${folder.path}/lastaccess.txt`, "10.0.0.1|a record of another time\n");
  await using server = start(example("lockingserver"), ["0"], {
    cwd: folder.path,
    flags: ["--allow-ffi", "--preload", clock],
  });
  const port = await portOf(server);

  const time = "Thu Jul  1 06:06:42 2004";
  const ports = [];
  for (const seen of ["I've never seen you before.", `I last saw you at ${time}.`]) {
    using connection = await Deno.connect({ port });
    ports.push((connection.localAddr as Deno.NetAddr).port);
    assertEquals(
      await within(readAll(connection), 15_000, "the server's answer"),
      `Welcome, 127.0.0.1.\n${seen}\nI have noted your connection at ${time}.\n`,
    );
    await until(() => zombiesOf(server.pid).length === 1, "the child's end");
  }
  assertEquals(Deno.readTextFileSync(`${folder.path}/lastaccess.txt`), `127.0.0.1|${time}\n`);
  const [, child, other] = await server.printed(/with PID (\d+)\n[^]*with PID (\d+)\n/);
  assertEquals(server.stdout.split("\n").slice(2), [
    `Got connection from ('127.0.0.1', ${ports[0]}), servicing with PID ${child}`,
    `Reaped child process ${child}`,
    `Got connection from ('127.0.0.1', ${ports[1]}), servicing with PID ${other}`,
    "",
  ]);
});

Deno.test("lockingserver waits while another process has locked its file", async () => {
  using folder = temporaryFolder();
  await using server = start(example("lockingserver"), ["0"], { cwd: folder.path });
  const port = await portOf(server);
  const path = `${folder.path}/lastaccess.txt`;
  const fd = tine.open(path, tine.O_RDWR | tine.O_CLOEXEC);
  try {
    fd.flock(tine.LOCK_EX);
    using connection = await Deno.connect({ port });
    const child = await livingChild(server);
    await until(() => isWaitingForLock(child), "the child to wait");
    assertEquals(await readOnce(connection), "Welcome, 127.0.0.1.\n");

    fd.flock(tine.LOCK_SH); // now it may read, but not write
    assertEquals(await readOnce(connection), "I've never seen you before.\n");
    await until(() => isWaitingForLock(child), "the child to wait again");
    assertEquals(Deno.readTextFileSync(path), "");

    fd.flock(tine.LOCK_UN);
    assertMatch(await readOnce(connection), /^I have noted your connection at .*\.\n$/);
  } finally {
    fd.close();
  }
});

/** Whether a process is blocked in flock(2), as the kernel's list of locks says. */
function isWaitingForLock(pid: number): boolean {
  return new RegExp(`-> FLOCK .* ${pid} `).test(Deno.readTextFileSync("/proc/locks"));
}

async function readOnce(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1000);
  const count = await within(connection.read(buffer), 15_000, "the server's answer");
  return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
}

Deno.test("lockingserver loses no record when 200 clients come from 50 addresses", async () => {
  using folder = temporaryFolder();
  await using server = start(example("lockingserver"), ["0"], { cwd: folder.path });
  const port = await portOf(server);

  await using clients = startFunction(
    () => {
      tine.becomeForkable();
      const port = Number(Deno.args[0]);
      const [readEnd, writeEnd] = tine.pipe();
      for (let i = 0; i < 200; i++) {
        if (tine.fork() !== 0) continue;
        writeEnd.close();
        try {
          const ip = `127.0.0.${1 + i % 50}`;
          const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
          socket.bind([ip, 0]);
          readEnd.read(1); // returns when the parent closes the pipe
          socket.connect(["127.0.0.1", port]);
          let answer = "";
          for (;;) {
            const data = socket.recv(4096);
            if (data.length === 0) break;
            answer += new TextDecoder().decode(data);
          }
          const line = JSON.stringify([ip, answer]) + "\n";
          tine.write(1, new TextEncoder().encode(line));
        } catch (error) {
          console.error(error);
        } finally {
          tine._exit(0);
        }
      }
      writeEnd.close();
      for (let i = 0; i < 200; i++) tine.wait();
    },
    [String(port)],
  );
  assertEquals(await clients.ended(60_000), { code: 0, signal: null });
  assertEquals(clients.stderr, "");
  await until(() => zombiesOf(server.pid).length === childrenOf(server.pid).length, "their end");
  assertEquals(server.stderr, "");

  const answers = clients.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(answers.length, 200);
  for (const [ip, answer] of answers) {
    const [welcome, seen, noted, ...rest] = answer.split("\n");
    assertEquals(welcome, `Welcome, ${ip}.`);
    if (seen !== "I've never seen you before.") {
      assertMatch(seen, new RegExp(`^I last saw you at ${TIME.source}\\.$`));
    }
    assertMatch(noted, new RegExp(`^I have noted your connection at ${TIME.source}\\.$`));
    assertEquals(rest, [""]);
  }
  const records = Deno.readTextFileSync(`${folder.path}/lastaccess.txt`).split("\n");
  assertEquals(records.pop(), "");
  for (const record of records) {
    assertMatch(record, new RegExp(`^127\\.0\\.0\\.\\d+\\|${TIME.source}$`));
  }
  assertEquals(
    records.map((record) => record.split("|")[0]).sort(),
    Array.from({ length: 50 }, (_, i) => `127.0.0.${1 + i}`).sort(),
  );
});

Deno.test("errorserver drops one client when fork() fails, and serves the next", async () => {
  using folder = temporaryFolder();
  await using server = startUnprivileged("errorserver", folder.path);
  const port = await portOf(server);
  const before = socketsOf(server.pid).length;
  const reports = () => server.stdout.match(/^BAD THING HAPPENED: fork failed$/gm)?.length ?? 0;

  for (const times of [1, 2]) {
    const raiseLimit = await lowerLimit(server.pid, "nproc", 0);
    using refused = await Deno.connect({ port });
    assertEquals(await within(readAll(refused), 15_000, "the end of the connection"), "");
    await until(() => reports() === times, "the report");
    assertEquals(socketsOf(server.pid).length, before);
    assertEquals(childrenOf(server.pid).filter((pid) => !zombiesOf(server.pid).includes(pid)), []);

    await raiseLimit();
    using served = await Deno.connect({ port });
    await served.write(new TextEncoder().encode("hello"));
    assertEquals(await readOnce(served), "hello");
    const child = await livingChild(server);
    const [, ip, from] = await server.printed(
      new RegExp(`^New child ${child}\\nGot connection from \\('(.*)', (\\d+)\\)$`, "m"),
    );
    assertEquals([ip, Number(from)], ["127.0.0.1", (served.localAddr as Deno.NetAddr).port]);
    served.close();
    await until(() => zombiesOf(server.pid).includes(child), "the child's end");
  }
  assertEquals(server.stderr, "");
});

/**
 * Starts a program as a user for whom RLIMIT_NPROC counts: as root, another one.
 *
 * Modules are loaded before the first of them runs, so what only root may read is read by then.
 */
function startUnprivileged(name: string, folder: string): Program {
  Deno.writeTextFileSync(
    `${folder}/change_user.ts`,
    `import * as tine from ${JSON.stringify(new URL("mod.ts", ROOT).href)};
    tine.becomeForkable();
    if (tine.getuid() === 0) {
      tine.setgid(54321);
      tine.setuid(54321);
      tine.prctl(tine.PR_SET_DUMPABLE, 1); // keep /proc/self readable
    }`,
  );
  Deno.writeTextFileSync(
    `${folder}/main.ts`,
    `import "./change_user.ts";
    import ${JSON.stringify(new URL(example(name), ROOT).href)};`,
  );
  return start(`file://${folder}/main.ts`, ["0"]);
}

for (const name of SLEEPERS) {
  Deno.test(`${name} ends on SIGINT`, async () => {
    await using program = start(example(name), ["600", "600"]);
    const child = await forkedChild(program);
    program.kill("SIGINT");
    Deno.kill(child, "SIGINT"); // as Control-C does
    assertEquals((await program.ended()).signal, "SIGINT");
  });
}
