/** Waits for the outcome of what a server was told to do. */
import { printable } from "../../prefork/status/printable.ts";
import { type Status, StatusError } from "../../prefork/status/status.ts";
import { interruptible } from "./interruptible.ts";
import { print } from "./print.ts";
import type { RunningServer } from "./running_server.ts";

/** How far something is: under way, done or failed, and the words that say so. */
export type Stage = readonly [stage: "under way" | "done" | "failed", text: string];

/** What to wait for. */
export interface Following {
  readonly server: RunningServer;
  /** What goes on, such as `"the reload"`. */
  readonly what: string;
  /** How long to wait, in seconds. */
  readonly timeout: number;
  /** Returns how far it is. */
  readonly stage: (status: Status) => Stage;
  /** How far it is when the server has ended. */
  readonly ended: Stage;
}

/** The default of `timeout`: twice that of `serve --boot-timeout`, for the canary and the workers. */
export const TIMEOUT = 120;

/** How often to look, in milliseconds: more and more seldom, so as not to disturb the server. */
const FIRST_INTERVAL = 20;
const LONGEST_INTERVAL = 250;
/** For how long a server that lives may not be readable: it may just be executing itself anew. */
const UNREADABLE = 5000;

/**
 * Waits for an outcome, and shows the progress on a terminal. A signal ends the waiting, and
 * changes nothing for the server.
 *
 * @returns The exit code: 0 if it is done; 1 if it failed, took too long, or was interrupted. What
 *   it is has been printed.
 * @throws {StatusError} If the server cannot be read any more.
 */
export async function follow(following: Following): Promise<number> {
  const { server, what, timeout, stage, ended } = following;
  const interruption = interruptible();
  const end = performance.now() + timeout * 1000;
  let shown = "";
  let unreadableSince: number | undefined;
  try {
    for (let interval = FIRST_INTERVAL;;) {
      const now = await lookAt();
      if (now !== undefined) {
        if (now[0] !== "under way") return conclude(now);
        show(now[1]);
      }
      if (interruption.signal !== undefined) {
        return conclude(["failed", `Interrupted: ${what} goes on${progress()}`]);
      }
      const left = end - performance.now();
      if (left <= 0) {
        const late = `${capitalized(what)} has not ended within ${timeout} s`;
        return conclude(["failed", `${late}, and goes on${progress()}`]);
      }
      await interruption.sleep(Math.min(interval, left));
      interval = Math.min(interval * 1.5, LONGEST_INTERVAL);
    }
  } finally {
    interruption.stop();
  }

  /** Returns how far it is; `undefined` if that is not known at present. */
  async function lookAt(): Promise<Stage | undefined> {
    try {
      const now = stage(await server.look());
      unreadableSince = undefined;
      return now;
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      if (await server.hasEnded()) return ended;
      unreadableSince ??= performance.now();
      if (performance.now() - unreadableSince < UNREADABLE) return undefined;
      clear();
      throw error;
    }
  }

  function progress(): string {
    return shown === "" ? "" : `: ${shown}`;
  }

  function show(text: string): void {
    if (text === shown) return;
    shown = text;
    if (!Deno.stderr.isTerminal()) return;
    const width = Deno.consoleSize().columns || 80; // a terminal may not know its size
    write(`\r${printable(text).slice(0, width - 1)}\x1b[K`);
  }

  function clear(): void {
    if (Deno.stderr.isTerminal() && shown !== "") write("\r\x1b[K");
  }

  function conclude([stage, text]: Stage): number {
    clear();
    if (stage === "done") {
      print(`${printable(text)}\n`);
      return 0;
    }
    console.error(`error: ${printable(text)}`);
    return 1;
  }
}

function write(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

function capitalized(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
