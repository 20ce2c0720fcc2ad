import type { Lesson } from "../lesson.ts";
import { childrenOf, zombiesOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3d.ts";
const CLIENTS = 5;

/** Children for which nobody waits, and a signal to one of them. */
export const lesson: Lesson = {
  name: "zombies",
  title: "Zombies cannot be killed",
  source: "Let's Build A Web Server, part 3: zombies",
  question:
    "A server never waits for its children. What is left of a child that has ended, and what does " +
    "kill -9 do to it?",
  answer:
    "When a process ends, the kernel frees all that it had, except its entry in the process table: " +
    "the pid and the status wait for the parent to collect them with wait(2). Until then it is a " +
    "zombie. SIGKILL ends a process, and this one has ended already: the signal is accepted and has " +
    "no effect. Only the parent can remove a zombie, by waiting or by ending: process 1 adopts its " +
    "children then, and waits for them.",
  programs: [{ file: PROGRAM, decisive: "_exit(0);" }],
  read: ["wait(2)", "kill(2)", "_exit(2)", PROGRAM],
  next: "eagain",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const zombies = () => zombiesOf(server.pid, stage.snapshot());
    const clients = stage.clients(server.port!, { count: CLIENTS, oneByOne: true });
    await Promise.all(clients.map((client) => client.answered()));
    await stage.until(
      "the end of all children",
      () => childrenOf(server.pid, stage.snapshot()).every(({ state }) => state === "zombie"),
    );
    const dead = zombies();
    stage.draw("Each client has left a zombie");
    stage.expect("zombies", dead.length, (count) => count === CLIENTS, `${CLIENTS}, one a client`);
    const [target] = dead;
    if (target === undefined) return;
    stage.expect(
      "descriptors that a zombie has",
      target.descriptors.length,
      (count) => count === 0,
      "0",
    );
    stage.expect(
      "memory that a zombie has",
      Deno.readTextFileSync(`/proc/${target.pid}/statm`).split(" ")[0]!,
      (pages) => pages === "0",
      "0 pages",
    );

    stage.say("SIGKILL, which no process can ignore, to one of them.");
    stage.kill(target.pid, "SIGKILL");
    await stage.pause(3, 0.3, "for the signal to have an effect");
    stage.expect(
      "zombies after that",
      zombies().length,
      (count) => count === CLIENTS,
      `still ${CLIENTS}`,
    );

    stage.say("Now the parent ends, and its children get another parent, which waits for them.");
    stage.kill(server, "SIGKILL");
    // Process 1 waits for those that it adopts, except in some containers.
    const end = performance.now() + 3000;
    const left = await stage.until("the end of the zombies, or another parent for them", () => {
      const parents = dead.map(({ pid }) => parentOf(pid)).filter((ppid) => ppid !== undefined);
      if (parents.length > 0 && performance.now() < end) return false;
      return !parents.includes(server.pid) && parents;
    });
    stage.expect(
      "zombies after the parent's end",
      left.length,
      () => !left.includes(server.pid),
      "0; or another process's, which does not wait",
    );
  },
};

/** The parent of a process that the stage may not know any more; `undefined` if it is gone. */
function parentOf(pid: number): number | undefined {
  try {
    return Number(Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ")[1]);
  } catch {
    return undefined;
  }
}
