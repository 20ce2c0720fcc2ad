import type { Client, Lesson, Stage } from "../lesson.ts";
import { allEnded } from "./bursts.ts";
import { holdersOf } from "./family.ts";
import { holdersOfEach } from "./holders.ts";

const PROGRAM = "examples/part3/webserver3h.ts";
const FRAMEWORK = "examples/apps/hono.ts";
const PLAIN = "examples/apps/hello.ts";

/** The server that runs any application. */
export const lesson: Lesson = {
  name: "3h",
  title: "The gateway: any application on the same server",
  source: "Let's Build A Web Server, part 3: the exercise at its end (webserver3h)",
  question:
    "The server of 3g answers every request with the same text. Web frameworks do not know it, and " +
    "it does not know them. What must both agree on, so that it can run an application written " +
    "with one? Write it yourself first.",
  answer:
    "An interface. In Python, that is WSGI: a callable that gets the request's environment and " +
    "returns the response. Here, it is a module whose default export has a fetch() function from " +
    "a Request to a Response, as for `deno serve`; Hono and other frameworks make one. The loop, " +
    "the fork and the handler are still those of 3g: each connection has a child, which gives it to " +
    "Deno's own HTTP server, and that calls the application.",
  programs: [
    {
      file: PROGRAM,
      decisive: "await serveConnection(clientConnection, app);",
      differsFrom: "examples/part3/webserver3g.ts",
    },
    { file: FRAMEWORK, decisive: "export default app;" },
  ],
  read: ["https://peps.python.org/pep-3333/", "https://hono.dev", PROGRAM, FRAMEWORK],
  next: "zombieprob",
  async run(stage) {
    const framework = await fetchFramework(stage);
    const server = await stage.start({
      program: PROGRAM,
      flags: ["-A"],
      args: [framework ? FRAMEWORK : PLAIN, "PORT"],
    });
    const get = (path: string) =>
      stage.client(server.port!, { request: `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n` });

    stage.say(
      framework
        ? "A slow request, and a quick one while the first still waits."
        : "A client that connects and sends nothing yet, and one with a request.",
    );
    const seconds = stage.slow ? 10 : 3;
    const slow = framework ? get(`/slow/${seconds}`) : stage.client(server.port!, {
      request: null, // a connection without a request keeps a child as well
    });
    await slow.connected();
    const quick = get(framework ? "/hello/you" : "/");
    await responded(stage, quick);
    const meanwhile = slow.state();
    const [first, second] = await holdersOfEach(stage, server, [slow, quick]);
    stage.draw("Each connection has a child; the parent has neither");
    stage.expect("the first client is", meanwhile, (state) => state === "waiting", "waiting");
    stage.expect(
      "status line of the second client's response",
      quick.reply().split("\r\n")[0]!,
      (line) => line === "HTTP/1.1 200 OK",
      "HTTP/1.1 200 OK",
    );
    stage.expect(
      "its body",
      bodyOf(quick),
      (body) => body === (framework ? '{"hello":"you"}' : "Hello, World!\n"),
      framework ? "the path's parameter, as JSON" : "Hello, World!",
    );
    const isChild = (pids?: number[]) => pids?.length === 1 && pids[0] !== server.pid;
    stage.expect(
      "processes that have the connections",
      [...first!, ...second!].join(" and "),
      () => isChild(first) && isChild(second) && first![0] !== second![0],
      "one child each, and not the parent",
    );

    if (framework) {
      const who = get("/who");
      await responded(stage, who);
      const pids = await stage.until("the child of a third connection", () => {
        const holders = holdersOf(who, stage.snapshot());
        return holders.length > 0 && holders;
      });
      stage.expect(
        "pid that the application gives in its response to a third client",
        JSON.parse(bodyOf(who)).pid as number,
        (pid) => pids.includes(pid),
        `${pids.join(" or ")}: the process that has the connection`,
      );
      const missing = get("/nothing");
      await missing.answered();
      stage.expect(
        "status line for a path that the application does not have",
        missing.reply().split("\r\n")[0]!,
        (line) => line === "HTTP/1.1 404 Not Found",
        "HTTP/1.1 404 Not Found, from the framework's router",
      );
      await slow.answered(seconds + 20);
      for (const client of [who, missing]) client.close();
    }
    for (const client of [slow, quick]) client.close();
    const left = await allEnded(stage, server);
    stage.expect("zombies", left, (count) => count === 0, "0");
  },
};

/** Gets the framework, if it is not in Deno's cache yet. Returns whether it is there now. */
async function fetchFramework(stage: Stage): Promise<boolean> {
  const cache = await stage.start({
    command: ["deno", "cache", FRAMEWORK],
    role: "other",
    listens: false,
  });
  const { code } = await cache.ended(120);
  if (code === 0) return true;
  const reason = cache.output().trim().split("\n").find((line) => line.startsWith("error"));
  stage.say(
    `The framework, Hono, is missing: it is not in Deno's cache, and it could not be downloaded ` +
      `from the npm registry (${reason}). With a network, \`deno cache ${FRAMEWORK}\` gets ` +
      "it, once. Until then the server runs an application that needs no framework.",
  );
  stage.note("framework", "missing");
  return false;
}

/** Waits until a client has its response, with all of the body. */
async function responded(stage: Stage, client: Client): Promise<void> {
  await client.answered();
  await stage.until("the whole response", () => {
    const length = client.reply().match(/^content-length: (\d+)\r$/im)?.[1];
    return length !== undefined && bodyOf(client).length >= Number(length);
  });
}

function bodyOf(client: Client): string {
  return client.reply().split("\r\n\r\n").slice(1).join("\r\n\r\n");
}
