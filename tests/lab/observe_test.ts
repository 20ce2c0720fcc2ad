/** The observer says what `/proc` says, also of processes that it does not read again. */
import { assert, assertEquals } from "@std/assert";
import { freePort } from "../../examples/lab/stage/free_port.ts";
import { Observer } from "../../examples/lab/observe/snapshot.ts";
import { SocketTable } from "../../examples/lab/observe/sockets.ts";
import type { ProcessView, Snapshot } from "../../examples/lab/lesson.ts";
import {
  childrenOf,
  Client,
  descriptorsOf,
  portOf,
  Program,
  ROOT,
  start,
  until,
  zombiesOf,
} from "../support.ts";

/** Starts a program in a session of its own, and an observer that looks at it. */
async function observed(file: string, args: string[]): Promise<
  { program: Program; port: number; observer: Observer }
> {
  const program = start(file, args, { detached: true });
  const observer = new Observer(ROOT.pathname);
  observer.watch(program.pid, { program: file, role: "server" });
  return { program, port: await portOf(program), observer };
}

/** What `/proc` says about a process, without the observer. */
function assertSame(snapshot: Snapshot, pid: number): void {
  const process = snapshot.processes.find((process) => process.pid === pid)!;
  const descriptors = new Map(process.descriptors.map(({ fd, target }) => [fd, target]));
  assertEquals(descriptors, descriptorsOf(pid));
}

function connections({ descriptors }: ProcessView): number {
  return descriptors.filter(({ kind }) => kind === "tcp").length;
}

Deno.test("the observer sees each descriptor, child and zombie as it comes", async () => {
  const { program, port, observer } = await observed("examples/part3/webserver3d.ts", ["0"]);
  await using _ = program;
  using looking = observer;
  const clients: Client[] = [];
  try {
    for (let count = 1; count <= 4; count++) {
      const client = await Client.connect(port);
      clients.push(client);
      await client.say("GET / HTTP/1.1\r\n\r\n");
      await until(() => zombiesOf(program.pid).length === count, "the zombie");
      const snapshot = await until(() => {
        const snapshot = looking.look();
        return snapshot.processes[0]?.state === "sleeping" && snapshot;
      }, "the server's sleep");
      const [server, ...children] = snapshot.processes;
      assertEquals(connections(server!), 1 + count);
      assertSame(snapshot, program.pid);
      assertEquals(children.map(({ state }) => state), Array(count).fill("zombie"));
      assertEquals(
        new Set(children.map(({ pid }) => pid)),
        new Set(childrenOf(program.pid)),
      );
      const held = snapshot.sockets.filter(({ holders, state }) =>
        state === "ESTABLISHED" && holders.some(({ pid }) => pid === program.pid)
      );
      assertEquals(held.length, count);
      // When nothing has changed, the processes are the same objects. The server may have run.
      await until(() => {
        const before = looking.look();
        return looking.look().processes.every((process, i) => process === before.processes[i]);
      }, "two looks between which nothing changes");
    }
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});

Deno.test("the observer tells in which line a program waits, and which signals are pending", async () => {
  const { program, port, observer } = await observed("examples/part3/webserver3g.ts", ["0"]);
  await using _ = program;
  using looking = observer;
  const [server] = (await until(() => {
    const snapshot = looking.look();
    return snapshot.processes[0]?.line !== undefined && snapshot;
  }, "the line")).processes;
  assertEquals(server!.line!.text, "[clientConnection] = listenSocket.accept();");
  assertEquals(server!.call, "ppoll");
  assertEquals(server!.signals.caught.includes("SIGCHLD"), true);
  program.kill("SIGSTOP");
  await until(() => looking.look().processes[0]?.state === "stopped", "the stop");
  Deno.kill(program.pid, "SIGCHLD");
  assertEquals(looking.look().processes[0]!.signals.pending, ["SIGCHLD"]);
  using client = await Client.connect(port);
  const snapshot = looking.look();
  const listener = snapshot.sockets.find(({ state }) => state === "LISTEN")!;
  assertEquals([listener.queue, listener.limit], [1, 1024]);
  const queued = snapshot.sockets.find(({ state, inode }) =>
    state === "ESTABLISHED" && inode === 0
  );
  assertEquals(queued?.holders, []);
  assert(!client.closed);
  program.kill("SIGCONT");
});

Deno.test("the observer forgets processes that are gone", async () => {
  const { program, observer } = await observed("examples/part3/webserver3b.ts", ["0"]);
  using looking = observer;
  await using _ = program;
  assertEquals(looking.look().processes.length, 1);
  program.kill("SIGKILL");
  await program.ended();
  assertEquals(looking.look().processes, []);
});

Deno.test("/proc/net/tcp says the same as netlink, but for the limit", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using listener6 = Deno.listen({ hostname: "::1", port: 0 });
  const ports = new Set([listener.addr.port, listener6.addr.port]);
  using _client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  using _client6 = await Deno.connect({ hostname: "::1", port: listener6.addr.port });
  const ours = (table: SocketTable) =>
    table.tcp(ports).filter(({ localPort, remotePort }) =>
      ports.has(localPort) || ports.has(remotePort)
    ).toSorted((a, b) => a.local < b.local ? -1 : a.local > b.local ? 1 : 0);
  using netlink = new SocketTable();
  using without = new SocketTable();
  without[Symbol.dispose]();
  const found = ours(netlink);
  assertEquals(found.length, 6);
  assertEquals(found.filter(({ limit }) => limit === undefined).length, 4);
  assertEquals(ours(without), found.map(({ limit: _, ...entry }) => entry));
});

Deno.test("the observer sees a child that has the pid of another session's process", async () => {
  const { program, port, observer } = await observed("examples/part3/webserver3d.ts", ["0"]);
  await using _ = program;
  using looking = observer;
  let isReused = false;
  for (let attempt = 0; attempt < 20 && !isReused; attempt++) {
    await using other = new Program("/bin/sleep", ["60"]);
    looking.look(); // it is another session's
    other.kill("SIGKILL");
    await other.ended();
    await new Promise((resolve) => setTimeout(resolve, 250));
    const children = childrenOf(program.pid);
    try {
      Deno.writeTextFileSync("/proc/sys/kernel/ns_last_pid", `${other.pid - 1}`);
    } catch {
      return; // only root may do that
    }
    using _client = await Client.connect(port);
    const child = await until(
      () => childrenOf(program.pid).find((pid) => !children.includes(pid)),
      "the child",
    );
    assert(looking.look().processes.some(({ pid }) => pid === child), `${child} is not seen`);
    isReused = child === other.pid; // else somebody else got the pid
  }
});

Deno.test("a free port is one that no connection in TIME_WAIT has", async () => {
  const taken = freePort();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: taken });
  const client = await Deno.connect({ hostname: "127.0.0.1", port: taken });
  (await listener.accept()).close(); // first: its end stays in TIME_WAIT
  listener.close();
  client.close();
  const { random } = Math;
  const wanted = [(taken - 15_000 + 0.5) / 15_000];
  Math.random = () => wanted.pop() ?? random();
  try {
    assert(freePort() !== taken);
    assertEquals(wanted, []);
  } finally {
    Math.random = random;
  }
});
