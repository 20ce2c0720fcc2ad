import type { Lesson } from "../lesson.ts";

const PROGRAM = "examples/part3/processes.ts";

/** PID and PPID, and what becomes of a child whose parent ends. */
export const lesson: Lesson = {
  name: "processes",
  title: "Every process has a parent",
  source: "Let's Build A Web Server, part 3: PID and PPID",
  question:
    "A program is started and forks a child. Which process is the parent of which? And who is the " +
    "child's parent when its parent has been killed?",
  answer:
    "The parent of a process is the one that forked it: for a program that is started in a shell, " +
    "the shell; here, the lab. A child whose parent ends goes on running. The kernel gives it " +
    "another parent, process 1 or a nearer ancestor that has asked for such children " +
    "(PR_SET_CHILD_SUBREAPER), so that somebody can wait for it.",
  programs: [{ file: PROGRAM, decisive: "const pid = fork();" }],
  read: ["getpid(2)", "fork(2)", "credentials(7)", "prctl(2)", PROGRAM],
  next: "descriptors",
  async run(stage) {
    const program = await stage.start({ program: PROGRAM, args: ["60"], listens: false });
    const view = (pid: number) => stage.snapshot().processes.find((one) => one.pid === pid);
    const child = await stage.until("a child that sleeps", () => {
      const { processes } = stage.snapshot();
      const parents = processes.map(({ ppid }) => ppid);
      return processes.find(({ pid, role, state }) =>
        role === "child" && state === "sleeping" && !parents.includes(pid)
      );
    });
    stage.draw("A program and its child");
    const parent = view(program.pid)!.ppid;
    stage.expect(
      "the program's parent",
      `${parent}, ${nameOf(parent)}`,
      () => parent === Deno.pid,
      `${Deno.pid}, ${nameOf(Deno.pid)}: this lab`,
    );
    stage.expect("the child's parent", child.ppid, (pid) => pid === program.pid, `${program.pid}`);

    stage.kill(program, "SIGKILL");
    await program.ended();
    const orphan = await stage.until("the child to have another parent", () => {
      const found = view(child.pid);
      return found?.ppid !== program.pid && found;
    });
    stage.draw("The child goes on running");
    stage.expect("the child is", orphan.state, (state) => state === "sleeping", "sleeping");
    stage.expect(
      "its parent now",
      `${orphan.ppid}, ${nameOf(orphan.ppid)}`,
      () => ancestorsOf(parent).includes(orphan.ppid),
      "process 1, or another ancestor of the lab",
    );
  },
};

/** A process and its ancestors, up to process 1. */
function ancestorsOf(pid: number): number[] {
  const ancestors = [pid];
  while (pid > 1) ancestors.push(pid = Number(status(pid, "PPid")));
  return [...ancestors, 1]; // in a container, the topmost may have no parent there
}

function nameOf(pid: number): string {
  return status(pid, "Name");
}

function status(pid: number, field: string): string {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`);
  return text.match(new RegExp(`^${field}:\\s*(.*)$`, "m"))?.[1] ?? "";
}
