/**
 * What is counted of each response, in shared memory: how long it took, how large it is, the
 * method and the class of the status. Each worker counts in a part of its own, so no locks are
 * needed.
 */

/** How often something had a value, in ranges of values. */
export interface Histogram {
  /** The upper bounds of the ranges, which belong to them, ascending. */
  readonly bounds: readonly number[];
  /** The number of values in each range: one more than bounds, for values above the last. */
  readonly counts: readonly number[];
  /** The sum of all values. */
  readonly sum: number;
  /** The number of all values. */
  readonly count: number;
}

/** The number of responses to requests with a method, in a class of statuses. */
export interface ResponseCount {
  /** The method; `"other"` for an unusual one. */
  readonly method: string;
  /** `"2xx"` for the statuses from 200 to 299. */
  readonly statusClass: string;
  /** The number of responses. */
  readonly count: number;
}

/** The bounds of the histogram of latencies, in seconds. */
export const LATENCY_BOUNDS: readonly number[] = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05],
  ...[0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
];

/** The bounds of the histogram of the sizes of responses, in bytes. */
export const SIZE_BOUNDS: readonly number[] = [100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/** The methods that are counted by name. The first element stands for all others. */
export const METHODS = ["", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const STATUS_CLASSES = ["1xx", "2xx", "3xx", "4xx", "5xx"];

// Layout, in numbers of 8 bytes.
const LATENCY_SUM = LATENCY_BOUNDS.length + 1;
const SIZES = LATENCY_SUM + 1;
const SIZE_SUM = SIZES + SIZE_BOUNDS.length + 1;
const RESPONSES = SIZE_SUM + 1;
const LENGTH = RESPONSES + METHODS.length * STATUS_CLASSES.length;

/** The size of the metrics in memory, in bytes. */
export const REQUEST_METRICS_BYTES: number = LENGTH * 8;

// Faster to search than an array.
const latencyBounds = new Float64Array(LATENCY_BOUNDS);
const sizeBounds = new Float64Array(SIZE_BOUNDS);

/** The metrics of the requests of one worker, or of several. */
export class RequestMetrics {
  readonly #values: Float64Array;

  /** Creates a view of a part of memory, which must begin at a multiple of 8. */
  constructor(memory: ArrayBuffer, at: number) {
    this.#values = new Float64Array(memory, at, LENGTH);
  }

  /**
   * Counts a response. It is called for every response, so it is fast and allocates nothing.
   *
   * @param method The request's method.
   * @param status The response's status.
   * @param duration From the request to the end of the response, in milliseconds.
   * @param bytes The size of the body; `null` if it is not known.
   */
  record(method: string, status: number, duration: number, bytes: number | null): void {
    const values = this.#values;
    const seconds = duration / 1000;
    let range = 0;
    while (range < latencyBounds.length && seconds > latencyBounds[range]!) range++;
    values[range]!++;
    values[LATENCY_SUM]! += seconds;
    if (bytes !== null) {
      range = 0;
      while (range < sizeBounds.length && bytes > sizeBounds[range]!) range++;
      values[SIZES + range]!++;
      values[SIZE_SUM]! += bytes;
    }
    const row = Math.max(METHODS.indexOf(method), 0);
    const column = Math.min(Math.max(Math.floor(status / 100), 1), STATUS_CLASSES.length) - 1;
    values[RESPONSES + row * STATUS_CLASSES.length + column]!++;
  }

  /** Adds what others have counted. */
  add(other: RequestMetrics): void {
    for (let i = 0; i < LENGTH; i++) this.#values[i]! += other.#values[i]!;
  }

  /** Sets everything to zero. */
  clear(): void {
    this.#values.fill(0);
  }

  /** How long the responses took, in seconds. */
  get latency(): Histogram {
    return this.#histogram(LATENCY_BOUNDS, 0);
  }

  /** The sizes of the responses' bodies, in bytes, where they were known before they were sent. */
  get responseBytes(): Histogram {
    return this.#histogram(SIZE_BOUNDS, SIZES);
  }

  /** The number of responses by method and class of the status, without those that are zero. */
  get responses(): ResponseCount[] {
    return METHODS.flatMap((method, row) =>
      STATUS_CLASSES.map((statusClass, column) => ({
        method: method || "other",
        statusClass,
        count: this.#values[RESPONSES + row * STATUS_CLASSES.length + column]!,
      }))
    ).filter(({ count }) => count > 0);
  }

  #histogram(bounds: readonly number[], at: number): Histogram {
    const counts = [...this.#values.subarray(at, at + bounds.length + 1)];
    const sum = this.#values[at + bounds.length + 1]!;
    return { bounds, counts, sum, count: counts.reduce((all, one) => all + one, 0) };
  }
}

/** Returns the sum of metrics. */
export function sumOfMetrics(all: readonly RequestMetrics[]): RequestMetrics {
  const sum = new RequestMetrics(new ArrayBuffer(REQUEST_METRICS_BYTES), 0);
  for (const one of all) sum.add(one);
  return sum;
}
