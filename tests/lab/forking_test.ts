/** The lessons about forking: each is played, and played on a copy with one program changed. */
import { assertEquals, assertMatch } from "@std/assert";
import type { ProcessView, SocketView } from "../../examples/lab/lesson.ts";
import { DENO, Program, ROOT, scratch, within } from "../support.ts";
import { StageClient } from "../../examples/lab/stage/client.ts";
import { draw } from "../../examples/lab/terminal/draw.ts";
import { brokenLesson, playedLesson } from "./broken.ts";

interface Row {
  readonly lesson: string;
  /** What is changed, and how. */
  readonly change: string;
  readonly file: string;
  readonly text: string;
  readonly replacement: string;
  /** The figure that must differ then. */
  readonly figure: string;
}

const ROWS: readonly Row[] = [
  {
    lesson: "3c",
    change: "the child keeps the listening socket",
    file: "examples/part3/webserver3c.ts",
    text: "listenSocket.close(); // close child copy",
    replacement: "",
    figure: "who has the listening socket",
  },
  {
    lesson: "order",
    change: "the parent does not wait",
    file: "examples/lab/programs/order_wait.ts",
    text: "wait(); // until the child has ended",
    replacement: "",
    figure: "child first",
  },
  {
    lesson: "references",
    change: "the first close() shuts the connection down",
    file: "examples/lab/programs/copies.ts",
    text: "signal(SIGUSR1, () => connection.close());",
    replacement: "signal(SIGUSR1, () => (connection.shutdown(1), connection.close()));",
    figure: "the client, with 2 descriptors",
  },
  {
    lesson: "3d",
    change: "the parent closes its copy",
    file: "examples/part3/webserver3d.ts",
    text: "// clientConnection.close();",
    replacement: "clientConnection.close();",
    figure: "of these, clients that hang",
  },
  {
    lesson: "toomany",
    change: "the parent closes its copy",
    file: "examples/part3/webserver3d.ts",
    text: "// clientConnection.close();",
    replacement: "clientConnection.close();",
    figure: "connections of the five that it keeps",
  },
  {
    lesson: "zombies",
    change: "SIGCHLD is ignored",
    file: "examples/part3/webserver3d.ts",
    text: "becomeForkable();",
    replacement: 'becomeForkable();\nimport { SIG_IGN, SIGCHLD, signal } from "../../mod.ts";\n' +
      "signal(SIGCHLD, SIG_IGN);",
    figure: "zombies",
  },
  {
    lesson: "eagain",
    change: "there is no limit",
    file: "examples/lab/programs/process_limit.ts",
    text: "setrlimit(RLIMIT_NPROC, { soft: Number(limit), hard: Number(limit) });",
    replacement: "",
    figure: "the server",
  },
  {
    lesson: "wait",
    change: "the parent does not wait",
    file: "examples/lab/programs/webserver_wait.ts",
    text: "wait(); // blocks until the child has ended",
    replacement: "",
    figure: "children and zombies after that",
  },
  {
    lesson: "3e",
    change: "accept() is called again",
    file: "examples/part3/webserver3e.ts",
    text: "const [clientConnection] = listenSocket.accept();",
    replacement: "let clientConnection: Socket;\n" +
      "try { [clientConnection] = listenSocket.accept(); } catch { continue; }",
    figure: "the server",
  },
];

for (const { lesson, change, figure, ...where } of ROWS) {
  Deno.test(`the lesson ${lesson} is as its text says`, async () => {
    const { code, differs } = await playedLesson(lesson);
    assertEquals([code, differs], [0, []]);
  });

  Deno.test(`the lesson ${lesson} notices when ${change}`, async () => {
    const { code, differs } = await brokenLesson(lesson, where, []);
    assertEquals([code, differs.includes(figure)], [1, true], `${differs}`);
  });
}

Deno.test("the lesson 3e says so if there is no python3", async () => {
  await using folder = scratch();
  const args = ["run", "--allow-all", "examples/lab/learn.ts", "3e", "--json"];
  const env = { PATH: folder.path };
  await using program = new Program(DENO, args, { cwd: ROOT.pathname, env });
  assertEquals((await program.ended(60_000)).code, 0, program.stdout);
  assertMatch(program.stdout, /python3 \(3\.5 or newer\) is not installed here/);
});

Deno.test("a lesson calls zombies by the program that they ran", async () => {
  const { events } = await playedLesson("toomany");
  const picture = events.find((event) => event.type === "picture")!;
  const dead = picture.snapshot.processes.filter(({ state }) => state === "zombie");
  assertEquals(dead.map(({ program }) => program), Array(5).fill("examples/part3/webserver3d.ts"));
});

Deno.test("`learn` shows the decisive line, an error and a remark in 80 columns", async () => {
  const args = ["run", "--allow-all", "examples/lab/learn.ts", "3d", "toomany"];
  await using program = new Program(DENO, args, { cwd: ROOT.pathname });
  assertEquals((await program.ended(60_000)).code, 0);
  const text = program.stdout;
  assertMatch(
    text,
    /^examples\/part3\/webserver3d\.ts:\d+\n {2}\/\/ clientConnection\.close\(\);$/m,
  );
  assertMatch(text, /^ {2}· it printed\n {6}Cannot accept: EMFILE \(Too many open files\)$/m);
  assertMatch(text, /^ {2}✓ zombies +3 {2}\(3d does not wait either\)$/m);
  assertMatch(text, /\n\n {2}Is it the server's copy\? .*\n\$ kill -KILL \d+\n\n/);
  assertEquals(text.match(/ wait in ppoll\(2\): /g)?.length, 1, "it is said once");
  const shown = text.split("\n").filter((line) => !line.startsWith("$"));
  assertEquals(shown.filter((line) => [...line].length > 80), []);
});

Deno.test("a drawing calls UNIX sockets without a name what they are", () => {
  const socket = { state: "ESTABLISHED", local: "", remote: "", queue: 0 };
  const processes = [1, 2].map((pid): ProcessView => ({
    pid,
    ppid: 0,
    session: 1,
    role: "server",
    program: "server.ts",
    state: "running",
    descriptors: [{ fd: 7, kind: "unix", target: `socket:[${pid}]`, inode: pid }],
    signals: { pending: [], blocked: [], caught: [] },
    cpu: 0,
  }));
  const sockets = processes.map(({ pid }): SocketView => (
    { ...socket, kind: "unix", inode: pid, holders: [{ pid, fd: 7 }] }
  ));
  const lines = draw({ at: 0, processes, sockets, clients: [] }, 80);
  assertEquals(lines.filter((line) => line.startsWith("  UNIX socket  ")).length, 2);
});

Deno.test("of clients that come one by one, each waits for the answer of the one before", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const first = new StageClient(1, listener.addr.port, {});
  const second = new StageClient(2, listener.addr.port, {}, Infinity, first);
  const server = await listener.accept();
  const next = listener.accept();
  await first.connected();
  const isThere = await within(next, 300, "the second client").then(() => true, () => false);
  assertEquals([isThere, second.state()], [false, "connecting"]);
  await server.write(new TextEncoder().encode("hello"));
  const other = await within(next, 15_000, "the second client");
  assertEquals([first.reply(), await second.connected()], ["hello", "waiting"]);
  first.close();
  second.close();
  server.close();
  other.close();
});
