/** The reason for which a worker is started. */
export type StartReason =
  | "start"
  | "crash"
  | "timeout"
  | "memory"
  | "requests"
  | "reload"
  | "replace"
  | "scale";

/** All reasons. */
export const START_REASONS: readonly StartReason[] = [
  "start",
  "crash",
  "timeout",
  "memory",
  "requests",
  "reload",
  "replace",
  "scale",
];

/** What the master notes about the end of the worker before, by the reason for the new one. */
const REASONS: readonly (readonly [StartReason, RegExp])[] = [
  ["start", /^start$/],
  ["reload", /^SIGHUP$/],
  ["replace", /^SIGUSR2$/],
  ["scale", /^(?:leave|stop)$/], // there are more workers again
  ["requests", /^\d+ requests$/],
  ["memory", / of private memory$/],
  ["timeout", /^killed because it/],
];

/**
 * Returns why a worker is started.
 *
 * @param end How the worker before it ended, or why that one is being replaced; `"start"` if there
 *   was none.
 */
export function startReason(end: string): StartReason {
  return REASONS.find(([, pattern]) => pattern.test(end))?.[0] ?? "crash";
}
