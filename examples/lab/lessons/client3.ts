import type { Lesson } from "../lesson.ts";

const PROGRAM = "examples/part3/client3.ts";
const SERVER = "examples/part3/webserver3c.ts";

/** The test client: many processes, many connections. */
export const lesson: Lesson = {
  name: "client3",
  title: "A client can fork too",
  source: "Let's Build A Web Server, part 3: client3.py",
  question:
    "The test client makes two clients with seven connections each, and keeps all of them open until " +
    "the last one is made. The server, whose backlog is 5, is stopped. How many connections are " +
    "there, and when does the test client end?",
  answer:
    "Each client is a child of the test client, with descriptors of its own, and connects seven " +
    "times. The stopped server's queue takes six connections; then both clients wait in connect(), " +
    "whose SYN the server's kernel ignores, until the server accepts again. When all are made, each " +
    "client ends, without having read a byte: this program only shows how servers fail.",
  programs: [{ file: PROGRAM, decisive: "sock.connect(SERVER_ADDRESS);" }, { file: SERVER }],
  read: ["connect(2)", "fork(2)", PROGRAM],
  next: "ports",
  async run(stage) {
    const server = await stage.start({ program: SERVER, args: ["PORT", "0"] });
    const port = server.port!;
    stage.say("The server is stopped, so that connections stay in its queue.");
    stage.kill(server, "SIGSTOP");
    await stage.until(
      "the server to stop",
      () => stage.snapshot().processes.find(({ pid }) => pid === server.pid)?.state === "stopped",
    );
    const client = await stage.start({
      program: PROGRAM,
      args: ["--max-clients", "2", "--max-conns", "7", "--port", `${port}`],
      role: "client",
      listens: false,
    });
    const look = () => {
      const { processes, sockets } = stage.snapshot();
      const clients = processes.filter(({ ppid }) => ppid === client.pid).map(({ pid }) => pid);
      const theirs = sockets.filter(({ holders }) =>
        holders.some(({ pid }) => clients.includes(pid))
      );
      return {
        clients,
        made: theirs.filter(({ state }) => state === "ESTABLISHED").length,
        trying: theirs.filter(({ state }) => state === "SYN_SENT").length,
        queue: sockets.find(({ state }) => state === "LISTEN")?.queue ?? 0,
        isOver: !processes.some(({ pid }) => pid === client.pid),
      };
    };
    const { clients, made, trying, queue } = await stage.until("a full queue", () => {
      const seen = look();
      return ((seen.queue >= 6 && seen.trying === 2) || seen.isOver) && seen;
    });
    stage.draw("Both clients wait in connect(): the server's queue is full");
    stage.expect("clients, children of one process", clients.length, (count) => count === 2, "2");
    // Two handshakes that end at the same moment may both find the last place in the queue, or the
    // client's kernel may end one that the server's drops: once in some hundred runs.
    const isFull = (count: number) => count === 6 || count === 7;
    stage.expect("connections that they have", made, isFull, "6, seldom 7");
    stage.expect("connections in the queue", queue, isFull, "6, seldom 7");
    stage.expect("that wait in connect()", trying, (count) => count === 2, "2, one of each client");

    stage.say("The server continues.");
    stage.kill(server, "SIGCONT");
    const { code } = await client.ended(30);
    stage.expect("the test client's exit code", code, (exit) => exit === 0, "0: all are made");
  },
};
