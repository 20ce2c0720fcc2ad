import type { Lesson } from "../lesson.ts";

/** The iterative server: a client waits while another is served. */
export const lesson: Lesson = {
  name: "3b",
  title: "One client at a time",
  source: "Let's Build A Web Server, part 3: webserver3b.py",
  question:
    "A server sleeps for a while before it closes each connection. Two clients connect at the same " +
    "moment. When does the second one have its answer, and who keeps its connection until then?",
  answer:
    "The server has one thread of control: while it sleeps in handleRequest(), it is not in accept(). " +
    "The kernel completes the second handshake all the same and queues the connection, with the " +
    "request that came on it, at the listening socket. No process holds that connection yet. When " +
    "the server comes back to accept(), it takes the connection out of the queue and answers it, " +
    "one sleep later than the first.",
  programs: [{
    file: "examples/part3/webserver3b.ts",
    decisive: "sleep(SECONDS);",
    differsFrom: "examples/part3/webserver3a.ts",
  }],
  read: ["accept(2)", "listen(2)", "examples/part3/webserver3b.ts"],
  next: "backlog",
  async run(stage) {
    const seconds = stage.slow ? 60 : 1;
    const server = await stage.start({
      program: "examples/part3/webserver3b.ts",
      args: ["PORT", `${seconds}`],
    });
    const port = server.port!;
    stage.say("The first client is answered at once, and then the server sleeps.");
    const first = stage.client(port);
    await first.answered();
    stage.say("The second client connects meanwhile.");
    const second = stage.client(port);
    await second.connected();
    const listener = await stage.until("a connection in the queue", () => {
      const { processes, sockets } = stage.snapshot();
      const isAsleep = processes.some(({ pid, state }) =>
        pid === server.pid && state === "sleeping"
      );
      return isAsleep && sockets.find(({ state, queue }) => state === "LISTEN" && queue > 0);
    });
    stage.draw("The server sleeps; the kernel keeps the second connection");
    const { sockets } = stage.snapshot();
    const accepted = sockets.find(({ remote }) => remote.endsWith(`:${first.localPort}`));
    const queued = sockets.find(({ remote }) => remote.endsWith(`:${second.localPort}`));
    stage.expect("connections in the queue", listener.queue, (queue) => queue === 1, "1");
    stage.expect(
      "descriptors of the first connection",
      accepted?.holders.length,
      (count) => count === 1,
      "1, the server's",
    );
    stage.expect(
      "descriptors of the second connection",
      queued?.holders.length,
      (count) => count === 0,
      "0: no process has it",
    );
    stage.expect("the second client is", second.state(), (state) => state === "waiting", "waiting");
    await second.answered(seconds + 20);
    stage.note("seconds until the second client's answer", second.seconds().toFixed(1));
    await first.ended(seconds + 20);
    await second.ended(seconds + 20);
    stage.expect(
      "seconds until the second client's end",
      Math.round(second.seconds() * 10) / 10,
      (took) => took >= seconds,
      `at least ${seconds}`,
    );
  },
};
