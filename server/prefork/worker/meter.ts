/** What a worker measures of each request, in its slot of the scoreboard. */
import type { Client } from "../../app/request_limits.ts";
import { sendsNoBody } from "../logs/response_bytes.ts";
import { SLOW } from "../request_table.ts";
import type { Slot } from "../scoreboard.ts";

/** A request, and what is to be known at its end. */
export interface Exchange {
  /** The other end of the connection. */
  readonly client: Client;
  readonly method: string;
  readonly url: string;
  /** When the request arrived, in milliseconds of `performance.now()`. */
  readonly start: number;
}

/** Measures the requests of a worker. */
export class Meter {
  readonly #slot: Slot;

  /** Creates a meter that writes to a slot. */
  constructor(slot: Slot) {
    this.#slot = slot;
  }

  /** Begins to measure a request that has just arrived. */
  begin(client: Client, method: string, url: string): Exchange {
    return { client, method, url, start: performance.now() };
  }

  /**
   * Counts the response to a request, which is complete.
   *
   * @param exchange What {@linkcode begin} returned.
   * @param status The response's status.
   * @param bytes The size of the response's body; `null` if it is not known.
   */
  end(exchange: Exchange, status: number, bytes: number | null): void {
    const { method, start } = exchange;
    const duration = performance.now() - start;
    this.#slot.metrics.record(method, status, duration, sendsNoBody(method, status) ? 0 : bytes);
    if (duration >= SLOW) this.#offer(exchange, status, duration);
  }

  /** Shows which of the requests in progress wait longest. */
  show(oldest: readonly Exchange[]): void {
    const offset = Date.now() - performance.now();
    this.#slot.current.setCurrent(
      oldest.map(({ method, url, start }) => ({ method, url, since: Math.round(offset + start) })),
    );
  }

  #offer({ method, url }: Exchange, status: number, duration: number): void {
    const { slow, number } = this.#slot;
    const since = Date.now() - duration;
    slow.offer({ method, url, since, duration, status, worker: number });
  }
}
