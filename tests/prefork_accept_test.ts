/** Which worker accepts a connection, and that one accepts it whatever happens. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import * as tine from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import { Load } from "./prefork/load.ts";
import {
  ask,
  Client,
  descriptorsOf,
  handles,
  limitDescriptors,
  processState,
  scratch,
  startFunction,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/**
 * The states of a server's sockets of a port, or of its clients', as `/proc/net/tcp` shows them.
 */
function socketsOf(port: number, end: "server" | "client"): { state: string; queue: number }[] {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // sl, local address, remote address, state, transmit queue:receive queue
  return Deno.readTextFileSync("/proc/net/tcp").split("\n").slice(1, -1)
    .map((line) => line.trim().split(/ +/))
    .filter(([, local, remote]) => (end === "server" ? local : remote)!.endsWith(hex))
    .map(([, , , state, queues]) => ({
      state: { "01": "established", "02": "syn sent", "0A": "listening" }[state!] ?? state!,
      queue: parseInt(queues!.split(":")[1]!, 16),
    }));
}

/** How many connections wait to be accepted. */
function backlog(port: number): number {
  const listening = socketsOf(port, "server").filter(({ state }) => state === "listening");
  return listening.reduce((sum, { queue }) => sum + queue, 0);
}

/** How often a process has gone to sleep. */
function sleeps(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(status.match(/^voluntary_ctxt_switches:\s+(\d+)$/m)![1]);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("a connection wakes one worker of many", async () => {
  const [workers, connections] = [6, 100];
  await using server = await startServer(["--workers", `${workers}`]);
  const sum = () => server.workers.reduce((total, pid) => total + sleeps(pid), 0);
  await ask(server.port, "/"); // what is done once is done
  const [before, start] = [sum(), performance.now()];
  for (let i = 0; i < connections; i++) await ask(server.port, "/");
  const [after, end] = [sum(), performance.now()];
  await pause(end - start);
  const idle = sum() - after; // timers wake them too
  const each = (after - before - idle) / connections;
  // One that is woken sleeps two or three times. Were all woken, each would once more.
  assert(each < 4, `the workers were woken ${each} times for each connection`);
});

Deno.test("workers take turns when connections come one at a time", async () => {
  await using server = await startServer();
  const served = new Map<string, number>();
  for (let i = 0; i < 40; i++) {
    const pid = await ask(server.port, "/pid");
    served.set(pid, (served.get(pid) ?? 0) + 1);
    await pause(10); // longer than a turn
  }
  const counts = [...served.values()];
  assert(counts.length === 2 && Math.min(...counts) >= 10, `they served ${counts}`);
});

Deno.test("a worker with too many idle connections makes clients reconnect to other workers", async () => {
  await using server = await startServer(["--workers", "1"]);
  const target = { hostname: "127.0.0.1", port: server.port };
  await using load = new Load(target, { clients: 20, keepAlive: true, pause: 10 });
  const connections = () =>
    readStatus(server.pid).workers.map(({ connections }) => connections).sort((a, b) => a - b);
  await until(() => connections()[0] === 20, "all connections");
  server.kill("SIGTTIN");
  await until(() => {
    const [fewest, most] = connections();
    return fewest! >= 5 && most! <= 15;
  }, "the connections to be spread over two workers");
  await load.stop();
  assertEquals(load.failures, []);
});

Deno.test("clients that connect at once are soon spread over the workers", async () => {
  await using folder = scratch();
  const app = `${folder.path}/app.mjs`;
  Deno.writeTextFileSync(
    app,
    `import { createServer } from "node:http";
     createServer((_, response) => response.end(String(process.pid))).listen(0);`,
  );
  // On one processor, the worker that runs first accepts all.
  await using server = await startServer([], { app, shell: "taskset -pc 0 $$ >/dev/null;" });
  const connections = () =>
    readStatus(server.pid).workers.map(({ connections }) => connections).sort((a, b) => a - b);
  const rounds: number[] = [];
  for (let burst = 0; burst < 5; burst++) {
    await until(() => connections().join() === "0,0", "the end of all connections");
    await pause(600); // the workers have counted their connections again
    const target = { hostname: "127.0.0.1", port: server.port };
    await using load = new Load(target, { clients: 20, keepAlive: true, pause: 5 });
    await until(() => {
      const [fewest, most] = connections();
      return fewest! >= 5 && most! <= 15;
    }, "the connections to be spread");
    rounds.push(load.ok / 20);
    await load.stop();
    assertEquals(load.failures, []);
  }
  // Two to four. After the next count it would be 25 to 200.
  const median = rounds.sort((a, b) => a - b)[2]!;
  assert(median < 15, `each client sent ${rounds} requests until then`);
});

Deno.test("a connection is accepted by another worker if the one that it woke has ended", async () => {
  await using folder = scratch();
  const slow = `${folder.path}/slow`;
  const app = writeApp(
    folder.path,
    `import { existsSync } from "node:fs";
     export async function onWorkerStart() {
       while (existsSync(${JSON.stringify(slow)})) await new Promise((go) => setTimeout(go, 20));
     }
     export default { fetch: () => new Response(String(Deno.pid)) };`,
  );
  // On one processor a worker that is woken does not run before who wakes it sleeps.
  const shell = "taskset -pc 0 $$ >/dev/null;";
  await using server = await startServer([], { app, shell });
  // The killed worker may still have accepted first, and a worker that is starting accepts late.
  for (let attempt = 1;; attempt++) {
    const { workers } = server;
    Deno.writeTextFileSync(slow, "");
    await using client = startFunction(
      () => {
        const [port, ...workers] = Deno.args.map(Number);
        const ask = (act?: () => void) => {
          using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
          socket.setsockopt(tine.SOL_SOCKET, tine.SO_RCVTIMEO, 10);
          socket.connect(["127.0.0.1", port!]);
          act?.();
          socket.sendall(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
          return Number(new TextDecoder().decode(socket.recv(4096)).split("\r\n\r\n")[1]);
        };
        const last = ask(); // and goes to the end of the queue
        tine.sleep(0.1);
        const next = workers.find((pid) => pid !== last)!;
        try {
          const other = ask(() => {
            tine.kill(next, tine.SIGKILL);
            console.log(`killed ${next}`);
          });
          console.log(
            `answered by ${other}, not ${last}`.replace(`${last}, not ${last}`, "the other"),
          );
        } catch (error) {
          console.log(`failed: ${(error as tine.SyscallError).code}`);
        }
      },
      [`${server.port}`, ...workers.map(String)],
      { shell },
    );
    const [, killed] = await client.printed(/killed (\d+)/);
    await until(() => processState(Number(killed)) === undefined, "the worker's end");
    const waits = backlog(server.port) === 1;
    const [answer] = await client.printed(/answered.*|failed.*/);
    Deno.removeSync(slow);
    await server.replaced([Number(killed)]);
    if (waits) {
      assertEquals(answer, "answered by the other");
      break;
    }
    assert(attempt < 20, "the worker has accepted each time before it died");
  }
});

/** An app with a page that blocks its worker until there is a file. */
const blocking = (file: string) =>
  `import { existsSync } from "node:fs";
export default {
  fetch(request) {
    if (new URL(request.url).pathname === "/block") {
      console.log("blocked");
      while (!existsSync(${JSON.stringify(file)}));
    }
    return new Response("served");
  },
};`;

Deno.test("a worker accepts all waiting connections before it stops", async () => {
  await using folder = scratch();
  const end = `${folder.path}/end`;
  const app = writeApp(folder.path, blocking(end));
  await using server = await startServer(["--workers", "1"], { app });
  const blocked = ask(server.port, "/block");
  await server.printed(/blocked/);
  // More than Deno accepts at a time.
  const clients = await Promise.all(Array.from({ length: 300 }, () => Client.connect(server.port)));
  try {
    for (const client of clients) {
      await client.say("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    }
    server.kill("SIGTERM");
    await server.logged(/SIGTERM: stopping/);
    assertEquals(backlog(server.port), 300);
    Deno.writeTextFileSync(end, "");
    assertEquals(await blocked, "served");
    for (const client of clients) await client.ends();
    const served = clients.filter(({ heard }) => heard.endsWith("\r\n\r\nserved")).length;
    assertEquals(served, 300);
    assertEquals(await server.ended(), { code: 0, signal: null });
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});

Deno.test("a server that stops completes no connection that no worker would accept", async () => {
  await using folder = scratch();
  const end = `${folder.path}/end`;
  const app = writeApp(folder.path, blocking(end));
  await using server = await startServer(["--workers", "1"], { app });
  const blocked = ask(server.port, "/block");
  await server.printed(/blocked/);
  server.kill("SIGTERM");
  // The worker still has the listening socket, and has not been told yet.
  await until(() => {
    const inodes = Deno.readTextFileSync("/proc/net/tcp").matchAll(/ 0A (?:\S+ +){5}(\d+)/g);
    const listening = [...inodes].map(([, inode]) => `socket:[${inode}]`);
    return ![...descriptorsOf(server.pid).values()].some((link) => listening.includes(link));
  }, "the master to close its socket");
  const connecting = assertRejects(
    () => Deno.connect({ hostname: "127.0.0.1", port: server.port }),
    Deno.errors.ConnectionRefused,
  );
  connecting.catch(() => {}); // should the next fail first
  await until(
    () => socketsOf(server.port, "client").some(({ state }) => state === "syn sent"),
    "the request to be dropped",
  );
  Deno.writeTextFileSync(end, "");
  assertEquals(await blocked, "served");
  await connecting; // when it has asked once more
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("a worker without descriptors waits until there are enough, and is idle meanwhile", async () => {
  await using server = await startServer(["--workers", "1"]);
  const [worker] = server.workers;
  // Half a second after its start Deno opens what its signal handlers need.
  await until(() => handles(worker!, tine.SIGTERM), "Deno's own handler of SIGTERM");
  const taken = descriptorsOf(worker!).size;
  await limitDescriptors(worker!, 12);
  const clients: Deno.Conn[] = [];
  try {
    for (let i = 0; i < 20; i++) clients.push(await Deno.connect({ port: server.port }));
    await server.logged(/Cannot accept: .*Too many open files.* Trying again in 100 ms/);
    const [before, start] = [sleeps(worker!), performance.now()];
    await pause(1000);
    const perSecond = (sleeps(worker!) - before) / ((performance.now() - start) / 1000);
    assert(perSecond < 100, `it woke up ${perSecond} times a second`);
    // What Deno needs to listen is there, but not what it needs to serve.
    assertEquals(server.stderr.match(/Cannot accept/g)!.length, 1, server.stderr);
  } finally {
    for (const client of clients) client.close();
  }
  assertEquals(await server.get("/pid"), `${worker}`);
  // Nothing has been left by attempts that failed.
  await until(() => descriptorsOf(worker!).size <= taken, "the descriptors from before");
  assertMatch(server.stderr, /^[^\n]*Serving[^\n]*\n[^\n]*Cannot accept[^\n]*\n$/);
});
