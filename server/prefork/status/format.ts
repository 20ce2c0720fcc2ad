/** Formats a {@linkcode Status} as a table for people, as JSON, and in Prometheus's format. */
import type { Histogram } from "../request_metrics.ts";
import type {
  ConnectionStates,
  MasterStatus,
  ProcessStatus,
  Status,
  WorkerStatus,
} from "./status.ts";

/** Options for {@linkcode formatTable}. */
export interface TableOptions {
  /** The maximum width of a line, in columns. The default is 100. */
  readonly width?: number;
  /** An earlier status. If it is given, the table shows the number of requests per second. */
  readonly before?: Status | undefined;
}

const TITLES = [
  "#",
  "PID",
  "STATE",
  "AGE",
  "REQUESTS",
  "ERRORS",
  "IN FLIGHT",
  "CONNS",
  "BUSY",
  "PRIVATE",
  "SHARED",
  "REASON",
];
/** The columns that contain words. Numbers are aligned to the right. */
const WORDS = new Set(["STATE", "REASON"]);
const GAP = "  ";
const SHORTEST_CUT = 6;

/**
 * Formats the status as a table: three lines about the server, and the reason if the last reload
 * failed; one line for each worker, and one more for each worker whose event loop is blocked.
 *
 * @param status The status.
 * @param options The width, and an earlier status.
 * @returns The lines, each with its newline. They contain no control characters.
 */
export function formatTable(status: Status, options: TableOptions = {}): string {
  const { width = 100, before } = options;
  const rows = [TITLES, ...status.workers.map(row)];
  const widths = TITLES.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const stalled = status.workers.filter((worker) => worker.stalled > 0);
  return [
    ...heading(status, before),
    ...failedReload(status.master, width),
    "",
    ...rows.map((row) => align(row, widths)),
    ...stalled.map((worker) =>
      `Worker ${worker.number} has been stalled for ${formatAge(worker.stalled)}` +
      (worker.request === "" ? "" : `, its last request was ${worker.request}`)
    ),
  ].map((line) => cut(printable(line).trimEnd(), width) + "\n").join("");
}

function heading({ master, admin, workers }: Status, before: Status | undefined): string[] {
  const ready = workers.filter(({ state, stalled }) => state === "ready" && stalled === 0).length;
  const processes: readonly (ProcessStatus | null)[] = [master, admin, ...workers];
  const memory = processes.flatMap((process) => process?.memory?.proportionalBytes ?? []);
  const total = memory.reduce((sum, bytes) => sum + bytes, 0);
  return [
    [`${master.app || "An app"} on ${master.url}`, `master ${master.pid}`],
    [
      `up ${formatAge(master.uptime)}`,
      `${ready} of ${count(master.workers, "worker")} ready`,
      ...(memory.length === 0 ? [] : [`${formatBytes(total)} in total`]),
      count(master.crashes, "crash", "crashes"),
      count(master.generation, "restart"),
    ],
    [
      count(master.requests, "request") + rate(master, before?.master),
      count(master.errors, "error"),
    ],
  ].map((facts) => facts.join(", "));
}

/** Returns why the last reload failed, on as many lines as that takes. */
function failedReload({ lastReload, started, uptime }: MasterStatus, width: number): string[] {
  if (lastReload === null || lastReload.success) return [];
  const ago = uptime - (Date.parse(lastReload.time) - Date.parse(started)) / 1000;
  return fold(
    `The last reload failed ${formatAge(Math.max(0, ago))} ago: ${lastReload.reason}`,
    width,
  );
}

/** Breaks a text into lines, between words where that is possible. */
function fold(text: string, width: number): string[] {
  const longest = Math.max(width, SHORTEST_CUT);
  return printable(text).match(new RegExp(`.{1,${longest}}(?: |$)|.{${longest}}`, "gu")) ?? [];
}

function rate(now: MasterStatus, before: MasterStatus | undefined): string {
  if (before === undefined || before.pid !== now.pid || before.uptime >= now.uptime) return "";
  const perSecond = (now.requests - before.requests) / (now.uptime - before.uptime);
  return ` (${Math.max(0, Math.round(perSecond))} per second)`;
}

function row(worker: WorkerStatus): string[] {
  const { memory } = worker;
  return [
    String(worker.number),
    String(worker.pid),
    worker.stalled > 0 ? "stalled" : worker.state,
    formatAge(worker.age),
    String(worker.requests),
    String(worker.errors),
    String(worker.inFlight),
    String(worker.connections),
    // For a stalled worker, this value is as old as its last heartbeat.
    worker.stalled > 0 ? "-" : `${Math.round(worker.busy * 100)}%`,
    memory === null ? "-" : formatBytes(memory.privateBytes),
    memory === null ? "-" : formatBytes(memory.sharedBytes),
    worker.reason,
  ];
}

function align(row: readonly string[], widths: readonly number[]): string {
  return row.map((cell, column) =>
    WORDS.has(TITLES[column]!) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
  ).join(GAP);
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

function cut(line: string, width: number): string {
  const longest = Math.max(width, SHORTEST_CUT);
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

/**
 * Removes characters that would move a terminal's cursor: a reason or a URL may contain anything.
 */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ");
}

/**
 * Formats an age in its two largest units, as ps(1) does.
 *
 * @param seconds The age.
 * @returns For example `45s`, `2m03s`, `3h12m`, `5d04h`.
 */
export function formatAge(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${two(whole % 3600 / 60)}m`;
  return `${Math.floor(whole / 86_400)}d${two(whole % 86_400 / 3600)}h`;
}

/**
 * Formats a size in megabytes of 1,000,000 bytes.
 *
 * @param bytes The size.
 * @returns For example `4.2 MB`, `360 MB`.
 */
export function formatBytes(bytes: number): string {
  const megabytes = bytes / 1_000_000;
  return `${megabytes.toFixed(megabytes < 9.95 ? 1 : 0)} MB`;
}

/**
 * Formats the status as JSON.
 *
 * @param status The status.
 * @returns The {@linkcode Status}, indented, with a final newline.
 */
export function formatJson(status: Status): string {
  return `${JSON.stringify(status, null, 2)}\n`;
}

type Labels = Readonly<Record<string, string | number>>;
/** A sample whose value is `undefined` is omitted. */
type Sample = readonly [labels: Labels, value: number | undefined];
type Type = "counter" | "gauge";
type Metric<T> = readonly [
  name: string,
  type: Type,
  help: string,
  value: (of: T) => number | undefined,
];

const MASTER_METRICS: readonly Metric<MasterStatus>[] = [
  [
    "tine_start_time_seconds",
    "gauge",
    "When the server started, in seconds since 1970.",
    ({ started }) => Date.parse(started) / 1000,
  ],
  [
    "tine_restarts_total",
    "counter",
    "Restarts with new code.",
    ({ generation }) => generation,
  ],
  [
    "tine_requests_total",
    "counter",
    "Requests received by all workers.",
    ({ requests }) => requests,
  ],
  [
    "tine_request_errors_total",
    "counter",
    "Requests that failed: the handler threw, or the status was 500 or above.",
    ({ errors }) => errors,
  ],
  [
    "tine_worker_crashes_total",
    "counter",
    "Workers that ended without being told to, or had to be killed.",
    ({ crashes }) => crashes,
  ],
  [
    "tine_last_reload_success",
    "gauge",
    "Whether workers serve with the code that was loaded last: 1, or 0 if it failed to load.",
    ({ lastReload }) => lastReload === null ? undefined : Number(lastReload.success),
  ],
  [
    "tine_last_reload_timestamp_seconds",
    "gauge",
    "When code was last loaded, or failed to load, in seconds since 1970.",
    ({ lastReload }) => lastReload === null ? undefined : Date.parse(lastReload.time) / 1000,
  ],
  [
    "tine_draining",
    "gauge",
    "Whether the server has been told to stop, and still answers requests: 1 or 0.",
    ({ draining }) => Number(draining),
  ],
  [
    "tine_workers_wanted",
    "gauge",
    "Workers that the server keeps running.",
    ({ workers }) => workers,
  ],
];

const WORKER_METRICS: readonly Metric<WorkerStatus>[] = [
  [
    "tine_worker_start_time_seconds",
    "gauge",
    "When the worker was forked, in seconds since 1970.",
    ({ started }) => Date.parse(started) / 1000,
  ],
  [
    "tine_worker_stalled_seconds",
    "gauge",
    "For how long the worker's event loop has been blocked; 0 if it is not.",
    ({ stalled }) => stalled,
  ],
  [
    "tine_worker_requests_total",
    "counter",
    "Requests received by the worker.",
    ({ requests }) => requests,
  ],
  [
    "tine_worker_request_errors_total",
    "counter",
    "Requests of the worker that failed: the handler threw, or the status was 500 or above.",
    ({ errors }) => errors,
  ],
  [
    "tine_worker_requests_in_flight",
    "gauge",
    "Requests that the worker has not completely answered yet.",
    ({ inFlight }) => inFlight,
  ],
  [
    "tine_worker_connections",
    "gauge",
    "Open client connections.",
    ({ connections }) => connections,
  ],
  [
    "tine_worker_busy_ratio",
    "gauge",
    "The share of one processor that the worker has used recently.",
    ({ busy }) => busy,
  ],
];

/** The memory metrics of one kind of process. */
function memoryMetrics(kind: "master" | "admin" | "worker"): Metric<ProcessStatus>[] {
  return [
    [
      `tine_${kind}_private_bytes`,
      "gauge",
      "Memory that only this process uses.",
      ({ memory }) => memory?.privateBytes,
    ],
    [
      `tine_${kind}_shared_bytes`,
      "gauge",
      "Memory that the process shares with others.",
      ({ memory }) => memory?.sharedBytes,
    ],
    [
      `tine_${kind}_proportional_bytes`,
      "gauge",
      "Memory of the process, including its share of the shared memory (PSS).",
      ({ memory }) => memory?.proportionalBytes,
    ],
  ];
}

/**
 * Formats the status in Prometheus's text exposition format, version 0.0.4.
 *
 * @param status The status.
 * @returns Metrics whose names begin with `tine_`. Those of a worker are labelled with its number
 *   as `worker` and its `pid`, so they start anew with the worker that replaces it.
 */
export function formatPrometheus({ master, admin, workers, listeners }: Status): string {
  const { versions, lastReload } = master;
  const open = (state: keyof ConnectionStates): Sample => [
    { state },
    workers.reduce((sum, { connectionStates }) => sum + connectionStates[state], 0),
  ];
  const inState = (state: WorkerStatus["state"]): Sample => [
    { state },
    workers.filter((worker) => worker.state === state).length,
  ];
  const ofServer = <T>(of: T, metrics: readonly Metric<T>[]) =>
    metrics.map(([name, type, help, value]) => family(name, type, help, [[{}, value(of)]]));
  return [
    family("tine_info", "gauge", "What the server serves, and where; always 1.", [
      [{ url: master.url, app: master.app, pid: master.pid }, 1],
    ]),
    family("tine_build_info", "gauge", "The versions of what the server runs on; always 1.", [
      [{ version: versions.tine, deno: versions.deno, v8: versions.v8 }, 1],
    ]),
    ...ofServer(master, [...MASTER_METRICS, ...memoryMetrics("master")]),
    family(
      "tine_last_reload_failure_info",
      "gauge",
      "Why the code that was loaded last failed to load; always 1, and absent if it did not fail.",
      lastReload === null || lastReload.reason === null ? [] : [[{ reason: lastReload.reason }, 1]],
    ),
    histogram(
      "tine_http_request_duration_seconds",
      "How long responses took, from the request to the end of the response.",
      master.latency,
    ),
    histogram(
      "tine_http_response_size_bytes",
      "The sizes of the bodies of responses; without streams whose size was not known before.",
      master.responseBytes,
    ),
    family(
      "tine_http_responses_total",
      "counter",
      "Responses that have ended, by the request's method and the class of the status.",
      master.responses.map(({ method, statusClass, count }) => [
        { method, status: statusClass },
        count,
      ]),
    ),
    family(
      "tine_connections",
      "gauge",
      "Open client connections: a request is being answered, none is, or it is a WebSocket.",
      [open("active"), open("idle"), open("upgraded")],
    ),
    family(
      "tine_listener_queue_connections",
      "gauge",
      "Connections that wait to be accepted.",
      listeners.map(({ url, queue }) => [{ url }, queue ?? undefined]),
    ),
    family(
      "tine_listener_backlog_connections",
      "gauge",
      "The maximum of connections that wait to be accepted.",
      listeners.map(({ url, backlog }) => [{ url }, backlog ?? undefined]),
    ),
    family(
      "tine_listen_drops_total",
      "counter",
      "Connections that the kernel dropped because a queue was full, of all TCP sockets in the " +
        "network namespace.",
      listeners.filter(({ drops }) => drops !== null).slice(0, 1)
        .map(({ drops }) => [{}, drops ?? undefined]),
    ),
    family(
      "tine_worker_starts_total",
      "counter",
      "Workers started, by reason.",
      master.starts.map(({ reason, count }) => [{ reason }, count]),
    ),
    ...(admin === null ? [] : ofServer(admin, memoryMetrics("admin"))),
    family("tine_workers", "gauge", "Workers, by state.", [
      inState("booting"),
      inState("ready"),
      inState("stopping"),
    ]),
    family(
      "tine_worker_info",
      "gauge",
      "Each worker, and why it was started; always 1.",
      workers.map(({ number, pid, generation, reason }) => [
        { worker: number, pid, generation, reason },
        1,
      ]),
    ),
    ...[...WORKER_METRICS, ...memoryMetrics("worker")].map(([name, type, help, value]) =>
      family(
        name,
        type,
        help,
        workers.map((worker) => [{ worker: worker.number, pid: worker.pid }, value(worker)]),
      )
    ),
  ].join("");
}

/** Formats a metric with its samples, which must be contiguous; empty if no value is known. */
function family(
  name: string,
  type: Type,
  help: string,
  samples: readonly Sample[],
): string {
  const lines = samples.flatMap(([labels, value]) =>
    value === undefined ? [] : [`${name}${formatLabels(labels)} ${value}\n`]
  );
  if (lines.length === 0) return "";
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

/** Formats a histogram, in which a range counts all that is not above its bound. */
function histogram(name: string, help: string, of: Histogram): string {
  let sum = 0;
  const buckets = of.counts.map((count, i) =>
    `${name}_bucket{le="${of.bounds[i] ?? "+Inf"}"} ${sum += count}\n`
  );
  return `# HELP ${name} ${help}\n# TYPE ${name} histogram\n${buckets.join("")}` +
    `${name}_sum ${of.sum}\n${name}_count ${sum}\n`;
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escape(String(value))}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

/** Escapes the three special characters in a label's value, which may contain anything. */
function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
