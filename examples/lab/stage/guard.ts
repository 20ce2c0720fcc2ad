/**
 * Ends everything that the lab has started when the lab is gone, however it ended: after SIGKILL
 * too. The guard is a process of its own that waits for the end of a pipe which only the lab holds
 * open.
 */
import {
  type Descriptor,
  forkChild,
  O_CLOEXEC,
  pipe,
  setsid,
  sleep,
  waitpid,
} from "../../../mod.ts";
import { killAll } from "./session.ts";

/** A variable in the environment of everything that the lab starts. */
const VARIABLE = "TINE_LAB";
/** How often and how long after one another a guard looks for what was started last. */
const LOOKS = 5;
const BETWEEN_LOOKS = 0.02; // seconds

/** Tells the guard what is to be ended and removed. */
export class Guard implements Disposable {
  /** The guard's process. */
  readonly pid: number;
  /**
   * What belongs into the environment of everything that is started: the lab may end before it has
   * told the guard of a session.
   */
  readonly environment: Readonly<Record<string, string>>;
  readonly #pipe: Descriptor;

  private constructor(pid: number, mark: string, pipe: Descriptor) {
    this.pid = pid;
    this.environment = { [VARIABLE]: mark };
    this.#pipe = pipe;
  }

  /** Starts one. The program must be forkable, and nothing started yet. */
  static start(): Guard {
    const [readEnd, writeEnd] = pipe(O_CLOEXEC);
    const mark = crypto.randomUUID();
    const pid = forkChild(() => {
      setsid(); // Control-C is for the lab
      writeEnd.close();
      waitForEnd(readEnd, mark);
    });
    readEnd.close();
    return new Guard(pid, mark, writeEnd);
  }

  /** A session has begun. */
  add(session: number): void {
    this.#tell(`+${session}`);
  }

  /** A session has ended. */
  remove(session: number): void {
    this.#tell(`-${session}`);
  }

  /** A folder was made. Removing it twice is harmless. */
  addFolder(path: string): void {
    this.#tell(`/${path}`);
  }

  /** Waits for its end. Everything that was started must have ended. */
  [Symbol.dispose](): void {
    this.#tell(".");
    this.#pipe.close();
    waitpid(this.pid);
  }

  #tell(line: string): void {
    this.#pipe.write(new TextEncoder().encode(`${line}\n`));
  }
}

/** Reads what is to be ended until the lab is gone, and ends it. */
function waitForEnd(pipe: Descriptor, mark: string): void {
  const sessions = new Set<number>();
  const folders = new Set<string>();
  const decoder = new TextDecoder();
  let text = "";
  let isOver = false;
  for (let bytes; (bytes = pipe.read(4096)).length > 0;) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line[0] === "+") sessions.add(Number(line.slice(1)));
      else if (line[0] === "-") sessions.delete(Number(line.slice(1)));
      else if (line[0] === "/") folders.add(line.slice(1));
      else isOver = true;
    }
  }
  for (let look = 0; !isOver && look < LOOKS; look++) {
    for (const session of sessionsWith(mark)) sessions.add(session);
    killAll(sessions);
    sleep(BETWEEN_LOOKS);
  }
  for (let attempts = 0; killAll(sessions) > 0 && attempts < 1000; attempts++) sleep(0.01);
  for (const folder of folders) {
    try {
      Deno.removeSync(folder, { recursive: true });
    } catch {
      // the lab has removed it
    }
  }
}

/** Finds the sessions of the processes that have a mark in their environment. */
function sessionsWith(mark: string): number[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const environment = Deno.readTextFileSync(`/proc/${name}/environ`);
      if (!environment.includes(`${VARIABLE}=${mark}`)) return [];
      // After the name, which may contain anything: the state, the parent, the group, the session.
      const [, , , session] = Deno.readTextFileSync(`/proc/${name}/stat`)
        .replace(/^.*\) /s, "").split(" ");
      return [Number(session)];
    } catch {
      return []; // it has ended, or belongs to another user
    }
  });
}
