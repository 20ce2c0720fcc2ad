/** What happens in one reader's session: a lesson is played, or the reader starts programs. */
import type { Client, Command, LabEvent, Started } from "../lesson.ts";
import { LESSONS } from "../lessons/all.ts";
import type { Guard } from "../stage/guard.ts";
import { playLesson } from "../stage/play.ts";
import { LiveStage } from "../stage/stage.ts";
import { StageError } from "../stage/stage_error.ts";
import { deltaText, EMPTY, type Frame, frameOf, sizeOf, wholeText } from "./frame.ts";
import { LIMITS } from "./limits.ts";
import { limitsOf, prlimit } from "./process_limits.ts";
import { Playback } from "./playback.ts";
import { commandOf, programOf } from "./programs.ts";
import { Refusal } from "./refusal.ts";
import { sample } from "./sampler.ts";
import type { Reply } from "./session.ts";

/** What a player is given. */
export interface PlayerOptions {
  /** Ends what was started if this process is killed. */
  readonly guard: Guard;
  /** Receives events, as JSON without line ends. */
  readonly write: (line: string) => void;
  /** Whether they are not taken as fast as they come: snapshots are left out meanwhile. */
  readonly isBehind: () => boolean;
}

/** What a reader hears of besides a lesson's events. */
type SessionEvent =
  | Exclude<LabEvent, { type: "snapshot" }>
  | { readonly type: string; readonly [field: string]: unknown };
type Action = Readonly<Record<string, unknown>>;

/** A program that was started. */
interface Running {
  readonly started: Started;
  /** How much of its output the reader has. */
  told: number;
}

/** Where something happens: a stage, and what was started there. */
interface Scene {
  /** `undefined` before a lesson's experiment begins. */
  stage: LiveStage | undefined;
  /** What is started there. */
  readonly running: Map<number, Running>;
  /** The reader's own clients. */
  readonly clients: Client[];
  /** The lesson, if one is played. */
  readonly lesson: AbortController | undefined;
  /** Settles when the lesson has ended what it started. */
  over: Promise<void> | undefined;
  /** Stops sampling. */
  rest: (() => void) | undefined;
  /** The last frame that was taken. */
  frame: Frame;
}

/** Milliseconds between two bytes of a slow client's request. */
const SLOWLY = 200;
const KINDS: Readonly<Record<string, { request?: null; slowly?: number }>> = {
  plain: {},
  slow: { slowly: SLOWLY },
  silent: { request: null },
};

/** Does what one reader wants, and tells what happens. */
export class Player {
  readonly #options: PlayerOptions;
  readonly #playback: Playback<SessionEvent | Frame>;
  #scene: Scene | undefined;
  #isWatched = false;
  /** The last frame that the reader has. */
  #shown = EMPTY;
  /** Whether the reader has got none yet. */
  #isFirst = true;
  #begin: (() => void) | undefined;
  #steps = false;

  constructor(options: PlayerOptions) {
    this.#options = options;
    this.#playback = new Playback<SessionEvent | Frame>(
      (item) => "type" in item ? this.#write(item) : this.#show(item),
      (item) => "type" in item && item.type === "say",
      () => this.#write({ type: "waiting" }),
    );
  }

  /**
   * Tells whether anybody looks. Who begins to gets all that is to be seen now.
   *
   * @param isWatched Whether anybody looks.
   */
  look(isWatched: boolean): void {
    this.#isWatched = isWatched;
    this.#isFirst = true;
    if (isWatched) this.#show(this.#shown);
    this.#sample();
  }

  /**
   * Does what a reader wants.
   *
   * @param action What.
   * @returns The reply to the page.
   */
  async act(action: Action): Promise<Reply> {
    try {
      return { status: 200, body: await this.#do(action) ?? {} };
    } catch (error) {
      if (error instanceof Refusal) return { status: error.status, body: { error: error.message } };
      const message = error instanceof Error ? error.message : String(error);
      if (error instanceof StageError || isAbort(error)) {
        return { status: 409, body: { error: message } };
      }
      console.error(error);
      return { status: 500, body: { error: message } };
    }
  }

  /** Ends all that was started. */
  async end(): Promise<void> {
    const scene = this.#scene;
    this.#scene = undefined;
    this.#playback.clear();
    scene?.rest?.();
    scene?.lesson?.abort();
    this.#begin?.();
    await (scene?.over ?? scene?.stage?.[Symbol.asyncDispose]());
  }

  async #do(action: Action): Promise<unknown> {
    switch (action.action) {
      case "play":
        return await this.#play(action);
      case "next":
        return this.#next();
      case "pause":
        return this.#pace(true);
      case "resume":
        return this.#pace(false);
      case "start":
        return await this.#start(action);
      case "clients":
        return this.#clients(action);
      case "close":
        return this.#close(action);
      case "kill":
        return this.#kill(action);
      case "limit":
        return await this.#limit(action);
      case "wait":
        return await this.#wait(action);
      case "stop":
        return await this.#stop();
    }
    throw new Refusal(400, `${JSON.stringify(action.action ?? null)} is not an action`);
  }

  // A lesson

  async #play({ lesson: name, slow = false, steps = false }: Action): Promise<void> {
    const entry = LESSONS.find((entry) => entry.name === name);
    if (entry === undefined) throw new Refusal(400, `There is no lesson ${JSON.stringify(name)}`);
    if (this.#scene !== undefined) throw new Refusal(409, "Something is running: stop it first");
    const controller = new AbortController();
    const scene = this.#open(controller);
    this.#pace(steps === true);
    const lesson = await entry.load();
    const { guard } = this.#options;
    const { signal } = controller;
    scene.over = playLesson(lesson, {
      guard,
      signal,
      slow: slow === true,
      emit: (event) => this.#emit(scene, event as SessionEvent),
      started: (started, command) => this.#follow(scene, started, command),
      ready: () => this.#ready(signal),
      prepare: (stage) => {
        scene.stage = stage;
        this.#sample();
      },
    }).then(() => {}, (error) => {
      if (!signal.aborted) this.#emit(scene, { type: "trouble", text: String(error) });
    });
    scene.over.then(async () => {
      scene.rest?.();
      this.#add(scene, EMPTY);
      this.#emit(scene, { type: "done", lesson: name });
      await this.#playback.drained();
      if (this.#scene === scene) this.#scene = undefined;
    });
  }

  /** Waits until the reader has thought about the question. */
  async #ready(signal: AbortSignal): Promise<void> {
    if (!this.#steps) return;
    this.#write({ type: "waiting" });
    await new Promise<void>((resolve) => this.#begin = resolve);
    this.#begin = undefined;
    signal.throwIfAborted();
  }

  #next(): void {
    if (this.#begin !== undefined) this.#begin();
    else if (this.#playback.isWaiting) this.#playback.next();
    else throw new Refusal(409, "Nothing waits for the next step");
  }

  #pace(steps: boolean): void {
    this.#steps = steps;
    this.#playback.steps = steps;
    if (!steps) this.#begin?.();
    this.#write({ type: "pace", steps });
  }

  // What a reader starts

  async #start({ program: file, arguments: given, limits = {} }: Action): Promise<unknown> {
    const program = programOf(file);
    const command = commandOf(program, given);
    const shell = ulimits(limits);
    const scene = this.#own() ?? this.#open(undefined);
    const stage = scene.stage!;
    const alive = stage.snapshot().processes.map(({ pid }) => pid);
    if ([...scene.running.keys()].filter((pid) => alive.includes(pid)).length >= LIMITS.programs) {
      throw new Refusal(429, `${LIMITS.programs} programs are running: stop them first`);
    }
    const { pid, port } = await stage.start({
      ...command,
      ...shell !== "" && { shell },
      ...program.keepsFile && { folder: stage.folder() },
      // The limit for a user's processes does not count for root.
      ...(program.isForUsers || shell.includes("-u")) && { user: "unprivileged" },
    });
    if (port !== undefined) this.#emit(scene, { type: "listening", pid, port });
    this.#emit(scene, { type: "limits", pid, limits: limitsOf(pid) });
    return { pid, port };
  }

  #clients({ pid, count = 1, kind = "plain" }: Action): unknown {
    const { stage, running, clients } = this.#ownOrRefuse();
    const port = running.get(pid as number)?.started.port;
    if (port === undefined) throw new Refusal(400, `${show(pid)} is not a server that you started`);
    const number = numberOf("count", count, 1, LIMITS.clientsAtOnce);
    const options = KINDS[String(kind)];
    if (options === undefined) throw new Refusal(400, `${show(kind)} is not a kind of client`);
    const { processes, clients: all } = stage!.snapshot();
    const open = all.filter(({ state }) => !ENDED.has(state)).length;
    if (open + number > LIMITS.clients) {
      throw new Refusal(429, `${open} clients are connected: ${LIMITS.clients} are allowed`);
    }
    if (all.length + number > LIMITS.clientsInAll) {
      throw new Refusal(429, `${all.length} clients have been here: stop everything first`);
    }
    if (processes.length > LIMITS.processes) {
      throw new Refusal(429, `${processes.length} processes are there: stop some first`);
    }
    const added = stage!.clients(port, { ...options, count: number });
    clients.push(...added);
    return { numbers: added.map(({ number }) => number) };
  }

  #close({ clients: numbers }: Action): void {
    const { clients } = this.#ownOrRefuse();
    if (numbers !== undefined && !Array.isArray(numbers)) {
      throw new Refusal(400, "The clients must be an array of numbers");
    }
    for (const client of clients) {
      if (numbers === undefined || numbers.includes(client.number)) client.close();
    }
  }

  #kill({ pid, signal }: Action): void {
    const name = LIMITS.signals.find((name) => name === signal);
    if (name === undefined) throw new Refusal(400, `${show(signal)} is not a signal to be sent`);
    const { stage } = this.#ownOrRefuse();
    stage!.kill(this.#processOf(pid), name);
  }

  async #limit({ pid, name, value }: Action): Promise<unknown> {
    const resource = LIMITS.resources.find((resource) => resource === name);
    if (resource === undefined) {
      throw new Refusal(400, `${show(name)} is not a limit to be changed`);
    }
    const soft = numberOf("value", value, 0, 1_048_576);
    const scene = this.#ownOrRefuse();
    const target = this.#processOf(pid);
    const args = [`--${resource}=${soft}:`, "--pid", `${target}`];
    await prlimit(args);
    const limits = limitsOf(target);
    this.#emit(scene, { type: "command", text: `prlimit ${args.join(" ")}` });
    this.#emit(scene, { type: "limits", pid: target, limits });
    return { limits };
  }

  async #wait({ seconds }: Action): Promise<void> {
    const time = numberOf("seconds", seconds, 0, LIMITS.waitSeconds);
    await new Promise((resolve) => setTimeout(resolve, time * 1000));
  }

  async #stop(): Promise<void> {
    await this.end();
    this.#show(EMPTY);
    this.#write({ type: "stopped" });
  }

  /** The scene on which the reader starts programs, if there is one. */
  #own(): Scene | undefined {
    if (this.#scene?.lesson !== undefined) {
      throw new Refusal(409, "A lesson is being played: stop it first");
    }
    return this.#scene;
  }

  #ownOrRefuse(): Scene {
    const scene = this.#own();
    if (scene === undefined) throw new Refusal(409, "Nothing is running: start a program first");
    return scene;
  }

  #open(lesson: AbortController | undefined): Scene {
    const scene: Scene = {
      stage: undefined,
      running: new Map(),
      clients: [],
      lesson,
      over: undefined,
      rest: undefined,
      frame: EMPTY,
    };
    this.#scene = scene;
    if (lesson === undefined) {
      this.#pace(false);
      scene.stage = new LiveStage({
        guard: this.#options.guard,
        emit: (event) => this.#emit(scene, event as SessionEvent),
        started: (started, command) => this.#follow(scene, started, command),
      });
      this.#sample();
    }
    return scene;
  }

  /** Only processes of this session can be killed or limited. */
  #processOf(pid: unknown): number {
    const { processes } = this.#ownOrRefuse().stage!.snapshot();
    if (processes.some((process) => process.pid === pid)) return pid as number;
    throw new Refusal(400, `${show(pid)} is not a process of this session`);
  }

  // What is told

  /** Tells of a program that was started: that it was, and how it ended. */
  async #follow(scene: Scene, started: Started, command: Command): Promise<void> {
    const { pid, session } = started;
    const { program, command: words, role = "server" } = command;
    scene.running.set(pid, { started, told: 0 });
    this.#emit(scene, {
      type: "started",
      pid,
      session,
      file: program ?? words?.[0],
      role,
    });
    const ending = await started.ended(DAY).catch(() => undefined);
    this.#tellOutput(scene);
    if (ending !== undefined) this.#emit(scene, { type: "exit", pid, ...ending });
  }

  #tellOutput(scene: Scene): void {
    for (const running of scene.running.values()) {
      const output = running.started.output();
      if (output.length === running.told) continue;
      const text = output.slice(running.told);
      running.told = output.length;
      this.#emit(scene, { type: "output", pid: running.started.pid, text });
    }
  }

  /** Begins to look again and again, or leaves off: only while somebody sees it. */
  #sample(): void {
    const scene = this.#scene;
    if (scene?.stage === undefined) return;
    if (!this.#isWatched) {
      scene.rest?.();
      scene.rest = undefined;
      return;
    }
    scene.rest ??= sample(() => {
      this.#tellOutput(scene);
      if (this.#options.isBehind()) return;
      this.#take(scene);
    }, (rate) => {
      this.#write({ type: "rate", ...rate, processes: scene.frame.processes.size });
    });
  }

  #emit(scene: Scene, event: SessionEvent): void {
    if (this.#scene !== scene) return;
    if (this.#isWatched && scene.lesson !== undefined) {
      // A reader who stops at a sentence, or at a picture, sees what there was then.
      if (event.type === "say") this.#take(scene);
      if (isPicture(event)) this.#add(scene, frameOf(event.snapshot, scene.frame));
    }
    this.#playback.add(event);
  }

  #take(scene: Scene): void {
    this.#add(scene, frameOf(scene.stage!.snapshot(), scene.frame));
  }

  #add(scene: Scene, frame: Frame): void {
    if (frame === scene.frame) return;
    scene.frame = frame;
    if (this.#scene === scene) this.#playback.add(frame);
  }

  /** Sends a frame: what differs from the one that the reader has. */
  #show(frame: Frame): void {
    const before = this.#shown;
    this.#shown = frame;
    const delta = this.#isFirst ? undefined : deltaText(before, frame);
    this.#isFirst = false;
    const isShorter = delta !== undefined && delta.length < sizeOf(frame);
    this.#options.write(isShorter ? delta : wholeText(frame));
  }

  #write(event: SessionEvent): void {
    this.#options.write(JSON.stringify(event));
  }
}

/** Longer than any session, in seconds. */
const DAY = 86_400;
const ENDED: ReadonlySet<string> = new Set(["closed", "refused", "reset", "gave-up"]);

/** The shell's commands that set limits: `ulimit -n 256;`. */
function ulimits(limits: unknown): string {
  if (typeof limits !== "object" || limits === null) {
    throw new Refusal(400, "The limits must be an object");
  }
  const options = { nofile: "-n", nproc: "-u" };
  return Object.entries(limits).map(([name, value]) => {
    const resource = LIMITS.resources.find((resource) => resource === name);
    if (resource === undefined) throw new Refusal(400, `${show(name)} is not a limit to be set`);
    return `ulimit ${options[resource]} ${numberOf(name, value, 16, 1_048_576)};`;
  }).join(" ");
}

function numberOf(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !(value >= min && value <= max)) {
    throw new Refusal(400, `${name} must be a number from ${min} to ${max}`);
  }
  return name === "seconds" ? value : Math.floor(value);
}

function show(value: unknown): string {
  return JSON.stringify(value ?? null).slice(0, 100);
}

function isPicture(event: SessionEvent): event is Extract<LabEvent, { type: "picture" }> {
  return event.type === "picture";
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
