/**
 * What a worker measures of each request, in its slot of the scoreboard.
 */
import { monotonicTime } from "../../../ffi/monotonic_time.ts";
import type { Client } from "../../app/request_limits.ts";
import { SLOW } from "../request_table.ts";
import type { Slot } from "../scoreboard.ts";

/** A request, and what is to be known at its end. */
export interface Exchange {
  /** The other end of the connection. */
  readonly client: Client;
  readonly method: string;
  readonly url: string;
  /** When the request arrived, in milliseconds of {@linkcode monotonicTime}. */
  readonly start: number;
}

/** Begins to measure a request that has just arrived. */
export function beginExchange(client: Client, method: string, url: string): Exchange {
  return { client, method, url, start: monotonicTime() };
}

/**
 * Counts the response to a request, which is complete.
 *
 * @param slot The worker's slot.
 * @param exchange What {@linkcode beginExchange} returned.
 * @param status The response's status.
 * @param bytes The size of the response's body; `null` if it is not known.
 */
export function endExchange(
  slot: Slot,
  { method, url, start }: Exchange,
  status: number,
  bytes: number | null,
): void {
  const duration = monotonicTime() - start;
  slot.metrics.record(method, status, duration, sendsNoBody(method, status) ? 0 : bytes);
  if (duration < SLOW) return;
  const since = Date.now() - duration;
  slot.slow.offer({ method, url, since, duration, status, worker: slot.number });
}

/** Shows which requests a worker is answering: those that wait longest. */
export function showCurrent(slot: Slot, oldest: readonly Exchange[]): void {
  const offset = Date.now() - monotonicTime();
  slot.current.setCurrent(
    oldest.map(({ method, url, start }) => ({ method, url, since: Math.round(offset + start) })),
  );
}

function sendsNoBody(method: string, status: number): boolean {
  return method === "HEAD" || status === 204 || status === 304 || status < 200;
}
