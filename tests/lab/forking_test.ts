/** The lessons about forking: each is played, and played on a copy with one program changed. */
import { assertEquals } from "@std/assert";
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
    figure: "processes with the listening socket",
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
    figure: "the server",
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
    figure: "children, zombies included, while the second client's sleeps",
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
    const { code, differs } = await brokenLesson(lesson, where);
    assertEquals([code, differs.includes(figure)], [1, true], `${differs}`);
  });
}
