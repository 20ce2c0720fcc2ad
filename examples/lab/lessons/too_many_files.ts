import type { Lesson } from "../lesson.ts";
import { holdersOf, noteError, zombiesOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3d.ts";
const LIMIT = 256;

/** The server that keeps its copies, at the limit of descriptors. */
export const lesson: Lesson = {
  name: "toomany",
  title: "Too many open files",
  source: "Let's Build A Web Server, part 3: ulimit -n 256",
  question:
    `The same server may have ${LIMIT} descriptors at once (ulimit -n ${LIMIT}), and keeps one for ` +
    "each client that it has ever had. What happens to the server when the last number is taken?",
  answer:
    "accept(2) takes a free number, before it even looks for a connection, and fails with EMFILE " +
    "when there is none. " +
    "webserver3d does not expect that: the exception ends it, and with it the connections of all " +
    "its clients. A server that closes its copies never gets here; one that has too many clients " +
    "at once does, and should accept again when a number is free.",
  programs: [{
    file: PROGRAM,
    decisive: "// clientConnection.close();",
    differsFrom: "examples/part3/webserver3c.ts",
  }],
  read: ["accept(2)", "getrlimit(2)", "examples/part3/client3.ts", PROGRAM],
  next: "zombies",
  async run(stage) {
    const server = await stage.start({
      program: PROGRAM,
      args: ["PORT"],
      shell: `ulimit -n ${LIMIT};`,
    });
    const used = (): number => {
      try {
        return [...Deno.readDirSync(`/proc/${server.pid}/fd`)].length;
      } catch {
        return 0; // it has ended
      }
    };
    const before = used();
    stage.note("descriptors before the first client", before);

    const first = stage.clients(server.port!, { count: 5, oneByOne: true });
    await Promise.all(first.map((client) => client.answered()));
    await stage.until(
      "the end of five children",
      () => zombiesOf(server.pid, stage.snapshot()).length === 5,
    );
    stage.draw("Five clients: five descriptors more, and five zombies");
    const snapshot = stage.snapshot();
    const kept = first.filter((client) => holdersOf(client, snapshot).includes(server.pid)).length;
    stage.expect("connections of the five that it keeps", kept, () => kept === 5, "5");
    if (kept === 0) return;

    stage.say("More clients come, one after the other, until no number is free.");
    const more = stage.clients(server.port!, { count: LIMIT, oneByOne: true });
    const clients = [...first, ...more];
    const ended = await stage.until("the end of the server or of the clients", () => {
      if (used() === 0) return { ended: true };
      return clients.at(-1)!.reply() !== "" && { ended: false };
    }, 60).then(({ ended }) => ended);
    await Promise.all(clients.map((client) => client.answered()));
    const answered = clients.filter((client) => client.reply() !== "").length;
    stage.note("clients with an answer", answered);
    // Deno opens and closes a few files of its own.
    stage.expect(
      `descriptors, of ${LIMIT}`,
      before + answered,
      (count) => Math.abs(count - LIMIT) <= 6,
      `about ${LIMIT}: ${before}, and one a client`,
    );
    const state = ended ? "has ended" : "runs";
    stage.expect("the server", state, () => ended, "has ended: it does not expect EMFILE");
    if (!ended) return;

    const { code } = await server.ended();
    await noteError(stage, server, "EMFILE");
    stage.expect("its exit code", code, () => code === 1, "1");
    await Promise.all(clients.map((client) => client.ended()));
    const open = clients.filter((client) => ["answered", "hung"].includes(client.state())).length;
    stage.expect("connections that are still open", open, () => open === 0, "0: all ended with it");
  },
};
