import type { Lesson } from "../lesson.ts";
import { allEnded, burst, CLIENTS, endTogether } from "./bursts.ts";
import { zombiesOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3f.ts";
const TOGETHER = 16;

/** The handler that waits for one child, and many children. */
export const lesson: Lesson = {
  name: "3f",
  title: "A burst of children leaves zombies",
  source: "Let's Build A Web Server, part 3: webserver3f.py",
  question:
    "The server's handler for SIGCHLD waits for the child that has ended, and accept() is called " +
    "again after it. One client leaves no zombie. 128 clients come at the same time. The kernel " +
    "sends SIGCHLD for each child that ends: does the handler run 128 times?",
  answer:
    "No. Of a standard signal, the kernel keeps one bit: pending or not. A SIGCHLD that comes while " +
    "another one is pending changes nothing. The handler runs once for both, waits for one child, " +
    "and the other one stays a zombie. So a handler may take a signal as the news that something " +
    "has happened, never as a count.",
  programs: [
    {
      file: PROGRAM,
      decisive: "wait(); // for one child",
      differsFrom: "examples/part3/webserver3e.ts",
    },
    { file: "examples/part3/client3.ts" },
  ],
  read: ["signal(7)", "wait(2)", PROGRAM, "examples/part3/client3.ts"],
  next: "3g",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    let left = 0;
    const zombies = () => zombiesOf(server.pid, stage.snapshot()).length;

    stage.say("One client after another: each child ends alone.");
    for (let i = 0; i < 3; i++) {
      await stage.client(server.port!).ended();
      left = await allEnded(stage, server);
    }
    stage.expect("zombies after 3 single clients", left, (count) => count === 0, "0");

    stage.say(`Now ${CLIENTS} clients at the same time. A child serves each, and ends.`);
    let ended = 0;
    left = 0;
    // That children end while SIGCHLD is pending is likely, but no burst can promise it.
    for (let i = 0; i < 3 && left === 0; i++) {
      left = await burst(stage, server);
      ended += CLIENTS;
    }
    stage.draw("After the burst");
    stage.note("children that have ended, a SIGCHLD sent for each", ended);
    stage.note("runs of the handler, each waits for one child", ended - left);
    stage.expect("zombies: the difference", left, (count) => count >= 1, "at least 1");

    stage.say(
      `To see the cause: ${TOGETHER} children end while the server is stopped, so that no handler ` +
        "can run in between.",
    );
    const { pending, reaped } = await endTogether(stage, server, TOGETHER);
    stage.note("SIGCHLDs sent, one for each child", TOGETHER);
    stage.expect("SIGCHLDs pending", pending, (count) => count === 1, "1");
    stage.expect("children waited for", reaped, (count) => count === 1, "1: the handler ran once");
    stage.expect(
      "more zombies",
      zombies() - left,
      (count) => count === TOGETHER - 1,
      `${TOGETHER - 1}`,
    );
  },
};
