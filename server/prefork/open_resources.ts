/**
 * What an app that was loaded in the master holds open, and its workers cannot use: told when the
 * server starts, before a client meets the error.
 */
import { kill } from "../../ffi/process.ts";
import { disown, findOpen, findSubprocesses, type Open } from "../../ffi/runtime/open_resources.ts";
import { SIGKILL } from "../../ffi/signals.ts";
import { AppError } from "../app/load_app.ts";
import { isTelemetryWithheld } from "./telemetry.ts";

/** Something that does not survive the fork. */
export interface OpenResource {
  readonly kind: Open["kind"] | "telemetry";
  /** What it is, with its address, path or name. */
  readonly what: string;
  /** The statement that made it: a path or URL, with the line and column. */
  readonly where?: string;
  /** What becomes of it in workers, and what to do. */
  readonly advice: string;
}

const OPEN = "Open it in onWorkerStart, or use --no-preload";
const START = "Start it in onWorkerStart, or use --no-preload";
const IN_ONE = "For one worker: if (worker.number === 1) in onWorkerStart";

/** For each kind, what it is called before its detail, and the advice. */
const WORDS: { readonly [kind in OpenResource["kind"]]: readonly [name: string, advice: string] } =
  {
    connection: ["connection to", `workers cannot use it. ${OPEN}`],
    datagramSocket: ["datagram socket", `workers cannot use it. ${OPEN}`],
    webSocket: ["WebSocket to", `workers cannot use it. ${OPEN}`],
    response: [
      "response of fetch() or EventSource that has not been read to its end",
      "workers get nothing of it. Read it before, or fetch it in onWorkerStart",
    ],
    subprocess: ["subprocess", `workers cannot talk to it, nor wait for it. ${START}`],
    kv: ["Deno.openKv() database", `workers cannot use it. ${OPEN}`],
    database: ["SQLite database", `it can be corrupted if several workers use it. ${OPEN}`],
    cron: ["Deno.cron() job", `it never runs. ${IN_ONE}`],
    fileWatcher: ["file watcher of", `workers get no events. ${START}`],
    signal: ["listener to", "it is never called: signals are the master's. Use onWorkerStop"],
    broadcastChannel: [
      "BroadcastChannel",
      "its messages stay within one worker. Use a service that all workers connect to",
    ],
    worker: ["Web Worker", `it does not exist in workers. ${START}`],
    thread: [
      "",
      "workers do not have them, and may wait for them forever. Use in onWorkerStart what starts " +
      "them, or use --no-preload",
    ],
    timer: ["timer of", `it never fires in workers. ${START}`],
    interval: ["interval of", `it never fires in workers. ${START}`],
    telemetry: ["OpenTelemetry (OTEL_DENO)", "workers export nothing. Use --no-preload"],
  };

/** Returns what the loaded app holds open that its workers cannot use; once what occurs often. */
export function describeOpenResources(): OpenResource[] {
  const found: OpenResource[] = findOpen().map((open) => ({
    kind: open.kind,
    what: nameOf(open),
    ...open.place !== undefined && { where: open.place },
    advice: WORDS[open.kind][1],
  }));
  if (isTelemetryWithheld()) {
    const [what, advice] = WORDS.telemetry;
    found.push({ kind: "telemetry", what, advice });
  }
  return [...new Map(found.map((one) => [formatOpenResource(one), one])).values()];
}

function nameOf({ kind, detail }: Pick<Open, "kind" | "detail">): string {
  const [name] = WORDS[kind];
  if (detail === "") return name.replace(/ (to|of)$/, "");
  return name === "" ? detail : `${name} ${detail}`;
}

/** Formats it as a line of the log. */
export function formatOpenResource({ what, where, advice }: OpenResource): string {
  return `Does not survive the fork: ${what}${
    where === undefined ? "" : `, from ${where}`
  }: ${advice}`;
}

/**
 * Makes sure that nothing is open that does not survive the fork. If something is, the subprocesses
 * are killed, because this process ends.
 *
 * @param app The app's name.
 * @throws {AppError} If something is, with a line for each.
 */
export function checkNothingOpen(app: string): void {
  const lines = describeOpenResources().map(formatOpenResource);
  if (lines.length === 0) return;
  killOpenSubprocesses();
  throw new AppError([`Cannot serve ${app} with --strict:`, ...lines].join("\n"));
}

/** Kills the subprocesses of a process that ends. Some may block SIGTERM: `subprocess_mask.ts`. */
export function killOpenSubprocesses(): void {
  for (const pid of openSubprocesses()) kill(pid, SIGKILL);
}

/** Returns the pids of the subprocesses that the loaded app has started. */
export function openSubprocesses(): number[] {
  return findSubprocesses().map(({ pid }) => pid!);
}

/**
 * Makes what the app holds open fail in workers with an error that says why. Must be called in the
 * master, before it forks.
 */
export function disownOpenResources(): void {
  disown((open) =>
    `Cannot use this ${nameOf(open)} in a worker: it was opened before the fork` +
    `${open.place === undefined ? "" : `, at ${open.place}`}. ${
      open.kind === "worker" || open.kind === "subprocess" ? START : OPEN
    }`
  );
}
