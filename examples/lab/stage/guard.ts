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

/** Tells the guard what is to be ended and removed. */
export class Guard implements Disposable {
  /** The guard's process. */
  readonly pid: number;
  readonly #pipe: Descriptor;

  private constructor(pid: number, pipe: Descriptor) {
    this.pid = pid;
    this.#pipe = pipe;
  }

  /** Starts one. The program must be forkable, and nothing started yet. */
  static start(): Guard {
    const [readEnd, writeEnd] = pipe(O_CLOEXEC);
    const pid = forkChild(() => {
      setsid(); // Control-C is for the lab
      writeEnd.close();
      waitForEnd(readEnd);
    });
    readEnd.close();
    return new Guard(pid, writeEnd);
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
    this.#pipe.close();
    waitpid(this.pid);
  }

  #tell(line: string): void {
    this.#pipe.write(new TextEncoder().encode(`${line}\n`));
  }
}

/** Reads what is to be ended until the lab is gone, and ends it. */
function waitForEnd(pipe: Descriptor): void {
  const sessions = new Set<number>();
  const folders = new Set<string>();
  const decoder = new TextDecoder();
  let text = "";
  for (let bytes; (bytes = pipe.read(4096)).length > 0;) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      if (line[0] === "+") sessions.add(Number(line.slice(1)));
      else if (line[0] === "-") sessions.delete(Number(line.slice(1)));
      else folders.add(line.slice(1));
    }
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
