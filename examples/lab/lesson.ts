/**
 * What a lesson, its stage and its evidence are. A lesson is written once: it runs against a
 * {@linkcode Stage}, which emits {@linkcode LabEvent}s, and the terminal and the page render those.
 */

/** An experiment with a question, and evidence that answers it. */
export interface Lesson {
  /** What is typed after `deno task learn`: `3b`, `backlog`, `zombieprob`. */
  readonly name: string;
  /** What it shows, as a statement: "A burst of children leaves zombies". */
  readonly title: string;
  /** The text that it follows: "Let's Build A Web Server, part 3: webserver3f.py". */
  readonly source: string;
  /** What readers should think about before they see the answer. */
  readonly question: string;
  /** Why it is so, in two to five sentences. It is shown after the evidence. */
  readonly answer: string;
  /** The programs that are run, in the order of their importance. */
  readonly programs: readonly ProgramView[];
  /** What to read next: `wait(2)`, `examples/part3/webserver3f.ts`, `docs/learn.md#zombies`. */
  readonly read: readonly string[];
  /** The name of the lesson that follows in the article. */
  readonly next?: string;
  /** Makes the experiment. It ends nothing: the stage does, also after an error. */
  run(stage: Stage): Promise<void>;
}

/** A program of a lesson. */
export interface ProgramView {
  /** The path from the root: `examples/part3/webserver3f.ts`. */
  readonly file: string;
  /** The text of the decisive line. It occurs in the file. */
  readonly decisive?: string;
  /** The program of the stage before, from the root: the difference is the lesson. */
  readonly differsFrom?: string;
}

/** Where a lesson happens: it starts programs and clients, looks at them, and ends them all. */
export interface Stage {
  /** Whether pauses are as long as in the article. */
  readonly slow: boolean;
  /** The root of the repository, with a slash at its end. Programs run there. */
  readonly root: string;
  /** Is aborted when the stage ends. */
  readonly signal: AbortSignal;
  /**
   * Starts a program of the repository, or any command, in a session of its own. Emits the command
   * as a reader could type it.
   */
  start(command: Command): Promise<Started>;
  /** Connects, in this process. Throws nothing: a refused connection is a client's state. */
  client(port: number, options?: ClientOptions): Client;
  /** Connects several clients at once; {@linkcode ClientOptions.count} says how many. */
  clients(port: number, options: ClientOptions): Client[];
  /** Sends a signal, and emits the command: `kill -TERM 1234`. */
  kill(target: number | Started, signal: Deno.Signal): void;
  /** Says one or two sentences about what happens next, or what is to be seen. */
  say(text: string): void;
  /**
   * Waits for a condition that is read from the system, and shows the progress.
   *
   * @param what What is waited for: "128 zombies". The figure that differs if it does not come.
   * @param condition Gives the value that was waited for; `false` or `undefined` is "not yet".
   * @param seconds How long at most. The default is 20.
   * @throws {StageError} If it does not come in time: the verdict is that it differs.
   */
  until<T>(
    what: string,
    condition: () => T | false | undefined | Promise<T | false | undefined>,
    seconds?: number,
  ): Promise<T>;
  /** Sleeps: the article's seconds if the stage is slow, `quick` seconds otherwise. */
  pause(articleSeconds: number, quick: number, why: string): Promise<void>;
  /** Looks at all that this stage started, now. */
  snapshot(): Snapshot;
  /** Takes a snapshot and emits it as a picture to keep. */
  draw(caption: string): void;
  /**
   * Emits a figure of the evidence and compares it. The verdict is that all are as expected.
   *
   * @param figure What was counted or measured: "zombies".
   * @param value What it is.
   * @param holds Whether that is as expected.
   * @param expected The expectation in words: "at least 1".
   */
  expect<T>(figure: string, value: T, holds: (value: T) => boolean, expected: string): void;
  /** Emits a figure that nothing depends on. */
  note(figure: string, value: string | number): void;
  /** A free TCP port. */
  free(): Promise<number>;
  /** A folder for this stage alone, which every user can write to; removed with the stage. */
  folder(): string;
}

/** What is started. */
export interface Command {
  /** A program of the repository, by its path from the root. */
  readonly program?: string;
  /** A command instead, such as `["python3", "-c", "..."]`. */
  readonly command?: readonly string[];
  /** Its arguments. `PORT` is replaced with a free port. */
  readonly args?: readonly string[];
  /** The flags of `deno run`. The default is `--allow-ffi`. */
  readonly flags?: readonly string[];
  /** Further environment variables; shown before the command. */
  readonly env?: Readonly<Record<string, string>>;
  /** A shell command line before it, such as `ulimit -n 256;`. */
  readonly shell?: string;
  /** Where it runs, if not in the repository's root; shown as `cd`. */
  readonly folder?: string;
  /** Runs it as a user without privileges, if the lab runs as root. */
  readonly user?: "unprivileged";
  /** What it is in drawings. The default is `server`. */
  readonly role?: "server" | "client" | "other";
  /** Whether {@linkcode Started.type} is wanted; otherwise its standard input is `/dev/null`. */
  readonly stdin?: "piped";
  /** Whether to wait until it listens. The default: whether `PORT` is among its arguments. */
  readonly listens?: boolean;
}

/** What runs on the stage. */
export interface Started {
  readonly pid: number;
  /** The session that it leads, with all its children: ended as one. */
  readonly session: number;
  /** The port that it listens on, as `/proc` and the kernel say, not its output. */
  readonly port?: number;
  /** What it has printed so far, to standard output and standard error. */
  output(): string;
  /** Types text into its standard input. */
  type(text: string): Promise<void>;
  /** Waits for its end. Throws a `StageError` if it does not come in time. */
  ended(seconds?: number): Promise<Ending>;
  /** Ends it and its session. */
  stop(): Promise<void>;
}

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
}

/** What a client does. */
export interface ClientOptions {
  /** What it sends when it is connected; `null` sends nothing. The default is a GET. */
  readonly request?: string | null;
  /** How many; for {@linkcode Stage.clients}. */
  readonly count?: number;
  /** Of several: whether each connects only when the one before has its answer, or has ended. */
  readonly oneByOne?: boolean;
  /** Milliseconds between two bytes of the request. */
  readonly slowly?: number;
  /** Whether it reads. The default is `true`. */
  readonly readReply?: boolean;
  /** Milliseconds until it gives up connecting. The default is the system's: minutes. */
  readonly patience?: number;
}

/** A connection of this process to a server on the stage. */
export interface Client {
  readonly number: number;
  /** Its port; 0 before it is connected. */
  readonly localPort: number;
  state(): ClientState;
  reply(): string;
  /** Seconds from connecting to the end of the reply, or till now. */
  seconds(): number;
  /** Sends more. */
  send(text: string): Promise<void>;
  /** Waits until it is connected, refused, reset, or has given up. */
  connected(seconds?: number): Promise<ClientState>;
  /** Waits until it has an answer, or has ended. */
  answered(seconds?: number): Promise<ClientState>;
  /** Waits until the connection has ended: `closed`, `refused` or `reset`. */
  ended(seconds?: number): Promise<ClientState>;
  close(): void;
}

/**
 * `connecting`: no SYN-ACK yet. `waiting`: connected, no byte of the reply yet. `answered`: the
 * first bytes are there. `hung`: answered, and nothing more came for a while, but the connection is
 * open. `closed`: both or the server ended it. `refused`: no listener. `reset`: by the server.
 * `gave-up`: connecting took longer than its patience.
 */
export type ClientState =
  | "connecting"
  | "waiting"
  | "answered"
  | "hung"
  | "closed"
  | "refused"
  | "reset"
  | "gave-up";

/** What the kernel says about all that a stage started, at one moment. */
export interface Snapshot {
  /** Milliseconds since the stage began. */
  readonly at: number;
  readonly processes: readonly ProcessView[];
  readonly sockets: readonly SocketView[];
  readonly clients: readonly ClientView[];
}

/** A process, parents before their children. */
export interface ProcessView {
  readonly pid: number;
  readonly ppid: number;
  readonly session: number;
  readonly role: "server" | "child" | "client" | "other";
  /** The program's path from the root, or a command's name. */
  readonly program: string;
  readonly state: ProcessState;
  /** The name of the system call that it is in: `accept4`. */
  readonly call?: string;
  /** Where it stands in its program, if the call occurs there once. */
  readonly line?: { readonly file: string; readonly line: number; readonly text: string };
  readonly descriptors: readonly DescriptorView[];
  readonly signals: {
    readonly pending: readonly string[];
    readonly blocked: readonly string[];
    readonly caught: readonly string[];
  };
  /** Seconds of processor time used. */
  readonly cpu: number;
}

/** A process's state. `disk` cannot be interrupted. */
export type ProcessState = "running" | "sleeping" | "disk" | "stopped" | "zombie";

/** An entry of a process's descriptor table. */
export interface DescriptorView {
  readonly fd: number;
  /** `runtime`: Deno's own: epoll, eventfd, its pipes, memory files, caches. */
  readonly kind: "tcp" | "unix" | "pipe" | "file" | "terminal" | "runtime";
  /** What it refers to, as `/proc/PID/fd` says. */
  readonly target: string;
  /** Of sockets and pipes: the number that all descriptors of one have in common. */
  readonly inode?: number;
}

/** A socket or pipe that a process of the stage holds, or a connection that waits for `accept`. */
export interface SocketView {
  /** 0 if no process has it: it waits for `accept`, or is closed and not yet gone. */
  readonly inode: number;
  readonly kind: "tcp" | "unix" | "pipe";
  /** `LISTEN`, `ESTABLISHED`, `CLOSE_WAIT`, ... */
  readonly state: string;
  /** `127.0.0.1:8888`, or a path. */
  readonly local: string;
  readonly remote: string;
  /** Of a listener: connections that wait for `accept`; of others: bytes to read. */
  readonly queue: number;
  /** Of a listener: its backlog. The kernel lets one connection more than this wait. */
  readonly limit?: number;
  /** The descriptors that refer to it, in all processes of the stage: the reference count. */
  readonly holders: readonly { readonly pid: number; readonly fd: number }[];
}

/** A client of the stage. */
export interface ClientView {
  readonly number: number;
  readonly state: ClientState;
  readonly local: string;
  readonly remote: string;
  /** Bytes. */
  readonly sent: number;
  /** Bytes. */
  readonly received: number;
  /** Since it began to connect, until it ended. */
  readonly seconds: number;
}

/** What happens in a lesson, for the terminal, the page and `--json`. */
export type LabEvent =
  | LessonEvent
  | { readonly type: "command"; readonly text: string }
  | { readonly type: "say"; readonly text: string }
  | { readonly type: "progress"; readonly text: string; readonly seconds: number }
  | { readonly type: "snapshot"; readonly snapshot: Snapshot }
  | { readonly type: "picture"; readonly caption: string; readonly snapshot: Snapshot }
  | FigureEvent
  | VerdictEvent;

/** A lesson begins. */
export interface LessonEvent {
  readonly type: "lesson";
  readonly name: string;
  readonly title: string;
  readonly source: string;
  readonly question: string;
  readonly programs: readonly ProgramView[];
}

/** Something was counted or measured. */
export interface FigureEvent {
  readonly type: "figure";
  readonly figure: string;
  readonly value: string;
  /** Only of figures that the verdict depends on. */
  readonly expected?: string;
  readonly holds?: boolean;
}

/** A lesson ends. */
export interface VerdictEvent {
  readonly type: "verdict";
  readonly holds: boolean;
  /** What differs, or that all is as expected. */
  readonly text: string;
  readonly answer: string;
  readonly read: readonly string[];
  readonly next?: string;
}
