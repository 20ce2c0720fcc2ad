import type { Lesson } from "../lesson.ts";
import { childrenOf } from "./family.ts";

const PROGRAM = "examples/chapter20/zombieprob.ts";

/** A parent that does not wait for its child. */
export const lesson: Lesson = {
  name: "zombieprob",
  title: "The zombie problem",
  source: "Foundations of Python Network Programming, chapter 20: zombieprob.py",
  question:
    "A child sleeps for a while and ends. Its parent sleeps longer, and never asks how the child " +
    "has ended. What does ps show in the meantime?",
  answer:
    "A zombie: state Z, <defunct>. The child runs no more and has no memory and no descriptors, but " +
    "the kernel keeps its pid and its exit status until the parent waits for it. This parent does " +
    "not. When it ends, its children get another parent, which waits for them.",
  programs: [{ file: PROGRAM, decisive: "sleep(PARENT_SECONDS);" }],
  read: ["wait(2)", "ps(1)", PROGRAM],
  next: "zombiesol",
  async run(stage) {
    const [childSeconds, parentSeconds] = stage.slow ? [5, 10] : [0.5, 60];
    const parent = await stage.start({
      program: PROGRAM,
      args: [`${childSeconds}`, `${parentSeconds}`],
    });
    const child = await stage.until(
      "the child",
      () => childrenOf(parent.pid, stage.snapshot())[0]?.pid,
    );
    const state = await stage.until("the child's end", () => {
      const now = childrenOf(parent.pid, stage.snapshot()).find(({ pid }) => pid === child);
      return now === undefined ? "gone" : now.state === "zombie" && now.state;
    }, childSeconds! + 20);
    stage.draw("The child has ended; the parent sleeps");
    stage.expect("the child is a", state, (state) => state === "zombie", "zombie");
    await stage.pause(3, 0.5, "while nothing happens");
    const { processes } = stage.snapshot();
    const zombie = processes.find(({ pid }) => pid === child);
    const sleeper = processes.find(({ pid }) => pid === parent.pid);
    stage.expect("the parent is", sleeper?.state, (state) => state === "sleeping", "sleeping");
    stage.expect(
      "the child after a while is still a",
      zombie?.state,
      (state) => state === "zombie",
      "zombie",
    );
    stage.expect(
      "descriptors of the zombie",
      zombie?.descriptors.length,
      (count) => count === 0,
      "0",
    );

    if (stage.slow) {
      stage.say("The parent's sleep ends, and the parent with it.");
    } else {
      stage.say("The parent ends now, and not after its minute.");
      stage.kill(parent, "SIGTERM");
    }
    await parent.ended(parentSeconds! + 20);
    const next = await stage.until("the end of the zombie, or another parent for it", () => {
      const ppid = parentOf(child);
      return ppid === undefined ? "gone" : ppid !== parent.pid && `a child of process ${ppid}`;
    });
    stage.note("the zombie after its parent's end is", next);
  },
};

/** The parent of a process; `undefined` if there is no such process. */
function parentOf(pid: number): number | undefined {
  try {
    return Number(Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ")[1]);
  } catch {
    return undefined;
  }
}
