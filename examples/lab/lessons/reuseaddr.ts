import {
  AF_INET,
  SO_REUSEADDR,
  SOCK_STREAM,
  Socket,
  SOL_SOCKET,
  SyscallError,
} from "../../../mod.ts";
import type { Lesson, Stage } from "../lesson.ts";
import { tcpTable } from "../observe/tcp_table.ts";

const WITH = "examples/part3/webserver3a.ts";
const WITHOUT = "examples/lab/programs/webserver_no_reuseaddr.ts";

/** A server that is started again on its port. */
export const lesson: Lesson = {
  name: "reuseaddr",
  title: "A server restarts on its port, with SO_REUSEADDR",
  source: "Let's Build A Web Server, part 3: setsockopt with SO_REUSEADDR",
  question:
    "A server has answered one client and is killed. It is gone, with all its descriptors. Can it be " +
    "started again on the same port at once?",
  answer:
    "The end that closes a TCP connection first stays for a minute in TIME_WAIT: packets of the old " +
    "connection may still be on their way, and the last acknowledgement may have to be repeated. " +
    "Here that is the server's end, which no process holds. bind() to its port fails with " +
    "EADDRINUSE, unless both the old and the new socket have SO_REUSEADDR: a connection inherits it " +
    "from the listening socket that it came from. So a server sets it always, before bind().",
  programs: [
    { file: WITH, decisive: "listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);" },
    { file: WITHOUT, differsFrom: WITH },
  ],
  read: ["socket(7)", "tcp(7)", "bind(2)", WITHOUT],
  next: "client",
  async run(stage) {
    stage.say("First without the option.");
    const port = await serveOneAndDie(stage, WITHOUT);
    stage.expect("bind() to its port", tryToBind(port, false), is("EADDRINUSE"), "EADDRINUSE");
    stage.expect(
      "bind() with SO_REUSEADDR only now",
      tryToBind(port, true),
      is("EADDRINUSE"),
      "EADDRINUSE",
    );
    const again = await stage.start({ program: WITHOUT, args: [`${port}`], listens: false });
    const { code } = await again.ended();
    stage.expect("exit code of the restarted server", code, is(1), "1");

    stage.say("Now with the option.");
    const reusable = await serveOneAndDie(stage, WITH);
    stage.expect(
      "bind() to its port, without",
      tryToBind(reusable, false),
      is("EADDRINUSE"),
      "EADDRINUSE",
    );
    const restarted = await stage.start({ program: WITH, args: [`${reusable}`], listens: true });
    const states = tcpTable().filter(({ localPort }) => localPort === reusable)
      .map(({ state }) => state).toSorted();
    stage.draw("It listens, beside the connection in TIME_WAIT");
    stage.expect("the port on which it listens again", restarted.port, is(reusable), `${reusable}`);
    stage.expect(
      "sockets with that port",
      states.join(", "),
      is("LISTEN, TIME_WAIT"),
      "LISTEN, TIME_WAIT",
    );
    const client = stage.client(reusable);
    await client.ended();
    stage.expect("a client is", client.state(), is("closed"), "closed, after its answer");
    stage.expect("it got", client.reply().split("\n")[0], is("HTTP/1.1 200 OK"), "HTTP/1.1 200 OK");
  },
};

function is<T>(wanted: T): (value: unknown) => boolean {
  return (value) => value === wanted;
}

/** Starts a server, lets it close one connection, and kills it. Returns its port. */
async function serveOneAndDie(stage: Stage, program: string): Promise<number> {
  const server = await stage.start({ program, args: ["PORT"] });
  const port = server.port!;
  const client = stage.client(port);
  await client.ended();
  client.close();
  stage.kill(server, "SIGKILL");
  await server.ended();
  const row = await stage.until(
    "the connection in TIME_WAIT",
    () => tcpTable().find(({ state, localPort }) => state === "TIME_WAIT" && localPort === port),
  );
  stage.say("No process has its end of the connection any more: it stays in TIME_WAIT.");
  stage.note("seconds until it is gone", Math.round(row.timer));
  return port;
}

/** What bind() to a port says, from this process. */
function tryToBind(port: number, reuse: boolean): string {
  using socket = new Socket(AF_INET, SOCK_STREAM);
  if (reuse) socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);
  try {
    socket.bind(["", port]);
    return "succeeds";
  } catch (error) {
    if (error instanceof SyscallError) return error.code;
    throw error;
  }
}
