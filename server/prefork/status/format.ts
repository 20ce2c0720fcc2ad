/** Formats a {@linkcode Status} as JSON, and in Prometheus's format. */
import type { Histogram } from "../request_metrics.ts";
import type {
  ConnectionStates,
  MasterStatus,
  ProcessStatus,
  Status,
  WorkerStatus,
} from "./status.ts";

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
