import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { openNotify } from "../server/prefork/host/notify.ts";
import { PidFileError, removePidFile, writePidFile } from "../server/prefork/host/pid_file.ts";
import {
  childrenOf,
  freePort,
  install,
  isInstalled,
  mkfifo,
  Program,
  ROOT,
  run,
  scratch,
  spawnServer,
  start,
  startFunction,
  until,
  within,
} from "./support.ts";

const ACTIVATION = new URL("server/prefork/host/activation.ts", ROOT).href;
const PID_FILE = new URL("server/prefork/host/pid_file.ts", ROOT).href;

// sd_notify

interface Manager extends Disposable {
  /** The states received since the last call. */
  messages(): string[];
  /** Waits until it has received these states in this order, without the ticks. */
  hears(...states: string[]): Promise<void>;
  /** How many ticks were received in between. */
  ticks: number;
}

/** A service manager's socket, whose notifications can be read. */
function listenAsManager(address: string): Manager {
  const heard: string[] = [];
  const socket = new tine.Socket(tine.AF_UNIX, tine.SOCK_DGRAM);
  socket.bind(address);
  return {
    ticks: 0,
    async hears(...states) {
      await until(() => {
        for (const message of this.messages()) {
          if (message === "WATCHDOG=1") this.ticks++;
          else heard.push(message.split("\n")[0]!);
        }
        return heard.length >= states.length;
      }, states.join(", "));
      assertEquals(heard, states);
    },
    messages() {
      const messages: string[] = [];
      for (;;) {
        try {
          messages.push(new TextDecoder().decode(socket.recv(4096, tine.MSG_DONTWAIT)));
        } catch (error) {
          assertEquals((error as tine.SyscallError).code, "EAGAIN");
          return messages;
        }
      }
    },
    [Symbol.dispose]: () => socket.close(),
  };
}

/** Sets variables of the environment for as long as a test runs. */
function environment(variables: Record<string, string | undefined>): Disposable {
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  const set = ([name, value]: readonly [string, string | undefined]) =>
    value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  Object.entries(variables).forEach(set);
  return { [Symbol.dispose]: () => before.forEach(set) };
}

const NO_MANAGER = { NOTIFY_SOCKET: undefined, WATCHDOG_USEC: undefined, WATCHDOG_PID: undefined };

Deno.test("`openNotify()` notifies the service manager of the master's state", async () => {
  await using folder = scratch();
  for (const name of [`${folder.path}/notify`, `@tine-test-${Deno.pid}`]) {
    using manager = listenAsManager(name.replace("@", "\0"));
    using _ = environment({ ...NO_MANAGER, NOTIFY_SOCKET: name });
    const notify = openNotify((line) => assert(false, line));
    notify("ready", "Serving http://127.0.0.1:8000/");
    notify("tick");
    const before = monotonicMicroseconds();
    notify("reloading");
    notify("stopping", "two\nlines");
    const [ready, reloading, stopping, ...more] = manager.messages();
    assertEquals(more, []);
    assertEquals(ready, `READY=1\nMAINPID=${Deno.pid}\nSTATUS=Serving http://127.0.0.1:8000/`);
    const [, time] = reloading!.match(/^RELOADING=1\nMONOTONIC_USEC=(\d+)$/)!;
    // /proc/uptime has hundredths of a second, and counts time asleep.
    assert(Math.abs(Number(time) - before) < 5e6 || Number(time) < before, `${time}, ${before}`);
    assertEquals(stopping, "STOPPING=1\nSTATUS=two lines");
  }
});

function monotonicMicroseconds(): number {
  return Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]) * 1e6;
}

Deno.test("`openNotify()` notifies the watchdog if it watches this process", async () => {
  await using folder = scratch();
  const address = `${folder.path}/notify`;
  using manager = listenAsManager(address);
  for (
    const [WATCHDOG_USEC, WATCHDOG_PID, messages] of [
      ["10000000", undefined, ["WATCHDOG=1"]],
      ["10000000", String(Deno.pid), ["WATCHDOG=1"]],
      ["10000000", "1", []],
      ["0", undefined, []],
    ] as const
  ) {
    using _ = environment({ NOTIFY_SOCKET: address, WATCHDOG_USEC, WATCHDOG_PID });
    openNotify((line) => assert(false, line))("tick");
    assertEquals(manager.messages(), [...messages]);
  }
});

Deno.test("`openNotify()` does nothing without a service manager", () => {
  using _ = environment(NO_MANAGER);
  const notify = openNotify((line) => assert(false, line));
  notify("ready");
  notify("tick");
});

Deno.test("`openNotify()` reports a failure once, and neither throws nor waits", async () => {
  await using folder = scratch();
  const address = `${folder.path}/notify`;
  const said: string[] = [];
  {
    using _ = environment({ ...NO_MANAGER, NOTIFY_SOCKET: address });
    const notify = openNotify((line) => said.push(line));
    notify("ready");
    notify("stopping");
    assertEquals(said.length, 1);
    assertMatch(said[0]!, /^Cannot notify the service manager: Cannot connect .*notify: ENOENT /);
    // A manager that does not read, until its queue is full.
    using manager = listenAsManager(address);
    for (let i = 0; i < 2000; i++) notify("ready");
    assert(manager.messages().length > 0);
    assertEquals(said.length, 1);
  }
  {
    using _ = environment({ ...NO_MANAGER, NOTIFY_SOCKET: "relative or nonsense" });
    openNotify((line) => said.push(line))("ready");
    assertEquals(said.length, 2);
  }
});

// Socket activation

Deno.test("`takeActivatedSockets()` takes over the sockets, and no other process gets them", async () => {
  const output = await run(
    async () => {
      const open = (address: tine.Address, family: number) => {
        const socket = new tine.Socket(family, tine.SOCK_STREAM);
        socket.bind(address);
        socket.listen(5);
        return socket;
      };
      if (Deno.env.get("LISTEN_FDS") === undefined) {
        // The manager's part: descriptors from 3 on, and this pid.
        const sockets = [
          open(["127.0.0.1", 0], tine.AF_INET),
          open(["::1", 0], tine.AF_INET6),
          open(`\0tine-test-${tine.getpid()}`, tine.AF_UNIX),
        ];
        Deno.env.set("LISTEN_PID", String(tine.getpid()));
        Deno.env.set("LISTEN_FDS", "3");
        Deno.env.set("LISTEN_FDNAMES", "http::local");
        const arguments_ = Deno.readTextFileSync("/proc/self/cmdline").split("\0").slice(0, -1);
        const high = sockets.map((socket) =>
          tine.fcntl(socket.fileno(), tine.F_DUPFD_CLOEXEC, 500)
        );
        high.forEach((fd, i) => tine.dup2(fd, 3 + i));
        tine.execve(Deno.execPath(), arguments_);
      }
      tine.becomeForkable();
      const { takeActivatedSockets } = await import(Deno.args[0]!);
      const taken = takeActivatedSockets();
      const [{ socket }] = taken;
      const client = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      client.connect(socket.getsockname());
      const [connection] = socket.accept();
      connection.sendall(new TextEncoder().encode("hello"));
      console.log(JSON.stringify({
        names: taken.map(({ name }: { name: string }) => name),
        fds: taken.map(({ socket }: { socket: tine.Socket }) => socket.fileno()),
        families: taken.map(({ socket }: { socket: tine.Socket }) => socket.family),
        closeOnExec: taken.every(({ socket }: { socket: tine.Socket }) =>
          tine.fcntl(socket.fileno(), tine.F_GETFD) === tine.FD_CLOEXEC
        ),
        received: new TextDecoder().decode(client.recv(5)),
        left: Object.keys(Deno.env.toObject()).filter((name) => name.startsWith("LISTEN_")),
        again: takeActivatedSockets(),
      }));
    },
    [ACTIVATION],
    { flags: ["--allow-all"] },
  );
  assertEquals(JSON.parse(output), {
    names: ["http", "unknown", "local"],
    fds: [3, 4, 5],
    families: [tine.AF_INET, tine.AF_INET6, tine.AF_UNIX],
    closeOnExec: true,
    received: "hello",
    left: [],
    again: [],
  });
});

Deno.test("`takeActivatedSockets()` reports sockets that cannot be served on", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = listener.addr.port;
  const cases = [
    [
      "LISTEN_FDS=1",
      "exec 3</dev/null",
      "Cannot serve on inherited descriptor 3: it is not a socket",
    ],
    [
      "LISTEN_FDS=1",
      "exec 3>&-",
      "Cannot serve on inherited descriptor 3: it is not open, although LISTEN_FDS includes it",
    ],
    [
      "LISTEN_FDS=1",
      `exec 3<>/dev/tcp/127.0.0.1/${port}`,
      "Cannot serve on inherited descriptor 3: it is not listening. Remove Accept=yes from the " +
      "socket unit",
    ],
    [
      "LISTEN_FDS=1",
      "exec 3<>/dev/udp/127.0.0.1/9",
      "Cannot serve on inherited descriptor 3: it is not a stream socket. Use ListenStream= in the " +
      "socket unit",
    ],
    [
      "LISTEN_FDS=many",
      "",
      'Cannot take over listening sockets with LISTEN_FDS "many": expected a whole number from 1 ' +
      "to 9999",
    ],
  ];
  await Promise.all(cases.map(async ([variable, redirection, message]) => {
    await using program = startFunction(
      async () => {
        // Descriptors of the runtime's own are in the place of one that is not open.
        if (Deno.args[1] === "exec 3>&-") tine.close(3);
        const { takeActivatedSockets } = await import(Deno.args[0]!);
        try {
          takeActivatedSockets();
        } catch (error) {
          console.log((error as Error).name, (error as Error).message);
          tine._exit(0);
        }
      },
      [ACTIVATION, redirection!],
      {
        flags: ["--allow-all"],
        shell: `export LISTEN_PID=$$ ${variable}; ${redirection || "true"};`,
      },
    );
    await program.ended();
    assertEquals(program.stdout, `ActivationError ${message}\n`, program.stderr);
  }));
});

Deno.test("`takeActivatedSockets()` ignores sockets meant for another process", async () => {
  const output = await run(
    async () => {
      const { takeActivatedSockets } = await import(Deno.args[0]!);
      console.log(takeActivatedSockets().length, Deno.env.has("LISTEN_FDS"));
    },
    [ACTIVATION],
    { flags: ["--allow-all"], env: { LISTEN_PID: "1", LISTEN_FDS: "2" } },
  );
  assertEquals(output, "0 false\n");
});

// The pid file

Deno.test("`writePidFile()` writes the pid, and `removePidFile()` removes its own only", async () => {
  await using folder = scratch();
  const path = `${folder.path}/pid`;
  writePidFile(path);
  assertEquals(Deno.readTextFileSync(path), `${Deno.pid}\n`);
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o644 & ~Deno.umask());
  writePidFile(path); // as after a restart in place
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["pid"]);
  removePidFile(path);
  assertEquals([...Deno.readDirSync(folder.path)], []);
  removePidFile(path);
  Deno.writeTextFileSync(path, "1\n");
  removePidFile(path);
  assertEquals(Deno.readTextFileSync(path), "1\n");
});

Deno.test("`writePidFile()` throws when the file belongs to a running process", async () => {
  await using folder = scratch();
  const path = `${folder.path}/pid`;
  // The first of all processes is another user's, where this test is not root's.
  for (const pid of [Deno.ppid, 1]) {
    Deno.writeTextFileSync(path, `${pid}\n`);
    assertThrows(
      () => writePidFile(path),
      PidFileError,
      `Cannot write pid file ${path}: it belongs to process ${pid}, which is running. Stop that ` +
        "process, or use another file",
    );
    assertEquals(Deno.readTextFileSync(path), `${pid}\n`);
  }
  assertEquals([...Deno.readDirSync(folder.path)].length, 1);
});

Deno.test("`writePidFile()` replaces a file whose process has ended, or without a pid", async () => {
  await using folder = scratch();
  const path = `${folder.path}/pid`;
  const ended = await new Deno.Command("/bin/sh", { args: ["-c", "echo $$"] }).output();
  for (const text of [new TextDecoder().decode(ended.stdout), "", "nonsense", "-1\n", "0\n"]) {
    Deno.writeTextFileSync(path, text);
    writePidFile(path);
    assertEquals(Deno.readTextFileSync(path), `${Deno.pid}\n`);
  }
  // A zombie has ended: only its parent has not noticed.
  await using parent = new Program("/bin/bash", [
    "-c",
    // It ends when there is no shell any more that would reap it.
    `while ! grep -q sleep /proc/$$/comm; do sleep 0.01; done & echo $!; exec sleep 60`,
  ]);
  const [zombie] = await parent.printed(/\d+/);
  await until(
    () => /^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${zombie}/status`)),
    "a zombie",
  );
  Deno.writeTextFileSync(path, `${zombie}\n`);
  writePidFile(path);
  assertEquals(Deno.readTextFileSync(path), `${Deno.pid}\n`);
});

Deno.test("`writePidFile()` succeeds for one of many processes that start at the same time", async () => {
  await using folder = scratch();
  const path = `${folder.path}/pid`;
  const output = await run(
    async () => {
      tine.becomeForkable();
      const { writePidFile } = await import(Deno.args[0]!);
      const [readEnd, writeEnd] = tine.pipe();
      const children = Array.from({ length: 20 }, () =>
        tine.forkChild(() => {
          writeEnd.close();
          readEnd.read(1); // until the parent closes its end
          try {
            writePidFile(Deno.args[1]);
          } catch {
            return 1;
          }
          tine.kill(tine.getpid(), tine.SIGSTOP);
        }));
      writeEnd.close();
      const winners = children.filter((pid) =>
        tine.waitpid(pid, tine.WUNTRACED).status?.kind === "stopped"
      );
      console.log(winners.join(" "));
      for (const pid of winners) tine.kill(pid, tine.SIGKILL);
    },
    [PID_FILE, path],
    { flags: ["--allow-all"] },
  );
  assertEquals(output, Deno.readTextFileSync(path));
});

Deno.test("serve reports at once that the pid file is a FIFO, and leaves it", async () => {
  await using folder = scratch();
  const path = `${folder.path}/pid`;
  await mkfifo(path);
  await using server = spawnServer(["--pid-file", path]);
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertEquals(
    server.stderr,
    `error: Cannot read pid file ${path}: it is not a regular file\n`,
  );
  assert(Deno.lstatSync(path).isFifo);
});

Deno.test("`writePidFile()` reports that the folder does not exist", () => {
  assertThrows(
    () => writePidFile("/nowhere/tine.pid"),
    tine.SyscallError,
    "Cannot write pid file /nowhere/tine.pid: ENOENT (No such file or directory)",
  );
});

// The whole server, as it is operated

const APP = `
export default {
  async fetch(request, info) {
    const { pathname } = new URL(request.url);
    if (request.headers.get("upgrade") === "websocket") {
      const { socket, response } = Deno.upgradeWebSocket(request);
      socket.onmessage = ({ data }) => socket.send("echo " + data);
      return response;
    }
    if (pathname === "/spin") while (true);
    if (pathname === "/print") console.error("printed by the app");
    if (pathname === "/sockets") {
      return Response.json(Object.keys(Deno.env.toObject()).filter((name) => /^LISTEN_/.test(name)));
    }
    if (pathname === "/echo") {
      return Response.json({
        body: await request.text(),
        host: request.headers.get("host"),
        url: request.url,
        client: info.remoteAddr.hostname,
        connection: request.headers.get("connection"),
      });
    }
    return new Response("hello from " + Deno.pid);
  },
};
`;

/** A folder with an app in it. */
function folderWithApp(): { path: string } & AsyncDisposable {
  const folder = scratch();
  Deno.writeTextFileSync(`${folder.path}/app.ts`, APP);
  return folder;
}

/** Starts the command line's server with the folder's app. */
function startServer(
  folder: string,
  args: string[],
  options: Deno.CommandOptions = {},
): Program {
  return start("server/cli.ts", ["serve", "app.ts", "--workers", "2", ...args], {
    flags: ["--allow-all"],
    cwd: folder,
    ...options,
  });
}

/** What is in a file, as soon as it is. */
async function found(file: string, pattern: RegExp): Promise<RegExpMatchArray> {
  return await until(() => readIfThere(file).match(pattern), `${pattern} in ${file}`);
}

function readIfThere(file: string): string {
  try {
    return Deno.readTextFileSync(file);
  } catch {
    return "";
  }
}

/** The address in a server's ready line. */
async function urlIn(file: string): Promise<string> {
  const [, url] = await found(file, /Serving (http:\/\/\S+) with 2 workers/);
  return url!.replace("0.0.0.0", "127.0.0.1");
}

async function get(url: string): Promise<string> {
  const response = await fetch(url);
  const text = await response.text();
  assertEquals(response.status, 200, text);
  return text;
}

Deno.test("`serve` notifies the service manager when it is ready, reloading and stopping", async () => {
  await using folder = folderWithApp();
  using manager = listenAsManager(`${folder.path}/notify`);
  const log = `${folder.path}/error.log`;
  await using server = startServer(
    folder.path,
    ["--port", "0", "--error-log", log, "--pid-file", "pid"],
    { env: { NOTIFY_SOCKET: `${folder.path}/notify`, WATCHDOG_USEC: "10000000" } },
  );
  const url = await urlIn(log);
  await manager.hears("READY=1");
  await until(() => manager.hears("READY=1").then(() => manager.ticks >= 1), "a tick");
  assertEquals(Deno.readTextFileSync(`${folder.path}/pid`), `${server.pid}\n`);
  server.kill("SIGHUP");
  await manager.hears("READY=1", "RELOADING=1", "READY=1");
  await get(url);
  assertEquals(Deno.readTextFileSync(`${folder.path}/pid`), `${server.pid}\n`);
  server.kill("SIGTERM");
  await manager.hears("READY=1", "RELOADING=1", "READY=1", "STOPPING=1");
  server.kill("SIGQUIT"); // immediately
  assertEquals((await server.ended()).code, 0, readIfThere(log));
  await manager.hears("READY=1", "RELOADING=1", "READY=1", "STOPPING=1");
  assertEquals(readIfThere(`${folder.path}/pid`), "");
});

Deno.test("`serve` does not tell the service manager that it is ready once it drains", async () => {
  await using folder = folderWithApp();
  using manager = listenAsManager(`${folder.path}/notify`);
  const log = `${folder.path}/error.log`;
  await using server = startServer(
    folder.path,
    ["--port", "0", "--error-log", log, "--drain-delay", "60"],
    { env: { NOTIFY_SOCKET: `${folder.path}/notify` } },
  );
  await urlIn(log);
  await manager.hears("READY=1");
  const slow = "await new Promise((resolve) => setTimeout(resolve, 1500));\n";
  Deno.writeTextFileSync(`${folder.path}/app.ts`, slow + APP);
  server.kill("SIGHUP");
  await found(log, /re-executing the master/);
  server.kill("SIGTERM"); // which the master sees when it has loaded the new code
  await manager.hears("READY=1", "RELOADING=1", "STOPPING=1");
  await found(log, /draining[^]*Serving/);
  server.kill("SIGQUIT");
  assertEquals((await server.ended()).code, 0, readIfThere(log));
  await manager.hears("READY=1", "RELOADING=1", "STOPPING=1");
});

Deno.test("`serve` notifies the service manager when a restart has failed", async () => {
  await using folder = scratch();
  using manager = listenAsManager(`${folder.path}/notify`);
  // The third one to load it is the master, after the start and the canary.
  Deno.writeTextFileSync(
    `${folder.path}/app.ts`,
    `Deno.writeTextFileSync("${folder.path}/loads", ".", { append: true });
     if (Deno.readTextFileSync("${folder.path}/loads").length === 3) throw new Error("broken");
     export default { fetch: () => new Response() };`,
  );
  await using server = startServer(folder.path, ["--port", "0"], {
    env: { NOTIFY_SOCKET: `${folder.path}/notify` },
  });
  await manager.hears("READY=1");
  server.kill("SIGHUP");
  await manager.hears("READY=1", "RELOADING=1", "READY=1");
  await until(
    () => /cannot be loaded, the old workers keep serving: .*broken/.test(server.stderr),
    "the reason in the log",
  );
  // It tries again of its own accord.
  await manager.hears("READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1");
  // The log may arrive after the notification.
  await until(() => server.stderr.match(/Serving/g)?.length === 2, "two lines of the log");
  // And when the canary cannot.
  Deno.writeTextFileSync(`${folder.path}/app.ts`, "export default {};");
  server.kill("SIGHUP");
  const restart = ["RELOADING=1", "READY=1"];
  await manager.hears("READY=1", ...restart, ...restart, ...restart);
});

Deno.test("`serve` restarts even if it can no longer write its pid file", async () => {
  await using folder = folderWithApp();
  Deno.mkdirSync(`${folder.path}/run`);
  const args = ["--port", "0", "--pid-file", "run/pid"];
  await using server = startServer(folder.path, args);
  const ready = (times: number) =>
    until(() => server.stderr.match(/Serving \S+ with/g)?.length === times, "the server");
  await ready(1);
  Deno.removeSync(`${folder.path}/run`, { recursive: true });
  server.kill("SIGHUP");
  await ready(2);
  assertMatch(server.stderr, /Cannot write pid file .*run\/pid: ENOENT/);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
});

Deno.test("`serve` rejects the pid file of a running server, and does not affect that server", async () => {
  await using folder = folderWithApp();
  const log = `${folder.path}/error.log`;
  const args = ["--port", "0", "--pid-file", "pid"];
  await using first = startServer(folder.path, [...args, "--error-log", log]);
  const url = await urlIn(log);
  await using second = startServer(folder.path, args);
  assertEquals((await second.ended()).code, 1);
  assertEquals(
    second.stderr,
    `error: Cannot write pid file ${folder.path}/pid: it belongs to process ${first.pid}, which ` +
      "is running. Stop that process, or use another file\n",
  );
  assertEquals(Deno.readTextFileSync(`${folder.path}/pid`), `${first.pid}\n`);
  await get(url);
});

Deno.test("`serve` loses no line of its logs when they are rotated", async () => {
  await using folder = folderWithApp();
  const access = `${folder.path}/access.log`;
  const errors = `${folder.path}/error.log`;
  await using server = startServer(folder.path, [
    "--port=0",
    `--access-log=${access}`,
    "--access-log-format=json",
    `--error-log=${errors}`,
    "--pid-file=pid",
  ]);
  const url = await urlIn(errors);
  let sent = 0;
  let stop = false;
  const load = Array.from({ length: 4 }, async () => {
    while (!stop) await get(`${url}${sent++}`);
  });
  const rotations = 3;
  for (let i = 1; i <= rotations; i++) {
    const before = sent;
    await until(() => sent > before + 50, "requests");
    await rotate(folder.path, i);
    await found(errors, /logs reopened/);
    // The workers hear of it after the master: until then they write to the file that was moved.
    await found(access, /\n/);
  }
  stop = true;
  await Promise.all(load);
  await get(`${url}print`);
  server.kill("SIGTERM");
  assertEquals((await server.ended()).code, 0);
  const files = [access, ...Array.from({ length: rotations }, (_, i) => `${access}.${i + 1}`)];
  const urls = files.flatMap((file) => {
    const lines = Deno.readTextFileSync(file).split("\n");
    assertEquals(lines.pop(), "");
    assert(lines.length > 0, `lines in ${file}`);
    return lines.map((line) => JSON.parse(line).url as string);
  });
  assertEquals(urls.length, sent + 1);
  assertEquals(new Set(urls).size, sent + 1);
  assertMatch(
    Deno.readTextFileSync(errors),
    /^\S+Z \[master \d+\] SIGUSR1: logs reopened\nprinted by the app\n/,
  );
  assertMatch(Deno.readTextFileSync(`${errors}.1`), /^\S+Z \[master \d+\] /);
});

Deno.test("`serve` keeps its open logs when they cannot be reopened", async () => {
  await using folder = folderWithApp();
  const logs = `${folder.path}/logs`;
  Deno.mkdirSync(logs);
  await using server = startServer(folder.path, [
    "--port=0",
    "--access-log=logs/access.log",
    "--error-log=logs/error.log",
  ]);
  const url = await urlIn(`${logs}/error.log`);
  Deno.renameSync(logs, `${logs}-moved`);
  server.kill("SIGUSR1");
  // The master and both workers, each for the error log; the workers also for the other.
  await until(
    () =>
      readIfThere(`${logs}-moved/error.log`).match(
        /still written to the file that was open before/g,
      )
        ?.length ===
        5,
    "the complaints",
  );
  assertMatch(await get(url), /^hello/);
  await found(`${logs}-moved/access.log`, /"GET \/ HTTP\/1\.1" 200/);
});

Deno.test("`serve` reports on the terminal why it cannot start, even with an error log", async () => {
  await using folder = folderWithApp();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const args = ["--host=127.0.0.1", `--port=${port}`, "--error-log=error.log"];
  await using server = startServer(folder.path, args);
  assertEquals((await server.ended()).code, 1);
  assertMatch(server.stderr, /^error: Cannot bind 127\.0\.0\.1:\d+: EADDRINUSE [^\n]*\n$/);
});

/**
 * Moves the logs away as the example's logrotate file says; with logrotate itself if it is there.
 */
async function rotate(folder: string, number: number): Promise<void> {
  const config = example("tine.logrotate")
    .replaceAll("/var/log/tine", folder)
    .replaceAll("/run/tine/tine.pid", `${folder}/pid`)
    .replace("delaycompress", "nodelaycompress").replace(/^\s+compress$/m, "    nocompress");
  if (isInstalled("logrotate")) {
    Deno.writeTextFileSync(`${folder}/logrotate.conf`, config, { mode: 0o644 });
    const { code, stderr } = await new Deno.Command("logrotate", {
      args: ["--force", "--state", `${folder}/state`, `${folder}/logrotate.conf`],
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    return;
  }
  for (const log of ["access.log", "error.log"]) {
    for (let i = number - 1; i >= 1; i--) {
      Deno.renameSync(`${folder}/${log}.${i}`, `${folder}/${log}.${i + 1}`);
    }
    Deno.renameSync(`${folder}/${log}`, `${folder}/${log}.1`);
  }
  const [, command] = config.match(/postrotate\n(.*)\n\s*endscript/)!;
  const { code } = await new Deno.Command("/bin/sh", { args: ["-c", command!] }).output();
  assertEquals(code, 0);
}

// The examples

function example(name: string): string {
  return Deno.readTextFileSync(new URL(`examples/operations/${name}`, ROOT));
}

/** The example's unit with the paths of this machine in it. */
function serviceUnit(folder: string): string {
  return example("tine.service")
    .replaceAll("/usr/local/bin", folder)
    .replaceAll("/opt/app", folder)
    .replaceAll("/var/log/tine", folder)
    .replaceAll("/run/tine", folder);
}

Deno.test("`tine.service` and `tine.socket` are valid systemd units (needs systemd-analyze)", {
  ignore: !isInstalled("systemd-analyze"),
}, async () => {
  await using folder = scratch();
  const verify = async (service: string) => {
    Deno.writeTextFileSync(`${folder.path}/tine.service`, service);
    Deno.writeTextFileSync(`${folder.path}/tine.socket`, example("tine.socket"));
    const { stderr } = await new Deno.Command("systemd-analyze", {
      args: ["verify", `${folder.path}/tine.service`, `${folder.path}/tine.socket`],
    }).output();
    // Other units of the machine may have faults of their own.
    return new TextDecoder().decode(stderr).split("\n").filter((line) => /tine/.test(line));
  };
  await install(folder.path);
  const unit = serviceUnit(folder.path);
  assertEquals(await verify(unit), []);
  // So that the test can fail: a word that systemd does not know, and a program that is not there.
  assertMatch((await verify(unit.replace("KillMode=", "KillMood=")))[0] ?? "", /KillMood/);
  const without = unit.replace(`${folder.path}/tine serve`, `${folder.path}/missing/tine serve`);
  assertMatch((await verify(without))[0] ?? "", /is not executable/);
  // What stops the service must give the workers the time that they are promised.
  const [, grace] = unit.match(/--grace (\d+)/)!;
  const [, timeout] = unit.match(/^TimeoutStopSec=(\d+)$/m)!;
  assert(Number(timeout) > Number(grace));
});

Deno.test(
  "`tine.service` leaves the server what it needs, and little else (needs systemd-analyze)",
  {
    ignore: !isInstalled("systemd-analyze"),
  },
  async () => {
    await using folder = scratch();
    const exposure = async (service: string) => {
      const file = `${folder.path}/tine.service`;
      Deno.writeTextFileSync(file, service);
      const { stdout } = await new Deno.Command("systemd-analyze", {
        args: ["security", "--no-pager", "--offline=true", file],
        env: { SYSTEMD_COLORS: "0" },
      }).output();
      const [, level] = new TextDecoder().decode(stdout).match(/exposure level for \S+: ([\d.]+)/)!;
      return Number(level);
    };
    const unit = serviceUnit(folder.path);
    const level = await exposure(unit);
    assert(level < 2, `exposure level ${level}`);
    assert(await exposure(unit.replace(/^(Protect|Private|SystemCall).*\n/gm, "")) > 2);
  },
);

Deno.test("`tine.service` serves on the sockets of systemd (needs systemd-socket-activate)", {
  ignore: !isInstalled("systemd-socket-activate"),
}, async () => {
  await using folder = scratch();
  await install(folder.path);
  const current = `${folder.path}/current`;
  const next = `throw new Error("no configuration");`;
  for (const [release, app] of [APP, APP.replaceAll("hello", "welcome"), next].entries()) {
    Deno.mkdirSync(`${folder.path}/${release}`);
    Deno.writeTextFileSync(`${folder.path}/${release}/app.ts`, app);
  }
  const deploy = (release: number) => {
    Deno.symlinkSync(`${release}`, `${folder.path}/new`);
    Deno.renameSync(`${folder.path}/new`, current);
  };
  const unit = serviceUnit(folder.path).replace(/^(WorkingDirectory)=.*/m, `$1=${current}`)
    .replace(/ PWD=\S+/, ` PWD=${current}`);
  const [, variables] = unit.match(/^Environment=DENO_DIR=\S+ (.*)$/m)!;
  const [, line] = unit.match(/^ExecStart=((?:.*\\\n)*.*)$/m)!;
  const command = line!.replaceAll("\\\n", " ").trim().split(/\s+/);
  const reload = async () => {
    const [, line] = unit.match(/^ExecReload=(.*)$/m)!;
    await using program = new Program("/bin/sh", ["-c", line!], { env: { NO_COLOR: "1" } });
    return { ...await program.ended(), stdout: program.stdout, stderr: program.stderr };
  };
  for (const family of ["tcp", "unix"]) {
    deploy(0);
    using manager = listenAsManager(`${folder.path}/notify-${family}`);
    const port = freePort();
    const path = `${folder.path}/activated.sock`;
    await using server = new Program("systemd-socket-activate", [
      `--listen=${family === "tcp" ? `127.0.0.1:${port}` : path}`,
      "--fdname=http",
      `--setenv=NOTIFY_SOCKET=${folder.path}/notify-${family}`,
      ...variables!.split(" ").map((variable) => `--setenv=${variable}`),
      ...Deno.env.has("DENO_DIR") ? ["--setenv=DENO_DIR"] : [],
      ...command,
    ], { cwd: current });
    // The first client starts the server.
    using client = Deno.createHttpClient({
      poolMaxIdlePerHost: 0, // old workers answer on the connections that they have
      ...family === "tcp" ? {} : { proxy: { transport: "unix", path } },
    });
    const url = `http://127.0.0.1:${port}`;
    const ask = async (what: string) => await (await fetch(`${url}${what}`, { client })).text();
    await until(() => ask("/sockets").catch(() => false), "the first response");
    assertEquals(await ask("/sockets"), "[]");
    assertEquals(Deno.readTextFileSync(`${folder.path}/tine.pid`), `${server.pid}\n`);
    await manager.hears("READY=1");
    assertMatch(await ask("/"), /^hello/);
    deploy(1);
    const { code, stdout, stderr } = await reload();
    assertEquals([code, stdout], [0, "Reloaded: 2 workers serve the new code\n"], stderr);
    await manager.hears("READY=1", "RELOADING=1", "READY=1");
    assertMatch(await ask("/"), /^welcome/);
    deploy(2);
    const broken = await reload();
    assertEquals(broken.code, 1);
    assertMatch(broken.stderr, /^error: The reload failed: .*no configuration.* old code stays in/);
    await manager.hears("READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1");
    assertMatch(await ask("/"), /^welcome/);
    server.kill("SIGTERM");
    const reloads = Array(2).fill(["RELOADING=1", "READY=1"]).flat();
    await manager.hears("READY=1", ...reloads, "STOPPING=1");
    server.kill("SIGTERM"); // immediately
    assertEquals((await server.ended()).code, 0, readIfThere(`${folder.path}/error.log`));
    assertMatch(
      Deno.readTextFileSync(`${folder.path}/access.log`),
      /"GET \/sockets HTTP\/1.1" 200 2 "-" "Deno\//,
    );
    // It is systemd's, which starts the server again for the next client.
    if (family === "unix") assert(Deno.lstatSync(path).isSocket, "the socket file");
  }
});

Deno.test(
  "the documentation makes of `nginx.conf` a site for an nginx that is there (needs nginx)",
  {
    ignore: !isInstalled("nginx"),
  },
  async () => {
    await using folder = scratch();
    const [, command] = Deno.readTextFileSync(new URL("docs/operate.md", ROOT))
      .match(/^# (sed .* nginx\.conf) >\/etc\/nginx\/sites-available\//m)!;
    const made = await new Deno.Command("/bin/sh", {
      args: ["-c", `cd examples/operations && ${command}`],
      cwd: ROOT,
    }).output();
    const site = new TextDecoder().decode(made.stdout);
    assertMatch(site, /^\s+listen 80;$/m);
    assertMatch(site, /^\s+server unix:\/run\/tine\.sock /m);
    const path = `${folder.path}/nginx.conf`;
    const config = (site: string) =>
      `pid ${folder.path}/pid; events {} http { access_log off;\n${
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) =>
          `${name}_temp_path ${folder.path}/${name};\n`
        ).join("")
      }${site}}`;
    const test = async (site: string) => {
      Deno.writeTextFileSync(path, config(site));
      const { code, stderr } = await new Deno.Command("nginx", {
        args: ["-t", "-e", "stderr", "-p", folder.path, "-c", path],
      }).output();
      return { code, error: new TextDecoder().decode(stderr) };
    };
    const { code, error } = await test(
      site.replace("listen 80;", `listen 127.0.0.1:${freePort()};`),
    );
    assertEquals(code, 0, error);
    assertEquals((await test(site.replace("upstream tine", "upstream other} {"))).code, 1);
  },
);

Deno.test("`nginx.conf` forwards requests and WebSockets to the workers (needs nginx)", {
  ignore: !isInstalled("nginx"),
}, async () => {
  await using folder = folderWithApp();
  const socket = `${folder.path}/tine.sock`;
  const options = [
    "--trust-proxy",
    "unix",
    "--error-log",
    "error.log",
    "--access-log",
    "access.log",
    "--timeout",
    "3", // longer than nginx repeats requests
  ];
  await using server = startServer(folder.path, ["--unix", socket, ...options]);
  await found(`${folder.path}/error.log`, /with 2 workers/);
  const port = freePort();
  const config = example("nginx.conf")
    .replaceAll("/run/tine/tine.sock", socket)
    .replace("listen 8080", `listen 127.0.0.1:${port}`);
  assertStringIncludes(config, `listen 127.0.0.1:${port};`);
  Deno.writeTextFileSync(`${folder.path}/nginx.conf`, config);
  // Root's nginx serves as another user, who may not open this test's socket.
  const user = Deno.uid() === 0 ? "user root;" : "";
  const prefix = `${folder.path}/nginx`;
  Deno.mkdirSync(prefix);
  const args = ["-p", prefix, "-c", `${folder.path}/nginx.conf`, "-e", "stderr", "-g"];
  await using nginx = new Program("nginx", [...args, `daemon off; ${user}`]);
  const url = `http://127.0.0.1:${port}`;
  await until(() => fetch(url).then((response) => response.text(), () => false), "nginx");
  assertMatch(await get(url), /^hello from \d+$/);
  const spoofed = {
    "x-forwarded-for": "6.6.6.6",
    "x-forwarded-host": "evil",
    "forwarded": "for=6.6.6.6",
  };
  const echo = await (await fetch(`${url}/echo`, {
    method: "POST",
    body: "a body",
    headers: { ...spoofed, "x-forwarded-proto": "https" },
  })).json();
  assertEquals(echo.body, "a body");
  assertEquals(echo.host, `127.0.0.1:${port}`);
  assertEquals([echo.client, echo.url], ["127.0.0.1", `${url}/echo`]);
  await found(`${folder.path}/access.log`, /^127\.0\.0\.1 .*"POST \/echo/m);
  // Connections to the server stay open between requests.
  assertEquals(echo.connection, null);
  assertEquals(
    (await fetch(`${url}/echo`, { method: "POST", body: new Uint8Array(17e6) })
      .then(async (response) => [response.status, await response.text()]))[0],
    413,
  );
  const webSocket = new WebSocket(url.replace("http", "ws"));
  const message = new Promise((resolve) => webSocket.onmessage = ({ data }) => resolve(data));
  webSocket.onopen = () => webSocket.send("hi");
  assertEquals(await within(message, 15_000, "the echo"), "echo hi");
  const closed = new Promise((resolve) => webSocket.onclose = resolve);
  webSocket.close();
  await within(closed, 15_000, "the end of the WebSocket");
  // What hangs a worker does not hang the next one, too, on a connection that was kept open.
  for (let i = 0; i < 10; i++) await get(url);
  const spun = await fetch(`${url}/spin`);
  assertEquals(spun.status, 502, await spun.text());
  const hung = /killed because its event loop was blocked/g;
  await found(`${folder.path}/error.log`, hung);
  // A reload behind it: each request is answered, the last by a new worker.
  const old = childrenOf(server.pid);
  server.kill("SIGHUP");
  await until(async () => {
    const [, pid] = (await get(url)).match(/^hello from (\d+)$/)!;
    return !old.includes(Number(pid));
  }, "a new worker");
  nginx.kill("SIGQUIT");
  assertEquals((await nginx.ended()).code, 0, nginx.stderr);
  server.kill("SIGTERM");
  await found(`${folder.path}/error.log`, /SIGTERM/);
  server.kill("SIGTERM"); // immediately
  assertEquals((await server.ended()).code, 0);
  const log = Deno.readTextFileSync(`${folder.path}/error.log`);
  assertEquals(log.match(hung)?.length, 1, log);
  assertEquals([...Deno.readDirSync(folder.path)].some(({ name }) => name === "tine.sock"), false);
});
