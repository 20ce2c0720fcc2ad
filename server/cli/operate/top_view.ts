/** What `tine top` shows: a status as a screen of a given size. */
import { comparable, formatP99, formatRate, since } from "../../prefork/status/figures.ts";
import type { Status, WorkerStatus } from "../../prefork/status/status.ts";
import {
  currentRequests,
  failedReload,
  fit,
  formatAge,
  formatBytes,
  heading,
  section,
  slowRequests,
} from "../../prefork/status/table.ts";

/** A worker, and what it has done since the status before. */
interface Row {
  readonly worker: WorkerStatus;
  /** Requests per second. */
  readonly rate: number;
  /** The same as text. */
  readonly rateText: string;
  /** The 99th percentile of its response times. */
  readonly p99: string;
}

/** An order of the workers. */
interface Order {
  /** The key that chooses it. */
  readonly key: string;
  /** What it goes by. */
  readonly name: string;
  readonly by: (row: Row) => number;
}

/** The orders of the workers: the first is the default. */
export const ORDERS: readonly Order[] = [
  { key: "n", name: "number", by: ({ worker }) => worker.number },
  { key: "b", name: "busy", by: ({ worker }) => -busyOf(worker) },
  { key: "r", name: "requests", by: ({ rate }) => -rate },
  { key: "f", name: "flight", by: ({ worker }) => -worker.inFlight },
  { key: "m", name: "memory", by: ({ worker }) => -(worker.memory?.privateBytes ?? 0) },
];

/** What the screen is like. */
export interface View {
  /** The number of columns. */
  readonly width: number;
  /** The number of lines; `Infinity` to show everything. */
  readonly height: number;
  /** The status before, for rates and percentiles. */
  readonly before: Status | undefined;
  /** The index of one of {@linkcode ORDERS}. */
  readonly order: number;
  /** The last line; `undefined` for none. */
  readonly footer: string | undefined;
}

/** The lines, and which of them is the title of the table. */
export interface Screen {
  /** The lines, without control characters. */
  readonly lines: readonly string[];
  /** The index of the titles. */
  readonly titles: number;
}

const BAR = 10;
/** The titles of the columns, and their widths: less than 0 to align them to the right. */
const COLUMNS = [
  ["#", -3],
  ["PID", -7],
  ["STATE", 8],
  ["BUSY", BAR],
  ["", -4],
  ["REQ/S", -6],
  ["P99", -7],
  ["FLIGHT", -6],
  ["CONNS", -5],
  ["PRIVATE", -7],
  ["AGE", -6],
] as const;
/** The least number of lines of a section, with its title and an empty line before it. */
const LEAST = 5;
const LISTED = 10;

/**
 * Returns a screen.
 *
 * @param now The status.
 * @param view What the screen is like.
 * @returns Its lines: at most as many, and as long, as there is room for.
 */
export function formatTop(now: Status, view: View): Screen {
  const { width, height, before, order, footer } = view;
  const above = [
    ...heading(now, before),
    ...failedReload(now.master, width).slice(0, 2),
    "",
  ];
  const below = footer === undefined ? [] : [footer];
  const rows = rowsOf(now, before).sort((a, b) =>
    ORDERS[order]!.by(a) - ORDERS[order]!.by(b) || a.worker.number - b.worker.number
  );
  const room = height - above.length - 1 - below.length;
  const sections = [currentRequests(now), slowRequests(now)].filter(({ lines }) => lines.length);
  const wanted = sections.map(({ lines }) => Math.min(lines.length, LISTED) + 2);
  // Of the room that the workers leave, at least a little.
  const reserved = wanted.map((lines) => Math.min(lines, LEAST)).reduce((sum, n) => sum + n, 0);
  const shown = workerLines(rows, Math.max(room - reserved, Math.min(room, 1)));
  let left = room - shown.length;
  const lists = sections.flatMap((one, i) => {
    const later = wanted.slice(i + 1).reduce((sum, lines) => sum + Math.min(lines, LEAST), 0);
    const lines = section(one, Math.min(LISTED, left - later - 2));
    left -= lines.length;
    return lines;
  });
  const lines = [...above, align(COLUMNS.map(([title]) => title)), ...shown, ...lists].slice(
    0,
    height - below.length,
  );
  const gap = height === Infinity ? 0 : Math.max(0, height - below.length - lines.length);
  return {
    lines: [...lines, ...Array<string>(gap).fill(""), ...below].map((line) => fit(line, width)),
    titles: above.length,
  };
}

function rowsOf(now: Status, earlier: Status | undefined): Row[] {
  const before = comparable(now, earlier);
  const workersBefore = new Map(before?.workers.map((worker) => [worker.pid, worker]));
  const time = now.master.uptime - (before?.master.uptime ?? 0);
  return now.workers.map((worker) => {
    const old = workersBefore.get(worker.pid);
    const seconds = old === undefined ? worker.age : time;
    const requests = worker.requests - (old?.requests ?? 0);
    return {
      worker,
      rate: seconds > 0 ? requests / seconds : 0,
      rateText: formatRate(requests, seconds),
      p99: formatP99(since(worker.latency, old?.latency)),
    };
  });
}

/** For a stalled worker, the value is as old as its last heartbeat. */
function busyOf({ busy, stalled }: WorkerStatus): number {
  return stalled > 0 ? 1 : busy;
}

function workerLines(rows: readonly Row[], most: number): string[] {
  if (rows.length <= most) return rows.map(lineOf);
  const lines = rows.slice(0, Math.max(0, most - 1)).map(lineOf);
  return [...lines, `    and ${rows.length - lines.length} more workers`].slice(
    0,
    Math.max(0, most),
  );
}

function lineOf({ worker, rateText, p99 }: Row): string {
  const busy = busyOf(worker);
  const bar = "|".repeat(Math.min(BAR, Math.round(busy * BAR)));
  return align([
    String(worker.number),
    String(worker.pid),
    worker.stalled > 0 ? "stalled" : worker.state,
    bar,
    `${Math.round(busy * 100)}%`,
    rateText,
    p99,
    String(worker.inFlight),
    String(worker.connections),
    worker.memory === null ? "-" : formatBytes(worker.memory.privateBytes),
    formatAge(worker.age),
  ]);
}

function align(cells: readonly string[]): string {
  return cells.map((text, i) => {
    const width = COLUMNS[i]![1];
    return width < 0 ? text.padStart(-width) : text.padEnd(width);
  }).join(" ");
}
