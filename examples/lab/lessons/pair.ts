import type { Lesson } from "../lesson.ts";

const PROGRAM = "examples/part3/socket_pair.ts";

/** The four values that identify a connection, at both ends. */
export const lesson: Lesson = {
  name: "pair",
  title: "Four values identify a connection",
  source: "Let's Build A Web Server, part 3: the socket pair",
  question:
    "A listening socket and the connections that were accepted from it all have the same port. How " +
    "does the kernel know to which of them a packet belongs?",
  answer:
    "By all four: the address and the port of either end. Each end has the same four values, its own " +
    "two first. Connections to one server differ in the client's address or port, and a packet that " +
    "belongs to none of them can only be a new connection, which is the listening socket's. So one " +
    "port of a server is enough for any number of clients.",
  programs: [{ file: PROGRAM, decisive: "const [connection] = listenSocket.accept();" }],
  read: ["tcp(7)", "getsockname(2)", "getpeername(2)", PROGRAM],
  next: "processes",
  async run(stage) {
    const program = await stage.start({ program: PROGRAM, args: ["60"], listens: false });
    const sockets = await stage.until("both ends of a connection", () => {
      const found = stage.snapshot().sockets.filter(({ kind, holders }) =>
        kind === "tcp" && holders.some(({ pid }) => pid === program.pid)
      );
      const accepted = found.filter(({ state, holders }) =>
        state === "ESTABLISHED" && holders.length > 0
      );
      return accepted.length === 2 && found;
    });
    stage.draw("One process with both ends, and the listening socket");
    const listeners = sockets.filter(({ state }) => state === "LISTEN");
    stage.expect("sockets that listen", listeners.length, (count) => count === 1, "1");
    const [listener] = listeners;
    if (listener === undefined) return;
    const server = sockets.find(({ state, local }) =>
      state === "ESTABLISHED" && local === listener.local
    );
    const client = sockets.find(({ state, remote }) =>
      state === "ESTABLISHED" && remote === listener.local
    );
    stage.note("the listening socket", listener.local);
    stage.note("the client's end", `${client?.local} ${client?.remote}`);
    stage.note("the server's end", `${server?.local} ${server?.remote}`);
    stage.expect(
      "the server's end, turned round, is",
      `${server?.remote} ${server?.local}`,
      (turned) => turned === `${client?.local} ${client?.remote}`,
      "the client's",
    );
    stage.expect(
      "sockets with the server's port",
      sockets.filter(({ local }) => local === listener.local).length,
      (count) => count === 2,
      "2: one listens, one is connected",
    );

    stage.say("Another client connects to the same port.");
    const port = Number(listener.local.split(":")[1]);
    const other = stage.client(port, { request: null });
    await other.connected();
    const pairs = await stage.until("a second connection", () => {
      const found = stage.snapshot().sockets
        .filter(({ state, local }) => state === "ESTABLISHED" && local === listener.local)
        .map(({ local, remote }) => `${local} ${remote}`);
      return found.length === 2 && found;
    });
    stage.draw("Two connections to one port");
    stage.expect(
      "different pairs at the server's port",
      new Set(pairs).size,
      (count) => count === 2,
      "2",
    );
  },
};
