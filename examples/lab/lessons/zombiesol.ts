import type { Lesson } from "../lesson.ts";
import { childrenOf, zombiesOf } from "./family.ts";

const PROGRAM = "examples/chapter20/zombiesol.ts";
const SUBREAPER = "examples/lab/programs/subreaper.ts";

/** A parent whose signal handler waits for its child. */
export const lesson: Lesson = {
  name: "zombiesol",
  title: "The zombie problem, solved with a signal handler",
  source: "Foundations of Python Network Programming, chapter 20: zombiesol.py",
  question:
    "The parent has a handler for SIGCHLD that waits for its child, and then it sleeps, for much " +
    "longer than the child lives. When does the parent end?",
  answer:
    "Right after the child. SIGCHLD wakes the parent, the handler waits for the child, and no zombie " +
    "is left. But a handler that runs also ends the sleep: sleep() returns the seconds that are left " +
    "instead of sleeping on. A program that needs the whole pause must call it again. (To see " +
    "whether a zombie is left although the parent has ended, it runs below a process that adopts " +
    "orphans.)",
  programs: [
    {
      file: PROGRAM,
      decisive: "sleep(PARENT_SECONDS); // returns what is left of them once the handler has run",
      differsFrom: "examples/chapter20/zombieprob.ts",
    },
    { file: SUBREAPER, decisive: "prctl(PR_SET_CHILD_SUBREAPER, 1);" },
  ],
  read: ["signal(7)", "sleep(3)", "PR_SET_CHILD_SUBREAPER(2const)", PROGRAM, SUBREAPER],
  next: "zombiepoll",
  async run(stage) {
    const [childSeconds, parentSeconds] = stage.slow ? [5, 10] : [1, 600];
    const adopter = await stage.start({
      program: SUBREAPER,
      flags: ["--allow-ffi", "--allow-run"],
      args: [PROGRAM, `${childSeconds}`, `${parentSeconds}`],
      role: "other",
    });
    const family = await stage.until("the parent and its child", () => {
      const snapshot = stage.snapshot();
      const [parent] = childrenOf(adopter.pid, snapshot);
      const [child] = parent === undefined ? [] : childrenOf(parent.pid, snapshot);
      return child !== undefined && { parent: parent!, child };
    });
    const begin = performance.now();
    const { parent, child } = family;
    stage.draw("A parent that handles SIGCHLD, and its child");
    stage.expect(
      "signals for which the parent has a handler",
      parent.signals.caught.filter((name) => name === "SIGCHLD").join(),
      (names) => names === "SIGCHLD",
      "SIGCHLD",
    );
    // Not as soon as it is a zombie: its other threads may still end, and keep its children.
    await stage.until(
      "the parent's end",
      () => !stage.snapshot().processes.some(({ pid }) => pid === parent.pid),
      childSeconds! + 10,
    );
    const slept = Math.round((performance.now() - begin) / 100) / 10;
    stage.expect(
      "seconds that the parent slept",
      slept,
      (seconds) => seconds < 0.9 * parentSeconds!,
      `about ${childSeconds}, not ${parentSeconds}`,
    );
    const zombies = zombiesOf(adopter.pid, stage.snapshot()).filter(({ pid }) => pid === child.pid);
    stage.draw("Both have ended");
    stage.expect(
      "zombies that it has left",
      zombies.length,
      (count) => count === 0,
      "0: the handler has waited for the child",
    );
  },
};
