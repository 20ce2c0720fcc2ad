/**
 * The scoreboard: what the master and its workers know about each other, in shared memory. Each
 * worker writes to its own slot, so no locks are needed. Any process that may access the master's
 * `/proc` can read it.
 *
 * It is a file in memory: the master keeps it when it re-executes itself, and the status command
 * opens it as `/proc/PID/fd/N`.
 */
import type { Descriptor } from "../../ffi/descriptor.ts";
import { MAP_SHARED, memfd_create, mmap } from "../../ffi/memory.ts";

/** The name of the scoreboard in a master's `/proc/PID/fd`. */
export const SCOREBOARD_NAME = "tine-scoreboard";

/** The maximum number of workers at a time, including those that are being replaced. */
export const SLOTS = 256;

/** The number of the admin process, which has a slot but is not a worker. */
export const ADMIN = 0;

const MAGIC = 0x656e6974; // "tine"
/** Must change when the layout below changes. */
const VERSION = 3;
const HEADER_BYTES = 4096;
const SLOT_BYTES = 1024;

/** The size of the scoreboard, in bytes. A slot that was never used takes no memory. */
export const SCOREBOARD_BYTES: number = HEADER_BYTES + SLOTS * SLOT_BYTES;

/** What a slot's worker is doing. */
export const STATES = ["free", "booting", "ready", "stopping"] as const;
/** One of {@linkcode STATES}. */
export type State = typeof STATES[number];

// Layout of a slot: 16 numbers of 4 bytes, 8 of 8 bytes, and three strings.
/** The methods that are stored as a number. If the number is 0, the string contains the method. */
const METHODS = ["", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

const INTEGERS = {
  pid: 0,
  state: 1,
  generation: 2,
  heartbeat: 3,
  inFlight: 4,
  connections: 5,
  number: 6,
  method: 7,
};
const NUMBERS = { started: 0, requests: 1, errors: 2, busy: 3, beatAt: 4 };
const NUMBERS_AT = 64;
const REASON_AT = 128;
const REASON_BYTES = 256;
const REQUEST_AT = REASON_AT + REASON_BYTES;
const REQUEST_BYTES = SLOT_BYTES - REQUEST_AT;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One worker's slot of the scoreboard. All processes see an assignment to a property. */
export class Slot {
  /** The index of the slot, from 0. */
  readonly index: number;
  readonly #integers: Int32Array;
  readonly #numbers: Float64Array;
  readonly #reason: Text;
  readonly #request: Text;
  // What this process wrote last.
  #lastMethod = "";
  #lastUrl = "";

  /** Creates a view of the slot with the given index in a scoreboard. */
  constructor(memory: ArrayBuffer, index: number) {
    const at = HEADER_BYTES + index * SLOT_BYTES;
    this.index = index;
    this.#integers = new Int32Array(memory, at, 16);
    this.#numbers = new Float64Array(memory, at + NUMBERS_AT, 8);
    this.#reason = new Text(memory, at + REASON_AT, REASON_BYTES);
    this.#request = new Text(memory, at + REQUEST_AT, REQUEST_BYTES);
  }

  /** The worker's pid, 0 while the slot is free. */
  get pid(): number {
    return this.#integers[INTEGERS.pid]!;
  }
  set pid(value: number) {
    this.#integers[INTEGERS.pid] = value;
  }

  /** What the worker is doing. */
  get state(): State {
    return STATES[this.#integers[INTEGERS.state]!] ?? "free";
  }
  set state(value: State) {
    this.#integers[INTEGERS.state] = STATES.indexOf(value);
    this.beatAt = Date.now();
  }

  /** How often the master had re-executed itself when it forked this worker. */
  get generation(): number {
    return this.#integers[INTEGERS.generation]!;
  }
  set generation(value: number) {
    this.#integers[INTEGERS.generation] = value;
  }

  /** Increases for as long as the worker's event loop runs. */
  get heartbeat(): number {
    return this.#integers[INTEGERS.heartbeat]!;
  }
  set heartbeat(value: number) {
    this.#integers[INTEGERS.heartbeat] = value;
    this.beatAt = Date.now();
  }

  /** The number of requests whose response is not complete. */
  get inFlight(): number {
    return this.#integers[INTEGERS.inFlight]!;
  }
  set inFlight(value: number) {
    this.#integers[INTEGERS.inFlight] = value;
  }

  /** The number of open client connections, as of the worker's last check. */
  get connections(): number {
    return this.#integers[INTEGERS.connections]!;
  }
  set connections(value: number) {
    this.#integers[INTEGERS.connections] = value;
  }

  /** The worker's number, from 1, which its replacement inherits; or {@linkcode ADMIN}. */
  get number(): number {
    return this.#integers[INTEGERS.number]!;
  }
  set number(value: number) {
    this.#integers[INTEGERS.number] = value;
  }

  /** When `heartbeat` or `state` was last set. */
  get beatAt(): number {
    return this.#numbers[NUMBERS.beatAt]!;
  }
  set beatAt(value: number) {
    this.#numbers[NUMBERS.beatAt] = value;
  }

  /** When the worker was forked, in milliseconds since 1970. */
  get started(): number {
    return this.#numbers[NUMBERS.started]!;
  }
  set started(value: number) {
    this.#numbers[NUMBERS.started] = value;
  }

  /** The number of requests received. */
  get requests(): number {
    return this.#numbers[NUMBERS.requests]!;
  }
  set requests(value: number) {
    this.#numbers[NUMBERS.requests] = value;
  }

  /** The number of requests whose handler threw or answered with a status of 500 or above. */
  get errors(): number {
    return this.#numbers[NUMBERS.errors]!;
  }
  set errors(value: number) {
    this.#numbers[NUMBERS.errors] = value;
  }

  /** The share of one processor that the worker has used recently: 0 to 1, or more with threads. */
  get busy(): number {
    return this.#numbers[NUMBERS.busy]!;
  }
  set busy(value: number) {
    this.#numbers[NUMBERS.busy] = value;
  }

  /** Why this worker was started: how its predecessor ended, or `"start"`. */
  get reason(): string {
    return this.#reason.get();
  }
  set reason(value: string) {
    this.#reason.set(value);
  }

  /** The last request: method and URL, truncated to the available space. */
  get request(): string {
    const method = METHODS[this.#integers[INTEGERS.method]!];
    return method ? `${method} ${this.#request.get()}` : this.#request.get();
  }

  set request(value: string) {
    this.#lastMethod = "";
    this.#integers[INTEGERS.method] = 0;
    this.#request.set(value);
  }

  /**
   * Sets `request`. It is called before each call of the app, so it is fast: requests often repeat.
   */
  setRequest(method: string, url: string): void {
    if (url === this.#lastUrl && method === this.#lastMethod) return;
    const known = METHODS.indexOf(method);
    if (known <= 0) this.request = `${method} ${url}`;
    else {
      this.#integers[INTEGERS.method] = known;
      this.#request.set(url);
      this.#lastMethod = method;
      this.#lastUrl = url;
    }
  }

  /** Resets the slot for another worker. */
  clear(): void {
    this.#integers.fill(0);
    this.#numbers.fill(0);
    this.reason = "";
    this.request = "";
  }
}

// Layout of the header: 8 numbers of 4 bytes, 4 of 8 bytes, strings, a number of 8 bytes, a string.
const HEADER = { magic: 0, version: 1, master: 2, generation: 3, workers: 4 };

/** The whole scoreboard. */
export class Scoreboard {
  /** The slots. */
  readonly slots: readonly Slot[];
  readonly #integers: Int32Array;
  readonly #numbers: Float64Array;
  readonly #url: Text;
  readonly #app: Text;
  readonly #reload: Float64Array;
  readonly #reloadFailure: Text;

  /**
   * Creates a view of memory as a scoreboard.
   *
   * @param memory The memory mapped by {@linkcode createScoreboard}, or bytes read from its file.
   * @throws {Error} If it is not a scoreboard, or the scoreboard of another version of tine.
   */
  constructor(memory: ArrayBuffer) {
    if (memory.byteLength < HEADER_BYTES || new Int32Array(memory, 0, 1)[0] !== MAGIC) {
      throw new Error("Cannot read the scoreboard: it was not written by tine");
    }
    this.#integers = new Int32Array(memory, 0, 8);
    if (this.#integers[HEADER.version] !== VERSION || memory.byteLength < SCOREBOARD_BYTES) {
      throw new Error("Cannot read the scoreboard: it was written by another version of tine");
    }
    this.#numbers = new Float64Array(memory, 32, 4);
    this.#url = new Text(memory, 64, 1024);
    this.#app = new Text(memory, 64 + 1024, 1024);
    this.#reload = new Float64Array(memory, 64 + 2048, 1);
    this.#reloadFailure = new Text(memory, 64 + 2048 + 8, 1024);
    this.slots = Array.from({ length: SLOTS }, (_, index) => new Slot(memory, index));
  }

  /** The master's pid. */
  get master(): number {
    return this.#integers[HEADER.master]!;
  }
  set master(value: number) {
    this.#integers[HEADER.master] = value;
  }

  /** How often the master has re-executed itself. */
  get generation(): number {
    return this.#integers[HEADER.generation]!;
  }
  set generation(value: number) {
    this.#integers[HEADER.generation] = value;
  }

  /** The number of workers to maintain. */
  get workers(): number {
    return this.#integers[HEADER.workers]!;
  }
  set workers(value: number) {
    this.#integers[HEADER.workers] = value;
  }

  /** When the master first started, in milliseconds since 1970. */
  get started(): number {
    return this.#numbers[0]!;
  }
  set started(value: number) {
    this.#numbers[0] = value;
  }

  /**
   * The number of requests of workers that have ended. Together with the others' it makes the sum
   * monotonic.
   */
  get pastRequests(): number {
    return this.#numbers[1]!;
  }
  set pastRequests(value: number) {
    this.#numbers[1] = value;
  }

  /** The number of workers that ended without being told to. */
  get crashes(): number {
    return this.#numbers[2]!;
  }
  set crashes(value: number) {
    this.#numbers[2] = value;
  }

  /** The number of errors of workers that have ended, as {@linkcode Slot.errors} counts them. */
  get pastErrors(): number {
    return this.#numbers[3]!;
  }
  set pastErrors(value: number) {
    this.#numbers[3] = value;
  }

  /** The URL at which clients connect. */
  get url(): string {
    return this.#url.get();
  }
  set url(value: string) {
    this.#url.set(value);
  }

  /** The specifier of the app's module, as given. */
  get app(): string {
    return this.#app.get();
  }
  set app(value: string) {
    this.#app.set(value);
  }

  /**
   * When code was last loaded, or failed to load, in milliseconds since 1970; 0 before the first
   * time. The start counts as the first time.
   */
  get reloaded(): number {
    return this.#reload[0]!;
  }
  set reloaded(value: number) {
    this.#reload[0] = value;
  }

  /** Why code failed to load the last time; empty if it did not. */
  get reloadFailure(): string {
    return this.#reloadFailure.get();
  }
  set reloadFailure(value: string) {
    this.#reloadFailure.set(value);
  }

  /**
   * Records that code was loaded just now, or failed to load.
   *
   * @param failure Why it failed, of which the first line is kept; `undefined` if it did not.
   */
  recordReload(failure?: string): void {
    this.reloadFailure = failure === undefined
      ? ""
      : failure.trim().split("\n")[0] || "no reason is known";
    this.reloaded = Date.now();
  }
}

/** Creates an empty scoreboard. */
export function createScoreboard(): { file: Descriptor; scoreboard: Scoreboard } {
  const file = memfd_create(SCOREBOARD_NAME);
  file.ftruncate(SCOREBOARD_BYTES);
  const memory = mmap(SCOREBOARD_BYTES, MAP_SHARED, file.fileno());
  new Int32Array(memory, 0, 8).set([MAGIC, VERSION]);
  return { file, scoreboard: new Scoreboard(memory) };
}

/** Maps the scoreboard that was created before this process re-executed itself. */
export function inheritScoreboard(file: Descriptor): Scoreboard {
  return new Scoreboard(mmap(SCOREBOARD_BYTES, MAP_SHARED, file.fileno()));
}

/** A string in shared memory, preceded by its length. A reader may see a partial update. */
class Text {
  readonly #length: Int32Array;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(memory: ArrayBuffer, at: number, byteLength: number) {
    this.#length = new Int32Array(memory, at, 1);
    this.#bytes = new Uint8Array(memory, at + 4, byteLength - 4);
  }

  get(): string {
    const length = Math.min(Math.max(this.#length[0]!, 0), this.#bytes.length);
    return decoder.decode(this.#bytes.subarray(0, length));
  }

  set(text: string): void {
    this.#length[0] = encoder.encodeInto(text, this.#bytes).written;
  }
}
