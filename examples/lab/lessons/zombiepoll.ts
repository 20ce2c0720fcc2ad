import type { Lesson } from "../lesson.ts";
import { childrenOf } from "./family.ts";

const PROGRAM = "examples/chapter20/zombiepoll.ts";

/** A parent that asks for ended children when it has time. */
export const lesson: Lesson = {
  name: "zombiepoll",
  title: "The zombie problem, solved by polling",
  source: "Foundations of Python Network Programming, chapter 20: zombiepoll.py",
  question:
    "This parent has no handler. It sleeps, asks for all children that have ended, and sleeps again. " +
    "The child ends during the first sleep. For how long is it a zombie?",
  answer:
    "Until the parent asks: from the child's end to the end of the first sleep. Nothing interrupts " +
    "the sleep, and no system call fails with EINTR, because no handler runs. A server can do the " +
    "same at each accept(), as echoserver does: the zombies that wait for its next client do no " +
    "harm, as long as they are few.",
  programs: [{
    file: PROGRAM,
    decisive: "({ pid } = waitpid(-1, WNOHANG)); // any child, without waiting",
    differsFrom: "examples/chapter20/zombiesol.ts",
  }],
  read: ["waitpid(2)", PROGRAM],
  next: "echo",
  async run(stage) {
    const [childSeconds, parentSeconds] = stage.slow ? [5, 60] : [0.2, 2];
    const parent = await stage.start({
      program: PROGRAM,
      args: [`${childSeconds}`, `${parentSeconds}`],
    });
    const child = await stage.until(
      "the child",
      () => childrenOf(parent.pid, stage.snapshot())[0]?.pid,
    );
    const look = () => {
      const { processes } = stage.snapshot();
      const find = (wanted: number) => processes.find(({ pid }) => pid === wanted);
      return { child: find(child), parent: find(parent.pid) };
    };
    const during = await stage.until("the child's end", () => {
      const now = look();
      return (now.child === undefined || now.child.state === "zombie") && now;
    }, childSeconds! + 20);
    const begin = performance.now();
    stage.draw("The parent's first sleep: the child has ended");
    stage.expect(
      "the child during the first sleep is a",
      during.child?.state ?? "(gone)",
      (state) => state === "zombie",
      "zombie",
    );
    stage.expect(
      "signals for which the parent has a handler",
      during.parent?.signals.caught.filter((name) => name === "SIGCHLD").length,
      (count) => count === 0,
      "0: nothing interrupts it",
    );
    await stage.until("the end of the first sleep", () => {
      const now = look().child; // it gets another parent if its own ends
      return now === undefined || now.ppid !== parent.pid;
    }, parentSeconds! * 2 + 20);
    stage.note("seconds as a zombie", Math.round((performance.now() - begin) / 100) / 10);
    stage.draw("The parent's second sleep: it has waited for the child");
    stage.expect(
      "the parent, when the zombie is gone, is",
      look().parent?.state ?? "gone too",
      (state) => state === "sleeping" || state === "running",
      "sleeping again",
    );
  },
};
