import { get, holdersOf, isAnswer, workersOf } from "./workers.ts";
import type { Client, Lesson } from "../lesson.ts";

const APP = "examples/lab/programs/handlers.ts";
const HELLO = "Hello, World!\n";
const WORKERS = 3;
const SECONDS = 3;
/** Clients before the kill, and how many at most if one worker should take the first ones. */
const EARLY = 6;
const MOST = 24;

/** A worker is killed while it and others have requests. */
export const lesson: Lesson = {
  name: "crash",
  title: "A killed worker costs its own requests only",
  source: "Past the sources: a preforking server",
  question:
    `A master has forked ${WORKERS} workers, and all of them accept on the socket that they have ` +
    "inherited. Clients wait for answers. One worker is killed. Which clients notice, who " +
    "answers those that connect now, and how does the master hear of it?",
  answer:
    "The kernel closes what the killed process had open. Its connections had no other descriptor, so " +
    "they end, and their clients get nothing. The listening socket has more descriptors: it goes on, " +
    "with the connections in its queue, and any other worker accepts them. The master gets SIGCHLD, " +
    "waits for the worker and forks another from its own memory, in which the app is still loaded.",
  programs: [{ file: APP, decisive: `if (action === "wait") await wait(Number(seconds));` }],
  read: ["signal(7)", "waitpid(2)", APP, "docs/serve.md"],
  next: "endless",
  async run(stage) {
    const server = await stage.start({
      program: "server/cli.ts",
      args: ["serve", APP, "--host", "127.0.0.1", "--port", "PORT", "--workers", `${WORKERS}`],
      flags: ["-A"],
    });
    const workers = await workersOf(stage, server, WORKERS);
    stage.say(`Clients ask, one after another, for something that takes ${SECONDS} seconds.`);
    const early: Client[] = [];
    let holders = new Map<Client, number>();
    const busy = () => new Set(holders.values()).size;
    while (early.length < EARLY || (busy() < 2 && early.length < MOST)) {
      early.push(stage.client(server.port!, { request: get(`/wait/${SECONDS}`) }));
      holders = await holdersOf(stage, early);
    }
    const victim = holders.get(early[0]!)!;
    const lost = early.filter((client) => holders.get(client) === victim);
    const others = early.filter((client) => holders.get(client) !== victim);
    stage.draw(`Each worker has connections of its own; ${victim} will be killed`);
    stage.kill(victim, "SIGKILL");
    stage.say("Twelve more clients connect at once.");
    const late = stage.clients(server.port!, { request: get("/"), count: 12 });
    for (const client of [...lost, ...late, ...others]) await client.ended();
    const now = await workersOf(stage, server, WORKERS, (pid) => pid !== victim);
    stage.draw("The master has forked another worker");
    const answered = (clients: readonly Client[]) =>
      clients.filter((client) => isAnswer(client.reply(), HELLO)).length;
    stage.note("clients of the killed worker", lost.length);
    stage.expect("of these, answered", answered(lost), (count) => count === 0, "0");
    stage.expect(
      "answered, of the other workers' clients",
      answered(others),
      (count) => count > 0 && count === others.length,
      `${others.length || "some"}, all`,
    );
    stage.expect(
      "answered, of those after the kill",
      answered(late),
      (count) => count === late.length,
      `${late.length}, all`,
    );
    stage.expect(
      "workers that were there before",
      now.filter((pid) => workers.includes(pid)).length,
      (count) => count === WORKERS - 1,
      `${WORKERS - 1}, and a new one`,
    );
    const zombies = stage.snapshot().processes.filter(({ state }) => state === "zombie");
    stage.expect("zombies", zombies.length, (count) => count === 0, "0: the master has waited");
  },
};
