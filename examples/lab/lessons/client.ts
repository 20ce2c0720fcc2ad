import type { Lesson } from "../lesson.ts";

const PROGRAM = "examples/lab/programs/client.ts";
const SERVER = "examples/part3/webserver3a.ts";

/** What a client does, and what it leaves to the kernel. */
export const lesson: Lesson = {
  name: "client",
  title: "A client only connects",
  source: "Let's Build A Web Server, part 3: the client's steps",
  question:
    "A client creates a socket, connects, sends and receives. It calls neither bind() nor accept(). " +
    "What is the address of its end, and must the server have called accept() before it can send?",
  answer:
    "connect() binds a socket that has no address: the kernel takes the address of the interface " +
    "that leads to the server, and a free port. It returns when the handshake is over, which is " +
    "between the two kernels: the server may be stopped meanwhile. What is sent then waits at the " +
    "server's end, and only recv() waits for the server itself.",
  programs: [{ file: PROGRAM, decisive: 'sock.connect(["localhost", Number(port)]);' }, {
    file: SERVER,
  }],
  read: ["connect(2)", "recv(2)", PROGRAM],
  next: "client3",
  async run(stage) {
    const server = await stage.start({ program: SERVER, args: ["PORT"] });
    const port = server.port!;
    stage.say("The server is stopped, so that the client can be looked at.");
    stage.kill(server, "SIGSTOP");
    await stage.until(
      "the server to stop",
      () =>
        stage.snapshot().processes.some(({ pid, state }) =>
          pid === server.pid && state === "stopped"
        ),
    );
    const client = await stage.start({
      program: PROGRAM,
      args: [`${port}`],
      role: "client",
      listens: false,
    });

    const view = () => stage.snapshot().processes.find(({ pid }) => pid === client.pid);
    const call = await stage.until("the client to wait in recv()", () => {
      const name = view()?.call;
      return name?.startsWith("recv") && name;
    });
    const { sockets } = stage.snapshot();
    const own = sockets.filter(({ holders }) => holders.some(({ pid }) => pid === client.pid));
    const far = sockets.find(({ local, remote }) =>
      local === own[0]?.remote && remote === own[0]?.local
    );
    stage.draw("The client is connected, and waits; the server has not accepted it");
    stage.expect("the client waits in", call, (name) => name === "recvfrom", "recvfrom");
    stage.expect("the client's sockets", own.length, (count) => count === 1, "1");
    stage.expect("its state", own[0]?.state, (state) => state === "ESTABLISHED", "ESTABLISHED");
    stage.expect(
      "its address, which the kernel gave",
      own[0]?.local,
      (local) => /^127\.0\.0\.1:[1-9]\d*$/.test(local ?? ""),
      "127.0.0.1 and a port",
    );
    stage.expect(
      "processes with the server's end",
      far?.holders.length,
      (count) => count === 0,
      "0",
    );
    stage.expect("bytes that wait there", far?.queue, (bytes) => bytes === 4, "4: test");

    stage.say("The server continues.");
    stage.kill(server, "SIGCONT");
    const { code } = await client.ended();
    stage.expect("the client's exit code", code, (exit) => exit === 0, "0");
  },
};
