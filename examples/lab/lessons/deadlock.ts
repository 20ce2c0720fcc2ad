import type { Lesson } from "../lesson.ts";
import { lockWaits } from "../observe/locks.ts";
import { childrenOf } from "./family.ts";

const PROGRAM = "examples/lab/programs/deadlock.ts";

/** Two processes, each with a lock that the other one needs. */
export const lesson: Lesson = {
  name: "deadlock",
  title: "A deadlock, made and broken",
  source: "Foundations of Python Network Programming, chapter 20: locking, finally and deadlock",
  question:
    "Two children need the same two locks to do their work. One takes A and then B, the other one B " +
    "and then A. Both calls of flock() are correct. What if each gets its first lock at the same time?",
  answer:
    "Each waits for a lock that the other one keeps until it has both: neither ever goes on. The " +
    "kernel does not notice it: nothing fails, no time limit expires (only locks by fcntl(2) are " +
    "checked for this, and fail with EDEADLK). Ending one of them releases its lock, and the other " +
    "one continues. The cure is an order: if all processes take the locks in the same order, " +
    "whoever has the first one can get the rest.",
  programs: [{ file: PROGRAM, decisive: "two.flock(LOCK_EX);" }],
  read: ["flock(2)", "fcntl_locking(2)", "proc_locks(5)", PROGRAM],
  next: "errors",
  async run(stage) {
    const folder = stage.folder();
    const files = [`${folder}/a`, `${folder}/b`];
    const seconds = stage.slow ? 5 : 1;
    stage.say("In opposite orders.");
    const opposite = await stage.start({
      program: PROGRAM,
      args: [...files, "opposite", `${seconds}`],
    });
    const pids = await stage.until("two children", () => {
      const children = childrenOf(opposite.pid, stage.snapshot()).map(({ pid }) => pid);
      return children.length === 2 && children;
    });
    /** The children that run, or wait; and who waits for whom. */
    const look = () => {
      const children = childrenOf(opposite.pid, stage.snapshot());
      return { children, waits: lockWaits(pids) };
    };
    const { waits } = await stage.until("two children that wait, or have ended", () => {
      const now = look();
      return (now.waits.length === 2 || now.children.length < 2) && now;
    }, seconds + 20);
    stage.draw("Each child waits for the other one's lock");
    stage.expect(
      "who waits for whom",
      waits.map(({ pid, holder }) => `${pid} for ${holder}`).join(", ") || "nobody",
      () =>
        waits.length === 2 && waits[0]!.holder === waits[1]!.pid &&
        waits[1]!.holder === waits[0]!.pid,
      "each for the other one",
    );
    if (waits.length !== 2) return;
    const calls = look().children.map(({ call }) => call);
    stage.expect(
      "system calls in which they are",
      calls.join(" and "),
      () => calls.length === 2 && calls.every((call) => call === "flock"),
      "flock and flock",
    );
    await stage.pause(10, 0.5, "to see whether anything changes");
    stage.expect(
      "children that wait after that",
      look().waits.length,
      (count) => count === 2,
      "still 2",
    );

    stage.say("To break it, one of them is ended. The kernel releases its lock.");
    stage.kill(pids[0]!, "SIGKILL");
    const broken = await opposite.ended(20);
    stage.expect(
      "children that ended without both locks",
      broken.code,
      (code) => code === 1,
      "1: the other one got them, and ended with status 0",
    );

    stage.say("In the same order, they cannot wait for each other.");
    const same = await stage.start({ program: PROGRAM, args: [...files, "same", `${seconds}`] });
    const ordered = await same.ended(2 * seconds + 20);
    stage.expect(
      "children that ended without both locks, in the same order",
      ordered.code,
      (code) => code === 0,
      "0",
    );
  },
};
