import type { Lesson, ProcessView, Stage } from "../lesson.ts";
import { hasLockedFile, lockWaits } from "../observe/locks.ts";
import { childrenOf } from "./family.ts";
import { lostRecords, WRITERS } from "./written.ts";

const HOLDERS = "examples/lab/programs/holders.ts";

/** A lock on a descriptor that children have inherited. */
export const lesson: Lesson = {
  name: "sharedlock",
  title: "A lock that locks nothing",
  source: "Foundations of Python Network Programming, chapter 20: locking, with a trap of fork(2)",
  question:
    "A server opens its file once, before it forks. Each child calls flock(LOCK_EX) on the " +
    "descriptor that it has inherited, and the call returns 0. Do the children wait for each other?",
  answer:
    "No. A lock by flock() belongs to the open file description, not to the process. fork() copies " +
    "the descriptors, and the copies refer to the same description. For the kernel, the second child " +
    "asks for a lock that its own open file already has. Each child must open the file itself, as " +
    "those of lockingserver do.",
  programs: [
    {
      file: HOLDERS,
      decisive: 'const locked = whose === "own" ? open(file, O_RDWR) : inherited;',
    },
    { file: WRITERS, decisive: 'const locked = lock === "inherited" ? inherited : own;' },
  ],
  read: ["flock(2)", "open(2)", "fork(2)", "proc_pid_fdinfo(5)", HOLDERS],
  next: "deadlock",
  async run(stage) {
    stage.say("Two children lock a file that each has opened itself.");
    const own = await holders(stage, "own", "One child has the lock, the other one waits");
    stage.expect(
      "of those that opened it, children that have the lock",
      own.holding,
      (count) => count === 1,
      "1",
    );
    stage.expect(
      "of those that opened it, children that wait",
      own.waiting,
      (count) => count === 1,
      "1",
    );

    stage.say("The same with the descriptor that both have inherited.");
    const inherited = await holders(stage, "inherited", "Both children have the lock");
    stage.expect(
      "of those that inherited it, children that have the lock",
      inherited.holding,
      (count) => count === 2,
      "2: it is the same open file",
    );
    stage.expect(
      "of those that inherited it, children that wait",
      inherited.waiting,
      (count) => count === 0,
      "0",
    );

    stage.say("What that means for two writers that lock before each record:");
    const lost = await lostRecords(stage, "inherited");
    stage.expect("records lost with that lock", lost, (lost) => lost >= 1, "at least 1");
  },
};

/** Starts two children that lock a file, and looks at them when each has the lock or waits for it. */
async function holders(
  stage: Stage,
  whose: "own" | "inherited",
  caption: string,
): Promise<{ holding: number; waiting: number }> {
  const args = [`${stage.folder()}/${whose}`, whose, "600"];
  const program = await stage.start({ program: HOLDERS, args });
  const seen = await stage.until("children that have the lock or wait for it", () => {
    const children = childrenOf(program.pid, stage.snapshot());
    if (children.length !== 2 || !children.every(hasCalled)) return false;
    const pids = children.map(({ pid }) => pid);
    const waiting = lockWaits(pids).map(({ pid }) => pid);
    const holding = pids.filter(hasLockedFile);
    return pids.every((pid) => waiting.includes(pid) || holding.includes(pid)) &&
      { pids, holding: holding.length, waiting: waiting.length };
  });
  stage.draw(caption);
  for (const pid of seen.pids) stage.kill(pid, "SIGTERM"); // their parent waits for them
  await program.ended();
  return seen;
}

/** Whether a child has called flock(): it is in it, or in the sleep after it. */
function hasCalled({ call }: ProcessView): boolean {
  return call === "flock" || call === "ppoll" || call === "clock_nanosleep";
}
