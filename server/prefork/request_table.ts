/**
 * Requests in shared memory: those that a worker is answering, and those that took longest.
 */
import { SharedText } from "./shared_text.ts";

/** A request that a worker is answering. */
export interface CurrentRequest {
  /** The method. */
  readonly method: string;
  /** The URL, without its query; truncated if it is long. */
  readonly url: string;
  /** When the request arrived, in milliseconds since 1970. */
  readonly since: number;
}

/** A request that took long. */
export interface SlowRequest extends CurrentRequest {
  /** From the request to the end of the response, in milliseconds. */
  readonly duration: number;
  /** The response's status. */
  readonly status: number;
  /** The worker's number. */
  readonly worker: number;
}

/** A request that took shorter than this is never a slow one. In milliseconds. */
export const SLOW = 100;
/** For how long a slow request is remembered after its end, in milliseconds. */
const REMEMBERED = 300_000;

/** The size of a request in a table, in bytes. */
export const REQUEST_BYTES = 256;
// Layout: 2 numbers of 8 bytes, 2 of 4 bytes, a string.
const TEXT_AT = 24;

/** A fixed number of requests. Only one process may write to them. */
export class RequestTable {
  readonly #rows: readonly Row[];

  /** Creates a view of a part of memory, which must begin at a multiple of 8. */
  constructor(memory: ArrayBuffer, at: number, length: number) {
    this.#rows = Array.from({ length }, (_, i) => new Row(memory, at + i * REQUEST_BYTES));
  }

  /** Returns the requests that a worker is answering, as {@linkcode setCurrent} has set them. */
  current(): CurrentRequest[] {
    return this.#rows.filter((row) => row.since > 0).map((row) => {
      const [method, url] = row.request;
      return { method, url, since: row.since };
    });
  }

  /** Replaces all requests. Those for which there is no space are left out. */
  setCurrent(requests: readonly CurrentRequest[]): void {
    this.#rows.forEach((row, i) => {
      const request = requests[i];
      if (request !== undefined) row.set({ ...request, duration: 0, status: 0, worker: 0 });
      else if (row.since > 0) row.clear();
    });
  }

  /** Returns the requests that {@linkcode offer} has kept, as of a time. */
  slow(now: number): SlowRequest[] {
    return this.#rows.filter((row) => row.isKept(now)).map((row) => {
      const [method, url] = row.request;
      const { since, duration, status, worker } = row;
      return { method, url, since, duration, status, worker };
    });
  }

  /**
   * Keeps a request that has just been answered if it is among those that took longest in the last
   * minutes.
   */
  offer(request: SlowRequest): void {
    const now = request.since + request.duration;
    let least: Row | undefined;
    for (const row of this.#rows) {
      if (!row.isKept(now)) return row.set(request);
      if (least === undefined || row.duration < least.duration) least = row;
    }
    if (least !== undefined && request.duration > least.duration) least.set(request);
  }

  /** Removes all requests. */
  clear(): void {
    for (const row of this.#rows) if (row.since > 0) row.clear();
  }
}

/** A request in memory. */
class Row {
  readonly #numbers: Float64Array;
  readonly #integers: Int32Array;
  readonly #text: SharedText;

  constructor(memory: ArrayBuffer, at: number) {
    this.#numbers = new Float64Array(memory, at, 2);
    this.#integers = new Int32Array(memory, at + 16, 2);
    this.#text = new SharedText(memory, at + TEXT_AT, REQUEST_BYTES - TEXT_AT);
  }

  /** Zero if there is no request. */
  get since(): number {
    return this.#numbers[0]!;
  }

  get duration(): number {
    return this.#numbers[1]!;
  }

  get status(): number {
    return this.#integers[0]!;
  }

  get worker(): number {
    return this.#integers[1]!;
  }

  get request(): [method: string, url: string] {
    const text = this.#text.get();
    const end = text.indexOf(" ");
    return [text.slice(0, end), text.slice(end + 1)];
  }

  /** Whether there is a request that ended in the last minutes. */
  isKept(now: number): boolean {
    return this.since > 0 && now - this.since - this.duration < REMEMBERED;
  }

  set({ method, url, since, duration, status, worker }: SlowRequest): void {
    this.#text.set(`${method} ${withoutQuery(url)}`);
    this.#integers[0] = status;
    this.#integers[1] = worker;
    this.#numbers[1] = duration;
    this.#numbers[0] = since;
  }

  clear(): void {
    this.#numbers[0] = 0;
  }
}

/** The query may contain a password or a token. */
function withoutQuery(url: string): string {
  const end = url.indexOf("?");
  return end === -1 ? url : url.slice(0, end);
}
