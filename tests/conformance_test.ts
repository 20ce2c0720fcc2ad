/**
 * HTTP is Deno's on every rung, so every rung must answer as `deno serve` does:
 * the same bytes to the same bytes, with the same end.
 */
import { assertEquals } from "@std/assert";
import { HALF_CLOSE, REQUESTS, type Step } from "./conformance/requests.ts";
import { DENO, Program, ROOT, start, until } from "./support.ts";

const APP = new URL("tests/conformance/app.ts", ROOT).pathname;

/** The rungs of the ladder, and over how many connections at a time each is asked. */
const RUNGS = { iterative: 1, forking: 4, prefork: 8 };

async function startRung(model: string): Promise<{ server: Program; port: number }> {
  const args = ["serve", APP, "--model", model, "--host", "127.0.0.1", "--port", "0"];
  const server = start("server/cli.ts", args, { flags: ["-A"] });
  return { server, port: await portIn(server) };
}

async function startDenoServe(): Promise<{ server: Program; port: number }> {
  const args = ["serve", "--no-lock", "--host", "127.0.0.1", "--port", "0", APP];
  const server = new Program(DENO, args);
  return { server, port: await portIn(server) };
}

/** The port in the URL on standard error. */
async function portIn(server: Program): Promise<number> {
  const url = /http:\/\/[^\s/]+:(\d+)\//;
  return Number((await until(() => server.stderr.match(url), "the server's URL"))[1]);
}

/** What came back, and whether the server has closed the connection. */
interface Answer {
  readonly bytes: string;
  readonly end: "closed" | "open";
}

Deno.test("every rung answers raw requests, byte for byte, as deno serve does", async (t) => {
  const { server, port } = await startDenoServe();
  let expected: Record<string, Answer>;
  {
    await using _ = server;
    expected = await askAll(port, 16);
  }
  for (const [model, clients] of Object.entries(RUNGS)) {
    await t.step(model, async () => {
      const { server, port } = await startRung(model);
      await using _ = server;
      const answers = await askAll(port, clients, expected);
      const differing = Object.keys(REQUESTS).filter((name) =>
        JSON.stringify(answers[name]) !== JSON.stringify(expected[name])
      );
      const of = (all: Record<string, Answer>) => differing.map((name) => [name, all[name]]);
      assertEquals(of(answers), of(expected));
    });
  }
});

/** Asks everything, over some connections at a time. */
async function askAll(
  port: number,
  clients: number,
  expected: Record<string, Answer> = {},
): Promise<Record<string, Answer>> {
  const answers: Record<string, Answer> = {};
  const names = Object.keys(REQUESTS);
  const work = names.values();
  await Promise.all(Array.from({ length: clients }, async () => {
    for (const name of work) answers[name] = await ask(port, REQUESTS[name]!, expected[name]);
  }));
  return Object.fromEntries(names.map((name) => [name, answers[name]!]));
}

/** How long a connection must be silent to be taken for open where nothing better is known. */
const SILENCE = 1500;
/** The same where the answer is known and has come. */
const SHORT_SILENCE = 50;
const PATIENCE = 15_000;

async function ask(port: number, steps: readonly Step[], expected?: Answer): Promise<Answer> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  let bytes = "";
  let closed = false;
  let last = performance.now();
  const reading = read();
  for (const step of steps) {
    if (step === HALF_CLOSE) await connection.closeWrite().catch(() => {});
    else if (typeof step === "string") await send(step);
    else await patiently(() => step.test(bytes));
    // Pieces are to arrive as pieces.
    if (steps.length > 1) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await patiently(isComplete);
  const answer = { bytes: mask(bytes, port), end: closed ? "closed" : "open" } as const;
  if (!closed) await connection.closeWrite().catch(() => {});
  connection.close();
  await reading;
  return answer;

  async function read(): Promise<void> {
    const buffer = new Uint8Array(65536);
    try {
      for (let count; (count = await connection.read(buffer)) !== null;) {
        bytes += String.fromCharCode(...buffer.subarray(0, count));
        last = performance.now();
      }
    } catch {
      // reset by the server, or closed by us
    }
    closed = true;
  }

  async function send(text: string): Promise<void> {
    try {
      const data = Uint8Array.from(text, (char) => char.charCodeAt(0));
      for (let sent = 0; sent < data.length;) sent += await connection.write(data.subarray(sent));
    } catch {
      // the server has heard enough
    }
  }

  function isComplete(): boolean {
    const silence = performance.now() - last;
    if (closed) return true;
    if (expected === undefined) return silence > SILENCE;
    return expected.end === "open" && silence > SHORT_SILENCE &&
      mask(bytes, port) === expected.bytes;
  }

  async function patiently(condition: () => boolean): Promise<void> {
    await until(() => condition() || closed, "an answer", PATIENCE).catch(() => {});
  }
}

/** Without what may differ: the time, and the server's port. */
function mask(bytes: string, port: number): string {
  return bytes
    .replace(/^date: [^\r]*/gm, "date: now")
    .replaceAll(`localhost:${port}`, "localhost:port");
}
