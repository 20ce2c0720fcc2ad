/** The top command shows what a running server is doing, live. */
import type { Status } from "../../prefork/status/status.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { interruptible } from "./interruptible.ts";
import { print, reporting } from "./print.ts";
import type { RunningServer } from "./running_server.ts";
import { openScreen } from "./screen.ts";
import { formatTop, ORDERS } from "./top_view.ts";

const HELP = `\
Shows what a preforking server and its workers are doing, as a live view.

Usage: tine top [PID | --pid-file FILE | --admin ADDRESS] [options]

${SERVER_HELP}
  --interval S     the time between two looks (default 1)
  --help           this text

Rates per second and percentiles are those since the look before. The keys:
  q, Control-C     ends it
  space            stops looking, or goes on
  n b r f m        orders the workers by number, busy, requests, in flight, or memory

The columns are those of tine status, with the requests per second of each worker and the time
within which it has sent 99 of 100 responses. Where standard output is not a terminal, it prints
one view after the other.

Exit code: 0, or 1 if there is no such server or it has ended, or 2 if an argument is invalid.
`;

/** The signals that end it, with the terminal as it was. */
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Runs the top command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if there is no server; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function top(args: readonly string[]): Promise<number> {
  const given = readArguments(args, ["interval"], []);
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  const interval = 1000 * seconds(given.values.interval ?? "1", "look with --interval", 3600);
  return await reporting(async () => {
    const server = given.find();
    if (Deno.stdout.isTerminal()) await show(server, interval);
    else await list(server, interval);
    return 0;
  });
}

/** Prints one view after the other, for a file or a pipe. */
async function list(server: RunningServer, interval: number): Promise<void> {
  const interruption = interruptible(ENDING);
  try {
    let before: Status | undefined;
    while (interruption.signal === undefined) {
      const now = await server.status();
      const view = { width: 80, height: Infinity, before, order: 0, footer: undefined };
      const { lines } = formatTop(now, view);
      print(`${before === undefined ? "" : "\n"}${lines.map((line) => `${line}\n`).join("")}`);
      before = now;
      await interruption.sleep(interval);
    }
  } finally {
    interruption.stop();
  }
}

/** Shows the view on the terminal. */
async function show(server: RunningServer, interval: number): Promise<void> {
  let now = await server.status(); // an error is for the terminal as it is
  let before: Status | undefined;
  let order = 0;
  let isPaused = false;
  let isDone = false;
  const interruption = interruptible(ENDING);
  using screen = openScreen((key) => {
    if (key === undefined || key === "q") isDone = true;
    else if (key === " ") isPaused = !isPaused;
    else if (ORDERS.some((one) => one.key === key)) {
      order = ORDERS.findIndex((one) => one.key === key);
    } else return;
    draw();
    interruption.wake();
  });
  const stopHandling = handle({
    SIGWINCH: draw,
    SIGTSTP: () => {
      screen.suspend();
      Deno.kill(Deno.pid, "SIGSTOP");
      // The shell has continued this process.
      screen.resume();
      draw();
    },
  });
  try {
    draw();
    let next = performance.now() + interval;
    for (;;) {
      await interruption.sleep(isPaused ? 3_600_000 : Math.max(0, next - performance.now()));
      if (isDone || interruption.signal !== undefined) return;
      if (isPaused || performance.now() < next) continue; // a key
      next = performance.now() + interval;
      [before, now] = [now, await server.status()];
      draw();
    }
  } finally {
    stopHandling();
    interruption.stop();
  }

  function draw(): void {
    const { columns, rows } = Deno.consoleSize();
    const { lines, titles } = formatTop(now, {
      width: columns || 80, // a terminal may not know its size
      height: rows || 24,
      before,
      order,
      footer: footerOf(order, isPaused),
    });
    screen.draw(lines, titles);
  }
}

function footerOf(order: number, isPaused: boolean): string {
  const orders = ORDERS.map(({ key, name }, i) =>
    i === order ? `[${key} ${name}]` : `${key} ${name}`
  );
  return `${isPaused ? "PAUSED  " : ""}q quit  space pause  ${orders.join("  ")}`;
}

/** Sets handlers of signals. Returns the function that removes them. */
function handle(handlers: Partial<Record<Deno.Signal, () => void>>): () => void {
  const entries = Object.entries(handlers) as [Deno.Signal, () => void][];
  for (const [signal, handler] of entries) Deno.addSignalListener(signal, handler);
  return () => {
    for (const [signal, handler] of entries) Deno.removeSignalListener(signal, handler);
  };
}
