/** The stage: starts programs and clients, looks at them, and ends them all. */
import type {
  Client,
  ClientOptions,
  Command,
  Ending,
  LabEvent,
  Snapshot,
  Stage,
  Started,
} from "../lesson.ts";
import { Observer } from "../observe/snapshot.ts";
import { REQUEST, StageClient } from "./client.ts";
import { commandLine, quote } from "./command.ts";
import { freePort } from "./free_port.ts";
import type { Guard } from "./guard.ts";
import { endSessions } from "./session.ts";
import { StageError } from "./stage_error.ts";

/** What a stage is given. */
export interface StageOptions {
  /** Receives what happens, in its order. */
  readonly emit: (event: LabEvent) => void;
  /** Ends everything if this process is killed. */
  readonly guard: Guard;
  /** Whether pauses are as long as in the article. */
  readonly slow?: boolean;
  /** Is told what was started, before it listens. */
  readonly started?: (started: Started, command: Command) => void;
  /** Milliseconds between snapshots that are emitted; none if it is not given. */
  readonly every?: number;
  /** How many seconds at most anything is waited for; otherwise each wait has its own limit. */
  readonly patience?: number;
}

const ROOT = new URL("../../../", import.meta.url).pathname;
const SECONDS = 20;
const PAUSE = 15; // milliseconds between two looks at a condition
const PROGRESS = 500;

/** A program that was started. */
class StartedProgram implements Started {
  readonly pid: number;
  readonly session: number;
  port?: number;
  readonly #process: Deno.ChildProcess;
  readonly #stop: () => Promise<void>;
  readonly #aborted: Promise<never>;
  readonly #patience: number;
  #output = "";
  #ending: Ending | undefined;
  /** The end of the process and its output. */
  readonly end: Promise<Ending>;

  constructor(
    process: Deno.ChildProcess,
    aborted: Promise<never>,
    patience: number,
    stop: () => Promise<void>,
  ) {
    this.#patience = patience;
    this.#process = process;
    this.pid = process.pid;
    this.session = process.pid; // setsid() makes it the leader
    this.#aborted = aborted;
    this.#stop = stop;
    this.#collect(process.stdout);
    this.#collect(process.stderr);
    this.end = process.status.then(({ code, signal }) =>
      this.#ending = signal === null ? { code, signal } : { code: null, signal }
    );
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of stream) this.#output += decoder.decode(bytes, { stream: true });
  }

  output(): string {
    return this.#output;
  }

  /** How it ended, if it has. */
  get ending(): Ending | undefined {
    return this.#ending;
  }

  async type(text: string): Promise<void> {
    const writer = this.#process.stdin.getWriter();
    await writer.write(new TextEncoder().encode(text));
    writer.releaseLock();
  }

  async ended(wanted = SECONDS): Promise<Ending> {
    const seconds = Math.min(wanted, this.#patience);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), seconds * 1000);
    });
    const ending = await Promise.race([this.end, late, this.#aborted]);
    clearTimeout(timer);
    if (ending === undefined) {
      throw new StageError(`process ${this.pid}`, "running", `its end in ${seconds} s`);
    }
    return ending;
  }

  async stop(): Promise<void> {
    await this.#stop();
  }
}

/** A stage with real processes and connections. */
export class LiveStage implements Stage, AsyncDisposable {
  readonly slow: boolean;
  readonly root = ROOT;
  readonly signal: AbortSignal;
  /** The figures that were compared, and whether they were as expected. */
  readonly compared: { readonly figure: string; readonly holds: boolean }[] = [];
  readonly #emit: (event: LabEvent) => void;
  readonly #guard: Guard;
  readonly #observer = new Observer(ROOT);
  readonly #abort = new AbortController();
  readonly #aborted: Promise<never>;
  readonly #programs = new Map<number, StartedProgram>();
  readonly #clients: StageClient[] = [];
  readonly #patience: number;
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  readonly #started: StageOptions["started"];
  #folder: string | undefined;
  #ended: Promise<void> | undefined;

  constructor({ emit, guard, slow = false, started, every, patience = Infinity }: StageOptions) {
    this.#patience = patience;
    this.#emit = emit;
    this.#started = started;
    this.#guard = guard;
    this.slow = slow;
    this.signal = this.#abort.signal;
    this.#aborted = new Promise((_, reject) => {
      this.signal.addEventListener("abort", () => reject(this.signal.reason));
    });
    this.#aborted.catch(() => {}); // nobody may be waiting
    if (every !== undefined) {
      this.#timer = setInterval(() => {
        this.#emit({ type: "snapshot", snapshot: this.snapshot() });
      }, every);
    }
  }

  async start(command: Command): Promise<Started> {
    this.signal.throwIfAborted();
    const wantsPort = [...command.args ?? [], ...command.command ?? []].includes("PORT");
    const port = wantsPort ? freePort() : undefined;
    const { argv: [file, ...args], text } = commandLine(command, port, ROOT);
    this.#emit({ type: "command", text });
    const process = new Deno.Command(file, {
      args,
      cwd: command.folder ?? ROOT,
      env: { NO_COLOR: "1", ...command.env, ...this.#guard.environment },
      stdin: command.stdin ?? "null",
      stdout: "piped",
      stderr: "piped",
      detached: true, // setsid()
    }).spawn();
    this.#guard.add(process.pid);
    const program = new StartedProgram(
      process,
      this.#aborted,
      this.#patience,
      () => this.#stop([process.pid]),
    );
    this.#programs.set(process.pid, program);
    this.#observer.watch(process.pid, {
      program: command.program ?? command.command?.[0] ?? "",
      role: command.role ?? "server",
    });
    this.#started?.(program, command);
    if (command.listens ?? wantsPort) await this.#listening(program, port);
    return program;
  }

  /** Waits until a program listens: on a port, or on any. */
  async #listening(program: StartedProgram, wanted: number | undefined): Promise<void> {
    const what = wanted === undefined ? "a listening socket" : `a listener on port ${wanted}`;
    program.port = await this.until(what, () => {
      const { sockets, processes } = this.snapshot();
      const session = new Set(
        processes.filter((one) => one.session === program.session).map(({ pid }) => pid),
      );
      for (const { state, kind, local, holders } of sockets) {
        const port = Number(local.split(":").at(-1));
        if (
          state === "LISTEN" && kind === "tcp" && (wanted ?? port) === port &&
          holders.some(({ pid }) => session.has(pid))
        ) return port;
      }
      if (program.ending === undefined) return undefined;
      const { code, signal } = program.ending;
      const last = program.output().trim().split("\n").slice(-3).join(" ");
      throw new StageError(what, `it ended with ${signal ?? code}: ${last}`, "a listener");
    });
  }

  client(port: number, options: ClientOptions = {}): Client {
    return this.clients(port, { ...options, count: 1 })[0]!;
  }

  clients(port: number, options: ClientOptions): Client[] {
    this.signal.throwIfAborted();
    const { count = 1 } = options;
    this.#emit({ type: "command", text: clientCommand(port, options, count) });
    const added: StageClient[] = [];
    for (let i = 0; i < count; i++) {
      const number = this.#clients.length + i + 1;
      const before = options.oneByOne ? added.at(-1) : undefined;
      added.push(new StageClient(number, port, options, this.#patience, before));
    }
    this.#clients.push(...added);
    return added;
  }

  kill(target: number | Started, signal: Deno.Signal): void {
    const pid = typeof target === "number" ? target : target.pid;
    this.#emit({ type: "command", text: `kill -${signal.replace(/^SIG/, "")} ${pid}` });
    Deno.kill(pid, signal);
  }

  say(text: string): void {
    this.#emit({ type: "say", text });
  }

  async until<T>(
    what: string,
    condition: () => T | false | undefined | Promise<T | false | undefined>,
    wanted = SECONDS,
  ): Promise<T> {
    const seconds = Math.min(wanted, this.#patience);
    const begin = performance.now();
    let told = begin;
    for (;;) {
      this.signal.throwIfAborted();
      const value = await condition();
      if (value !== undefined && value !== false) return value;
      const now = performance.now();
      const waited = (now - begin) / 1000;
      if (waited > seconds) throw new StageError(what, `not in ${seconds} s`, what);
      if (now - told >= PROGRESS) {
        told = now;
        this.#emit({ type: "progress", text: what, seconds: Math.round(waited * 10) / 10 });
      }
      await this.#sleep(PAUSE);
    }
  }

  async pause(articleSeconds: number, quick: number, why: string): Promise<void> {
    const seconds = this.slow ? articleSeconds : quick;
    const begin = performance.now();
    for (let passed = 0; passed < seconds; passed = (performance.now() - begin) / 1000) {
      this.#emit({ type: "progress", text: why, seconds: Math.round(passed * 10) / 10 });
      await this.#sleep(Math.min(PROGRESS, (seconds - passed) * 1000));
    }
  }

  async #sleep(milliseconds: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const passed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([passed, this.#aborted]).finally(() => clearTimeout(timer));
  }

  snapshot(): Snapshot {
    return this.#observer.look(this.#clients.map((client) => client.view()));
  }

  draw(caption: string): void {
    this.#emit({ type: "picture", caption, snapshot: this.snapshot() });
  }

  expect<T>(figure: string, value: T, holds: (value: T) => boolean, expected: string): void {
    const isRight = holds(value);
    this.compared.push({ figure, holds: isRight });
    this.#emit({ type: "figure", figure, value: shown(value), expected, holds: isRight });
  }

  note(figure: string, value: string | number): void {
    this.#emit({ type: "figure", figure, value: shown(value) });
  }

  /** Notes what an error says: a figure that differs. */
  fail(error: unknown): void {
    const { figure, found, expected } = error instanceof StageError ? error : {
      figure: "the lesson",
      found: error instanceof Error ? error.message : String(error),
      expected: "no error",
    };
    this.compared.push({ figure, holds: false });
    this.#emit({ type: "figure", figure, value: found, expected, holds: false });
  }

  free(): Promise<number> {
    return Promise.resolve(freePort());
  }

  folder(): string {
    if (this.#folder === undefined) {
      this.#folder = Deno.makeTempDirSync({ prefix: "tine_lab_" });
      this.#guard.addFolder(this.#folder);
      Deno.chmodSync(this.#folder, 0o777);
    }
    return this.#folder;
  }

  async #stop(sessions: readonly number[]): Promise<void> {
    await endSessions(new Set(sessions));
    await Promise.all(sessions.map(async (session) => {
      await this.#programs.get(session)?.end;
      this.#programs.delete(session);
      this.#guard.remove(session);
    }));
  }

  /** Ends everything: programs with their children, clients, files. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#ended ??= this.#end();
  }

  async #end(): Promise<void> {
    this.#abort.abort(new DOMException("The stage has ended", "AbortError"));
    clearInterval(this.#timer);
    for (const client of this.#clients) client.close();
    await this.#stop([...this.#programs.keys()]);
    // What is left is to be seen, too.
    if (this.#timer !== undefined) this.#emit({ type: "snapshot", snapshot: this.snapshot() });
    this.#observer[Symbol.dispose]();
    if (this.#folder !== undefined) await Deno.remove(this.#folder, { recursive: true });
  }
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? String(value);
}

/** What curl sends, but for headers of its own. */
const GET = /^GET (\/\S*) HTTP\/1\.1\r\nHost: localhost\r\n(?:Connection: close\r\n)?\r\n$/;

/** What a reader would type to be such clients. */
function clientCommand(
  port: number,
  { request = REQUEST, oneByOne }: ClientOptions,
  count: number,
): string {
  const path = request?.match(GET)?.[1];
  const one = path !== undefined
    ? `curl http://localhost:${port}${path}`
    : request === null
    ? `nc localhost ${port}`
    : `printf ${
      quote(request.replaceAll("%", "%%").replaceAll("\r", "\\r").replaceAll("\n", "\\n"))
    } | nc localhost ${port}`;
  const next = oneByOne ? "sleep 0.1; " : "";
  return count === 1 ? one : `for i in $(seq ${count}); do ${one} & ${next}done`;
}
