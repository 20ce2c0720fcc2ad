import type { Lesson } from "../lesson.ts";
import { connectionOf, holdersOf } from "./family.ts";

const PROGRAM = "examples/lab/programs/copies.ts";

/** A connection with three descriptors, closed one after the other. */
export const lesson: Lesson = {
  name: "references",
  title: "No FIN until the last copy is closed",
  source: "Let's Build A Web Server, part 3: descriptor reference counts",
  question:
    "After two forks, three processes have a descriptor of one connection. They close it one after " +
    "the other. When does the client see the end of its response?",
  answer:
    "fork() copies the descriptor table, not the socket: all three descriptors refer to one socket, " +
    "which counts them. close() takes one away. Only with the last one does the kernel close the " +
    "connection itself and send FIN, and only then does the client's read return 0. The end of a " +
    "process closes all its descriptors, so it counts as well. (shutdown(2) sends FIN at once, " +
    "however many copies there are.)",
  programs: [{ file: PROGRAM, decisive: "signal(SIGUSR1, () => connection.close());" }],
  read: ["close(2)", "fork(2)", "shutdown(2)", PROGRAM],
  next: "3d",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const client = stage.client(server.port!);
    await client.answered();
    await stage.until("three processes that wait for a signal", () => {
      const { processes } = stage.snapshot();
      return processes.filter(({ session, signals, state }) =>
        session === server.session && state === "sleeping" &&
        signals.caught.some((name) => name.endsWith("USR1"))
      ).length === 3;
    });

    const [parent, ...children] = holdersOf(client, stage.snapshot())
      .sort((a, b) => Number(b === server.pid) - Number(a === server.pid));
    const figure = (step: string, expected: number): void => {
      const socket = connectionOf(client, stage.snapshot());
      stage.expect(
        `descriptors ${step}`,
        socket?.holders.length ?? 0,
        (count) => count === expected,
        `${expected}`,
      );
    };
    const isOpen = async (descriptors: string): Promise<boolean> => {
      await stage.pause(3, 0.3, "to see whether the client notices");
      const open = ["answered", "hung"].includes(client.state());
      stage.expect(
        `the client, with ${descriptors}`,
        client.state(),
        () => open,
        "still connected",
      );
      return open;
    };

    figure("after two forks", 3);
    stage.draw("One socket, three descriptors");
    if (!await isOpen("3 descriptors")) return;

    stage.say("The first child closes its descriptor.");
    stage.kill(children[0]!, "SIGUSR1");
    await stage.until("2 descriptors", () => holdersOf(client, stage.snapshot()).length <= 2);
    figure("after a child's close()", 2);
    if (!await isOpen("2 descriptors")) return;

    stage.say("The parent closes its own one.");
    stage.kill(parent!, "SIGUSR1");
    await stage.until("1 descriptor", () => holdersOf(client, stage.snapshot()).length <= 1);
    figure("after the parent's close()", 1);
    if (!await isOpen("1 descriptor")) return;
    stage.draw("One descriptor is left, and with it the connection");

    stage.say("The last one is closed by the kernel: its process is killed.");
    stage.kill(children[1]!, "SIGKILL");
    await client.ended();
    figure("after the other child's end", 0);
    stage.expect(
      "the client, with no descriptor",
      client.state(),
      (state) => state === "closed",
      "closed, by FIN",
    );
  },
};
