/** The lessons about sockets, processes and descriptors: each is played, and each can fail. */
import { assert, assertEquals } from "@std/assert";
import type { Change } from "../support.ts";
import { brokenLesson, playedLesson } from "./broken.ts";

/** The stage's own figure: what is started must listen. */
const LISTENS = "a listening socket";

/** What breaks a lesson, and the figure that must notice it. */
const BREAKS: Record<string, Change & { readonly figure: string }> = {
  backlog: {
    file: "examples/part3/webserver3b.ts",
    text: "const REQUEST_QUEUE_SIZE = 5;",
    replacement: "const REQUEST_QUEUE_SIZE = 4;",
    figure: "the queue's limit",
  },
  overflow: {
    file: "examples/lab/programs/accept_on_enter.ts",
    text: "listenSocket.listen(Number(backlog));",
    replacement: "listenSocket.listen(1024);",
    figure: "the third client meanwhile",
  },
  reuseaddr: {
    file: "examples/part3/webserver3a.ts",
    text: "  listenSocket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1);\n",
    replacement: "",
    figure: LISTENS,
  },
  client: {
    file: "examples/lab/programs/client.ts",
    text: '"test"',
    replacement: '"a test"',
    figure: "bytes that wait there",
  },
  client3: {
    file: "examples/part3/client3.ts",
    text: "for (let i = 0; i < MAX_CONNS; i++) {",
    replacement: "for (let i = 0; i < 2; i++) {",
    figure: "that wait in connect()",
  },
  ports: {
    file: "examples/part3/webserver3a.ts",
    text: "    Deno.exit(1);\n",
    replacement: '    listenSocket.bind(["", 0]);\n    listenSocket.listen(5);\n',
    figure: "sockets with which it listens",
  },
  pair: {
    file: "examples/part3/socket_pair.ts",
    text: "const [connection] = listenSocket.accept();\n",
    replacement: "const [connection] = listenSocket.accept();\nlistenSocket.close();\n",
    figure: "sockets that listen",
  },
  processes: {
    file: "examples/part3/processes.ts",
    text: "const pid = fork();",
    replacement: "const pid = fork() || fork();", // a grandchild
    figure: "the child's parent",
  },
  descriptors: {
    file: "examples/lab/programs/lowest_descriptor.ts",
    text: "close(0);\n",
    replacement: "",
    figure: "the socket's descriptor",
  },
  // As 3g does it.
  scratch: {
    file: "examples/part3/from_scratch.ts",
    text: "    receiveRequest(clientConnection);\n\n    const pid = fork();\n" +
      "    if (pid === 0) { // child\n",
    replacement: "    const pid = fork();\n    if (pid === 0) { // child\n" +
      "      receiveRequest(clientConnection);\n",
    figure: "children",
  },
};

for (const [name, { figure, ...change }] of Object.entries(BREAKS)) {
  Deno.test(`the lesson ${name} is as its text says`, async () => {
    const { code, differs, figures } = await playedLesson(name);
    assertEquals([code, differs], [0, []]);
    assert(figures.has(figure) || figure === LISTENS);
  });

  Deno.test(`the lesson ${name} notices a changed program`, async () => {
    const { code, differs } = await brokenLesson(name, change);
    assertEquals(code, 1);
    assert(differs.includes(figure), `${differs}`);
  });
}
