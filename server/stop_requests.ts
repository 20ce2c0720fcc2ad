/**
 * Signals to stop within this many milliseconds count as one request: `deno task` forwards a
 * terminal's SIGINT, which the server also gets itself.
 */
const ONE_REQUEST = 500;

/** Counts the requests to stop that signals make. */
export class StopRequests {
  #count = 0;
  #last = -Infinity;

  /** The number of requests. */
  get count(): number {
    return this.#count;
  }

  /**
   * Adds a signal.
   *
   * @returns Whether it is another request.
   */
  add(): boolean {
    const now = performance.now();
    if (now - this.#last < ONE_REQUEST) return false;
    this.#last = now;
    this.#count++;
    return true;
  }
}
