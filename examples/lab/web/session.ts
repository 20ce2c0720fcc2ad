/**
 * A reader's session, as the server sees it: a process of its own (session_main.ts), which starts what the
 * reader asks for, looks at it, and ends it. Events come from it line by line, and go to the
 * streams of those who look. When the server ends, even by SIGKILL, that process reads the end of
 * its standard input, and ends with all that it started.
 */
import { LIMITS } from "./limits.ts";
import { linesOf } from "./lines.ts";
import { Refusal } from "./refusal.ts";

const MAIN = new URL("./session_main.ts", import.meta.url).pathname;
const ROOT = new URL("../../../", import.meta.url).pathname;
/** How long the process may take to end what it started, in milliseconds. */
const PATIENCE = 5000;
/** How often something is written to a stream, so that its end is noticed, in milliseconds. */
const PULSE = 5000;
/** Bytes that a stream may hold back; snapshots are left out meanwhile. */
const HELD_BACK = 2 ** 20;
const encoder = new TextEncoder();

/** What an action returned. */
export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

/** A process that was started in a session. */
export interface StartedProcess {
  readonly pid: number;
  readonly file: string;
}

/** A reader's session. */
export interface Session {
  /** Its name, which cannot be guessed: who knows it may use the session. */
  readonly id: string;
  /** What was started, in the order of the starts. */
  readonly started: readonly StartedProcess[];
  /** Settles when its process has ended. */
  readonly ended: Promise<void>;
  /**
   * Has something done.
   *
   * @param action The action, as the page sent it.
   * @throws {Refusal} With status 429 if too many are being done, 410 if the session has ended.
   */
  act(action: object): Promise<Reply>;
  /**
   * Opens a stream of its events.
   *
   * @param last The number of the last event that the reader has had, if there was one.
   * @throws {Refusal} With status 429 if there are too many.
   */
  stream(last: number | undefined): ReadableStream<Uint8Array>;
  /** Ends it, and all that it started. */
  end(reason: string): void;
}

/** A stream of events to one reader. */
interface Stream {
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  /** Whether it has the snapshot that the next delta refers to. */
  isCurrent: boolean;
  /** Whether snapshots were left out because it holds back too much. */
  isBehind: boolean;
}

/** Starts a session. */
export function startSession(): Session {
  const id = crypto.randomUUID().replaceAll("-", "");
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--allow-all", MAIN],
    cwd: ROOT,
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
    // A terminal's Control-C is for the server, which ends its sessions in order.
    detached: true,
  }).spawn();
  const orders = process.stdin.getWriter();
  const streams = new Set<Stream>();
  const started: StartedProcess[] = [];
  const log: { number: number; bytes: Uint8Array }[] = [];
  const calls = new Map<number, (reply: Reply) => void>();
  let lastCall = 0;
  let lastNumber = 0;
  let isOver = false;
  const limit = setTimeout(
    () => end(`${LIMITS.minutes} minutes are over`),
    LIMITS.minutes * 60_000,
  );
  const pulse = setInterval(() => broadcast(encoder.encode(": \n\n")), PULSE);
  let grace = leaveSoon();
  const ended = follow();

  function leaveSoon(): ReturnType<typeof setTimeout> {
    return setTimeout(() => end("Nobody has been looking"), LIMITS.graceSeconds * 1000);
  }

  /** Passes events on until the process has closed its output. */
  async function follow(): Promise<void> {
    for await (const line of linesOf(process.stdout)) receive(line);
    const { code, signal } = await process.status;
    end(`The session's process has ended with ${signal ?? `code ${code}`}`);
    for (const answer of calls.values()) answer({ status: 410, body: { error: "It has ended" } });
    clearTimeout(grace);
  }

  function receive(line: string): void {
    if (line.startsWith('{"reply":')) {
      const { reply, ...rest } = JSON.parse(line) as Reply & { reply: number };
      calls.get(reply)?.(rest);
      calls.delete(reply);
      return;
    }
    if (line.startsWith('{"type":"started"')) started.push(JSON.parse(line));
    const bytes = encoder.encode(`id: ${++lastNumber}\ndata: ${line}\n\n`);
    const isWhole = line.startsWith('{"type":"snapshot"');
    if (!isWhole && !line.startsWith('{"type":"delta"')) {
      log.push({ number: lastNumber, bytes });
      if (log.length > LIMITS.log) log.shift();
      return broadcast(bytes);
    }
    for (const stream of streams) {
      if (!isWhole && !stream.isCurrent) continue;
      stream.isCurrent = stream.controller.desiredSize! > 0;
      stream.isBehind = !stream.isCurrent;
      if (stream.isCurrent) stream.controller.enqueue(bytes);
    }
  }

  function broadcast(bytes: Uint8Array): void {
    for (const { controller } of streams) controller.enqueue(bytes);
  }

  function order(message: object): void {
    orders.write(encoder.encode(`${JSON.stringify(message)}\n`)).catch(() => {
      // It has ended: follow() tells.
    });
  }

  function close(stream: Stream): void {
    if (!streams.delete(stream) || streams.size > 0 || isOver) return;
    order({ look: false });
    clearTimeout(grace);
    grace = leaveSoon();
  }

  function end(reason: string): void {
    if (isOver) return;
    isOver = true;
    clearTimeout(limit);
    clearInterval(pulse);
    clearTimeout(grace);
    broadcast(encoder.encode(`data: ${JSON.stringify({ type: "ended", reason })}\n\n`));
    for (const { controller } of streams) controller.close();
    streams.clear();
    orders.close().catch(() => {});
    const timer = setTimeout(() => {
      // What it started ends with it: it has a guard.
      try {
        process.kill("SIGKILL");
      } catch {
        // it has just ended
      }
    }, PATIENCE);
    process.status.then(() => clearTimeout(timer));
  }

  return {
    id,
    started,
    ended,
    end,
    act(action) {
      if (isOver) throw new Refusal(410, "The session has ended");
      if (calls.size >= LIMITS.actions) {
        throw new Refusal(429, `${calls.size} actions are being done: wait for them`);
      }
      const call = ++lastCall;
      const { promise, resolve } = Promise.withResolvers<Reply>();
      calls.set(call, resolve);
      order({ call, action });
      return promise;
    },
    stream(last) {
      if (isOver) throw new Refusal(410, "The session has ended");
      if (streams.size >= LIMITS.streams) {
        throw new Refusal(429, `The session has ${streams.size} event streams: close one`);
      }
      let stream: Stream;
      return new ReadableStream<Uint8Array>({
        start(controller) {
          stream = { controller, isCurrent: false, isBehind: false };
          streams.add(stream);
          clearTimeout(grace);
          const hello = { type: "session", id, resumed: last !== undefined };
          controller.enqueue(encoder.encode(`data: ${JSON.stringify(hello)}\n\n`));
          for (const { number, bytes } of log) if (number > (last ?? 0)) controller.enqueue(bytes);
          order({ look: true });
        },
        pull() {
          if (!stream.isBehind || isOver) return;
          stream.isBehind = false;
          order({ look: true });
        },
        cancel: () => close(stream),
      }, new ByteLengthQueuingStrategy({ highWaterMark: HELD_BACK }));
    },
  };
}
