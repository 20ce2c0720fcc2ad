/**
 * What options cost a worker for each request, in processor time, which other programs disturb less
 * than requests per second. Run it with `deno run -A tests/bench/options.ts`: a minute.
 */
import { type Server, startServer } from "../support.ts";

const CONNECTIONS = 16;
const REQUESTS = 8000;
const ROUNDS = 15;

/** A server, and what its clients send. */
interface Variant {
  readonly name: string;
  readonly options?: readonly string[];
  /** What a connection begins with. */
  readonly preface?: string;
  /** Fields of each request. */
  readonly fields?: string;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const buffer = new Uint8Array(4096);

const TRUST = ["--trust-proxy", "loopback"];
const FORWARDED = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n" +
  "X-Forwarded-Host: example.com\r\n";
const log = (format: string) => ["--access-log", "/dev/null", "--access-log-format", format];
const COMBINED = '%h %l - %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"';

/** The first of each group is what the others are compared with. */
const GROUPS: readonly (readonly Variant[])[] = [
  [
    { name: "requests with X-Forwarded-For, -Proto and -Host", fields: FORWARDED },
    { name: "--trust-proxy", options: TRUST, fields: FORWARDED },
  ],
  [
    { name: "requests without such fields" },
    { name: "the same again" },
    { name: "--trust-proxy", options: TRUST },
    {
      name: "--trust-proxy and --proxy-protocol, connections kept",
      options: [...TRUST, "--proxy-protocol"],
      preface: "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n",
    },
  ],
  [
    { name: "access log: combined", options: log("combined") },
    { name: "a format string of the same fields", options: log(COMBINED) },
    { name: "a format string with %D, worker and id, too", options: log(`${COMBINED} %D %P %L`) },
    { name: "json", options: log("json") },
  ],
];

for (const group of GROUPS) {
  const results = await measure(group);
  const [base] = results as [number[]];
  for (const [i, { name }] of group.entries()) {
    const own = results[i]!;
    const more = median(own.map((cost, round) => cost - base[round]!));
    const text = i === 0 ? "" : ` ${more < 0 ? "" : "+"}${more.toFixed(1)}`;
    console.log(`${name.padEnd(56)} ${median(own).toFixed(1).padStart(5)} µs${text}`);
  }
  console.log();
}

/** Returns the microseconds for each request, of all rounds of each variant. */
async function measure(variants: readonly Variant[]): Promise<number[][]> {
  await using stack = new AsyncDisposableStack();
  const all = [];
  for (const { options = [], preface = "", fields = "" } of variants) {
    const server: Server = stack.use(await startServer(["--workers", "1", ...options]));
    const clients: Deno.Conn[] = [];
    for (let i = 0; i < CONNECTIONS; i++) {
      const client = stack.use(await Deno.connect({ port: server.port }));
      await client.write(encoder.encode(preface));
      clients.push(client);
    }
    const request = encoder.encode(
      `GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n${fields}\r\n`,
    );
    const [worker] = server.workers;
    all.push({ worker: worker!, clients, request, costs: [] as number[] });
  }
  for (let round = -1; round < ROUNDS; round++) { // the first one warms up
    for (const { worker, clients, request, costs } of round % 2 === 0 ? all : all.toReversed()) {
      const before = processorTime(worker);
      for (let sent = 0; sent < REQUESTS; sent += CONNECTIONS) {
        for (const client of clients) await client.write(request);
        for (const client of clients) await readResponse(client);
      }
      if (round >= 0) costs.push((processorTime(worker) - before) / REQUESTS);
    }
  }
  return all.map(({ costs }) => costs);
}

async function readResponse(client: Deno.Conn): Promise<void> {
  for (let text = ""; !text.endsWith("Hello, World!\n");) {
    const count = await client.read(buffer);
    if (count === null) throw new Error("The server has closed a connection");
    text += decoder.decode(buffer.subarray(0, count));
  }
}

/** Returns the processor time of all threads of a process, in microseconds. */
function processorTime(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/task`)]
    .map(({ name }) =>
      Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0])
    )
    .reduce((sum, nanoseconds) => sum + nanoseconds / 1000, 0);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
