import { assert, assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import {
  childrenOf,
  descriptorsOf,
  portOf,
  processState,
  readAll,
  startFunction,
  until,
  zombiesOf,
} from "./support.ts";

/** Opens connections, so many at a time, and counts the right answers. */
async function load(port: number, connections: number, atOnce: number): Promise<number> {
  let left = connections;
  let right = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (left-- > 0) {
      using connection = await Deno.connect({ port, hostname: "127.0.0.1" });
      await connection.write(new TextEncoder().encode("GET /hello HTTP/1.1\r\n\r\n"));
      if (await readAll(connection) === "HTTP/1.1 200 OK\n\nHello, World!\n") right++;
    }
  }));
  return right;
}

Deno.test("serveForking() has no zombies and no more descriptors or memory after 10,000 connections", async () => {
  await using server = startFunction(() => {
    tine.becomeForkable({ signals: [tine.SIGCHLD, tine.SIGTERM] });
    const listenSocket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
    listenSocket.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 1);
    listenSocket.bind(["127.0.0.1", 0]);
    listenSocket.listen(1024);
    console.log(`port ${listenSocket.getsockname()[1]}`);
    const reply = new TextEncoder().encode("HTTP/1.1 200 OK\n\nHello, World!\n");
    tine.serveForking(listenSocket, (connection) => {
      connection.recv(1024);
      connection.sendall(reply);
    }, { log: () => {} });
    console.log("stopped");
  });
  const port = await portOf(server);
  const idle = () => until(() => childrenOf(server.pid).length === 0, "the last child's end");
  // What the runtime allocates and compiles once is not what is asked for.
  assertEquals(await load(port, 5000, 16), 5000);
  await idle();
  const before = { descriptors: descriptorsOf(server.pid), rss: processState(server.pid)!.rss };
  assertEquals(await load(port, 10_000, 16), 10_000);
  await idle();
  assertEquals(zombiesOf(server.pid), []);
  const { size } = before.descriptors;
  await until(() => descriptorsOf(server.pid).size <= size, "the descriptors from before");
  const growth = processState(server.pid)!.rss / before.rss;
  assert(growth < 1.05, `resident memory is ${growth.toFixed(3)} times what it was`);
  server.kill("SIGTERM");
  assertEquals(await server.ended(), { code: 0, signal: null });
});
