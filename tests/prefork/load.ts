/**
 * A load of clients that record exactly what happened to each request: raw sockets, with one
 * request at a time on each.
 */

/** Where the clients connect. */
export type Target = { hostname?: string; port: number } | { transport: "unix"; path: string };

/** How the clients behave. */
export interface LoadOptions {
  /** The number of clients. The default is 8. */
  clients?: number;
  /** Whether a connection is used for several requests. */
  keepAlive?: boolean;
  /** The path that they request. The default is `/pid`. */
  path?: string;
  /** The pause between two requests, in milliseconds. The default is none. */
  pause?: number;
}

/** A request that failed. */
export interface Failure {
  why: string;
  /** When it was sent and when it failed, in milliseconds of `performance.now()`. */
  sent: number;
  at: number;
  /** The number of bytes of the response that had arrived. */
  bytes: number;
  /** The worker that answered before on this connection; `undefined` on a new connection. */
  worker: number | undefined;
}

/** How long the last requests may take after the load is stopped, in milliseconds. */
const PATIENCE = 30_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Clients that continue until they are stopped. */
export class Load implements AsyncDisposable {
  ok = 0;
  /** The number of responses by text, which for `/pid` is the worker. */
  readonly answers = new Map<string, number>();
  readonly failures: Failure[] = [];
  /** The longest duration of a successful request, in milliseconds. */
  slowest = 0;
  #going = true;
  readonly #connections = new Set<Deno.Conn>();
  readonly #clients: Promise<void>[];

  /** A function returns where the next connection goes. */
  constructor(readonly target: Target | (() => Target), readonly options: LoadOptions = {}) {
    this.#clients = Array.from({ length: options.clients ?? 8 }, () => this.#client());
  }

  /** The failed requests that had received part of the response. */
  get torn(): Failure[] {
    return this.failures.filter(({ bytes }) => bytes > 0);
  }

  /** The failed requests on a reused connection without any response: it was just being closed. */
  get raced(): Failure[] {
    return this.failures.filter(({ bytes, worker }) => bytes === 0 && worker !== undefined);
  }

  /** Lets each client finish its request, and returns the results. */
  async stop(): Promise<this> {
    this.#going = false;
    // If the server does not answer, the test must fail instead of hanging.
    const timer = setTimeout(() => this.#connections.forEach(close), PATIENCE);
    await Promise.all(this.#clients);
    clearTimeout(timer);
    return this;
  }

  /** Summarizes the results in a line or two. */
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
          connection = await connect(
            typeof this.target === "function" ? this.target() : this.target,
          );
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
        // A server that has ended refuses connections quickly.
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
    // already closed
  }
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Reads one response, by its content-length. */
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
