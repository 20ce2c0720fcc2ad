import { get, isAnswer, workersOf } from "./workers.ts";
import type { Lesson } from "../lesson.ts";

const APP = "examples/lab/programs/version.ts";
const WORKERS = 2;
/** Clients at a time, and requests at most. */
const LANES = 3;
const MOST = 1000;

/** Connects and asks; returns all that the server sent, or why nothing came. */
async function ask(port: number): Promise<string> {
  try {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port });
    await connection.write(new TextEncoder().encode(get("/")));
    return await new Response(connection.readable).text();
  } catch (error) {
    return String(error);
  }
}

/** A server gets new code while clients connect all the time. */
export const lesson: Lesson = {
  name: "restart",
  title: "A restart loses no request",
  source: "Past the sources: a preforking server",
  question:
    "A server is to serve new code, while clients connect all the time. The old processes must end " +
    "and new ones must begin. What has to stay for no client to be refused, and in which order must " +
    "things happen?",
  answer:
    "What clients connect to is the listening socket, and that stays: the master executes its " +
    "program again, which keeps pid and descriptors and gives new memory. It loads the new code and " +
    "forks new workers, while the old ones still serve. Only when the new ones are ready do the old " +
    "ones stop accepting; they answer what they have accepted, and end. If the new code did not " +
    "load, the old workers would stay.",
  programs: [{ file: APP, decisive: `const version = Deno.readTextFileSync(` }],
  read: ["execve(2)", "docs/serve.md", APP],
  next: "random",
  async run(stage) {
    const file = `${stage.folder()}/version`;
    Deno.writeTextFileSync(file, "1\n");
    const server = await stage.start({
      program: "server/cli.ts",
      args: ["serve", APP, "--host", "127.0.0.1", "--port", "PORT", "--workers", `${WORKERS}`],
      flags: ["-A"],
      env: { VERSION: file },
    });
    const old = await workersOf(stage, server, WORKERS);
    const listener = () => stage.snapshot().sockets.find(({ state }) => state === "LISTEN")?.inode;
    const before = listener();
    stage.say(
      `In ${LANES} places at once: while curl http://localhost:${server.port}/; do sleep 0.02; done`,
    );
    const replies: string[] = [];
    let isOver = false;
    const askAgainAndAgain = async () => {
      while (!isOver && !stage.signal.aborted && replies.length < MOST) {
        replies.push(await ask(server.port!));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    let left = LANES;
    for (let lane = 0; lane < LANES; lane++) askAgainAndAgain().then(() => left--);
    const answered = (version: number) =>
      replies.filter((reply) => isAnswer(reply, `version ${version}\n`)).length;
    const heard = (version: number) =>
      replies.filter((reply) => reply.endsWith(`version ${version}\n`)).length >= 10;
    await stage.until("ten replies of version 1", () => heard(1));
    stage.draw("Workers with the old code");
    Deno.writeTextFileSync(file, "2\n");
    stage.kill(server, "SIGHUP");
    const now = await workersOf(stage, server, WORKERS, (pid) => !old.includes(pid));
    await stage.until("the end of the old workers", () => {
      const pids = stage.snapshot().processes.map(({ pid }) => pid);
      return !old.some((pid) => pids.includes(pid));
    });
    await stage.until("ten replies of version 2", () => heard(2));
    isOver = true;
    await stage.until("the last replies", () => left === 0);
    const last = stage.client(server.port!, { request: get("/") });
    await last.ended();
    stage.draw("Workers with the new code");
    const asked = replies.length;
    stage.note("requests", asked);
    stage.note("of these, answered by the old code", answered(1));
    stage.note("answered by the new code", answered(2));
    stage.expect(
      "requests without an answer",
      asked - answered(1) - answered(2),
      (lost) => lost === 0,
      "0",
    );
    stage.expect(
      "the last answer is of the new code",
      isAnswer(last.reply(), "version 2\n"),
      (isNew) => isNew,
      "true",
    );
    stage.expect(
      "new workers",
      now.length,
      (count) => count === WORKERS,
      `${WORKERS}, children of the same master`,
    );
    stage.expect(
      "inode of the listening socket",
      listener(),
      (inode) => inode !== undefined && inode === before,
      `${before}, as before`,
    );
  },
};
