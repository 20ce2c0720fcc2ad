import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { adminHandler } from "../server/prefork/status/admin.ts";
import { sumOfMetrics } from "../server/prefork/request_metrics.ts";
import { createScoreboard } from "../server/prefork/scoreboard.ts";
import { START_REASONS } from "../server/prefork/start_reason.ts";
import {
  findMasters,
  readStatus,
  type Status,
  StatusError,
} from "../server/prefork/status/status.ts";
import { formatJson, formatPrometheus } from "../server/prefork/status/format.ts";
import { formatAge, formatBytes, formatTable } from "../server/prefork/status/table.ts";
import * as tine from "../mod.ts";
import {
  assertSnapshot,
  childrenOf,
  descriptorsOf,
  exchange,
  Program,
  type ProgramOptions,
  ROOT,
  start,
  startFunction,
  until,
} from "./support.ts";

const isRoot = Deno.uid() === 0;

/** What a scoreboard is filled with. */
interface Board {
  readonly header?: Record<string, unknown>;
  /** The process of a slot: a child, one that has ended, or another that has its pid now. */
  readonly slots?:
    readonly ({ process: "child" | "zombie" | "stranger" } & Record<string, unknown>)[];
  /** The number of the descriptor. */
  readonly fd?: number;
}

/** A program that has a scoreboard as a master has, and children that do nothing. */
async function startBoard(
  board: Board,
  options: ProgramOptions = {},
): Promise<{ program: Program; pids: number[] } & AsyncDisposable> {
  const program = startFunction(
    async () => {
      tine.becomeForkable();
      const { createScoreboard } = await import(Deno.args[0]!);
      const board = JSON.parse(Deno.args[1]!) as Board;
      const { scoreboard, file } = createScoreboard();
      if (board.fd !== undefined) {
        file.dup2(board.fd);
        file.close();
      }
      scoreboard.master = tine.getpid();
      Object.assign(scoreboard, board.header);
      const pids = (board.slots ?? []).map(({ process, ...fields }, index) => {
        const pid = process === "stranger" ? 1 : tine.fork();
        if (pid === 0) {
          tine.prctl(tine.PR_SET_PDEATHSIG, tine.SIGKILL);
          if (process === "child") { for (;;) tine.sleep(1000); }
          tine._exit(0);
        }
        Object.assign(scoreboard.slots[index], fields, { pid });
        return pid;
      });
      console.log(`filled ${pids.join(" ")}`);
      tine.sleep(1000);
    },
    [new URL("server/prefork/scoreboard.ts", ROOT).href, JSON.stringify(board)],
    { flags: ["-A"], ...options },
  );
  const [, pids] = await program.printed(/filled (.*)\n/);
  return {
    program,
    pids: pids!.split(" ").map(Number),
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

const HEADER = {
  url: "http://127.0.0.1:8000/",
  app: "examples/app.ts",
  started: Date.now() - 3_600_000,
  generation: 2,
  workers: 2,
  pastRequests: 1000,
  pastErrors: 10,
  crashes: 3,
  reloaded: Date.now() - 60_000,
  draining: true,
  versions: { tine: "1", deno: "2", v8: "3" },
  reloadsRequested: 5,
  reopenings: 3,
  reopened: 3,
};

/** A status that no server has. */
const STATUS: Status = {
  master: {
    pid: 4_194_303,
    url: "http://127.0.0.1:8000/",
    app: "app.ts",
    started: "2026-01-02T03:04:05.678Z",
    uptime: 446_400.5,
    generation: 1,
    workers: 2,
    requests: 12_345_678_901,
    errors: 1,
    crashes: 0,
    lastReload: { success: true, time: "2026-01-07T07:03:06.178Z", reason: null },
    draining: false,
    latency: { bounds: [0.001, 0.1], counts: [90, 9, 1], sum: 2.5, count: 100 },
    responseBytes: { bounds: [1000, 1e6], counts: [50, 25, 0], sum: 1_234_567, count: 75 },
    responses: [
      { method: "GET", statusClass: "2xx", count: 99 },
      { method: "other", statusClass: "5xx", count: 1 },
    ],
    starts: [{ reason: "start", count: 2 }, { reason: "crash", count: 0 }],
    versions: { tine: "0.1.0", deno: "2.9.6", v8: "14.9.207.35-rusty" },
    reloads: { requested: 1, answered: 1 },
    logs: { reopened: 0, pending: 0, failed: 0 },
    memory: { privateBytes: 4_200_000, sharedBytes: 30_000_000, proportionalBytes: 10_000_000 },
  },
  admin: null,
  workers: [{
    number: 1,
    pid: 4_194_301,
    state: "ready",
    stalled: 0,
    started: "2026-01-02T03:04:06.000Z",
    generation: 1,
    age: 11_550,
    requests: 1_234_567_890,
    errors: 123_456,
    inFlight: 12,
    connections: 1000,
    busy: 0.374,
    memory: { privateBytes: 360_000_000, sharedBytes: 9_949_000, proportionalBytes: 365_000_000 },
    reason: "killed because its event loop was blocked for 30 s",
    request: "GET http://127.0.0.1:8000/",
    connectionStates: { active: 3, idle: 987, upgraded: 10 },
    latency: { bounds: [0.001, 0.1], counts: [45, 4, 1], sum: 1.5, count: 50 },
    current: [
      { method: "GET", url: "http://127.0.0.1:8000/slow", since: "2026-01-07T07:03:05.678Z" },
    ],
  }, {
    number: 2,
    pid: 4_194_302,
    state: "ready",
    stalled: 12.3,
    started: "2026-01-02T03:04:07.000Z",
    generation: 0,
    age: 1.5,
    requests: 0,
    errors: 0,
    inFlight: 1,
    connections: 1,
    busy: 1.004,
    memory: null,
    reason: 'a "quoted" \\ reason\nof two lines \x1b[31m',
    request: `GET http://127.0.0.1:8000/${"long/".repeat(40)}`,
    connectionStates: { active: 1, idle: 0, upgraded: 0 },
    latency: { bounds: [0.001, 0.1], counts: [0, 0, 0], sum: 0, count: 0 },
    current: [],
  }],
  listeners: [
    { url: "http://127.0.0.1:8000/", queue: 3, backlog: 511, drops: 7 },
    { url: "unix:/run/app.sock", queue: null, backlog: null, drops: null },
  ],
  slow: [{
    time: "2026-01-07T07:03:01.178Z",
    duration: 2.5,
    method: "POST",
    url: "http://127.0.0.1:8000/report",
    status: 200,
    worker: 1,
  }],
};

function messageOf(pid: number): string {
  return assertThrows(() => readStatus(pid), StatusError).message;
}

Deno.test("readStatus() returns what the scoreboard and /proc contain", async () => {
  await using board = await startBoard({
    header: HEADER,
    slots: [
      {
        process: "child",
        number: 2,
        state: "ready",
        generation: 1,
        started: Date.now() - 60_000,
        requests: 200,
        errors: 5,
        inFlight: 3,
        connections: 7,
        busy: 0.5,
        reason: "killed by SIGKILL",
        request: "GET http://127.0.0.1:8000/é?token=secret?&x",
        beatAt: Date.now() + 60_000,
        reopened: 3,
      },
      {
        process: "child",
        number: 1,
        state: "stopping",
        started: Date.now() - 1000,
        beatAt: Date.now() - 30_000,
        reopened: -3,
      },
      { process: "child", number: 1, state: "booting", started: Date.now() },
      { process: "child", number: 0, state: "ready", requests: 10_000, errors: 10_000 },
    ],
  });
  const { master, workers, admin } = readStatus(board.program.pid);
  const { memory, uptime, ...facts } = master;
  assert(uptime >= 3600 && uptime < 3700);
  const none = sumOfMetrics([]);
  assertEquals(facts, {
    pid: board.program.pid,
    url: HEADER.url,
    app: HEADER.app,
    started: new Date(HEADER.started).toISOString(),
    generation: 2,
    workers: 2,
    requests: 1200,
    errors: 15,
    crashes: 3,
    lastReload: { success: true, time: new Date(HEADER.reloaded).toISOString(), reason: null },
    draining: true,
    latency: none.latency,
    responseBytes: none.responseBytes,
    responses: [],
    starts: START_REASONS.map((reason) => ({ reason, count: 0 })),
    versions: { tine: "1", deno: "2", v8: "3" },
    reloads: { requested: 5, answered: 0 },
    logs: { reopened: 3, pending: 2, failed: 1 },
  });
  const quick = readStatus(board.program.pid, { memory: false });
  for (const one of [quick.master, quick.admin, ...quick.workers]) assertEquals(one?.memory, null);
  assert(memory !== null && memory.proportionalBytes > 1e6);
  assertEquals(admin?.pid, board.pids[3]);
  // By number, the elder one first.
  assertEquals(workers.map(({ pid }) => pid), [1, 2, 0].map((index) => board.pids[index]));
  assertEquals(workers.map(({ state }) => state), ["stopping", "booting", "ready"]);
  const [silent, booting, busy] = workers;
  assert(silent!.stalled >= 30 && silent!.stalled < 100);
  assertEquals(booting!.stalled, 0);
  assert(busy!.age >= 60 && busy!.age < 160);
  assertEquals(busy!.stalled, 0);
  assertEquals(
    [busy!.generation, busy!.requests, busy!.errors, busy!.inFlight, busy!.connections, busy!.busy],
    [1, 200, 5, 3, 7, 0.5],
  );
  assertEquals([busy!.reason, busy!.request], ["killed by SIGKILL", "GET http://127.0.0.1:8000/é"]);
  const { privateBytes, sharedBytes, proportionalBytes } = busy!.memory!;
  const rollup = Deno.readTextFileSync(`/proc/${busy!.pid}/smaps_rollup`);
  const rss = Number(rollup.match(/^Rss: +(\d+)/m)![1]) * 1024;
  assertEquals(privateBytes + sharedBytes, rss);
  assert(proportionalBytes > privateBytes && proportionalBytes < rss);
});

Deno.test("readStatus() omits workers that have ended, and counts their requests", async () => {
  await using board = await startBoard({
    header: HEADER,
    slots: [
      { process: "zombie", number: 1, state: "ready", requests: 200, errors: 20 },
      { process: "child", number: 2, state: "ready", requests: 1, errors: 0 },
      { process: "stranger", number: 3, state: "ready", requests: 4, errors: 4 },
    ],
  });
  await until(
    () => readStatus(board.program.pid).workers.length === 1,
    "the first worker's end",
  );
  const { master, workers } = readStatus(board.program.pid);
  assertEquals(workers.map(({ number }) => number), [2]);
  assertEquals([master.requests, master.errors], [1205, 34]);
});

Deno.test("readStatus() reports what a process that is not a server is", async () => {
  await using board = await startBoard({ slots: [{ process: "child" }] });
  const { pid } = board.program;
  const [child] = board.pids;
  assertEquals(
    messageOf(Deno.pid),
    `Cannot read the status of process ${Deno.pid}: it is not a preforking server of tine`,
  );
  assertEquals(
    messageOf(child!),
    `Cannot read the status of process ${child}: it is a child of the server ${pid}. Give the pid of that one`,
  );
  const [fd] = [...descriptorsOf(pid)].find(([, link]) => link.includes("tine-scoreboard"))!;
  const file = Deno.openSync(`/proc/${pid}/fd/${fd}`, { write: true });
  file.seekSync(4, Deno.SeekMode.Start);
  file.writeSync(new Uint8Array([99]));
  file.close();
  assertEquals(
    messageOf(pid),
    `Cannot read the status of process ${pid}: it runs a different version of tine`,
  );
  board.program.kill("SIGKILL");
  await board.program.ended();
  assertEquals(
    messageOf(pid),
    `Cannot read the status of process ${pid}: there is no such process`,
  );
  for (const pid of [0, -1, 1.5, NaN]) assertStringIncludes(messageOf(pid), "that is not a pid");
});

Deno.test("readStatus() reports that the process belongs to another user", async () => {
  await using board = await startBoard({});
  await using reader = startFunction(
    async () => {
      const { readStatus } = await import(Deno.args[0]!);
      if (tine.getuid() === 0) tine.setuid(65534);
      try {
        readStatus(Number(Deno.args[1]));
      } catch (error) {
        console.log(String(error));
      }
    },
    [new URL("server/prefork/status/status.ts", ROOT).href, String(isRoot ? board.program.pid : 1)],
    { flags: ["-A"] },
  );
  await reader.ended();
  assertMatch(
    reader.stdout,
    /^StatusError: Cannot read .* process \d+: it belongs to another user\. Run this as that user or as/,
  );
});

Deno.test("readStatus() needs only --allow-ffi, and finds a descriptor with any number", async () => {
  await using board = await startBoard({ header: HEADER, fd: 200 });
  await using reader = startFunction(
    async () => {
      const { readStatus } = await import(Deno.args[0]!);
      // So that the descriptor that /proc is read through has the number of the scoreboard's.
      while (tine.open("/dev/null", tine.O_RDONLY).fileno() < 199);
      console.log(JSON.stringify(readStatus(Number(Deno.args[1])).master.url));
    },
    [new URL("server/prefork/status/status.ts", ROOT).href, String(board.program.pid)],
    { flags: ["--allow-ffi", `--allow-read=${ROOT.pathname}`] },
  );
  assertEquals((await reader.ended()).code, 0, reader.stderr);
  assertEquals(reader.stdout, `"${HEADER.url}"\n`);
});

Deno.test("findMasters() finds masters, but not their children", async () => {
  await using first = await startBoard({ slots: [{ process: "child" }] });
  await using second = await startBoard({});
  const masters = findMasters();
  assert(masters.includes(first.program.pid));
  assert(masters.includes(second.program.pid));
  assert(!masters.includes(first.pids[0]!));
});

const NAMESPACE = ["--pid", "--mount-proc", "--fork", ...(isRoot ? [] : ["--map-root-user"])];
const hasNamespaces = new Deno.Command("unshare", {
  args: [...NAMESPACE, "true"],
  stdout: "null",
  stderr: "null",
}).outputSync().success;

Deno.test({
  name: "readStatus() knows the processes of a container by their pids outside of it",
  ignore: !hasNamespaces,
  fn: async () => {
    await using board = await startBoard(
      { header: HEADER, slots: [{ process: "child", number: 1, state: "ready" }] },
      { shell: `exec unshare ${NAMESPACE.join(" ")} /bin/bash -c 'shift; exec "$@"' bash` },
    );
    const [outside] = childrenOf(board.program.pid);
    const [worker] = childrenOf(outside!);
    assert(board.pids[0] !== worker);
    const { master, workers } = readStatus(outside!);
    assertEquals(master.pid, outside);
    assertEquals(workers.map(({ pid }) => pid), [worker]);
    assert(findMasters().includes(outside!));
    // Inside it is the only server, whatever else runs on this machine.
    await using inside = new Program("nsenter", [
      ...["--target", String(outside), "--pid", "--mount"],
      ...(isRoot ? [] : ["--user", "--preserve-credentials"]),
      ...[Deno.execPath(), "run", "-A", "--no-lock", new URL("server/cli.ts", ROOT).pathname],
      ...["status", "--json"],
    ]);
    assertEquals((await inside.ended()).code, 0, inside.stderr);
    const status = JSON.parse(inside.stdout) as Status;
    assertEquals(status.workers.map(({ pid }) => pid), board.pids);
  },
});

Deno.test("formatTable() fits everything into 100 columns", async (test) => {
  const table = formatTable(STATUS);
  await assertSnapshot(test, table);
  for (const line of table.split("\n")) assert(line.length <= 100, line);
  assert(!/[^\n\P{Cc}]/u.test(table), "It holds a control character");
});

/** The status after a reload that failed. */
const FAILED: Status = {
  ...STATUS,
  master: {
    ...STATUS.master,
    lastReload: {
      success: false,
      time: "2026-01-07T07:03:06.178Z",
      reason:
        "Cannot load app.ts: it threw at its top level: Error: \x1b[31mno\nconfiguration in " +
        `/srv/${"long/".repeat(30)}config.json`,
    },
  },
};

Deno.test("formatTable() shows the whole reason why the last reload failed", async (test) => {
  const table = formatTable(FAILED);
  await assertSnapshot(test, table);
  for (const line of table.split("\n")) assert(line.length <= 100, line);
  assert(!/[^\n\P{Cc}]/u.test(table), "It holds a control character");
});

Deno.test("formatTable() uses the given width, and shows the rate since an earlier status", () => {
  const before: Status = {
    ...STATUS,
    master: { ...STATUS.master, uptime: STATUS.master.uptime - 2, requests: 12_345_676_901 },
    listeners: STATUS.listeners.map((one) => ({ ...one, drops: one.drops && one.drops - 2 })),
  };
  const lines = formatTable(STATUS, { width: 60, before }).split("\n");
  assertEquals(lines[2], "12345678901 requests (1000/s), 1 error (0/s), 13 in flight");
  assertEquals(lines[3], "http://127.0.0.1:8000/: queue 3 of 511, 2 dropped");
  assertEquals(lines[4], "unix:/run/app.sock: queue unknown");
  for (const line of lines) assert(line.length <= 60, line);
});

Deno.test("formatAge() and formatBytes() use readable units", () => {
  assertEquals(
    [0, 59.9, 60, 123, 3599, 3600, 11_550, 86_399, 86_400, 446_400, 1e7].map(formatAge),
    ["0s", "59s", "1m00s", "2m03s", "59m59s", "1h00m", "3h12m", "23h59m", "1d00h", "5d04h"]
      .concat("115d17h"),
  );
  assertEquals(
    [0, 49_999, 4_200_000, 9_949_999, 9_950_000, 360_000_000].map(formatBytes),
    ["0.0 MB", "0.0 MB", "4.2 MB", "9.9 MB", "10 MB", "360 MB"],
  );
});

Deno.test("formatJson() returns the unchanged status", () => {
  assertEquals(JSON.parse(formatJson(STATUS)), STATUS);
  assert(formatJson(STATUS).endsWith("}\n"));
});

/** Reads Prometheus's text format 0.0.4, refusing what its rules refuse. */
function parsePrometheus(text: string): Map<string, number> {
  const values = new Map<string, number>();
  const done = new Set<string>();
  let name = "";
  let type = "";
  assert(text.endsWith("\n"), "The last line has no end");
  const lines = text.slice(0, -1).split("\n");
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const help = line.match(/^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/);
    if (help !== null) {
      name = help[1]!;
      assert(!done.has(name), `${name} comes twice`);
      done.add(name);
      assertMatch(help[2]!, /^(?:[^\\]|\\\\|\\n)*$/);
      type = lines[++at]!.match(`^# TYPE ${name} (counter|gauge|histogram)$`)?.[1] ?? "";
      assert(type !== "", `${name} has no type`);
      assertEquals(type === "counter", name.endsWith("_total"), name);
      continue;
    }
    const sample = line.match(/^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/);
    if (sample === null) throw new Error(`"${line}" is no sample`);
    const suffix = type === "histogram" ? sample[1]!.match(/_(bucket|sum|count)$/)?.[0] : "";
    assertEquals(sample[1], name + suffix, "A sample stands apart from its metric");
    const labels: Record<string, string> = {};
    let rest = sample[2] ?? "";
    while (rest !== "") {
      const label = rest.match(/^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(?:,|$)/);
      if (label === null) throw new Error(`"${rest}" is no label`);
      assert(!(label[1]! in labels), `${label[1]} comes twice`);
      labels[label[1]!] = label[2]!.replace(/\\(.)/g, (_, it) => it === "n" ? "\n" : it);
      rest = rest.slice(label[0].length);
    }
    const key = sample[1] + (sample[2] === undefined ? "" : JSON.stringify(labels));
    assert(!values.has(key), `${key} comes twice`);
    assertMatch(sample[3]!, /^[+-]?(\d+(\.\d+)?(e[+-]?\d+)?|Inf|NaN)$/);
    const value = Number(sample[3]);
    if (type === "counter") assert(value >= 0);
    values.set(key, value);
  }
  return values;
}

Deno.test("formatPrometheus() names, types and explains its metrics", async (test) => {
  const admin = { pid: 4_194_300, memory: STATUS.master.memory };
  await assertSnapshot(test, formatPrometheus({ ...STATUS, admin }));
});

Deno.test("formatPrometheus() follows the rules of the text format, whatever a label contains", () => {
  const values = parsePrometheus(formatPrometheus(STATUS));
  const [first, second] = STATUS.workers;
  assertEquals(values.get("tine_requests_total"), STATUS.master.requests);
  assertEquals(values.get("tine_restarts_total"), 1);
  assertEquals(values.get("tine_start_time_seconds"), 1767323045.678);
  assertEquals(values.get("tine_last_reload_success"), 1);
  assertEquals(values.get("tine_last_reload_timestamp_seconds"), 1767769386.178);
  const failed = parsePrometheus(formatPrometheus(FAILED));
  assertEquals(failed.get("tine_last_reload_success"), 0);
  assertEquals(failed.get("tine_last_reload_timestamp_seconds"), 1767769386.178);
  const early = formatPrometheus({ ...STATUS, master: { ...STATUS.master, lastReload: null } });
  assert(!early.includes("reload"));
  parsePrometheus(early);
  assertEquals(values.get('tine_workers{"state":"ready"}'), 2);
  assertEquals(values.get('tine_workers{"state":"booting"}'), 0);
  assertEquals(values.get("tine_master_private_bytes"), 4_200_000);
  const of = (worker: string, pid: number) => JSON.stringify({ worker, pid: String(pid) });
  assertEquals(values.get(`tine_worker_requests_total${of("1", first!.pid)}`), 1_234_567_890);
  assertEquals(values.get(`tine_worker_busy_ratio${of("2", second!.pid)}`), 1.004);
  assertEquals(values.get(`tine_worker_private_bytes${of("1", first!.pid)}`), 360_000_000);
  assertEquals(values.get(`tine_worker_private_bytes${of("2", second!.pid)}`), undefined);
  assertEquals(
    values.get(
      `tine_worker_info${
        JSON.stringify({
          worker: "2",
          pid: String(second!.pid),
          generation: "0",
          reason: second!.reason,
        })
      }`,
    ),
    1,
  );
  const latency = "tine_http_request_duration_seconds";
  assertEquals(values.get(`${latency}_bucket${JSON.stringify({ le: "0.001" })}`), 90);
  assertEquals(values.get(`${latency}_bucket${JSON.stringify({ le: "0.1" })}`), 99);
  assertEquals(values.get(`${latency}_bucket${JSON.stringify({ le: "+Inf" })}`), 100);
  assertEquals([values.get(`${latency}_count`), values.get(`${latency}_sum`)], [100, 2.5]);
  assertEquals(values.get("tine_http_response_size_bytes_sum"), 1_234_567);
  assertEquals(
    values.get(`tine_http_responses_total${JSON.stringify({ method: "GET", status: "2xx" })}`),
    99,
  );
  assertEquals(values.get('tine_connections{"state":"active"}'), 4);
  assertEquals(values.get('tine_connections{"state":"upgraded"}'), 10);
  const url = JSON.stringify({ url: "http://127.0.0.1:8000/" });
  assertEquals(values.get(`tine_listener_queue_connections${url}`), 3);
  assertEquals(values.get(`tine_listener_backlog_connections${url}`), 511);
  assertEquals(values.get("tine_listen_drops_total"), 7);
  assertEquals(values.get('tine_worker_starts_total{"reason":"start"}'), 2);
  assertEquals(values.get("tine_draining"), 0);
  assertEquals(
    failed.get(
      `tine_last_reload_failure_info${
        JSON.stringify({ reason: FAILED.master.lastReload!.reason })
      }`,
    ),
    1,
  );
  parsePrometheus(formatPrometheus({ ...STATUS, workers: [], listeners: [] }));
  const admin = { pid: 1, memory: STATUS.master.memory };
  const withAdmin = parsePrometheus(formatPrometheus({ ...STATUS, admin }));
  assertEquals(withAdmin.get("tine_admin_proportional_bytes"), 10_000_000);
});

Deno.test("adminHandler() serves its pages, and nothing else", async () => {
  const { file, scoreboard } = createScoreboard();
  try {
    scoreboard.master = Deno.pid;
    scoreboard.url = HEADER.url;
    const handler = adminHandler(scoreboard, ({ url }) => !url.includes("evil"));
    const ask = async (page: string, method = "GET") =>
      await handler(new Request(`http://localhost${page}`, { method }));
    const [admin, worker] = scoreboard.slots;
    Object.assign(admin!, { pid: 1, number: 0, state: "ready" });
    assertEquals((await ask("/healthz")).status, 503);
    Object.assign(worker!, { pid: 1, number: 1, state: "booting" });
    assertEquals((await ask("/healthz")).status, 503);
    worker!.state = "ready";
    assertEquals((await ask("/healthz")).status, 200);
    assertEquals(await (await ask("/healthz")).text(), "ok\n");
    assertEquals((await ask("/readyz")).status, 503); // other workers are not
    scoreboard.recordReload();
    assertEquals(await (await ask("/readyz")).text(), "ok\n");
    worker!.state = "booting";
    assertEquals((await ask("/readyz")).status, 503);
    worker!.state = "ready";
    scoreboard.draining = true;
    for (const page of ["/healthz", "/readyz"]) {
      assertEquals((await ask(page)).status, 503);
      assertEquals(await (await ask(page)).text(), "draining\n");
    }
    scoreboard.draining = false;
    assertMatch(
      await (await ask("/?x")).text(),
      /^An app on http:\/\/127\.0\.0\.1:8000\/, master \d+\n/,
    );
    assertEquals((await ask("/")).headers.get("content-type"), "text/plain; charset=utf-8");
    const json = await ask("/status.json");
    assertEquals(json.headers.get("content-type"), "application/json");
    assertEquals((await json.json()).master.pid, Deno.pid);
    const metrics = await ask("/metrics");
    assertEquals(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    parsePrometheus(await metrics.text());
    assertEquals((await ask("/metrics", "HEAD")).status, 200);
    for (const page of ["/status", "/metrics/", "/constructor", "/%00"]) {
      assertEquals((await ask(page)).status, 404);
    }
    for (const page of ["/", "/status.json", "/metrics", "/healthz", "/none"]) {
      const refused = await handler(new Request(`http://evil${page}`));
      assertEquals(refused.status, 403);
      assertMatch(await refused.text(), /^This host is not admitted: [^\n]+\n$/);
    }
    const wrong = await ask("/metrics", "POST");
    assertEquals([wrong.status, wrong.headers.get("allow")], [405, "GET, HEAD"]);
  } finally {
    file.close();
  }
});

/** Runs the status command to its end. */
async function status(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  await using program = start("server/cli.ts", ["status", ...args], { flags: ["-A"] });
  const { code } = await program.ended();
  return { code, stdout: program.stdout, stderr: program.stderr };
}

Deno.test("`status` rejects an invalid command line, with exit code 2", async () => {
  for (
    const [args, reason] of [
      [["nonsense"], '"nonsense" is not a pid'],
      [["0"], '"0" is not a pid'],
      [["1", "2"], "one pid"],
      [["1", "--pid-file", "x"], "only one of a pid, --pid-file and --admin"],
      [["--pid-file"], "missing value of --pid-file: expected a file"],
      [["--json", "--prometheus"], "one of --watch, --json and --prometheus"],
      [["--json", "--watch"], "one of --watch, --json and --prometheus"],
      [["--watch=never"], 'with --watch "never": expected a number of seconds from 0.1 to 3600'],
      [["--watch=0"], 'with --watch "0": expected a number'],
      [["--nonsense"], "--nonsense"],
    ] as const
  ) {
    const { code, stdout, stderr } = await status(...args);
    assertEquals([code, stdout], [2, ""], args.join(" "));
    assertStringIncludes(stderr, reason);
  }
});

Deno.test("`status` reads the status by pid or pid file, with exit code 1 if there is no server", async () => {
  await using board = await startBoard({
    header: HEADER,
    slots: [{ process: "child", number: 1, state: "ready" }],
  });
  const { pid } = board.program;
  const folder = Deno.makeTempDirSync({ prefix: "tine_test_" });
  const pidFile = `${folder}/pid`;
  try {
    const table = await status(String(pid));
    assertEquals([table.code, table.stderr], [0, ""]);
    assertMatch(
      table.stdout,
      /^examples\/app\.ts on http:\/\/127\.0\.0\.1:8000\/, master \d+\nup 1h/,
    );
    assertEquals(
      (JSON.parse((await status("--json", String(pid))).stdout) as Status).master.pid,
      pid,
    );
    Deno.writeTextFileSync(pidFile, `${pid}\n`);
    parsePrometheus((await status("--pid-file", pidFile, "--prometheus")).stdout);

    await using another = await startBoard({ header: { url: "http://127.0.0.1:8001/" } });
    const several = await status();
    assertEquals([several.code, several.stdout], [1, ""]);
    assertStringIncludes(several.stderr, "Choose one by its pid");
    assertStringIncludes(several.stderr, `\n  ${pid}  http://127.0.0.1:8000/  examples/app.ts\n`);
    assertStringIncludes(several.stderr, `\n  ${another.program.pid}  http://127.0.0.1:8001/\n`);

    board.program.kill("SIGKILL");
    await board.program.ended();
    const gone = await status("--pid-file", pidFile);
    assertEquals([gone.code, gone.stdout], [1, ""]);
    assertEquals(
      gone.stderr,
      `error: Cannot use the pid file ${pidFile}: the server has ended without removing it: ` +
        `there is no process ${pid}\n`,
    );
    for (
      const [content, problem] of [["nonsense", "it does not contain a pid"], ["", "it is empty"]]
    ) {
      Deno.writeTextFileSync(pidFile, content!);
      assertStringIncludes((await status("--pid-file", pidFile)).stderr, problem!);
    }
    const missing = await status("--pid-file", `${folder}/none`);
    assertEquals(missing.code, 1);
    assertMatch(missing.stderr, /^error: Cannot read the pid file .*: it does not exist, so .*\n$/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("`status --watch` repeats the table until Control-C, or until the server ends", async () => {
  await using board = await startBoard({ header: HEADER });
  const { pid } = board.program;
  const args = ["status", String(pid), "--watch=0.1"];
  await using interrupted = start("server/cli.ts", args, { flags: ["-A"] });
  await using outliving = start("server/cli.ts", args, { flags: ["-A"] });
  await interrupted.printed(/master[^]*\n\n[^]*master[^]*\(0\/s\)/);
  interrupted.kill("SIGINT");
  assertEquals(await interrupted.ended(), { code: 0, signal: null });
  assertEquals(interrupted.stderr, "");
  await outliving.printed(/master/);
  board.program.kill("SIGKILL");
  assertEquals(await outliving.ended(), { code: 1, signal: null });
  assertEquals(outliving.stderr, `error: Server ${pid} has ended\n`);
});

/** Sends a request, once: fetch() would repeat it when the worker ends. */
async function send(port: number, page: string): Promise<Deno.Conn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const request = `GET ${page} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`;
  await connection.write(new TextEncoder().encode(request));
  return connection;
}

/** Asks a server's admin socket for a page. */
async function askAdmin(path: string, page: string): Promise<string> {
  return await exchange(path, `GET ${page} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n`);
}

/** A server with two workers, and an app with pages that fail, never answer and never end. */
async function startServer(...args: string[]): Promise<
  { server: Program; port: number; folder: string } & AsyncDisposable
> {
  const folder = Deno.makeTempDirSync({ prefix: "tine_test_" });
  const app = `${folder}/app.ts`;
  Deno.writeTextFileSync(
    app,
    `export default { fetch(request: Request) {
      const { pathname } = new URL(request.url);
      if (pathname === "/fail") return new Response("no", { status: 500 });
      if (pathname === "/never") return new Promise(() => {});
      if (pathname === "/loop") for (;;);
      return new Response("yes");
    } };\n`,
  );
  const line = ["serve", app, "--port", "0", "--workers", "2", ...args];
  const server = start("server/cli.ts", line, { flags: ["-A"], cwd: folder });
  const [, port] = await until(
    () => server.stderr.match(/Serving http:\/\/\S+:(\d+)\//),
    "the ready line",
  );
  return {
    server,
    port: Number(port),
    folder,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      Deno.removeSync(folder, { recursive: true });
    },
  };
}

Deno.test("readStatus() shows what the workers of a real server do, and why they were started", async () => {
  await using started = await startServer();
  const { server, port } = started;
  const url = `http://127.0.0.1:${port}`;
  const now = () => readStatus(server.pid);
  assertEquals(now().workers.map(({ number, reason }) => [number, reason]), [
    [1, "start"],
    [2, "start"],
  ]);
  for (const page of ["/", "/", "/fail"]) await (await fetch(url + page)).body?.cancel();
  assertEquals([now().master.requests, now().master.errors], [3, 1]);
  using _waiting = await send(port, "/never");
  const busy = await until(
    () =>
      now().workers
        .find(({ inFlight, request }) => inFlight === 1 && request === `GET ${url}/never`),
    "a request in flight",
  );
  assertEquals(now().master.requests, 4);

  // A worker that is killed.
  Deno.kill(busy.pid, "SIGKILL");
  const replacement = await until(
    () => now().workers.find(({ number, pid }) => number === busy.number && pid !== busy.pid),
    "another worker",
  );
  assertEquals(replacement.reason, "killed by SIGKILL");
  const { master } = now();
  assertEquals([master.requests, master.errors, master.crashes], [4, 1, 1]);

  // A stalled worker.
  await until(() => now().workers.every(({ state }) => state === "ready"), "both workers");
  using _looping = await send(port, "/loop");
  const stalled = await until(
    () => now().workers.find(({ stalled }) => stalled > 0),
    "a stalled worker",
  );
  assertEquals(stalled.request, `GET ${url}/loop`);
  assertMatch(formatTable(now()), new RegExp(`^Worker ${stalled.number} has been stalled`, "m"));
});

Deno.test("status shows requests without the query, and the log of a hung worker with it", async () => {
  await using started = await startServer("--admin", "admin.sock", "--timeout", "3");
  const { server, port, folder } = started;
  using _looping = await send(port, "/loop?token=secret");
  const stalled = await until(
    () => readStatus(server.pid).workers.find(({ stalled }) => stalled > 0),
    "a stalled worker",
  );
  assertEquals(stalled.request, `GET http://127.0.0.1:${port}/loop`);
  assert(!formatTable(readStatus(server.pid)).includes("secret"));
  for (const page of ["/", "/status.json", "/metrics"]) {
    const text = await until(
      () => askAdmin(`${folder}/admin.sock`, page).catch(() => undefined),
      "the admin socket",
    );
    assert(!text.includes("secret"), text);
  }
  await until(
    () =>
      /ended: killed.*, 1 in flight, last request GET \S+\/loop\?token=secret/.test(server.stderr),
    "the request in the log",
  );
});

Deno.test("the admin socket of a real server and `status --pid-file` show the same", async () => {
  await using started = await startServer("--pid-file", "pid", "--admin", "admin.sock");
  const { server, port, folder } = started;
  using _waiting = await send(port, "/never");
  const busy = await until(
    () => readStatus(server.pid).workers.find(({ inFlight }) => inFlight === 1),
    "a request in flight",
  );
  const page = await until(
    () => askAdmin(`${folder}/admin.sock`, "/metrics").catch(() => undefined),
    "the admin socket",
  );
  const values = parsePrometheus(page.split("\r\n\r\n")[1]!);
  const labels = JSON.stringify({ worker: String(busy.number), pid: String(busy.pid) });
  assertEquals(values.get(`tine_worker_requests_in_flight${labels}`), 1);
  assert(values.get("tine_admin_private_bytes")! > 0);
  const health = await askAdmin(`${folder}/admin.sock`, "/healthz");
  assertMatch(health, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok\n$/);
  const printed = await status("--pid-file", `${folder}/pid`, "--json");
  assertEquals(printed.code, 0, printed.stderr);
  assertEquals((JSON.parse(printed.stdout) as Status).master.requests, 1);
  await until(
    () => readStatus(server.pid).workers.some(({ connections }) => connections === 1),
    "an open connection",
  );
});
