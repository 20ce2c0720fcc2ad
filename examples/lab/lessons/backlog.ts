import type { Client, Lesson } from "../lesson.ts";
import { expectLimit } from "./limit.ts";

const PROGRAM = "examples/part3/webserver3b.ts";
const REQUEST = "GET /hello HTTP/1.1\r\n\r\n";

/** The queue of a listening socket, while the server sleeps. */
export const lesson: Lesson = {
  name: "backlog",
  title: "The kernel accepts connections for a server that sleeps",
  source: "Let's Build A Web Server, part 3: webserver3b.py and the BACKLOG argument of listen",
  question:
    "While a server sleeps, clients connect to it and send their requests. Their connect() succeeds " +
    "at once. Who has the connections, and the requests, and how many can there be?",
  answer:
    "The kernel completes the handshake without the server, and puts the connection in the queue of " +
    "the listening socket, where accept() will find it. What a client sends is kept with its " +
    "connection. The argument of listen() limits that queue, not the number of clients that the " +
    "server can have: those that are accepted no longer count. A client that gives up leaves its " +
    "connection in the queue, and the server will accept it in vain.",
  programs: [{ file: PROGRAM, decisive: "listenSocket.listen(REQUEST_QUEUE_SIZE);" }],
  read: ["listen(2)", "accept(2)", "tcp(7)", PROGRAM],
  next: "overflow",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT", "60"] });
    const port = server.port!;
    const listener = () => stage.snapshot().sockets.find(({ state }) => state === "LISTEN");

    stage.say("The first client is answered, and then the server sleeps for a minute.");
    const first = stage.client(port, { request: REQUEST });
    await first.answered();

    stage.say("Five more clients connect, one after the other, and send their requests.");
    const lengths: number[] = [];
    const clients: Client[] = [];
    for (let i = 1; i <= 5; i++) {
      const client = stage.client(port, { request: REQUEST });
      clients.push(client);
      await client.connected();
      await stage.until(`${i} in the queue`, () => (listener()?.queue ?? 0) >= i);
      lengths.push(listener()!.queue);
    }
    /** The servers' ends of their connections, which the kernel made. */
    const ends = () =>
      clients.flatMap(({ localPort }) =>
        stage.snapshot().sockets.filter(({ remote }) => remote.endsWith(`:${localPort}`))
      );
    await stage.until(
      "all requests in the kernel",
      () => ends().length === 5 && ends().every(({ queue }) => queue === REQUEST.length),
    );
    stage.draw("The server sleeps; five connections wait for accept()");

    stage.expect(
      "the queue after each",
      lengths.join(" "),
      (all) => all === "1 2 3 4 5",
      "1 2 3 4 5",
    );
    expectLimit(stage, listener()?.limit, 5);
    const holders = ends().flatMap(({ holders }) => holders);
    stage.expect("processes that have one of the five", holders.length, (n) => n === 0, "0");
    const bytes = ends().reduce((sum, { queue }) => sum + queue, 0);
    stage.expect(
      "bytes of their requests, kept by the kernel",
      bytes,
      (kept) => kept === 5 * REQUEST.length,
      `${5 * REQUEST.length}`,
    );
    const states = clients.map((client) => client.state());
    stage.expect(
      "the five clients are",
      [...new Set(states)].join(", "),
      (all) => all === "waiting",
      "waiting",
    );

    stage.say("One of them gives up and closes its connection.");
    clients[2]!.close();
    await stage.until(
      "its end at the server's side",
      () => ends().some(({ state }) => state === "CLOSE_WAIT"),
    );
    stage.expect("the queue without it", listener()?.queue, (queue) => queue === 5, "5: it stays");
  },
};
