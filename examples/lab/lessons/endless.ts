import { get, holdersOf, isAnswer, workersOf } from "./workers.ts";
import type { Lesson } from "../lesson.ts";

const APP = "examples/lab/programs/handlers.ts";
const WORKERS = 3;

/** A handler never returns, and its worker is killed after a time limit. */
export const lesson: Lesson = {
  name: "endless",
  title: "A handler in an endless loop is killed",
  source: "Past the sources: a preforking server",
  question:
    "A request makes a handler run in an endless loop. JavaScript has one thread of control, so no " +
    "timer of that process fires any more. Who notices, what can be done about it, and what do the " +
    "clients of the other workers see meanwhile?",
  answer:
    "Each worker counts up a number in memory that it shares with the master, by a timer of its event " +
    "loop. The loop keeps the timer from firing, and the number stands still. The master, which runs " +
    "no handlers, sees that, and after the time limit it sends the one signal that needs no " +
    "cooperation, SIGKILL, and forks a replacement. Meanwhile the worker does not accept, so the " +
    "others take all new connections.",
  programs: [{ file: APP, decisive: 'if (action === "loop") { for (;;); }' }],
  read: ["kill(2)", "docs/serve.md", APP],
  next: "restart",
  async run(stage) {
    const timeout = stage.slow ? 30 : 3;
    const server = await stage.start({
      program: "server/cli.ts",
      args: [
        "serve",
        APP,
        "--host",
        "127.0.0.1",
        "--port",
        "PORT",
        "--workers",
        `${WORKERS}`,
        "--timeout",
        `${timeout}`,
      ],
      flags: ["-A"],
    });
    const workers = await workersOf(stage, server, WORKERS);
    stage.say("A client makes its worker run in a loop without an end.");
    const first = stage.client(server.port!, { request: get("/loop") });
    const victim = (await holdersOf(stage, [first])).get(first)!;
    const find = () => stage.snapshot().processes.find(({ pid }) => pid === victim);
    const cpu = find()?.cpu ?? 0;
    const used = await stage.until("a tenth of a second of processor time", () => {
      const more = (find()?.cpu ?? 0) - cpu;
      return more >= 0.1 && more;
    });
    stage.draw(`Worker ${victim} is in the loop`);
    stage.note("seconds of processor time in the loop so far", Math.round(used * 100) / 100);
    stage.say("Twelve more clients connect.");
    const others = stage.clients(server.port!, { request: get("/"), count: 12 });
    for (const client of others) await client.ended();
    stage.expect(
      "answered, of the twelve",
      others.filter((client) => isAnswer(client.reply(), "Hello, World!\n")).length,
      (count) => count === others.length,
      "12, all",
    );
    stage.expect(
      "while they were answered, the worker was",
      find()?.state ?? "gone",
      (state) => state === "running",
      "running",
    );
    stage.say(`The master gives the worker ${timeout} seconds.`);
    await first.ended(timeout + 20);
    stage.note("seconds until the connection ended", Math.round(first.seconds() * 10) / 10);
    stage.expect(
      "bytes of an answer for the client of the loop",
      first.reply().length,
      (bytes) => bytes === 0,
      "0",
    );
    const wasKilled = first.reply() === "";
    const now = await workersOf(stage, server, WORKERS, (pid) => !wasKilled || pid !== victim);
    stage.draw("The loop is over: the master has forked another worker");
    stage.expect(
      "workers that were there before",
      now.filter((pid) => workers.includes(pid)).length,
      (count) => count === WORKERS - 1,
      `${WORKERS - 1}, and a new one`,
    );
  },
};
