import type { Client, Lesson } from "../lesson.ts";
import { expectLimit } from "./limit.ts";
import { tcpTable } from "../observe/tcp_table.ts";

const PROGRAM = "examples/lab/programs/accept_on_enter.ts";

/** What happens to a connection for which there is no room in the queue. */
export const lesson: Lesson = {
  name: "overflow",
  title: "Beyond the backlog, connecting takes longer",
  source: "Let's Build A Web Server, part 3: the BACKLOG argument of listen",
  question:
    "A server has called listen() with a backlog of 1, and accepts nobody. Clients go on connecting. " +
    "How many get through, and what do the others see: an error, or something else?",
  answer:
    "Linux takes one connection more than the backlog into the queue. When the queue is full, it " +
    "ignores the SYN of a further client, as if it were lost on the way. The client's kernel sends " +
    "it again, after a second and then with growing pauses, so connect() neither fails nor returns. " +
    "It succeeds at the first SYN for which there is room; without any, it fails with ETIMEDOUT, " +
    "with Linux's defaults after about two minutes.",
  programs: [{ file: PROGRAM, decisive: "listenSocket.listen(Number(backlog));" }],
  read: ["listen(2)", "tcp(7)", "proc(5)", PROGRAM],
  next: "reuseaddr",
  async run(stage) {
    const server = await stage.start({ program: PROGRAM, args: ["PORT", "1"], stdin: "piped" });
    const port = server.port!;
    const listener = () => stage.snapshot().sockets.find(({ state }) => state === "LISTEN");
    const overflows = listenOverflows();

    stage.say("Two clients connect, one after the other. Nobody accepts them.");
    const clients: Client[] = [];
    for (let i = 1; i <= 2; i++) {
      const client = stage.client(port);
      clients.push(client);
      await client.connected();
    }
    await stage.until("both in the queue", () => listener()?.queue === 2);
    stage.say("A third one connects.");
    const late = stage.client(port);
    const syn = () =>
      tcpTable().find(({ state, remotePort }) => state === "SYN_SENT" && remotePort === port);
    await stage.until(
      "its SYN to be sent again",
      () => (syn()?.retransmits ?? 0) > 0 || late.state() !== "connecting",
    );
    stage.draw("The queue is full; the third client is not connected");
    expectLimit(stage, listener()?.limit, 1);
    stage.expect(
      "connections in the queue",
      listener()?.queue,
      (queue) => queue === 2,
      "2: one more",
    );
    stage.expect(
      "the third client meanwhile",
      late.state(),
      (state) => state === "connecting",
      "connecting",
    );
    stage.expect(
      "times that its SYN was sent again",
      syn()?.retransmits,
      (count) => count !== undefined && count >= 1,
      "at least 1",
    );
    stage.expect(
      "SYNs ignored meanwhile (ListenOverflows)",
      listenOverflows() - overflows,
      (count) => count >= 1,
      "at least 1",
    );

    stage.say("Enter is typed to the server: it accepts and answers one client.");
    await server.type("\n");
    await clients[0]!.ended();
    stage.expect(
      "the first client is",
      clients[0]!.state(),
      (state) => state === "closed",
      "closed",
    );
    await late.connected();
    await stage.until("the third client in the queue", () => listener()?.queue === 2);
    stage.draw("Its next SYN found room in the queue");
    stage.expect("the third client is", late.state(), (state) => state === "waiting", "waiting");
    stage.note("seconds until it was connected", late.seconds().toFixed(1));
    stage.note(
      "SYNs sent again at most (tcp_syn_retries)",
      Deno.readTextFileSync("/proc/sys/net/ipv4/tcp_syn_retries").trim(),
    );
  },
};

/** How many connections this system has ignored because a queue was full. */
function listenOverflows(): number {
  const [names, values] = Deno.readTextFileSync("/proc/net/netstat").split("\n")
    .filter((line) => line.startsWith("TcpExt:")).map((line) => line.split(" "));
  return Number(values![names!.indexOf("ListenOverflows")]);
}
