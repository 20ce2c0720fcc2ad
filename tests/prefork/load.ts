/**
 * A load of clients that know exactly what became of each request: raw sockets,
 * one request after the other on each.
 */

/** Where the clients connect. */
export type Target = { hostname?: string; port: number } | { transport: "unix"; path: string };

/** How the clients behave. */
export interface LoadOptions {
  /** How many; 8 if left out. */
  clients?: number;
  /** Whether a connection is used for request after request. */
  keepAlive?: boolean;
  /** What they ask for; `/pid` if left out. */
  path?: string;
  /** How long each waits between two requests, in milliseconds; not at all if left out. */
  pause?: number;
}

/** A request that failed. */
export interface Failure {
  why: string;
  /** When it was sent and when it failed, as `performance.now()` counts. */
  sent: number;
  at: number;
  /** Bytes of the reply that had come. */
  bytes: number;
  /** The worker that had answered before on the same connection; nothing on a fresh one. */
  worker: number | undefined;
}

/** How long the last requests may take when the load is told to stop, in milliseconds. */
const PATIENCE = 30_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Clients that go on until they are told to stop. */
export class Load implements AsyncDisposable {
  ok = 0;
  /** The answers by their text, which for `/pid` is the worker. */
  readonly answers = new Map<string, number>();
  readonly failures: Failure[] = [];
  /** The longest that a request that went well has taken, in milliseconds. */
  slowest = 0;
  #going = true;
  readonly #connections = new Set<Deno.Conn>();
  readonly #clients: Promise<void>[];

  constructor(readonly target: Target, readonly options: LoadOptions = {}) {
    this.#clients = Array.from({ length: options.clients ?? 8 }, () => this.#client());
  }

  /** Failed requests that had got a byte of the reply. */
  get torn(): Failure[] {
    return this.failures.filter(({ bytes }) => bytes > 0);
  }

  /** Failed requests on a reused connection, before any byte: they met its close. */
  get raced(): Failure[] {
    return this.failures.filter(({ bytes, worker }) => bytes === 0 && worker !== undefined);
  }

  /** Lets each client finish its request, and gives what came of all. */
  async stop(): Promise<this> {
    this.#going = false;
    // A server that answers nothing is to fail the test, and not to hang it.
    const timer = setTimeout(() => this.#connections.forEach(close), PATIENCE);
    await Promise.all(this.#clients);
    clearTimeout(timer);
    return this;
  }

  /** All in a line or two. */
  toString(): string {
    const reasons = Map.groupBy(
      this.failures,
      ({ why, bytes, worker }) =>
        `${worker === undefined ? "fresh" : "reused"}, ${bytes > 0 ? "torn" : "no byte"}: ${why}`,
    );
    const list = [...reasons].map(([why, failures]) => `${failures.length} ${why}`);
    return [`${this.ok} ok, ${this.failures.length} failed`, ...list].join("\n  ");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #client(): Promise<void> {
    const { keepAlive = false, path = "/pid", pause = 0 } = this.options;
    const request = encoder.encode(
      `GET ${path} HTTP/1.1\r\nHost: test\r\n${keepAlive ? "" : "Connection: close\r\n"}\r\n`,
    );
    let connection: Deno.Conn | undefined;
    let worker: number | undefined;
    while (this.#going) {
      const sent = performance.now();
      const progress = { bytes: 0 };
      try {
        if (connection === undefined) {
          connection = await connect(this.target);
          this.#connections.add(connection);
        }
        await writeAll(connection, request);
        const { text, last } = await readReply(connection, progress);
        this.ok++;
        this.answers.set(text, (this.answers.get(text) ?? 0) + 1);
        this.slowest = Math.max(this.slowest, performance.now() - sent);
        worker = Number(text);
        if (last || !keepAlive) [connection, worker] = [this.#close(connection), undefined];
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        const at = performance.now();
        this.failures.push({ why, sent, at, worker, ...progress });
        [connection, worker] = [this.#close(connection), undefined];
        // A server that is gone refuses fast.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.#close(connection);
  }

  #close(connection: Deno.Conn | undefined): undefined {
    if (connection === undefined) return;
    this.#connections.delete(connection);
    close(connection);
  }
}

async function connect(target: Target): Promise<Deno.Conn> {
  try {
    return "path" in target ? await Deno.connect(target) : await Deno.connect(target);
  } catch (error) {
    throw new Error(`connect: ${(error as Error).message}`);
  }
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // closed already
  }
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Reads one reply, by its content-length. */
async function readReply(
  connection: Deno.Conn,
  progress: { bytes: number },
): Promise<{ text: string; last: boolean }> {
  const buffer = new Uint8Array(4096);
  for (;;) {
    const count = await connection.read(buffer.subarray(progress.bytes));
    if (count === null) throw new Error("closed by the server");
    progress.bytes += count;
    const reply = decoder.decode(buffer.subarray(0, progress.bytes));
    const end = reply.indexOf("\r\n\r\n");
    if (end === -1) continue;
    const head = reply.slice(0, end);
    const text = reply.slice(end + 4);
    const length = Number(head.match(/^content-length: (\d+)$/im)?.[1]);
    if (text.length < length) continue;
    if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(head.split("\r\n")[0]);
    return { text, last: /^connection: close$/im.test(head) };
  }
}
