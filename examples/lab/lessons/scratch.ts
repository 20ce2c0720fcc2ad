import type { Lesson } from "../lesson.ts";
import { expectLimit } from "./limit.ts";

const PROGRAM = "examples/part3/from_scratch.ts";
const ANSWER = JSON.stringify("HTTP/1.1 200 OK\n\nHello, World!");

/** The forking server that reads before it forks. */
export const lesson: Lesson = {
  name: "scratch",
  title: "A server from scratch, whose parent reads the request",
  source: "A web server from scratch",
  question:
    "This server forks a child for each client, as 3g does. But it calls recv() before fork(). A " +
    "client connects and sends nothing; a second one sends its request. When is that one answered?",
  answer:
    "Only when the first client has sent something. The parent waits in recv() on the first " +
    "connection, and cannot accept the second, which stays in the kernel's queue, its request with " +
    "it. A concurrent server must not wait for a client in its parent: in 3g, recv() is the child's " +
    "work. The rest is the same: each process closes what it does not need, and the handler of " +
    "SIGCHLD waits for all children that have ended.",
  programs: [{
    file: PROGRAM,
    decisive: "receiveRequest(clientConnection);",
    differsFrom: "examples/part3/webserver3g.ts",
  }],
  read: ["socket(2)", "accept(2)", "waitpid(2)", PROGRAM],
  next: "memory",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const port = server.port!;
    const listener = () => stage.snapshot().sockets.find(({ state }) => state === "LISTEN");
    expectLimit(stage, listener()?.limit, 1);

    stage.say("The first client connects and sends nothing.");
    const silent = stage.client(port, { request: null });
    await silent.connected();
    const holders = (remotePort: number) =>
      stage.snapshot().sockets.find(({ remote }) => remote.endsWith(`:${remotePort}`))?.holders ??
        [];
    await stage.until("the parent to accept it", () => holders(silent.localPort).length > 0);
    stage.say("The second client sends its request.");
    const second = stage.client(port);
    await second.connected();
    await stage.until(
      "the second in the queue",
      () => listener()?.queue === 1 || second.state() !== "waiting",
    );
    await stage.pause(5, 0.5, "the second client waits");
    const { processes } = stage.snapshot();
    stage.draw("The parent waits for the first client's request");
    const children = processes.filter(({ ppid }) => ppid === server.pid);
    stage.expect("children", children.length, (count) => count === 0, "0");
    stage.expect(
      "who has the first connection",
      holders(silent.localPort).map(({ pid }) => pid).join(", "),
      (pids) => pids === `${server.pid}`,
      `${server.pid}, the parent`,
    );
    stage.expect(
      "processes with the second",
      holders(second.localPort).length,
      (count) => count === 0,
      "0: it is in the queue",
    );
    stage.expect("the second client is", second.state(), (state) => state === "waiting", "waiting");

    stage.say("The first client sends its request after all.");
    await silent.send("GET /hello HTTP/1.1\r\n\r\n");
    for (const client of [silent, second]) {
      await client.ended();
      stage.expect(
        `client ${client.number} is`,
        client.state(),
        (state) => state === "closed",
        "closed",
      );
      stage.expect(
        "its answer",
        JSON.stringify(client.reply()),
        (reply) => reply === ANSWER,
        ANSWER,
      );
    }
    await stage.until(
      "no child, dead or alive",
      () => stage.snapshot().processes.every(({ ppid }) => ppid !== server.pid),
    );
    const left = stage.snapshot().processes.filter(({ ppid }) => ppid === server.pid).length;
    stage.expect("children and zombies", left, (count) => count === 0, "0");
  },
};
