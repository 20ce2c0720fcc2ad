import { formatCount } from "../../log.ts";
import { networkAddress } from "../../prefork/options.ts";
import { type Status, StatusError } from "../../prefork/status/status.ts";
import type { Command, RunningServer } from "./running_server.ts";

/** How long an answer may take, in milliseconds. */
const PATIENCE = 10_000;

/** How often to look whether the master has done what it was told, in milliseconds. */
const INTERVAL = 50;

const PATHS: Readonly<Record<Command, string>> = {
  "reload": "/reload",
  "stop": "/stop",
  "stop now": "/stop?now",
  "reopen logs": "/logs/reopen",
};

/** Nobody listens any more: the server has ended. */
const ENDED = ["ECONNREFUSED", "ENOENT"];

/** An answer of the admin socket. */
interface Answer {
  readonly status: number;
  readonly body: string;
}

/** A server that is asked and told over its admin socket. */
export class RemoteServer implements RunningServer {
  /** What it is called in messages. */
  readonly name: string;
  readonly #where: { socketPath: string } | { host: string; port: number };

  /**
   * Creates the view of the server with the given admin socket.
   *
   * @param address Host and port, or the path of a UNIX socket, as for `serve --admin`.
   */
  constructor(address: string) {
    this.name = `the server at ${address}`;
    const [host, port] = networkAddress(address.replace(/^http:\/\/([^/]+)\/?$/, "$1")) ?? [];
    this.#where = host === undefined
      ? { socketPath: address }
      : { host: host || "127.0.0.1", port: port! };
  }

  /** Asks for its status. */
  async status(): Promise<Status> {
    const { status, body } = await this.#ask("GET", "/status.json");
    if (status !== 200) throw this.#cannot("read the status of", body);
    const value = parse(body);
    if (isStatus(value)) return value;
    const isOther = (value as Partial<Status> | undefined)?.master?.pid !== undefined;
    throw this.#cannot(
      "read the status of",
      isOther ? "it runs a different version of tine" : "that is not the admin socket of tine",
    );
  }

  /** Asks for its status. */
  look(): Promise<Status> {
    return this.status();
  }

  /** Posts a command. */
  tell(command: Command): Promise<void> {
    return this.#post(PATHS[command], command);
  }

  /** Posts the number of workers, and waits until the master has taken it. */
  async scale(workers: number): Promise<void> {
    await this.#post(`/scale?workers=${workers}`, "scale");
    const end = performance.now() + PATIENCE;
    for (;;) {
      const now = (await this.look()).master.workers;
      if (now === workers) return;
      if (performance.now() > end) {
        const seconds = PATIENCE / 1000;
        const workers = formatCount(now, "worker");
        throw this.#cannot("scale", `it still has ${workers} ${seconds} s after it was told`);
      }
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  }

  async #post(path: string, what: string): Promise<void> {
    const { status, body } = await this.#ask("POST", path);
    if (status !== 202) throw this.#cannot(what, body);
  }

  /** Returns whether nobody listens any more. */
  async hasEnded(): Promise<boolean> {
    try {
      await this.#ask("HEAD", "/healthz");
      return false;
    } catch (error) {
      return error instanceof StatusError && ENDED.includes(codeOf(error.cause));
    }
  }

  async #ask(method: string, path: string): Promise<Answer> {
    // Where the command line is one file, an import of the module would load it for all commands.
    const { request } = await import("node:http");
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const fail = (error: Error) =>
      reject(this.#cannot("ask", REASONS[codeOf(error)] ?? error.message, error));
    const asked = request({
      ...this.#where,
      agent: false, // the process that answered before may have been replaced
      method,
      path,
      // No page of another site can have a browser send this header.
      headers: { "connection": "close", "x-requested-with": "tine" },
    });
    const timer = setTimeout(
      () => asked.destroy(new Error(`it has not answered within ${PATIENCE / 1000} s`)),
      PATIENCE,
    );
    asked.on("error", fail);
    asked.on("response", (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text) => body += text);
      response.on("error", fail);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.end();
    return await promise.finally(() => clearTimeout(timer));
  }

  #cannot(what: string, reason: string, cause?: Error): StatusError {
    const error = new StatusError(`Cannot ${what} ${this.name}: ${reason.trim().split("\n")[0]}`);
    error.cause = cause;
    return error;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOENT: "there is no such socket",
  EACCES: "permission denied. Run this as the server's user or as root",
};

function codeOf(error: unknown): string {
  return (error as { code?: string } | undefined)?.code ?? "";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether a value has what the commands show: other versions of tine have less. */
function isStatus(value: unknown): value is Status {
  const { master, workers, slow } = (value ?? {}) as Partial<Status>;
  return Array.isArray(master?.latency?.counts) && master.reloads !== undefined &&
    Array.isArray(slow) && Array.isArray(workers) &&
    workers.every((worker) => Array.isArray(worker?.current) && worker.latency !== undefined);
}
