import type { Lesson } from "../lesson.ts";
import { isAlive, noteError, zombiesOf } from "./family.ts";
import { freeUid, tasksOf } from "./users.ts";

const PROGRAM = "examples/part3/webserver3d.ts";
const LIMITED = "examples/lab/programs/process_limit.ts";
/** Processes and threads that the server's user may have beyond those that are there already. */
const ROOM = 40;

/** The server that never waits, at the limit of processes. */
export const lesson: Lesson = {
  name: "eagain",
  title: "Resource temporarily unavailable",
  source: "Let's Build A Web Server, part 3: ulimit -u 400",
  question:
    "Zombies use no memory. Does it matter, then, if a server leaves one for each client, when its " +
    "user may have only so many processes (ulimit -u)?",
  answer:
    "A zombie still has a pid and counts as a process of its user. When the user has as many as " +
    "RLIMIT_NPROC allows, fork(2) fails with EAGAIN, for this server and for every other program " +
    "of this user with that limit. webserver3d does not expect it and ends. The limit does not " +
    "apply to root, so the lab runs this server as a user that nobody else is.",
  programs: [
    { file: PROGRAM, decisive: "const pid = fork();" },
    { file: LIMITED, decisive: "setrlimit(RLIMIT_NPROC," },
  ],
  read: ["fork(2)", "getrlimit(2)", PROGRAM, LIMITED],
  next: "wait",
  async run(stage) {
    const uid = Deno.uid() === 0 ? freeUid() : undefined;
    const limit = ROOM + (uid === undefined ? tasksOf(Deno.uid()!) : 0);
    stage.say(
      uid === undefined
        ? `This user may have ${ROOM} processes and threads more than now: ${limit}.`
        : `User ${uid}, which has no processes, may have ${limit} processes and threads.`,
    );
    const server = await stage.start({
      program: LIMITED,
      args: ["PORT", `${limit}`, ...uid === undefined ? [] : [`${uid}`]],
    });

    const before = tasksOf(uid ?? Deno.uid()!);
    stage.note("processes and threads of the user", before);

    stage.say("Clients come one after the other, until fork() fails.");
    const clients = stage.clients(server.port!, { count: ROOM + 20, oneByOne: true });
    let zombies = 0;
    const ended = await stage.until("the end of the server or of the clients", () => {
      const snapshot = stage.snapshot();
      zombies = Math.max(zombies, zombiesOf(server.pid, snapshot).length);
      if (!isAlive(server.pid, snapshot)) return { ended: true };
      return clients.at(-1)!.reply() !== "" && { ended: false };
    }, 60).then(({ ended }) => ended);
    await Promise.all(clients.map((client) => client.answered()));
    const answered = clients.filter((client) => client.reply() !== "").length;
    stage.note("clients with an answer, each with a child", answered);
    stage.note("zombies seen", zombies);
    // An ordinary user has other processes, which may end or start in the meantime.
    stage.expect(
      "with a zombie for each client",
      before + answered,
      (count) => uid === undefined ? answered > 0 : Math.abs(count - limit) <= 3,
      `about ${limit}, the limit`,
    );
    const state = ended ? "has ended" : "runs";
    stage.expect("the server", state, () => ended, "has ended: it does not expect EAGAIN");
    if (!ended) return;
    const { code } = await server.ended();
    await noteError(stage, server, "EAGAIN");
    stage.expect("its exit code", code, () => code === 1, "1");
  },
};
