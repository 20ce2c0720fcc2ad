/** Formats a {@linkcode Status} as a table for people. */
import { formatCount } from "../../log.ts";
import { comparable, formatDuration, formatPercentiles, formatRate, since } from "./figures.ts";
import { printable } from "./printable.ts";
import type {
  ListenerStatus,
  MasterStatus,
  ProcessStatus,
  SlowStatus,
  Status,
  WorkerStatus,
} from "./status.ts";

/** Options for {@linkcode formatTable}. */
export interface TableOptions {
  /** The maximum width of a line, in columns. The default is 100. */
  readonly width?: number;
  /** An earlier status. If it is given, rates and percentiles are those of the time in between. */
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

/** The number of requests that are listed, of those in progress and of the slow ones. */
const LISTED = 10;

/**
 * Formats the status as a table: some lines about the server, and the reason if the last reload
 * failed; one line for each worker, and one more for each worker whose event loop is blocked; and
 * the requests that are in progress or were slow.
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
    ...section(currentRequests(status), LISTED),
    ...section(slowRequests(status), LISTED),
  ].map((line) => fit(line, width) + "\n").join("");
}

/** Makes a line as long as it may be, and removes what would move the cursor. */
export function fit(line: string, width: number): string {
  return cut(printable(line).trimEnd(), width);
}

/** A title, and lines. */
export interface Section {
  /** The title. */
  readonly title: string;
  /** The lines. */
  readonly lines: readonly string[];
}

/**
 * Formats a section.
 *
 * @param section The section.
 * @param most The most lines, without the title and an empty line before it.
 * @returns The lines; none if the section is empty.
 */
export function section({ title, lines }: Section, most: number): string[] {
  if (lines.length === 0 || most < 1) return [];
  const rest = lines.length > most ? [`  and ${lines.length - most + 1} more`] : [];
  return ["", title, ...lines.slice(0, most - rest.length), ...rest];
}

/** The requests in progress, the eldest first. */
export function currentRequests({ master, workers }: Status): Section {
  const now = Date.parse(master.started) + master.uptime * 1000;
  const current = workers.flatMap(({ number, current }) =>
    current.map((request) => ({ number, ...request }))
  ).sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
  return {
    title: "Requests in progress",
    lines: columns(current.map(({ number, method, url, since }) => [
      `worker ${number}`,
      formatSeconds((now - Date.parse(since)) / 1000),
      `${method} ${url}`,
    ])),
  };
}

/** The slow requests of the last minutes, the slowest first. */
export function slowRequests({ master, slow }: Status): Section {
  const now = Date.parse(master.started) + master.uptime * 1000;
  const ago = ({ time, duration }: SlowStatus) => (now - Date.parse(time)) / 1000 - duration;
  return {
    title: "Slowest requests of the last five minutes",
    lines: columns(slow.map((request) => [
      `worker ${request.worker}`,
      formatDuration(request.duration),
      `${formatAge(Math.max(0, ago(request)))} ago`,
      `${request.status}`,
      `${request.method} ${request.url}`,
    ])),
  };
}

/** Aligns the columns: the last one to the left. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]!.length))) ?? [];
  return rows.map((row) =>
    `  ${row.map((cell, i) => i === row.length - 1 ? cell : cell.padStart(widths[i]!)).join(GAP)}`
  );
}

/** Formats how long something has been going on, with a tenth of a second if it is short. */
function formatSeconds(seconds: number): string {
  return seconds < 59.95 ? `${Math.max(0, seconds).toFixed(1)}s` : formatAge(seconds);
}

/**
 * Returns the lines about the server.
 *
 * @param status The status.
 * @param earlier An earlier one, for rates and percentiles of the time in between.
 */
export function heading(status: Status, earlier: Status | undefined): string[] {
  const { master, admin, workers, listeners } = status;
  const previous = comparable(status, earlier);
  const before = previous?.master;
  const time = master.uptime - (before?.uptime ?? 0);
  const perSecond = (count: number, until = 0) => ` (${formatRate(count - until, time)}/s)`;
  const times = formatPercentiles(since(master.latency, before?.latency));
  const period = before === undefined ? "since the start" : `of the last ${formatDuration(time)}`;
  const inFlight = workers.reduce((sum, worker) => sum + worker.inFlight, 0);
  const ready = workers.filter(({ state, stalled }) => state === "ready" && stalled === 0).length;
  const processes: readonly (ProcessStatus | null)[] = [master, admin, ...workers];
  const memory = processes.flatMap((process) => process?.memory?.proportionalBytes ?? []);
  const total = memory.reduce((sum, bytes) => sum + bytes, 0);
  return [
    [`${master.app || "An app"} on ${master.url}`, `master ${master.pid}`],
    [
      `up ${formatAge(master.uptime)}`,
      `${ready} of ${formatCount(master.workers, "worker")} ready`,
      ...(memory.length === 0 ? [] : [`${formatBytes(total)} in total`]),
      formatCount(master.crashes, "crash", "crashes"),
      formatCount(master.generation, "restart"),
    ],
    [
      formatCount(master.requests, "request") + perSecond(master.requests, before?.requests),
      formatCount(master.errors, "error") + perSecond(master.errors, before?.errors),
      `${inFlight} in flight`,
      ...listeners.length === 1 ? listeners.map((one) => queueOf(one, previous)) : [],
    ],
    ...listeners.length > 1
      ? listeners.map((one) => [`${one.url}: ${queueOf(one, previous)}`])
      : [],
    ...times === "" ? [] : [[`Response times ${period}: ${times}`]],
  ].map((facts) => facts.join(", ")).concat(master.draining ? ["The server is stopping"] : []);
}

/**
 * Returns how full the queue of a listening socket is, and how many connections were dropped since
 * an earlier look: the kernel counts them since it started, for all servers.
 */
function queueOf({ url, queue, backlog, drops }: ListenerStatus, earlier?: Status): string {
  const before = earlier?.listeners.find((one) => one.url === url)?.drops ?? null;
  const dropped = drops === null || before === null ? 0 : drops - before;
  const waiting = queue === null ? "queue unknown" : `queue ${queue} of ${backlog ?? "?"}`;
  return dropped > 0 ? `${waiting}, ${dropped} dropped` : waiting;
}

/** Returns why the last reload failed, on as many lines as that takes. */
export function failedReload(
  { lastReload, started, uptime }: MasterStatus,
  width: number,
): string[] {
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

function cut(line: string, width: number): string {
  const longest = Math.max(width, SHORTEST_CUT);
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
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
