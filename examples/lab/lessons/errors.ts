import type { Client, Lesson } from "../lesson.ts";
import { childrenOf, connectionOf } from "./family.ts";
import { freeUid } from "./users.ts";

const PROGRAM = "examples/chapter20/errorserver.ts";
const LIMITED = "examples/lab/programs/errorserver_limited.ts";
/** The processes for which there is room. */
const ROOM = 10;
/** No more clients than this, if processes of the same user end in the meantime. */
const MAX_CLIENTS = 200;

/** A server at the limit of processes that goes on. */
export const lesson: Lesson = {
  name: "errors",
  title: "A failing fork() survived",
  source: "Foundations of Python Network Programming, chapter 20: errorserver.py",
  question:
    "The user of a server may have only so many processes, and a client connects when there are as " +
    "many. fork() fails with EAGAIN. What should become of that client, of the others, and of the " +
    "server?",
  answer: "That client is lost, and nobody else is. The server catches the error and closes the " +
    "connection: the client learns that it is over, and the descriptor is free again. It sends no " +
    "message, because the parent would wait for a client that reads slowly, and meanwhile serve " +
    "nobody. The cause is often short-lived: once children have ended and the parent has waited for " +
    "them, fork() succeeds again. The limit does not apply to root.",
  programs: [
    {
      file: PROGRAM,
      decisive: "clientsock.close(); // or each client that is turned away would cost a descriptor",
      differsFrom: "examples/chapter20/echoserver.ts",
    },
    { file: LIMITED },
    { file: "examples/lab/programs/limit_processes.ts", decisive: "setrlimit(RLIMIT_NPROC," },
  ],
  read: ["fork(2)", "getrlimit(2)", PROGRAM, LIMITED],
  next: "scratch",
  async run(stage) {
    const uid = Deno.uid() === 0 ? freeUid() : undefined;
    stage.say(
      `There is room for ${ROOM} more processes of ` +
        (uid === undefined ? "this user." : `user ${uid}, which nobody else is.`),
    );
    const server = await stage.start({
      program: LIMITED,
      flags: ["-A"],
      args: ["PORT", `${ROOM}`, ...uid === undefined ? [] : [`${uid}`]],
    });
    const words = (text: string) => ({ request: `${text}\n` });

    stage.say("Clients connect, and stay, until one gets no child.");
    const served: Client[] = [];
    let refused: Client | undefined;
    while (refused === undefined && served.length < MAX_CLIENTS) {
      const client = stage.client(server.port!, words("hello"));
      await client.answered();
      if (client.reply() === "") refused = client;
      else served.push(client);
    }
    await stage.pause(3, 0.3, "to see what the server does");
    stage.draw("No process is left for the last client");
    stage.note("clients that are served", served.length);
    stage.expect(
      "the last client is",
      refused?.state() ?? "served",
      (state) => state === "closed" || state === "reset",
      "closed or reset",
    );
    stage.expect("bytes of its reply", refused?.reply().length, (count) => count === 0, "0");
    const snapshot = stage.snapshot();
    const state = snapshot.processes.find(({ pid }) => pid === server.pid)?.state ?? "gone";
    stage.expect(
      "the server is",
      state,
      (state) => state === "sleeping" || state === "running",
      "alive",
    );
    if (refused === undefined || state === "gone" || state === "zombie") return;
    stage.expect(
      "descriptors of the last client's connection",
      connectionOf(refused, snapshot)?.holders.length ?? 0,
      (count) => count === 0,
      "0: the server has closed it",
    );
    const [earlier] = served;
    if (earlier !== undefined) {
      await earlier.send("again\n");
      const reply = await stage.until("more from an earlier client's child", () => {
        const reply = earlier.reply();
        return reply.includes("again") && reply;
      });
      stage.expect(
        "an earlier client gets",
        JSON.stringify(reply),
        () => reply === "hello\nagain\n",
        "its own words, as before",
      );
    }

    stage.say("The clients leave, their children end, and another client connects.");
    for (const client of served) client.close();
    await stage.until(
      "the end of the children",
      () => childrenOf(server.pid, stage.snapshot()).every(({ state }) => state === "zombie"),
    );
    // Other processes of an ordinary user come and go: there may be no room at the first moment.
    const next = await stage.until("a client that is served", async () => {
      const client = stage.client(server.port!, words("hello"));
      await client.answered();
      return client.reply() !== "" && client;
    });
    stage.expect(
      "the next client gets",
      JSON.stringify(next.reply()),
      () => next.reply() === "hello\n",
      "its own words",
    );
  },
};
