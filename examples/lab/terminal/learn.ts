/** Plays lessons one after the other, and ends them on Control-C. */
import { becomeForkable } from "../../../mod.ts";
import type { LabEvent } from "../lesson.ts";
import type { LessonEntry } from "../lessons/all.ts";
import { Guard } from "../stage/guard.ts";
import { playLesson } from "../stage/play.ts";
import { Terminal } from "./terminal.ts";
import { colors } from "./text.ts";

/** What is played, and how. */
export interface LearnOptions {
  readonly entries: readonly LessonEntry[];
  readonly slow: boolean;
  readonly json: boolean;
  /** Whether all lessons are played: nobody wants to be asked before each. */
  readonly all: boolean;
  /** Seconds. */
  readonly patience: number | undefined;
}

const LIVE = 200; // milliseconds between two live drawings
/** The exit status of a program whose reader is gone, as of one that SIGPIPE ends. */
const UNREAD = 141;
const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/** Plays lessons, and ends the program with their verdict. */
export async function learn({ entries, slow, json, all, patience }: LearnOptions): Promise<never> {
  // No signal is held: Deno needs SIGCHLD to wait for the programs that it starts.
  becomeForkable({ signals: [] });
  const guard = Guard.start();
  const isTerminal = !json && Deno.stdout.isTerminal() && Deno.env.get("TERM") !== "dumb";
  const terminal = new Terminal({ isTerminal, write, size });
  const abort = new AbortController();
  let ending: keyof typeof SIGNALS | undefined;
  for (const signal of Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]) {
    Deno.addSignalListener(signal, () => {
      // At the second one, the guard ends what is left.
      if (ending !== undefined) Deno.exit(128 + SIGNALS[signal]);
      ending = signal;
      abort.abort(new DOMException(`Ended by ${signal}`, "AbortError"));
    });
  }
  const isAsking = isTerminal && !all && Deno.stdin.isTerminal();
  const verdicts = new Map<string, boolean>();
  let isRead = true;
  try {
    for (const entry of entries) {
      const holds = await playLesson(await entry.load(), {
        guard,
        slow,
        emit: json ? print : (event) => terminal.show(event),
        signal: abort.signal,
        ...isTerminal && { every: LIVE },
        ...patience !== undefined && { patience },
        ...isAsking && { ready: () => ask(abort.signal) },
      });
      verdicts.set(entry.name, holds);
    }
  } catch (error) {
    isRead = !(error instanceof Deno.errors.BrokenPipe); // as after `| head`
    if (isRead && ending === undefined) throw error;
    if (isRead) terminal.clear();
  } finally {
    guard[Symbol.dispose]();
  }
  if (!isRead) Deno.exit(UNREAD);
  if (ending !== undefined) Deno.exit(128 + SIGNALS[ending]);
  if (!json && entries.length > 1) summarize(verdicts);
  Deno.exit([...verdicts.values()].every(Boolean) ? 0 : 1);
}

/** Prints an event for machines. */
function print(event: LabEvent): void {
  if (event.type !== "snapshot") write(`${JSON.stringify(event)}\n`);
}

function write(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

function size(): { columns: number; rows: number } {
  try {
    return Deno.consoleSize();
  } catch {
    return { columns: 80, rows: 24 };
  }
}

/** Leaves time to think, until Enter. */
async function ask(signal: AbortSignal): Promise<void> {
  write(colors.dim("Think about it first; Enter shows it. "));
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => {});
  await Promise.race([Deno.stdin.read(new Uint8Array(1024)), aborted]);
  write("\n");
}

function summarize(verdicts: ReadonlyMap<string, boolean>): void {
  const wrong = [...verdicts].filter(([, holds]) => !holds).map(([name]) => name);
  const count = verdicts.size;
  write(
    wrong.length === 0
      ? `\n${colors.green(`All ${count} lessons are as expected`)}\n`
      : `\n${colors.red(`${wrong.length} of ${count} lessons differ: ${wrong.join(", ")}`)}\n`,
  );
}
