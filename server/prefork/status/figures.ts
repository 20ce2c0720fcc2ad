/** Figures that follow from one status, or from two: rates and percentiles. */
import type { Histogram } from "../request_metrics.ts";
import type { Status } from "./status.ts";

/**
 * Returns a status that can be compared with a later one of the same server.
 *
 * @param now The later status.
 * @param before An earlier one; `undefined` if there is none.
 * @returns The earlier one; `undefined` if it is another server's.
 */
export function comparable(now: Status, before: Status | undefined): Status | undefined {
  const isSame = before?.master.pid === now.master.pid &&
    before.master.started === now.master.started && before.master.uptime < now.master.uptime;
  return isSame ? before : undefined;
}

/**
 * Returns what has been counted between two times.
 *
 * @param now The histogram of the later time.
 * @param before That of the earlier time. The default is an empty one.
 * @returns The difference.
 */
export function since(now: Histogram, before?: Histogram): Histogram {
  if (before === undefined || before.counts.length !== now.counts.length) return now;
  // The master moves the counts of a worker that has ended, and a reader may see it at that.
  const counts = now.counts.map((count, i) => Math.max(0, count - before.counts[i]!));
  const count = counts.reduce((sum, one) => sum + one, 0);
  return { bounds: now.bounds, counts, sum: Math.max(0, now.sum - before.sum), count };
}

/**
 * Estimates a quantile, as `histogram_quantile()` of Prometheus does: within a range of values, all
 * are assumed to be as frequent.
 *
 * @param histogram The histogram.
 * @param share The share of the values that are at most as large, from 0 to 1.
 * @returns The value; `Infinity` if it is above the highest bound; `undefined` if there are none.
 */
export function quantile({ bounds, counts }: Histogram, share: number): number | undefined {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return undefined;
  const rank = share * all;
  let below = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    if (count > 0 && below + count >= rank) {
      const upper = bounds[i] ?? Infinity;
      const lower = bounds[i - 1] ?? 0;
      return upper === Infinity ? Infinity : lower + (upper - lower) * (rank - below) / count;
    }
    below += count;
  }
  return Infinity;
}

/**
 * Formats a time that something took, with two digits.
 *
 * @param seconds The time.
 * @returns For example `0.25 ms`, `12 ms`, `1.2 s`, `120 s`.
 */
export function formatDuration(seconds: number): string {
  const milliseconds = Number((seconds * 1000).toPrecision(2));
  if (milliseconds < 1000) return `${milliseconds} ms`;
  return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

/**
 * Formats the usual percentiles of response times.
 *
 * @param histogram The response times, in seconds.
 * @returns For example `p50 1.2 ms, p90 8.0 ms, p99 over 60 s`; empty if nothing was answered.
 */
export function formatPercentiles(histogram: Histogram): string {
  if (quantile(histogram, 0) === undefined) return "";
  return [50, 90, 99].map((percent) => `p${percent} ${formatQuantile(histogram, percent / 100)}`)
    .join(", ");
}

/** Formats one quantile of response times; `-` if there are none. */
export function formatQuantile(histogram: Histogram, share: number): string {
  const value = quantile(histogram, share);
  if (value === undefined) return "-";
  const highest = histogram.bounds.at(-1) ?? 0;
  return value === Infinity ? `over ${formatDuration(highest)}` : formatDuration(value);
}

/** Formats the 99th percentile of response times for a narrow column; `-` if there are none. */
export function formatP99(histogram: Histogram): string {
  return formatQuantile(histogram, 0.99).replace("over ", ">");
}

/**
 * Formats how often something happens.
 *
 * @param count How often it has happened.
 * @param seconds In what time.
 * @returns For example `0`, `<0.1`, `3.4`, `312`.
 */
export function formatRate(count: number, seconds: number): string {
  const rate = seconds > 0 ? Math.max(0, count) / seconds : 0;
  if (rate === 0) return "0";
  if (rate < 0.05) return "<0.1";
  return rate < 9.95 ? rate.toFixed(1) : String(Math.round(rate));
}
