/** `tine top`: what it shows on a screen of any size, and how it treats a terminal. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { formatTop, ORDERS, type View } from "../server/cli/operate/top_view.ts";
import type { Status, WorkerStatus } from "../server/prefork/status/status.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  ask,
  assertSnapshot,
  DENO,
  descendants,
  processState,
  Program,
  ROOT,
  start,
  startServer,
  until,
} from "./support.ts";

const BOUNDS = [0.001, 0.01, 0.1, 1];
const START = "2026-01-02T03:04:05.678Z";
const at = (seconds: number) => new Date(Date.parse(START) + seconds * 1000).toISOString();

/** A worker of a server that has been running for so many seconds. */
function worker(number: number, uptime: number, factor = 1): WorkerStatus {
  return {
    number,
    pid: 4_194_000 + number,
    state: "ready",
    stalled: number === 2 ? 12.3 : 0,
    started: START,
    generation: 0,
    age: uptime,
    requests: uptime * number * factor,
    errors: 0,
    inFlight: number % 5,
    connections: number,
    busy: (number % 10) / 10,
    memory: {
      privateBytes: 10_000_000 * (number % 7),
      sharedBytes: 30_000_000,
      proportionalBytes: 20_000_000,
    },
    reason: "start",
    request: "",
    connectionStates: { active: 0, idle: number, upgraded: 0 },
    latency: {
      bounds: BOUNDS,
      counts: [0, uptime * number * factor, 0, 0, 0],
      sum: 1,
      count: uptime * number * factor,
    },
    current: number % 5 === 0 ? [] : [{
      method: "GET",
      url: `http://127.0.0.1:8000/${number}/${"\x1b[31mlong/\u202e".repeat(20)}`,
      since: at(uptime - number / 10),
    }],
  };
}

/** The status of a server with so many workers, after so many seconds. */
function statusOf(workers: number, uptime: number): Status {
  const list = Array.from({ length: workers }, (_, i) => worker(i + 1, uptime));
  const requests = list.reduce((sum, one) => sum + one.requests, 0);
  return {
    master: {
      pid: 4_194_303,
      url: "http://127.0.0.1:8000/",
      app: "app.ts",
      started: START,
      uptime,
      generation: 0,
      workers,
      requests,
      errors: uptime * 3,
      crashes: 0,
      lastReload: { success: true, time: START, reason: null },
      draining: false,
      latency: {
        bounds: BOUNDS,
        counts: [0, requests, 0, 0, uptime],
        sum: 1,
        count: requests + uptime,
      },
      responseBytes: { bounds: [], counts: [0], sum: 0, count: 0 },
      responses: [],
      starts: [],
      versions: { tine: "0.1.0", deno: "2.9.6", v8: "15" },
      reloads: { requested: 0, answered: 0 },
      logs: { reopened: 0, pending: 0, failed: 0 },
      memory: { privateBytes: 1e6, sharedBytes: 1e6, proportionalBytes: 1e6 },
    },
    admin: null,
    workers: list,
    listeners: [{ url: "http://127.0.0.1:8000/", queue: 2, backlog: 1024, drops: 0 }],
    slow: Array.from({ length: 20 }, (_, i) => ({
      time: at(uptime - 60 - i),
      duration: 20 - i,
      method: "GET",
      url: "http://127.0.0.1:8000/slow",
      status: 200,
      worker: 1,
    })),
  };
}

const VIEW: View = {
  width: 80,
  height: 24,
  before: statusOf(128, 100),
  order: 0,
  footer: "q quit",
};

Deno.test("formatTop() fits 128 workers into 80 columns and 24 lines", async (test) => {
  const { lines, titles } = formatTop(statusOf(128, 102), VIEW);
  await assertSnapshot(test, `${lines.join("\n")}\n`);
  assertEquals(lines.length, 24);
  for (const line of lines) {
    assert(line.length <= 80, line);
    assert(!/[\p{Cc}\p{Cf}]/u.test(line), "It has a control character");
  }
  assertMatch(lines[titles]!, /#\s+PID/);
});

Deno.test("formatTop() fits any screen, and uses a large one", () => {
  for (const workers of [0, 1, 3, 20, 128]) {
    const now = statusOf(workers, 102);
    for (const height of [1, 2, 5, 8, 10, 15, 24, 60, 200]) {
      for (const width of [10, 40, 80, 200]) {
        const { lines } = formatTop(now, { ...VIEW, height, width });
        assertEquals(lines.length, height, `${workers} workers, ${height} lines`);
        assert(lines.every((line) => line.length <= width));
        assertEquals(lines.at(-1), "q quit");
      }
    }
    const all = formatTop(now, { ...VIEW, height: Infinity, footer: undefined }).lines;
    assertEquals(all.filter((line) => /^ *\d+ 41\d{5} /.test(line)).length, workers);
    assert(!all.some((line) => line.includes("more workers")));
  }
  // Few workers leave room for all requests that are listed.
  const { lines } = formatTop(statusOf(1, 102), { ...VIEW, height: 40 });
  assertEquals(lines.filter((line) => line.includes(" ago  200 ")).length, 9);
  assert(lines.includes("  and 11 more"));
});

Deno.test("formatTop() shows rates and percentiles since the status before, in any order", () => {
  const now = statusOf(3, 102);
  const view = { ...VIEW, before: statusOf(3, 100) };
  const text = formatTop(now, view).lines.join("\n");
  // 6 requests a second, and 1 of 7 responses above the highest bound.
  assertMatch(
    text,
    /^612 requests \(6\.0\/s\), 306 errors \(3\.0\/s\), 6 in flight, queue 2 of 1024$/m,
  );
  assertMatch(text, /^Response times of the last 2\.0 s: p50 6\.3 ms, p90 over 1\.0 s, p99 over/m);
  assertMatch(text, /^ +3 4194003 ready {4}\|{3} +30% +3\.0 +9\.9 ms/m);
  assertMatch(text, /^ +2 4194002 stalled {2}\|{10} +100% +2\.0/m);
  const first = formatTop(now, { ...view, before: undefined }).lines.join("\n");
  assertMatch(first, /^612 requests \(6\.0\/s\)/m);
  assertMatch(first, /^Response times since the start:/m);
  const orders = ORDERS.map((_, order) =>
    formatTop(now, { ...view, order }).lines
      .flatMap((line) => line.match(/^ +(\d) 419400/)?.[1] ?? []).join("")
  );
  assertEquals(orders, ["123", "231", "321", "321", "321"]);
});

/** Starts `tine top` on a terminal of its own, in a shell that says what is left of it. */
function startTop(...args: string[]): Program {
  const cli = new URL("server/cli.ts", ROOT).pathname;
  const line = [DENO, "run", "-A", "--no-lock", cli, "top", ...args].map((word) => `'${word}'`);
  const shell = `trap : INT; stty rows 24 cols 80; ${line.join(" ")}; echo "exit $?"; stty -a`;
  return new Program("script", ["-qefc", shell, "/dev/null"], {
    stdin: "piped",
    env: { SHELL: "/bin/sh" },
  });
}

/** Types on its terminal. */
async function type(terminal: Program, text: string): Promise<void> {
  const writer = terminal.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  writer.releaseLock();
}

/** Waits for something in what is on the screen now, and returns the lines. */
async function screenWith(terminal: Program, pattern: RegExp): Promise<string[]> {
  const screen = () => terminal.stdout.slice(terminal.stdout.lastIndexOf("\x1b[H") + 3);
  const text = await until(() => pattern.test(screen()) && screen(), `${pattern}`)
    .catch((error) => {
      throw new Error(`${error.message}: ${terminal.stdout}${terminal.stderr}`);
    });
  // deno-lint-ignore no-control-regex
  return text.replace(/\x1b\[[0-9?]*[a-zA-Z]/g, "").split(/\r*\n/);
}

/** Checks that a terminal was given back as it was. */
async function assertRestored(terminal: Program, code: number): Promise<void> {
  await terminal.printed(new RegExp(`exit ${code}\\r?\\n[^]*isig icanon[^]* echo `));
  // The other screen, the cursor, and long lines.
  for (const mode of ["1049", "25", "7"]) {
    const [on, off] = ["h", "l"].map((last) => terminal.stdout.lastIndexOf(`\x1b[?${mode}${last}`));
    assert(mode === "1049" ? off! > on! : on! > off!, `${mode}: ${terminal.stdout}`);
  }
}

function topOf(terminal: Program): number {
  return descendants(terminal.pid).find((pid) =>
    Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("\0top\0")
  )!;
}

Deno.test("`top` shows a server on a terminal, follows keys and its size, and gives it back", async () => {
  await using server = await startServer();
  const pending = ask(server.port, "/sleep?ms=20000").catch(() => {});
  await using terminal = startTop(String(server.pid), "--interval", "0.2");
  const screen = await screenWith(terminal, /\[n number\]/);
  assert(screen.length <= 24, `${screen.length} lines`);
  assertMatch(screen[0]!, new RegExp(`master ${server.pid}`));
  for (const pid of server.workers) assert(screen.some((line) => line.includes(` ${pid} ready`)));
  await type(terminal, "\x1b[Ab");
  await screenWith(terminal, /\[b busy\]/);
  await type(terminal, " ");
  await screenWith(terminal, /^[^]*PAUSED/);
  await type(terminal, " ");
  await screenWith(terminal, /^(?![^]*PAUSED)[^]*quit/);

  const top = topOf(terminal);
  const device = Deno.readLinkSync(`/proc/${top}/fd/0`);
  await new Deno.Command("stty", { args: ["-F", device, "rows", "9", "cols", "40"] }).output();
  const small = await screenWith(terminal, /\[b busy\]…/);
  assert(small.length <= 9, `${small.length} lines`);
  for (const line of small) assert(line.length <= 40, line);

  // The shell's Control-Z, and fg.
  Deno.kill(top, "SIGTSTP");
  await until(() => processState(top)?.state === "T", "the stop");
  await until(() => terminal.stdout.endsWith("\x1b[?1049l"), "the shell's screen");
  const { length } = terminal.stdout;
  Deno.kill(top, "SIGCONT");
  await until(() => /\?1049h[^]*quit/.test(terminal.stdout.slice(length)), "the screen again");

  await type(terminal, "q");
  await assertRestored(terminal, 0);
  server.kill("SIGQUIT"); // with the request in progress
  await pending;
});

Deno.test("`top` gives the terminal back, whatever ends it", async () => {
  await using server = await startServer();
  const pid = String(server.pid);
  const ends: readonly [(terminal: Program) => unknown, number][] = [
    [(terminal) => type(terminal, "\x03"), 0], // Control-C
    [(terminal) => Deno.kill(topOf(terminal), "SIGTERM"), 0],
    [(terminal) => Deno.kill(topOf(terminal), "SIGHUP"), 0],
    [() => server.kill("SIGKILL"), 1],
  ];
  const terminals = ends.map(() => startTop(pid, "--interval", "0.2"));
  try {
    for (const terminal of terminals) await screenWith(terminal, /quit/);
    for (const [i, [end, code]] of ends.entries()) {
      await end(terminals[i]!);
      await assertRestored(terminals[i]!, code);
    }
    assertMatch(terminals.at(-1)!.stdout, /\?1049l[^]*error: Server \d+ has ended/);
  } finally {
    for (const terminal of terminals) await terminal[Symbol.asyncDispose]();
  }
});

Deno.test("`top` prints one view after the other where there is no terminal", async () => {
  await using server = await startServer();
  const args = ["top", String(server.pid), "--interval", "0.1"];
  await using interrupted = start("server/cli.ts", args, { flags: ["-A"] });
  await interrupted.printed(/REQ\/S[^]*\n\n[^]*REQ\/S/);
  interrupted.kill("SIGINT");
  assertEquals(await interrupted.ended(), { code: 0, signal: null });
  // deno-lint-ignore no-control-regex
  assert(!/\x1b/.test(interrupted.stdout));
  assertEquals(readStatus(server.pid).workers.length, 2);
  // A reader that has read enough.
  const line = [DENO, "run", "-A", "--no-lock", new URL("server/cli.ts", ROOT).pathname, ...args];
  const shell = `{ ${line.map((word) => `'${word}'`).join(" ")}; echo "exit $?" >&2; } | head -1`;
  await using piped = new Program("sh", ["-c", shell]);
  assertEquals((await piped.ended()).code, 0);
  assertMatch(piped.stderr, /^exit 0$/m);
  for (const interval of ["0", "x", "99999"]) {
    await using wrong = start("server/cli.ts", ["top", "--interval", interval], { flags: ["-A"] });
    assertEquals((await wrong.ended()).code, 2);
    assertMatch(wrong.stderr, /look with --interval .*: expected a number of seconds from 0\.1/);
  }
});
