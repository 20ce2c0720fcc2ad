// A strict client: it keeps its connections open, checks each answer to the byte, never
// sends a request twice, and counts whatever goes wrong. A tenth of its requests are orders.
//
//     deno run -N client.ts http://127.0.0.1:8080/ --requests 10000
//
// It goes on until standard input ends, and for at least so many requests: it prints "begun"
// after the first hundred, and "enough" after that number. A line "release 2" in its input says that from now on no other may answer.
import { parseArgs } from "node:util";

const { values, positionals: [url] } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: "string", default: "10000" },
    connections: { type: "string", default: "16" },
    websockets: { type: "string", default: "8" },
  },
});
const { hostname, port, host } = new URL(url!);
const wanted = Number(values.requests);

const failures: Record<string, number> = {};
const answers: Record<string, number> = {};
const orders: string[] = [];
let requests = 0;
let begun = 0;
let slowest = 0;
let expected = "any";
let ended = false;

function fail(why: string): void {
  failures[why] = (failures[why] ?? 0) + 1;
}

/** Whether there is more to do. */
function goesOn(): boolean {
  return !ended || begun < wanted;
}

async function hear(): Promise<void> {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) expected = line.match(/^release (.+)$/)?.[1] ?? expected;
  }
  ended = true;
}

/** Counts an answer, or what is wrong with it. */
function check(answer: string, id: string, release: string): void {
  const [, server, actual] = answer.match(/^(\w+) (\w+) (\S+)\n$/) ?? [];
  if (server === undefined || !answer.endsWith(` ${id}\n`)) return fail("another answer");
  if (release !== "any" && actual !== release) fail(`release ${actual}, not ${release}`);
  const from = `${server} ${actual}`;
  answers[from] = (answers[from] ?? 0) + 1;
}

/** A connection on which requests follow each other. */
class Connection {
  readonly #conn: Deno.Conn;
  readonly #buffer = new Uint8Array(4096);

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  /** Sends a request. Returns the answer, and whether the server keeps the connection. */
  async ask(request: string): Promise<{ status: number; body: string; stays: boolean }> {
    const bytes = new TextEncoder().encode(request);
    for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
    let text = "";
    for (;;) {
      const [, header, body] = text.match(/^(.*?\r\n)\r\n(.*)$/s) ?? [];
      if (header !== undefined) {
        const length = Number(header.match(/^content-length: (\d+)\r$/im)?.[1]);
        if (Number.isNaN(length)) throw new Error("an answer without a length");
        if (body!.length >= length) {
          const status = Number(header.match(/^HTTP\/1\.1 (\d+)/)?.[1]);
          return { status, body: body!, stays: !/^connection: close\r$/im.test(header) };
        }
      }
      const count = await this.#conn.read(this.#buffer);
      if (count === null) throw new Error(text === "" ? "no answer" : "half an answer");
      text += new TextDecoder().decode(this.#buffer.subarray(0, count));
    }
  }

  close(): void {
    this.#conn.close();
  }
}

/** Sends requests one after the other, on one connection for as long as it stays. */
async function client(number: number): Promise<void> {
  let connection: Connection | undefined;
  for (let i = 0; goesOn(); i++) {
    begun++;
    const id = `${number}-${i}`;
    const release = expected;
    const isOrder = i % 10 === 9;
    if (isOrder) orders.push(id);
    const at = performance.now();
    try {
      connection ??= new Connection(await Deno.connect({ hostname, port: Number(port) }));
      const { status, body, stays } = await connection.ask(
        isOrder
          ? `POST /order HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${id.length}\r\n\r\n${id}`
          : `GET /${id} HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      );
      if (status === 200) check(body, id, release);
      else fail(`${isOrder ? "POST" : "GET"}: status ${status}`);
      if (!stays) {
        connection.close();
        connection = undefined;
      }
    } catch (error) {
      fail(`${isOrder ? "POST" : "GET"}: ${(error as Error).message}`);
      connection?.close();
      connection = undefined;
    }
    if (++requests === 100) console.log("begun");
    if (requests === wanted) console.log("enough");
    slowest = Math.max(slowest, performance.now() - at);
  }
  connection?.close();
}

const webSockets = { messages: 0, moves: 0 };

/**
 * Sends messages on a WebSocket, each after the answer to the one before. If the server goes
 * away it says so (1001): the client connects again, and repeats what was not answered.
 */
async function talk(number: number): Promise<void> {
  for (let i = 0; goesOn();) {
    const socket = new WebSocket(url!.replace("http", "ws"));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const say = () => goesOn() ? socket.send(`${number}-${i}`) : socket.close(1000);
    socket.onopen = say;
    socket.onmessage = ({ data }) => {
      check(data, `${number}-${i++}`, "any");
      webSockets.messages++;
      timer = setTimeout(say, 20);
    };
    let error = "";
    socket.onerror = (event) => error = ` (${(event as ErrorEvent).message})`;
    const { code } = await new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
    clearTimeout(timer);
    if (code === 1001) webSockets.moves++;
    else if (code !== 1000) {
      fail(`a WebSocket ended with ${code}${error}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const clients = Array.from({ length: Number(values.connections) }, (_, i) => client(i));
const talks = Array.from({ length: Number(values.websockets) }, (_, i) => talk(i));
const start = performance.now();
const hearing = hear();
await Promise.all(clients);
const seconds = (performance.now() - start) / 1000;
await Promise.all([hearing, ...talks]);
console.log(JSON.stringify({
  requests,
  failures,
  answers,
  orders,
  webSockets,
  seconds: Math.round(seconds),
  slowestMs: Math.round(slowest),
}));
