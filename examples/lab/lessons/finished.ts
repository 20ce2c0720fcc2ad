import type { Lesson } from "../lesson.ts";
import { burst, CLIENTS, endTogether } from "./bursts.ts";
import { zombiesOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3g.ts";
const TOGETHER = 16;

/** The handler that waits for every child that has ended. */
export const lesson: Lesson = {
  name: "3g",
  title: "A handler that leaves no zombie",
  source: "Let's Build A Web Server, part 3: webserver3g.py",
  question:
    "One signal may stand for many children that have ended. How does a handler wait for all of " +
    "them, and return when the others still run?",
  answer:
    "It calls waitpid() in a loop. With WNOHANG the call does not block: it returns 0 if there are " +
    "children and none has ended, and fails with ECHILD if there are none. Both end the loop. A " +
    "child that ends during the loop is found by it, or makes SIGCHLD pending again.",
  programs: [
    {
      file: PROGRAM,
      decisive: "const { pid } = waitpid(-1, WNOHANG); // any child, without waiting",
      differsFrom: "examples/part3/webserver3f.ts",
    },
    { file: "examples/part3/client3.ts" },
  ],
  read: ["waitpid(2)", "signal(7)", PROGRAM],
  next: "3h",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const zombies = () => zombiesOf(server.pid, stage.snapshot()).length;

    stage.say("The burst that left zombies in 3f.");
    const left = await burst(stage, server);
    stage.draw("After the burst");
    stage.note("children that have ended", CLIENTS);
    stage.expect("zombies after the burst", left, (count) => count === 0, "0");

    stage.say(`And the worst case: ${TOGETHER} children end while the server is stopped.`);
    const { pending, reaped } = await endTogether(stage, server, TOGETHER);
    stage.expect("SIGCHLDs pending", pending, (count) => count === 1, "1: the handler runs once");
    stage.expect(
      "children waited for",
      reaped,
      (count) => count === TOGETHER,
      `${TOGETHER}: all that had ended`,
    );
    stage.expect("zombies", zombies(), (count) => count === 0, "0");
  },
};
