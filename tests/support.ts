/** Helpers for the tests: real programs, `/proc`, raw sockets, and waiting for conditions. */
import { assertSnapshot as assertSnapshotUntyped } from "@std/testing/snapshot";
import * as tine from "../mod.ts";
import { readStatus } from "../server/prefork/status/status.ts";

export const ROOT = new URL("../", import.meta.url);
const MOD = new URL("mod.ts", ROOT).href;
/** The Deno that runs the programs under test: another version for `deno task test:versions`. */
export const DENO = Deno.env.get("TINE_TEST_DENO") ?? Deno.execPath();

/** A running program. Its output is read as it arrives; disposing of it ends the program. */
export class Program implements AsyncDisposable {
  readonly pid: number;
  readonly status: Promise<Deno.CommandStatus>;
  stdout = "";
  stderr = "";
  #process: Deno.ChildProcess;
  #readers: Promise<void>[];
  #ended = false;

  constructor(command: string, args: string[], options: Deno.CommandOptions = {}) {
    this.#process = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...options,
      env: { NO_COLOR: "1", ...options.env },
    }).spawn();
    this.pid = this.#process.pid;
    this.status = this.#process.status.then((status) => {
      this.#ended = true;
      return status;
    });
    this.#readers = [
      this.#read(this.#process.stdout, (text) => this.stdout += text),
      this.#read(this.#process.stderr, (text) => this.stderr += text),
    ];
  }

  /** Its standard input, if it was started with `stdin: "piped"`. */
  get stdin(): WritableStream<Uint8Array<ArrayBuffer>> {
    return this.#process.stdin;
  }

  async #read(stream: ReadableStream<Uint8Array>, add: (text: string) => void): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) add(decoder.decode(chunk, { stream: true }));
  }

  /** Waits for a pattern in standard output, and returns its first match. */
  async printed(pattern: RegExp, milliseconds = 15_000): Promise<RegExpMatchArray> {
    return await until(
      () => {
        const match = this.stdout.match(pattern);
        if (match === null && this.#ended && this.stderr !== "") {
          throw new Error(`The program ended without printing ${pattern}: ${this.stderr}`);
        }
        return match;
      },
      `${pattern} in the output`,
      milliseconds,
    ).catch((error) => {
      throw new Error(`${error.message}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`);
    });
  }

  /** Waits for a line in the log. */
  async logged(pattern: RegExp, milliseconds = 30_000): Promise<RegExpMatchArray> {
    return await until(() => this.stderr.match(pattern), `${pattern} in the log`, milliseconds)
      .catch((error) => {
        throw new Error(`${error.message}\nstderr: ${this.stderr}`);
      });
  }

  /** Waits for the program's end: its status, and all its output. */
  async ended(milliseconds = 30_000): Promise<{ code: number; signal: string | null }> {
    const status = await within(this.status, milliseconds, "the program's end").catch((error) => {
      throw new Error(`${error.message}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`);
    });
    await within(Promise.all(this.#readers), 15_000, "the end of the program's output");
    return { code: status.code, signal: status.signal };
  }

  kill(signal: Deno.Signal = "SIGTERM"): void {
    if (this.#ended) return;
    try {
      this.#process.kill(signal);
    } catch (error) {
      // "Child process has already terminated": its status will follow.
      if (!(error instanceof TypeError)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const family = descendants(this.pid);
    this.kill("SIGKILL");
    for (const pid of family) killIfThere(pid);
    await this.status;
    await within(Promise.all(this.#readers), 15_000, "the end of the program's output");
  }
}

/** How a program of the repository is started. */
export interface ProgramOptions extends Deno.CommandOptions {
  /** Arguments of `deno run`, `--allow-ffi` unless given. */
  flags?: string[];
  /** A shell command line to run before it, such as `ulimit -n 256;`. */
  shell?: string;
}

/** Starts a file of the repository as a user would. */
export function start(file: string, args: string[] = [], options: ProgramOptions = {}): Program {
  const { flags = ["--allow-ffi"], shell, ...command } = options;
  const path = /^https?:/.test(file) ? file : new URL(file, ROOT).pathname;
  const line = [DENO, "run", "--no-lock", ...flags, path, ...args];
  if (shell === undefined) return new Program(line[0]!, line.slice(1), command);
  const quoted = line.map((word) => `'${word}'`).join(" ");
  return new Program("/bin/bash", ["-c", `${shell} exec ${quoted}`], command);
}

/**
 * Starts a function as a program of its own, with `tine` in scope. It must not use anything else
 * from its surroundings; it receives `args` as `Deno.args`.
 */
export function startFunction(
  program: () => unknown,
  args: string[] = [],
  options: ProgramOptions = {},
): Program {
  const file = Deno.makeTempFileSync({ prefix: "tine_test_", suffix: ".ts" });
  Deno.chmodSync(file, 0o644);
  Deno.writeTextFileSync(
    file,
    `import * as tine from ${JSON.stringify(MOD)};\nawait (${program.toString()})();\n`,
  );
  const started = start(file, args, options);
  started.status.finally(() => Deno.removeSync(file));
  return started;
}

/** Runs a function as a program of its own, and returns its output; throws if it fails. */
export async function run(
  program: () => unknown,
  args: string[] = [],
  options: ProgramOptions = {},
): Promise<string> {
  await using started = startFunction(program, args, options);
  const { code, signal } = await started.ended(240_000);
  if (code !== 0 || signal !== null) {
    throw new Error(
      `The program ended with ${
        signal ?? code
      }\nstdout: ${started.stdout}\nstderr: ${started.stderr}`,
    );
  }
  return started.stdout;
}

/** Waits until a condition returns a truthy value. */
export async function until<T>(
  condition: () => T | Promise<T>,
  what: string,
  milliseconds = 30_000,
): Promise<NonNullable<T> & Exclude<T, false>> {
  const end = performance.now() + milliseconds;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== null && value !== false) {
      return value as NonNullable<T> & Exclude<T, false>;
    }
    if (performance.now() > end) throw new Error(`Waited ${milliseconds} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Returns a promise's value; throws if it takes too long. */
export async function within<T>(
  promise: Promise<T>,
  milliseconds: number,
  what: string,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`Waited ${milliseconds} ms in vain for ${what}`)),
      milliseconds,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns a process's state from `/proc/<pid>/stat`; `undefined` if there is no such process. */
export function processState(
  pid: number,
): { state: string; ppid: number; rss: number } | undefined {
  try {
    // The name is in parentheses and may contain anything.
    const [state, ppid, ...rest] = Deno.readTextFileSync(`/proc/${pid}/stat`)
      .replace(/^.*\) /s, "").split(" ");
    return { state: state!, ppid: Number(ppid), rss: Number(rest[19]) * 4096 };
  } catch {
    return undefined;
  }
}

/** Whether a process is running. A zombie is not: its parent may reap it later. */
export function isRunning(pid: number): boolean {
  return /^[RSDTt]$/.test(processState(pid)?.state ?? "");
}

/** Returns the children of a process, including zombies. */
export function childrenOf(pid: number): number[] {
  return [...Deno.readDirSync("/proc")]
    .map(({ name }) => Number(name))
    .filter((other) => other > 0 && processState(other)?.ppid === pid);
}

/** Returns the children of a process that are zombies. */
export function zombiesOf(pid: number): number[] {
  return childrenOf(pid).filter((child) => processState(child)?.state === "Z");
}

/** Returns the descendants of a process, without the process itself. */
export function descendants(pid: number): number[] {
  const children = childrenOf(pid);
  return [...children, ...children.flatMap(descendants)];
}

/** Whether a process has a handler for a signal. */
export function handles(pid: number, signum: number): boolean {
  const caught = Deno.readTextFileSync(`/proc/${pid}/status`).match(/^SigCgt:\s*(\w+)$/m)?.[1];
  return ((BigInt(`0x${caught}`) >> BigInt(signum - 1)) & 1n) === 1n;
}

/** Returns the open descriptors of a process and what each refers to. */
export function descriptorsOf(pid: number): Map<number, string> {
  const descriptors = new Map<number, string>();
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    try {
      descriptors.set(Number(name), Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      // closed in the meantime
    }
  }
  return descriptors;
}

/** Returns the ports on which a process listens over IPv4. */
export function listeningPorts(pid: number): number[] {
  const sockets = new Set(descriptorsOf(pid).values());
  // sl, local address, remote address, state, ..., inode
  return Deno.readTextFileSync(`/proc/${pid}/net/tcp`).split("\n").slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === "0A" && sockets.has(`socket:[${fields[9]}]`))
    .map((fields) => parseInt(fields[1]!.split(":")[1]!, 16));
}

/** Lowers a soft limit of a running process. Returns a function that restores it. */
export async function lowerLimit(
  pid: number,
  resource: string,
  soft: number,
): Promise<() => unknown> {
  const prlimit = async (...args: string[]) => {
    const { success, stdout, stderr } = await new Deno.Command("prlimit", {
      args: ["--pid", `${pid}`, ...args],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout).trim();
  };
  const before = await prlimit(`--${resource}`, "--output=SOFT", "--noheadings");
  await prlimit(`--${resource}=${soft}:`);
  return () => prlimit(`--${resource}=${before}:`);
}

/** Lowers the limit of a running process so that it can open this many more descriptors. */
export async function limitDescriptors(pid: number, more: number): Promise<void> {
  const taken = descriptorsOf(pid);
  let limit = 0;
  for (let free = 0; free < more; limit++) if (!taken.has(limit)) free++;
  await lowerLimit(pid, "nofile", limit);
}

/** Returns the port in a server's first line. */
export async function portOf(server: Program): Promise<number> {
  return Number((await server.printed(/port (\d+)/))[1]);
}

/** Sends a request, to a port or a UNIX socket's path, and reads until the server closes. */
export async function exchange(
  address: number | string,
  request = "GET /hello HTTP/1.1\r\n\r\n",
  milliseconds = 15_000,
): Promise<string> {
  const connection = typeof address === "number"
    ? await Deno.connect({ port: address })
    : await Deno.connect({ transport: "unix", path: address });
  try {
    await connection.write(new TextEncoder().encode(request));
    return await within(readAll(connection), milliseconds, "the server to close the connection");
  } finally {
    connection.close();
  }
}

/** Reads to the end of the stream. */
export async function readAll(connection: Deno.Conn): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65536);
  let text = "";
  for (;;) {
    const count = await connection.read(buffer);
    if (count === null) return text + decoder.decode();
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

/**
 * Compares a text with the committed one in `__snapshots__/`. After an intended change, update it
 * with `deno test -A tests/status_test.ts -- --update`, and check the diff.
 */
export async function assertSnapshot(test: Deno.TestContext, text: string): Promise<void> {
  // The package has no type declarations.
  await (assertSnapshotUntyped as (
    test: Deno.TestContext,
    actual: string,
    options: { serializer: (text: string) => string },
  ) => Promise<void>)(test, text, { serializer: (text) => text });
}

/** The response of the article's servers. */
export const HELLO = "HTTP/1.1 200 OK\n\nHello, World!\n";

/** Whether a program is installed, so that it can be started by its name. */
export function isInstalled(program: string): boolean {
  return Deno.env.get("PATH")!.split(":").some((folder) => {
    try {
      return Deno.statSync(`${folder}/${program}`).isFile;
    } catch {
      return false;
    }
  });
}

/** Returns a TCP port that is free. */
export function freePort(): number {
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  socket.bind(["", 0]);
  return (socket.getsockname() as tine.InetAddress)[1];
}

/** Whether a TCP port of this machine is free to bind. */
export function isPortFree(port: number): boolean {
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  socket.setsockopt(tine.SOL_SOCKET, tine.SO_REUSEADDR, 1);
  try {
    socket.bind(["", port]);
    return true;
  } catch {
    return false;
  }
}

function killIfThere(pid: number): void {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch {
    // it has already ended
  }
}

/** Serves the repository's files on 127.0.0.1, so that programs can be run from a URL. */
export function serveRepository(): { url: string; host: string } & AsyncDisposable {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      try {
        const file = new URL(`.${new URL(request.url).pathname}`, ROOT);
        return new Response(await Deno.readFile(file), {
          headers: { "content-type": "application/typescript" },
        });
      } catch {
        return new Response(null, { status: 404 });
      }
    },
  );
  const host = `127.0.0.1:${server.addr.port}`;
  return { url: `http://${host}/`, host, [Symbol.asyncDispose]: () => server.shutdown() };
}

/** A running preforking server. */
export class Server extends Program {
  /** The URL in the ready line. */
  url = "";
  port = 0;

  /** The pids of the workers that are ready. */
  get workers(): number[] {
    return readStatus(this.pid).workers
      .filter(({ state, pid }) => state === "ready" && isRunning(pid))
      .map(({ pid }) => pid);
  }

  /** The number of requests that are not completely answered yet. */
  get inFlight(): number {
    return readStatus(this.pid).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  /** Waits until this many workers are ready that are not among the given ones. */
  async replaced(old: readonly number[], count = 2, milliseconds = 60_000): Promise<number[]> {
    return await until(
      () => {
        const { workers } = this;
        return workers.length === count && !workers.some((pid) => old.includes(pid)) && workers;
      },
      `${count} workers other than ${old}`,
      milliseconds,
    ).catch((error) => {
      throw new Error(`${error.message}\nstderr: ${this.stderr}`);
    });
  }

  /** Restarts the app, or only the workers, and waits until all are new. */
  async restarted(signal: "SIGHUP" | "SIGUSR2" = "SIGHUP", count = 2): Promise<number[]> {
    const { workers } = this;
    this.kill(signal);
    return await this.replaced(workers, count);
  }

  /** Requests a path over IPv4, on a new connection, and returns the text of the response. */
  get(path: string, init?: RequestInit): Promise<string> {
    const answer = this.#get(path, init);
    // A test that fails in the meantime ends the server, and must report its own reason.
    answer.catch(() => {});
    return answer;
  }

  async #get(path: string, init?: RequestInit): Promise<string> {
    using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      signal: AbortSignal.timeout(30_000),
      client,
      ...init,
    });
    return await response.text();
  }
}

/** How a preforking server is started. */
export interface ServerOptions extends Deno.CommandOptions {
  /** The app. The default is the tests' own. */
  app?: string;
  /** The command line's file. The default is its source. */
  cli?: string;
  /** The permissions for `deno run`. The default is all. */
  permissions?: string[];
  /** Further flags of `deno run`. */
  flags?: string[];
  /** A shell command line to run before it, such as `ulimit -n 256;`. */
  shell?: string;
  /** Whether the app has an address of its own: no port is given. */
  ownAddress?: boolean;
  /** Whether the number of workers is the default, and not 2. */
  ownWorkers?: boolean;
}

/** Starts the command line's `serve` on a free port, without waiting for anything. */
export function spawnServer(args: readonly string[] = [], options: ServerOptions = {}): Server {
  const {
    app = new URL("tests/prefork/app.ts", ROOT).pathname,
    cli = new URL("server/cli.ts", ROOT).pathname,
    permissions = ["--allow-all"],
    flags = [],
    shell,
    ownAddress = false,
    ownWorkers = false,
    ...command
  } = options;
  const isGiven = ownAddress || args.some((arg) => /^--(port|unix|listen)$/.test(arg));
  const address = isGiven ? [] : ["--port", "0"];
  const isCounted = ownWorkers || args.some((arg) => /^--(workers|model)$/.test(arg));
  const count = isCounted ? [] : ["--workers", "2"];
  const line = [DENO, "run", "--no-lock", ...permissions, ...flags, cli, "serve"];
  line.push(...address, ...count, ...args, ...app === "" ? [] : [app]);
  if (shell === undefined) return new Server(line[0]!, line.slice(1), command);
  const quoted = line.map((word) => `'${word}'`).join(" ");
  return new Server("/bin/bash", ["-c", `${shell} exec ${quoted}`], command);
}

/** Installs the command `tine` into a folder. */
export async function install(folder: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(DENO, {
    args: ["task", "--quiet", "install", folder],
    cwd: ROOT,
    stdout: "null",
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/** Starts the command line's `serve` on a free port and waits until it is ready. */
export async function startServer(
  args: readonly string[] = [],
  options: ServerOptions = {},
): Promise<Server> {
  const server = spawnServer(args, options);
  const ready = server.logged(/Serving (.+?) (?:with|to) /);
  const end = server.status.then(() => {
    throw new Error(`The server ended before it was ready: ${server.stderr}`);
  });
  try {
    [, server.url = ""] = await Promise.race([ready, end]);
  } catch (error) {
    ready.catch(() => {});
    end.catch(() => {});
    await server[Symbol.asyncDispose]();
    throw error;
  }
  end.catch(() => {});
  server.port = Number(server.url.match(/:(\d+)\/$/)?.[1]);
  return server;
}

/** Whether there is something at a path, if only a link. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Creates a folder for a test, which other users can read. */
export function scratch(): { path: string } & AsyncDisposable {
  const path = Deno.makeTempDirSync({ prefix: "tine_test_" });
  Deno.chmodSync(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Creates a FIFO. */
export async function mkfifo(path: string): Promise<void> {
  const { success } = await new Deno.Command("mkfifo", { args: [path] }).output();
  if (!success) throw new Error(`mkfifo ${path} failed`);
}

/** Writes an app into a folder. */
export function writeApp(folder: string, source: string, name = "app.ts"): string {
  Deno.writeTextFileSync(`${folder}/${name}`, source);
  return `${folder}/${name}`;
}

/** Sends a request on a new connection. */
export async function ask(port: number, path: string, hostname = "127.0.0.1"): Promise<string> {
  const connection = await Deno.connect({ port, hostname });
  try {
    const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    await connection.write(new TextEncoder().encode(request));
    const reply = await within(readAll(connection), 30_000, `the answer to ${path}`);
    return reply.slice(reply.indexOf("\r\n\r\n") + 4);
  } finally {
    connection.close();
  }
}

/** Creates a certificate, for localhost unless names are given, and its key, in two files. */
export async function certificate(
  folder: string,
  names: readonly string[] = ["localhost"],
): Promise<{ cert: string; key: string }> {
  const [cert, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
  const { success } = await new Deno.Command("openssl", {
    args: ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
      .concat(["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"])
      .concat(["-addext", `subjectAltName=${names.map((name) => `DNS:${name}`)}`])
      .concat(["-addext", "basicConstraints=critical,CA:FALSE"]),
    stderr: "null",
  }).output();
  if (!success) throw new Error("openssl failed");
  return { cert, key };
}

/** A client that keeps its connection open. */
export class Client implements Disposable {
  heard = "";
  closed = false;
  readonly #connection: Deno.Conn;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
    this.#read();
  }

  static async connect(port: number): Promise<Client> {
    return new Client(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(65536);
    try {
      for (let count; (count = await this.#connection.read(buffer)) !== null;) {
        this.heard += new TextDecoder().decode(buffer.subarray(0, count));
      }
    } catch {
      // reset, or closed by us
    }
    this.closed = true;
  }

  async say(text: string): Promise<void> {
    await this.#connection.write(new TextEncoder().encode(text));
  }

  async hears(text: string): Promise<void> {
    await until(() => this.heard.includes(text), `${JSON.stringify(text)} in ${this.heard}`);
  }

  async ends(): Promise<void> {
    await until(() => this.closed, "the end of the connection");
  }

  [Symbol.dispose](): void {
    try {
      this.#connection.close();
    } catch {
      // already closed
    }
  }
}

/** A change of tine's source. */
export interface Change {
  /** The file, from the root. */
  readonly file: string;
  /** What is replaced. It occurs in the file once. */
  readonly text: string;
  readonly replacement: string;
}

/** Copies tine's source into a folder, and changes it. */
export function copySource(folder: string, change: Change): void {
  for (const name of ["ffi", "server"]) {
    copyFolder(new URL(name, ROOT).pathname, `${folder}/${name}`);
  }
  for (const name of ["mod.ts", "deno.json"]) {
    Deno.copyFileSync(new URL(name, ROOT), `${folder}/${name}`);
  }
  applyChange(folder, change);
}

/** Copies a folder with all that is in it. */
export function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

/** Changes a copy of tine's source. */
export function applyChange(folder: string, { file, text, replacement }: Change): void {
  const path = `${folder}/${file}`;
  const source = Deno.readTextFileSync(path);
  if (source.split(text).length !== 2) throw new Error(`There is not one "${text}" in ${file}`);
  Deno.writeTextFileSync(path, source.replace(text, () => replacement));
}
