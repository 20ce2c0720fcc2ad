import type { Client, Lesson } from "../lesson.ts";
import { childrenOf, zombiesOf } from "./family.ts";
import { holdersOfEach } from "./holders.ts";

const PROGRAM = "examples/chapter20/echoserver.ts";

/** A child for each client, and no signal handler. */
export const lesson: Lesson = {
  name: "echo",
  title: "An echo server that reaps when it accepts",
  source: "Foundations of Python Network Programming, chapter 20: echoserver.py",
  question:
    "A child serves each client until the client closes the connection. The parent has no signal " +
    "handler; it asks for ended children whenever a client connects. One of two clients leaves. " +
    "When does its child disappear?",
  answer:
    "When the next client connects. Until then the child is a zombie. That costs little: there are " +
    "never more zombies than children that ended since the last accept(). In return, no call of " +
    "the server can fail with EINTR. Each connection belongs to one child only, because the parent " +
    "closes its copy; so a connection ends when its child ends.",
  programs: [{ file: PROGRAM, decisive: "  reap();" }],
  read: ["accept(2)", "waitpid(2)", PROGRAM],
  next: "locking",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const words = ["first words\n", "second words\n"];
    const clients: Client[] = [];
    for (const request of words) {
      const client = stage.client(server.port!, { request });
      clients.push(client);
      await client.answered();
    }
    await stage.until(
      "each client's words",
      () => clients.every((client, i) => client.reply().length >= words[i]!.length),
    );
    stage.expect(
      "clients that got their own words back",
      clients.filter((client, i) => client.reply() === words[i]).length,
      (count) => count === 2,
      "2",
    );
    const holders = await holdersOfEach(stage, server, clients);
    stage.draw("A child for each client");
    stage.expect(
      "processes that have the connections",
      holders.flat().join(" and "),
      () =>
        holders.flat().length === 2 && new Set(holders.flat()).size === 2 &&
        !holders.flat().includes(server.pid),
      "one child each, and not the parent",
    );

    stage.say("The first client leaves.");
    const [left] = holders[0]!;
    clients[0]!.close();
    await stage.until("the end of its child", () => {
      const child = childrenOf(server.pid, stage.snapshot()).find(({ pid }) => pid === left);
      return child === undefined || child.state === "zombie";
    });
    stage.draw("Its child waits for the parent, which waits for a client");
    const zombies = () => zombiesOf(server.pid, stage.snapshot()).length;
    stage.expect("zombies until the next client", zombies(), (count) => count === 1, "1");

    stage.say("A third client connects: accept() returns, and the parent asks for ended children.");
    await stage.client(server.port!, { request: "third words\n" }).answered();
    stage.expect("zombies after that", zombies(), (count) => count === 0, "0");
    stage.expect(
      "children",
      childrenOf(server.pid, stage.snapshot()).length,
      (count) => count === 2,
      "2: of the second and the third client",
    );
  },
};
