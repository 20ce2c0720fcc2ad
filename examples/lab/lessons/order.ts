import type { Lesson, Stage } from "../lesson.ts";

const PROGRAM = "examples/lab/programs/order.ts";
const WITH_WAIT = "examples/lab/programs/order_wait.ts";
const FORKS = 100;

/** Counts the pairs of letters that a program has written into the pipe, by their order. */
async function orders(stage: Stage, program: string): Promise<{ PC: number; CP: number }> {
  const started = await stage.start({ program, args: [`${FORKS}`] });
  await started.ended();
  await stage.until(
    `${2 * FORKS} letters`,
    () => started.output().match(/[PC]/g)?.length === 2 * FORKS,
  );
  const pairs = started.output().trim().split(" ");
  const count = (wanted: string) => pairs.filter((pair) => pair === wanted).length;
  stage.note("the first ten pairs", pairs.slice(0, 10).join(" "));
  return { PC: count("PC"), CP: count("CP") };
}

/** Parent or child: which one goes on first after fork(). */
export const lesson: Lesson = {
  name: "order",
  title: "Parent or child first: the scheduler decides",
  source: "Let's Build A Web Server, part 3: fork",
  question:
    "After fork(), parent and child each write one letter to the same pipe, P and C. Which letter is " +
    "first, and is it the same one each time?",
  answer:
    "There is no order. After fork() both can run, on two processors even at the same moment, and " +
    "the scheduler decides who reaches its write() first: on Linux mostly the parent, which is " +
    "running already. Each write is complete, and none is lost. A program that needs an order must " +
    "make one, such as by waiting for the child.",
  programs: [
    { file: PROGRAM, decisive: "const pid = fork();" },
    { file: WITH_WAIT, decisive: "wait(); // until the child has ended", differsFrom: PROGRAM },
  ],
  read: ["fork(2)", "sched(7)", PROGRAM],
  next: "references",
  async run(stage) {
    stage.say(
      `${FORKS} times, parent and child write a letter each. The lab reads the other end of the ` +
        "pipe: the kernel keeps the bytes in the order of the writes.",
    );
    const free = await orders(stage, PROGRAM);
    stage.expect("parent first", free.PC, (pairs) => pairs > 0, "at least 1: nothing holds it up");
    stage.note("child first", free.CP);
    const pairs = free.PC + free.CP;
    stage.expect("pairs with a letter of each", pairs, () => pairs === FORKS, `${FORKS}`);

    stage.say("The same, but the parent waits for its child before it writes.");
    const waited = await orders(stage, WITH_WAIT);
    stage.expect("child first", waited.CP, (pairs) => pairs === FORKS, `all ${FORKS}`);
  },
};
