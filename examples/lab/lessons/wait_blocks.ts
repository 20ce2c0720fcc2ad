import type { Lesson } from "../lesson.ts";
import { childrenOf } from "./family.ts";

const PROGRAM = "examples/lab/programs/webserver_wait.ts";

/** The naive cure of zombies: wait() in the server's loop. */
export const lesson: Lesson = {
  name: "wait",
  title: "wait() in the loop blocks the server",
  source: "Let's Build A Web Server, part 3: wait",
  question:
    "A server must wait for its children, or they stay as zombies. What if it just calls wait() " +
    "after each fork(), and the first client's child sleeps?",
  answer:
    "wait(2) blocks until a child ends. In the meantime the server is not in accept(), so the " +
    "second client's connection stays in the kernel's queue, as with the iterative server. There " +
    "are no zombies, but no concurrency either: a child at a time. The server should learn that a " +
    "child has ended without waiting for it. That is what SIGCHLD is for.",
  programs: [{
    file: PROGRAM,
    decisive: "wait(); // blocks until the child has ended",
    differsFrom: "examples/part3/webserver3c.ts",
  }],
  read: ["wait(2)", PROGRAM],
  next: "3e",
  async run(stage) {
    const seconds = stage.slow ? 60 : 1.5;
    const server = await stage.start({ program: PROGRAM, args: ["PORT", `${seconds}`] });
    const first = stage.client(server.port!);
    await first.answered();
    stage.say("The first client has its answer; its child sleeps. The second client comes.");
    const second = stage.client(server.port!);
    await second.connected();
    await stage.pause(5, 0.3, "to see whether the server accepts it");
    const snapshot = stage.snapshot();
    stage.draw("The parent waits for its child, and nobody accepts");
    stage.expect("children", childrenOf(server.pid, snapshot).length, (count) => count === 1, "1");
    const queue = snapshot.sockets.find(({ state }) => state === "LISTEN")?.queue;
    stage.expect("connections in the queue", queue, () => queue === 1, "1, the second client's");
    stage.expect("the second client is", second.state(), (state) => state === "waiting", "waiting");
    await second.answered(seconds + 20);
    await first.ended();
    stage.note("seconds until the first client's end", first.seconds().toFixed(1));
    stage.note("seconds until the second client's answer", second.seconds().toFixed(1));
    const children = childrenOf(server.pid, stage.snapshot());
    stage.expect(
      "children and zombies after that",
      children.length,
      (count) => count <= 1,
      "at most 1: wait() has collected the first one",
    );
  },
};
