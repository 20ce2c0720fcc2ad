import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { ChildTable } from "../server/child_table.ts";
import {
  childrenOf,
  descriptorsOf,
  exchange,
  isPortFree,
  portOf,
  processState,
  type Program,
  readAll,
  startFunction,
  until,
  within,
  zombiesOf,
} from "./support.ts";

/** An echo server; options come as JSON in its first argument. */
function startForking(options: Record<string, unknown> = {}, shell?: string): Program {
  return startFunction(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM, tine.SIGINT] });
      const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      listenSocket.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 1);
      listenSocket.bind(["", 0]);
      listenSocket.listen(1024);
      console.log(`port ${listenSocket.getsockname()[1]}`);
      tine.serveForking(listenSocket, (connection) => {
        for (;;) {
          const data = connection.recv(4096);
          const text = new TextDecoder().decode(data);
          if (data.length === 0) return;
          if (text.startsWith("loop")) { for (;;); }
          if (text.startsWith("throw")) throw new Error("thrown by the handler");
          if (text.startsWith("exit")) return 3;
          if (text.startsWith("crash")) tine.kill(tine.getpid(), tine.SIGABRT);
          connection.sendall(data);
        }
      }, {
        ...JSON.parse(Deno.args[0]!),
        onChildExit: ({ pid, address, status }) =>
          console.log("exited", pid, address?.[0], JSON.stringify(status)),
      });
      console.log("stopped");
    },
    [JSON.stringify(options)],
    shell === undefined ? {} : { shell },
  );
}

/** A client that says something and stays. */
class Client implements Disposable {
  constructor(readonly connection: Deno.Conn) {}

  static async connect(port: number): Promise<Client> {
    return new Client(await Deno.connect({ port, hostname: "127.0.0.1" }));
  }

  async say(text: string): Promise<void> {
    await this.connection.write(new TextEncoder().encode(text));
  }

  async hear(): Promise<string | null> {
    const buffer = new Uint8Array(4096);
    const count = await within(this.connection.read(buffer), 15_000, "the server's answer");
    return count === null ? null : new TextDecoder().decode(buffer.subarray(0, count));
  }

  async echoes(): Promise<boolean> {
    await this.say("echo");
    return await this.hear() === "echo";
  }

  [Symbol.dispose](): void {
    try {
      this.connection.close();
    } catch {
      // already closed
    }
  }
}

Deno.test("serveForking() serves several clients at the same time, and logs one line for each", async () => {
  await using server = startForking();
  const port = await portOf(server);
  using first = await Client.connect(port);
  using second = await Client.connect(port);
  assert(await second.echoes());
  assert(await first.echoes());
  assertEquals(childrenOf(server.pid).length, 2);
  first.connection.close();
  second.connection.close();
  await until(() => childrenOf(server.pid).length === 0, "the children's end");
  await until(() => server.stderr.trim().split("\n").length === 2, "two log lines");
  for (const line of server.stderr.trim().split("\n")) {
    assertMatch(line, /^127\.0\.0\.1:\d+ pid \d+ exit 0 \d+\.\d{3}s [01]\/40$/);
  }
  await server.printed(/^exited \d+ 127\.0\.0\.1 {"kind":"exited","code":0,"raw":0}$/m);
});

Deno.test("serveForking() lets clients wait in the backlog at its limit, and serves them in turn", async () => {
  await using server = startForking({ maxChildren: 2 });
  const port = await portOf(server);
  using first = await Client.connect(port);
  using second = await Client.connect(port);
  using third = await Client.connect(port); // connected by the kernel
  assert(await first.echoes());
  assert(await second.echoes());
  await third.say("waiting");
  const answer = third.hear();
  // No third child while there are two: seen whenever the two have answered again.
  for (let i = 0; i < 5; i++) {
    assert(await first.echoes());
    assertEquals(childrenOf(server.pid).length, 2);
  }
  first.connection.close();
  assertEquals(await answer, "waiting");
});

Deno.test("serveForking() closes further connections of an address at its limit", async () => {
  await using server = startForking({ maxPerAddress: 1 });
  const port = await portOf(server);
  using first = await Client.connect(port);
  assert(await first.echoes());
  using second = await Client.connect(port);
  assertEquals(await within(readAll(second.connection), 15_000, "the server to close"), "");
  await until(
    () => /127\.0\.0\.1:\d+ denied: 1 child already serves this address/.test(server.stderr),
    "the log line",
  );
  using other = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  other.bind(["127.0.0.2", 0]);
  other.connect(["127.0.0.1", port]);
  other.sendall(new TextEncoder().encode("x"));
  assertEquals(other.recv(1).length, 1);
});

Deno.test("serveForking() ends a child at its deadline, whatever it does", async () => {
  await using server = startForking({ timeout: 2 });
  const port = await portOf(server);
  using looping = await Client.connect(port);
  await looping.say("loop");
  using idle = await Client.connect(port);
  assertEquals(await idle.hear(), null);
  assertEquals(await looping.hear(), null);
  await until(() => server.stderr.split("killed by SIGALRM").length === 3, "two log lines");
  using next = await Client.connect(port);
  assert(await next.echoes());
});

Deno.test("serveForking() survives children that throw, exit and crash", async () => {
  await using server = startForking();
  const port = await portOf(server);
  const kinds = { throw: "exit 1", exit: "exit 3", crash: "killed by SIGABRT" };
  for (const [kind, outcome] of Object.entries(kinds)) {
    assertEquals(await exchange(port, kind).catch(() => ""), "");
    await until(() => server.stderr.includes(outcome), `the log line of "${kind}"`);
  }
  assertStringIncludes(server.stderr, "Error: thrown by the handler");
  using next = await Client.connect(port);
  assert(await next.echoes());
});

Deno.test("serveForking() finishes gracefully on SIGTERM and on SIGINT", async () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    await using server = startForking();
    const port = await portOf(server);
    using client = await Client.connect(port);
    assert(await client.echoes());
    server.kill(signal);
    await until(() => server.stderr.includes("stopping, 1 child to finish"), "the log line");
    await until(() => isPortFree(port), "the port to be free");
    assert(await client.echoes(), "the child did not go on");
    client.connection.close();
    assertEquals(await server.ended(), { code: 0, signal: null });
    assert(server.stdout.endsWith("stopped\n"));
  }
});

Deno.test("serveForking() kills remaining children after the grace time, and immediately on a second signal", async () => {
  for (const grace of [0.2, 60]) {
    await using server = startForking({ grace, timeout: 0 });
    const port = await portOf(server);
    {
      using first = await Client.connect(port);
      assert(await first.echoes());
    }
    // The server's first child is a check of its own, which ends before a client is served.
    await until(() => childrenOf(server.pid).length === 0, "the first children's end");
    using looping = await Client.connect(port);
    await looping.say("loop");
    const child = await until(() => childrenOf(server.pid)[0], "the child");
    server.kill("SIGTERM");
    await until(() => server.stderr.includes("stopping"), "the log line");
    // Signals that come within half a second count as one.
    const again = grace === 60 ? setInterval(() => server.kill("SIGTERM"), 100) : undefined;
    try {
      assertEquals(await server.ended(), { code: 0, signal: null });
    } finally {
      clearInterval(again);
    }
    assertEquals(processState(child), undefined);
    assertStringIncludes(server.stderr, "killed by SIGKILL");
  }
});

Deno.test("serveForking() logs a failing accept, backs off, and continues when descriptors are free", async () => {
  // Room for the server's own descriptors, and none for a connection.
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    const spare = tine.open("/dev/null", tine.O_RDONLY);
    const { hard } = tine.getrlimit(tine.RLIMIT_NOFILE);
    tine.setrlimit(tine.RLIMIT_NOFILE, { soft: spare.fileno() + 1, hard });
    let failures = 0;
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveForking(listenSocket, (connection) => connection.sendall(new Uint8Array([33])), {
      log: (line) => {
        console.log(/EMFILE/.test(line) ? `${line} at ${performance.now()}` : line);
        if (/EMFILE/.test(line) && ++failures === 3) spare.close();
      },
    });
  });
  const port = await portOf(server);
  const answer = await exchange(port, "");
  const lines = () =>
    server.stdout.match(
      /Cannot accept: EMFILE \(Too many open files\)\. Trying again in 100 ms at /g,
    );
  await until(() => (lines()?.length ?? 0) >= 3, "three log lines");
  assertEquals(lines()!.length, 3);
  const times = [...server.stdout.matchAll(/ at (\d+\.?\d*)$/gm)].map(([, at]) => Number(at));
  assert(times[2]! - times[0]! >= 190, `it tried again too soon: ${times}`);
  assertEquals(answer, "!");
});

Deno.test("serveForking() drops one client when fork fails, and serves the next when it works", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    if (tine.getuid() === 0) tine.setuid(54323); // root has no limit
    const { hard } = tine.getrlimit(tine.RLIMIT_NPROC);
    tine.setrlimit(tine.RLIMIT_NPROC, { soft: 1, hard });
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveForking(listenSocket, (connection) => connection.sendall(new Uint8Array([33])), {
      log: (line) => {
        console.log(line);
        if (/dropped/.test(line)) tine.setrlimit(tine.RLIMIT_NPROC, { soft: hard, hard });
      },
    });
  });
  const port = await portOf(server);
  assertEquals(await exchange(port, "").catch(() => ""), "");
  await server.printed(/127\.0\.0\.1:\d+ dropped: Cannot fork: EAGAIN/);
  assertEquals(await exchange(port, ""), "!");
});

Deno.test("serveForking() leaks nothing over 300 connections, 8 at a time", async () => {
  await using server = startForking();
  const port = await portOf(server);
  await exchange(port, "exit");
  await until(() => childrenOf(server.pid).length === 0, "the first child's end");
  const before = descriptorsOf(server.pid);
  for (let i = 0; i < 38; i++) {
    await Promise.all(Array.from({ length: 8 }, async () => {
      using client = await Client.connect(port);
      assert(await client.echoes());
    }));
  }
  await until(() => childrenOf(server.pid).length === 0, "the children's end");
  assertEquals(zombiesOf(server.pid), []);
  await until(() => descriptorsOf(server.pid).size <= before.size, "the descriptors from before");
});

Deno.test("a child of serveForking() has only its own connection open", async () => {
  await using server = startForking();
  const port = await portOf(server);
  using first = await Client.connect(port);
  assert(await first.echoes());
  using second = await Client.connect(port);
  assert(await second.echoes());
  const sockets = childrenOf(server.pid).map((pid) =>
    [...descriptorsOf(pid).values()].filter((link) => link.startsWith("socket:"))
  );
  const own = [...descriptorsOf(server.pid).values()].filter((link) => link.startsWith("socket:"));
  assertEquals(sockets.length, 2);
  // Beside the runtime's own sockets, which are the parent's too, each has one.
  for (const links of sockets) {
    assertEquals(links.filter((link) => !own.includes(link)).length, 1);
  }
  const [a, b] = sockets.map((links) => links.find((link) => !own.includes(link)));
  assert(a !== b);
});

Deno.test("serveForking() and serveIterative() reject invalid options", () => {
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  for (
    const options of [{ maxChildren: 0 }, { maxPerAddress: 1.5 }, { timeout: -1 }, { grace: NaN }]
  ) {
    assertThrows(
      () => tine.serveForking(socket, () => {}, options),
      RangeError,
      "Cannot serve with",
    );
  }
  assertThrows(() => tine.serveIterative(socket, () => {}, { timeout: -1 }), RangeError);
  assertThrows(
    () => tine.serveForking(socket, () => {}),
    Error,
    "becomeForkable({ signals: [SIGCHLD] })",
  );
});

Deno.test("serveIterative() serves one client at a time, and survives handlers that throw or wait", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGTERM] });
    const stop = new AbortController();
    tine.signal(tine.SIGTERM, () => stop.abort());
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 1);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveIterative(listenSocket, (connection) => {
      const data = connection.recv(4096);
      if (new TextDecoder().decode(data) === "throw") throw new Error("thrown by the handler");
      connection.sendall(data);
    }, { timeout: 1, signal: stop.signal });
    console.log("stopped");
  });
  const port = await portOf(server);
  assertEquals(await exchange(port, "throw").catch(() => ""), "");
  using silent = await Client.connect(port);
  using next = await Client.connect(port);
  await next.say("next");
  assertEquals(await silent.hear(), null, "the silent client was not closed");
  assertEquals(await next.hear(), "next");
  await until(() => server.stderr.trim().split("\n").length === 3, "three log lines");
  const lines = server.stderr.trim().split("\n");
  assertMatch(lines[0]!, /^127\.0\.0\.1:\d+ Error: thrown by the handler \d+\.\d{3}s$/);
  assertMatch(
    lines[1]!,
    /^127\.0\.0\.1:\d+ SyscallError: Cannot recv: EAGAIN .* [1-9]\d*\.\d{3}s$/,
  );
  assertMatch(lines[2]!, /^127\.0\.0\.1:\d+ ok \d+\.\d{3}s$/);
  server.kill("SIGTERM");
  assertEquals(await server.ended(), { code: 0, signal: null });
  assert(server.stdout.endsWith("stopped\n"));
  assert(isPortFree(port));
});

Deno.test("serveForking() continues when its log, or onChildExit, fails", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    const fail = () => {
      throw new Error("No space left on device");
    };
    tine.serveForking(listenSocket, (connection) => connection.sendall(new Uint8Array([33])), {
      log: fail,
      onChildExit: fail,
    });
  });
  const port = await portOf(server);
  for (let i = 0; i < 5; i++) assertEquals(await exchange(port, ""), "!");
  await until(() => childrenOf(server.pid).length === 0, "the last child to be reaped");
  server.kill("SIGTERM");
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("serveForking() logs an error in its loop, pauses, and continues, even while it stops", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM, tine.SIGUSR1] });
    tine.signal(tine.SIGUSR1, () => {
      throw new Error("thrown by a handler of the program's own");
    });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveForking(listenSocket, (connection) => {
      connection.sendall(connection.recv(1));
      connection.recv(1);
    });
  });
  const failures = () =>
    server.stderr.match(/^Error: thrown by a .* Continuing in 100 ms$/gm)?.length;
  const port = await portOf(server);
  for (const count of [1, 2]) {
    server.kill("SIGUSR1");
    await until(() => failures() === count, `${count} log lines`);
    assertEquals(await exchange(port, "!?"), "!");
  }
  using client = await Client.connect(port);
  await client.say("!");
  assertEquals(await client.hear(), "!");
  server.kill("SIGTERM");
  // The children of the earlier clients may not have ended yet.
  await until(() => /stopping, [1-3] child/.test(server.stderr), "the stop");
  server.kill("SIGUSR1");
  await until(() => failures() === 3, "the third log line");
  client.connection.close();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("serveForking() ends with an error when its listening socket is closed", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGUSR1] });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    tine.signal(tine.SIGUSR1, () => listenSocket.close());
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveForking(listenSocket, () => {});
  });
  await portOf(server);
  server.kill("SIGUSR1");
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /SyscallError: Cannot accept on a closed socket: EBADF/);
});

Deno.test("serveForking() stops when other code has reaped its children", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM, tine.SIGUSR1] });
    tine.signal(tine.SIGUSR1, () => {
      console.log("reaping");
      for (let left = 2; left > 0; left--) tine.waitpid(-1);
    });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(16);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    tine.serveForking(listenSocket, (connection) => void connection.recv(1), { grace: 60 });
  });
  const port = await portOf(server);
  using first = await Client.connect(port);
  using second = await Client.connect(port);
  await until(() => childrenOf(server.pid).length === 2, "two children");
  server.kill("SIGUSR1");
  await server.printed(/reaping/); // by a handler, which no other interrupts
  first.connection.close();
  second.connection.close();
  await until(() => childrenOf(server.pid).length === 0, "both to be reaped by the handler");
  server.kill("SIGTERM");
  assertEquals(await server.ended(), { code: 0, signal: null });
});

const isRoot = tine.getuid() === 0;

Deno.test("serveForking() stops without waiting for a child that it may not kill (needs root)", {
  ignore: !isRoot,
}, async () => {
  await using server = startFunction(
    () => {
      tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
      const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
      listenSocket.bind(["127.0.0.1", 0]);
      listenSocket.listen(16);
      console.log(`port ${listenSocket.getsockname()[1]}`);
      tine.serveForking(listenSocket, (connection) => {
        if (connection.recv(1)[0] === 33) tine.setuid(54325);
        connection.sendall(new Uint8Array([33]));
        for (;;) tine.sleep(1000);
      }, { grace: 0.1 });
      console.log("stopped");
    },
    [],
    // Root without the capability to signal whom it likes.
    {
      shell: "exec setpriv --inh-caps=-kill --bounding-set=-kill " +
        `/bin/bash -c 'shift; exec "$@"' bash`,
    },
  );
  const port = await portOf(server);
  using changed = await Client.connect(port);
  await changed.say("!");
  assertEquals(await changed.hear(), "!");
  const [child] = childrenOf(server.pid);
  try {
    using unchanged = await Client.connect(port);
    await unchanged.say("?");
    assertEquals(await unchanged.hear(), "!");
    server.kill("SIGTERM");
    assertEquals((await within(server.status, 15_000, "the server's end")).code, 0);
    for (
      const line of [
        new RegExp(
          `127\\.0\\.0\\.1:\\d+ pid ${child} is no longer waited for: Cannot kill .* EPERM`,
        ),
        /killed by SIGKILL/,
      ]
    ) await until(() => line.test(server.stderr), `${line} in the log`);
    await server.printed(/stopped\n$/);
  } finally {
    tine.kill(child!, tine.SIGKILL);
  }
});

Deno.test("ChildTable assigns the smallest free number, and counts children per host", () => {
  const table = new ChildTable();
  const taken = new Map<number, number>();
  let pid = 0;
  let seed = 1;
  const random = (below: number) => (seed = seed * 48271 % 0x7fff_ffff) % below;
  for (let step = 0; step < 5000; step++) {
    if (random(100) < (step < 2500 ? 60 : 45)) {
      let smallest = 1;
      while (taken.has(smallest)) smallest++;
      assertEquals(table.nextNumber, smallest);
      table.add(++pid, [`10.0.0.${smallest % 3}`, 1]);
      taken.set(smallest, pid);
    } else if (taken.size > 0) {
      const [number, gone] = [...taken][random(taken.size)]!;
      assertEquals(table.remove(gone)?.number, number);
      taken.delete(number);
    }
    assertEquals(table.size, taken.size);
  }
  assert(taken.size > 0);
  for (const rest of [0, 1, 2]) {
    const count = [...taken.keys()].filter((number) => number % 3 === rest).length;
    assertEquals(table.countOf([`10.0.0.${rest}`, 99]), count);
  }
  assertEquals(table.remove(0), undefined);
  assertEquals(table.countOf("/a/path"), 0);
  for (const pid of table.pids) table.remove(pid);
  assertEquals([table.size, table.nextNumber, table.countOf(["10.0.0.1", 1])], [0, 1, 0]);
});

Deno.test("ChildTable costs the same with 100,000 children as with ten", () => {
  const time = (children: number) => {
    const table = new ChildTable();
    for (let pid = 1; pid <= children; pid++) table.add(pid, ["127.0.0.1", pid]);
    const start = performance.now();
    for (let pid = 1; pid <= 20_000; pid++) {
      const old = 1 + pid % children;
      assertEquals(table.remove(old)?.number, old);
      table.add(old, ["127.0.0.1", pid]);
      assertEquals(table.countOf(["127.0.0.1", 1]), children);
    }
    return performance.now() - start;
  };
  const few = time(10);
  const many = time(100_000);
  // A look at each child would cost 10,000 times as much.
  assert(many < 100 * Math.max(few, 1), `${few} ms with 10 children, ${many} ms with 100,000`);
});
