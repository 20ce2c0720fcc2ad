import type { Lesson, Stage } from "../lesson.ts";
import { childrenOf, isAlive, noteError } from "./family.ts";

const PROGRAM = "examples/part3/webserver3e.ts";
const PYTHON = "examples/lab/programs/eintr.py";

/** A signal handler that waits for children, and interrupts accept(). */
export const lesson: Lesson = {
  name: "3e",
  title: "SIGCHLD interrupts accept()",
  source: "Let's Build A Web Server, part 3: webserver3e.py",
  question:
    "The server's handler for SIGCHLD calls wait(), so a child is collected when it ends, without " +
    "blocking the loop. But the server is blocked in accept() when the signal comes. What does " +
    "accept() return after the handler?",
  answer:
    "Nothing: a handler that runs during a blocking call ends that call with EINTR (unless it was " +
    "installed with SA_RESTART). webserver3e does not expect it, so the first child that ends makes " +
    "the server end. The cure is to call accept() again, as webserver3f does. Python has done that " +
    "by itself since version 3.5 (PEP 475): the article's program, written for Python 2, runs on in " +
    "today's Python. tine does what the system call does.",
  programs: [
    {
      file: PROGRAM,
      decisive: "const [clientConnection] = listenSocket.accept();",
      differsFrom: "examples/part3/webserver3d.ts",
    },
    { file: PYTHON, decisive: "connection, _ = listener.accept()" },
  ],
  read: ["signal(7)", "accept(2)", "https://peps.python.org/pep-0475/", PROGRAM],
  next: "3f",
  async run(stage) {
    const seconds = stage.slow ? 3 : 1;
    const server = await stage.start({ program: PROGRAM, args: ["PORT", `${seconds}`] });
    const client = stage.client(server.port!);
    await client.answered();
    const waiting = await stage.until("the server to wait in accept()", () => {
      const { processes } = stage.snapshot();
      return processes.find(({ pid, state }) => pid === server.pid && state === "sleeping");
    });
    stage.draw("The child sleeps; the parent waits in accept()");
    stage.expect(
      "signals for which the server has a handler",
      waiting.signals.caught.filter((name) => name.endsWith("CHLD")).join(),
      (names) => names !== "",
      "SIGCHLD",
    );
    stage.say(
      "In a moment the child ends, and the kernel sends SIGCHLD. Nobody else sends the server a signal.",
    );
    let end = Infinity;
    const ended = await stage.until("the child's end, and the server's", () => {
      const snapshot = stage.snapshot();
      const alive = isAlive(server.pid, snapshot);
      if (childrenOf(server.pid, snapshot).length === 0) {
        end = Math.min(end, performance.now() + 2000); // it takes a moment to end
      }
      return (!alive || performance.now() > end) && { ended: !alive };
    }, seconds + 20).then(({ ended }) => ended);
    const state = ended ? "has ended" : "runs";
    stage.expect("the server", state, () => ended, "has ended: it does not expect EINTR");
    if (!ended) return;
    const { code } = await server.ended();
    await noteError(stage, server, "EINTR");
    stage.expect("its exit code", code, () => code === 1, "1");
    const next = stage.client(server.port!);
    await next.connected();
    stage.expect("the next client is", next.state(), (state) => state === "refused", "refused");

    await inPython(stage, seconds);
  },
};

/** Whether there is a Python that calls system calls again after EINTR. */
async function hasPython(): Promise<boolean> {
  const args = ["-c", "import sys; sys.exit(sys.version_info < (3, 5))"];
  try {
    const command = new Deno.Command("python3", { args, stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch {
    return false; // not installed
  }
}

/** The same in Python, if it is installed: it calls accept() again. */
async function inPython(stage: Stage, seconds: number): Promise<void> {
  if (!await hasPython()) {
    stage.say(
      "python3 (3.5 or newer) is not installed here. It would show that the same server, written " +
        "in Python, runs on: Python calls accept() again after EINTR.",
    );
    return;
  }
  stage.say("The same server in today's Python.");
  const server = await stage.start({ command: ["python3", PYTHON], args: ["PORT", `${seconds}`] });
  const client = stage.client(server.port!);
  await client.ended(seconds + 20);
  await stage.until(
    "the handler to wait for the child",
    () => childrenOf(server.pid, stage.snapshot()).length === 0,
  );
  const next = stage.client(server.port!);
  await next.answered();
  stage.expect(
    "the next client of the Python server is",
    next.state(),
    (state) => ["answered", "hung", "closed"].includes(state) && next.reply() !== "",
    "answered: Python called accept() again",
  );
}
