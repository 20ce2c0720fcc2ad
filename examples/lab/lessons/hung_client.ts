import type { Lesson } from "../lesson.ts";
import { holdersOf, zombiesOf } from "./family.ts";

const PROGRAM = "examples/part3/webserver3d.ts";
const CLIENTS = 3;

/** The server that keeps its copies: clients hang. */
export const lesson: Lesson = {
  name: "3d",
  title: "A forgotten close() hangs the client",
  source: "Let's Build A Web Server, part 3: webserver3d.py",
  question:
    "The child answers, closes the connection and ends. The parent has forgotten to close its own " +
    "copy. What does the client see, and how many descriptors does the parent have after a while?",
  answer:
    "The client has the whole response, but not its end: without Content-Length, the end of an " +
    "HTTP response is the end of the connection, and the kernel does not send FIN while the " +
    "parent's descriptor is open. So the client hangs. The parent keeps one more descriptor for " +
    "each client, until it has none left; and because it never waits, each child stays as a zombie.",
  programs: [{
    file: PROGRAM,
    decisive: "// clientConnection.close();",
    differsFrom: "examples/part3/webserver3c.ts",
  }],
  read: ["close(2)", "fork(2)", PROGRAM],
  next: "toomany",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT"] });
    const sockets = (): number =>
      stage.snapshot().processes.find(({ pid }) => pid === server.pid)?.descriptors
        .filter(({ kind }) => kind === "tcp").length ?? 0;
    const before = sockets();

    const clients = stage.clients(server.port!, { count: CLIENTS, oneByOne: true });
    await Promise.all(clients.map((client) => client.answered()));
    await stage.until(
      "the end of all children",
      () => zombiesOf(server.pid, stage.snapshot()).length === CLIENTS,
    );
    await stage.pause(5, 0.5, "for the clients to see an end of their responses");

    const snapshot = stage.snapshot();
    stage.draw("The children have ended, the clients hang: the parent has the connections");
    stage.expect(
      "clients with the whole response",
      clients.filter((client) => client.reply().endsWith("Hello, World!\n")).length,
      (count) => count === CLIENTS,
      `${CLIENTS}`,
    );
    const open = clients.filter((client) => ["answered", "hung"].includes(client.state()));
    stage.expect(
      "of these, clients that hang",
      open.length,
      (count) => count === CLIENTS,
      `${CLIENTS}`,
    );
    stage.expect(
      "connections that the server alone has",
      clients.filter((client) => holdersOf(client, snapshot).join() === `${server.pid}`).length,
      (count) => count === CLIENTS,
      `${CLIENTS}`,
    );
    stage.expect(
      `sockets of the server: ${before} at first, now`,
      sockets(),
      (count) => count === before + CLIENTS,
      `${before + CLIENTS}: one more for each client`,
    );
    stage.expect(
      "zombies",
      zombiesOf(server.pid, snapshot).length,
      (count) => count === CLIENTS,
      `${CLIENTS}: 3d does not wait either`,
    );

    stage.say("Is it the server's copy? It is killed, and the kernel closes what it has open.");
    stage.kill(server, "SIGKILL");
    for (const client of clients) await client.ended();
    stage.expect(
      "clients that are closed",
      clients.filter((client) => client.state() === "closed").length,
      (count) => count === CLIENTS,
      `${CLIENTS}`,
    );
  },
};
