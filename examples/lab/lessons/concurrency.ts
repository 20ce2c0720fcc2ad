import type { Lesson } from "../lesson.ts";
import { childrenOf, holdersOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3c.ts";

/** The concurrent server: a child for each client. */
export const lesson: Lesson = {
  name: "3c",
  title: "A child for each client",
  source: "Let's Build A Web Server, part 3: webserver3c.py",
  question:
    "A server forks a child for each client, and each child sleeps for a minute before it closes " +
    "the connection. Does the second client wait for the first one's child?",
  answer:
    "The parent only accepts, forks and accepts again, so it is free for the second client while " +
    "the first one's child sleeps. After fork(), parent and child both have a descriptor of the " +
    "connection and of the listening socket. Each closes the one that it does not need: the " +
    "connection is left to the child alone, the listening socket to the parent. So a connection " +
    "ends with its child, and nobody else's does.",
  programs: [{
    file: PROGRAM,
    decisive: "listenSocket.close(); // close child copy",
    differsFrom: "examples/part3/webserver3b.ts",
  }],
  read: ["fork(2)", "close(2)", PROGRAM],
  next: "order",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT", "60"] });
    const port = server.port!;

    stage.say("The first client. Its child answers, and then sleeps for a minute.");
    const first = stage.client(port);
    await first.answered();
    stage.say("The second client, while that child sleeps.");
    const second = stage.client(port);
    await second.answered();

    // Each process closes its copies a moment after fork().
    await stage.until("each connection with one process", () => {
      const now = stage.snapshot();
      return [first, second].every((client) => holdersOf(client, now).length === 1);
    });
    const children = await stage.until("two children", () => {
      const now = childrenOf(server.pid, stage.snapshot());
      return now.length === 2 && now.every(({ state }) => state === "sleeping") && now;
    });
    const snapshot = stage.snapshot();
    stage.draw("Two children sleep; the parent is back in accept()");
    const answered = [first, second].filter((client) => client.reply() !== "").length;
    stage.expect("clients with an answer", answered, () => answered === 2, "2");
    stage.expect("children that sleep at that time", children.length, (count) => count === 2, "2");
    const name = (pid: number) => pid === server.pid ? "server" : `child ${pid}`;
    const [connection, listener] = [
      holdersOf(first, snapshot),
      snapshot.sockets.find(({ state }) => state === "LISTEN")?.holders.map(({ pid }) => pid) ?? [],
    ];
    stage.expect(
      "who has the first client's connection",
      connection.map(name).join(", "),
      () => connection.length === 1 && connection[0] !== server.pid,
      "one child, and not the server",
    );
    stage.expect(
      "who has the listening socket",
      listener.map(name).join(", "),
      (names) => names === "server",
      "server",
    );

    stage.say("The first client's child is ended.");
    stage.kill(connection[0]!, "SIGKILL");
    await first.ended();
    stage.expect("the first client is", first.state(), (state) => state === "closed", "closed");
    stage.expect(
      "the second client is",
      second.state(),
      (state) => state === "answered" || state === "hung",
      "still connected",
    );
  },
};
