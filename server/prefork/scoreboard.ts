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
import { LISTENER_TABLE_BYTES, ListenerTable } from "./listener_table.ts";
import { METHODS, RequestMetrics } from "./request_metrics.ts";
import { REQUEST_BYTES as ROW_BYTES, RequestTable } from "./request_table.ts";
import { SharedText as Text } from "./shared_text.ts";
import { START_REASONS, type StartReason } from "./start_reason.ts";

/** The name of the scoreboard in a master's `/proc/PID/fd`. */
export const SCOREBOARD_NAME = "tine-scoreboard";

/** The maximum number of workers at a time, including those that are being replaced. */
export const SLOTS = 256;

/** The number of the admin process, which has a slot but is not a worker. */
export const ADMIN = 0;

const MAGIC = 0x656e6974; // "tine"
/** Must change when the layout below changes. */
const VERSION = 4;
const PAGE_BYTES = 4096;
/** How many slow requests of workers that have ended are kept, and how many of each worker. */
const PAST_SLOW = 32;
const SLOW = 8;
/** The number of requests in progress that a worker shows. */
export const CURRENT = 4;
const HEADER_BYTES = PAGE_BYTES + LISTENER_TABLE_BYTES + PAST_SLOW * ROW_BYTES;
const SLOT_BYTES = 1024;
/**
 * What only the worker itself writes to and only readers of the status read is in a page of its
 * own: whoever looks through all slots, as the workers do, touches the other pages only.
 */
const DETAILS_AT = HEADER_BYTES + SLOTS * SLOT_BYTES;
const DETAILS_BYTES = PAGE_BYTES;

/** The size of the scoreboard, in bytes. A slot that was never used takes no memory. */
export const SCOREBOARD_BYTES: number = DETAILS_AT + SLOTS * DETAILS_BYTES;

/** What a slot's worker is doing. */
export const STATES = ["free", "booting", "ready", "stopping"] as const;
/** One of {@linkcode STATES}. */
export type State = typeof STATES[number];

// Layout of a slot: 16 numbers of 4 bytes, 8 of 8 bytes, and three strings. A method is stored as
// a number. If the number is 0, the string contains the method.
const INTEGERS = {
  pid: 0,
  state: 1,
  generation: 2,
  heartbeat: 3,
  inFlight: 4,
  connections: 5,
  number: 6,
  method: 7,
  active: 8,
  upgraded: 9,
  reopened: 10,
};
const NUMBERS = { started: 0, requests: 1, errors: 2, busy: 3, beatAt: 4 };
const NUMBERS_AT = 64;
const REASON_AT = 128;
const REASON_BYTES = 256;
const REQUEST_AT = REASON_AT + REASON_BYTES;
const REQUEST_BYTES = SLOT_BYTES - REQUEST_AT;

// Layout of the details: the metrics, the requests in progress, the slow requests.
const CURRENT_AT = 1024;
const SLOW_AT = CURRENT_AT + CURRENT * ROW_BYTES;

/** One worker's slot of the scoreboard. All processes see an assignment to a property. */
export class Slot {
  /** The index of the slot, from 0. */
  readonly index: number;
  // All slots share these views of the whole scoreboard: views of each slot would take 170 KB, and
  // half a millisecond at each start.
  readonly #integers: Int32Array<ArrayBuffer>;
  readonly #numbers: Float64Array<ArrayBuffer>;
  readonly #firstInteger: number;
  readonly #firstNumber: number;
  #details: Details | undefined;
  // What this process wrote last.
  #lastMethod = "";
  #lastUrl = "";

  /** Creates a view of the slot with the given index in a scoreboard. */
  constructor({ integers, numbers }: Views, index: number) {
    const at = HEADER_BYTES + index * SLOT_BYTES;
    this.index = index;
    this.#integers = integers;
    this.#numbers = numbers;
    this.#firstInteger = at / integers.BYTES_PER_ELEMENT;
    this.#firstNumber = (at + NUMBERS_AT) / numbers.BYTES_PER_ELEMENT;
  }

  /** The worker's pid, 0 while the slot is free. */
  get pid(): number {
    return this.#integers[this.#firstInteger + INTEGERS.pid]!;
  }
  set pid(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.pid] = value;
  }

  /** What the worker is doing. */
  get state(): State {
    return STATES[this.#integers[this.#firstInteger + INTEGERS.state]!] ?? "free";
  }
  set state(value: State) {
    this.#integers[this.#firstInteger + INTEGERS.state] = STATES.indexOf(value);
    this.beatAt = Date.now();
  }

  /** How often the master had re-executed itself when it forked this worker. */
  get generation(): number {
    return this.#integers[this.#firstInteger + INTEGERS.generation]!;
  }
  set generation(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.generation] = value;
  }

  /** Increases for as long as the worker's event loop runs. */
  get heartbeat(): number {
    return this.#integers[this.#firstInteger + INTEGERS.heartbeat]!;
  }
  set heartbeat(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.heartbeat] = value;
    this.beatAt = Date.now();
  }

  /** The number of requests whose response is not complete. */
  get inFlight(): number {
    return this.#integers[this.#firstInteger + INTEGERS.inFlight]!;
  }
  set inFlight(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.inFlight] = value;
  }

  /** The number of open client connections, as of the worker's last check. */
  get connections(): number {
    return this.#integers[this.#firstInteger + INTEGERS.connections]!;
  }
  set connections(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.connections] = value;
  }

  /** The number of these connections on which a request is being answered. */
  get active(): number {
    return this.#integers[this.#firstInteger + INTEGERS.active]!;
  }
  set active(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.active] = value;
  }

  /** The number of these connections that are a WebSocket, or not HTTP any more. */
  get upgraded(): number {
    return this.#integers[this.#firstInteger + INTEGERS.upgraded]!;
  }
  set upgraded(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.upgraded] = value;
  }

  /** The worker's number, from 1, which its replacement inherits; or {@linkcode ADMIN}. */
  get number(): number {
    return this.#integers[this.#firstInteger + INTEGERS.number]!;
  }
  set number(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.number] = value;
  }

  /**
   * Which of the {@linkcode Scoreboard.reopenings} this process has acted on last: their number, or
   * its negative if a log could not be opened.
   */
  get reopened(): number {
    return this.#integers[this.#firstInteger + INTEGERS.reopened]!;
  }
  set reopened(value: number) {
    this.#integers[this.#firstInteger + INTEGERS.reopened] = value;
  }

  /** When `heartbeat` or `state` was last set. */
  get beatAt(): number {
    return this.#numbers[this.#firstNumber + NUMBERS.beatAt]!;
  }
  set beatAt(value: number) {
    this.#numbers[this.#firstNumber + NUMBERS.beatAt] = value;
  }

  /** When the worker was forked, in milliseconds since 1970. */
  get started(): number {
    return this.#numbers[this.#firstNumber + NUMBERS.started]!;
  }
  set started(value: number) {
    this.#numbers[this.#firstNumber + NUMBERS.started] = value;
  }

  /** The number of requests received. */
  get requests(): number {
    return this.#numbers[this.#firstNumber + NUMBERS.requests]!;
  }
  set requests(value: number) {
    this.#numbers[this.#firstNumber + NUMBERS.requests] = value;
  }

  /** The number of requests whose handler threw or answered with a status of 500 or above. */
  get errors(): number {
    return this.#numbers[this.#firstNumber + NUMBERS.errors]!;
  }
  set errors(value: number) {
    this.#numbers[this.#firstNumber + NUMBERS.errors] = value;
  }

  /** The share of one processor that the worker has used recently: 0 to 1, or more with threads. */
  get busy(): number {
    return this.#numbers[this.#firstNumber + NUMBERS.busy]!;
  }
  set busy(value: number) {
    this.#numbers[this.#firstNumber + NUMBERS.busy] = value;
  }

  /** Why this worker was started: how its predecessor ended, or `"start"`. */
  get reason(): string {
    return this.#open().reason.get();
  }
  set reason(value: string) {
    this.#open().reason.set(value);
  }

  /** The last request: method and URL, truncated to the available space. */
  get request(): string {
    const method = METHODS[this.#integers[this.#firstInteger + INTEGERS.method]!];
    return method ? `${method} ${this.#open().request.get()}` : this.#open().request.get();
  }

  set request(value: string) {
    this.#lastMethod = "";
    this.#integers[this.#firstInteger + INTEGERS.method] = 0;
    this.#open().request.set(value);
  }

  /**
   * Sets `request`. It is called before each call of the app, so it is fast: requests often repeat.
   */
  setRequest(method: string, url: string): void {
    if (url === this.#lastUrl && method === this.#lastMethod) return;
    const known = METHODS.indexOf(method);
    if (known <= 0) this.request = `${method} ${url}`;
    else {
      this.#integers[this.#firstInteger + INTEGERS.method] = known;
      this.#open().request.set(url);
      this.#lastMethod = method;
      this.#lastUrl = url;
    }
  }

  /** What the worker measures of its requests. */
  get metrics(): RequestMetrics {
    return this.#open().metrics;
  }

  /** The requests that the worker is answering: those that wait longest, as of its last check. */
  get current(): RequestTable {
    return this.#open().current;
  }

  /** The requests that took longest in the last minutes. */
  get slow(): RequestTable {
    return this.#open().slow;
  }

  /** Creates the views of what most processes do not need of most slots. */
  #open(): Details {
    return this.#details ??= openDetails(this.#integers.buffer, this.index);
  }

  /** Resets the slot for another worker. */
  clear(): void {
    this.metrics.clear();
    this.current.clear();
    this.slow.clear();
    this.#integers.fill(0, this.#firstInteger, this.#firstInteger + 16);
    this.#numbers.fill(0, this.#firstNumber, this.#firstNumber + 8);
    this.reason = "";
    this.request = "";
  }
}

/** Views of the whole memory of a scoreboard. */
interface Views {
  readonly integers: Int32Array<ArrayBuffer>;
  readonly numbers: Float64Array<ArrayBuffer>;
}

interface Details {
  readonly reason: Text;
  readonly request: Text;
  readonly metrics: RequestMetrics;
  readonly current: RequestTable;
  readonly slow: RequestTable;
}

function openDetails(memory: ArrayBuffer, index: number): Details {
  const slot = HEADER_BYTES + index * SLOT_BYTES;
  const at = DETAILS_AT + index * DETAILS_BYTES;
  return {
    reason: new Text(memory, slot + REASON_AT, REASON_BYTES),
    request: new Text(memory, slot + REQUEST_AT, REQUEST_BYTES),
    metrics: new RequestMetrics(memory, at),
    current: new RequestTable(memory, at + CURRENT_AT, CURRENT),
    slow: new RequestTable(memory, at + SLOW_AT, SLOW),
  };
}

// Layout of the header's first page: 16 numbers of 4 bytes, 8 of 8 bytes, strings, a number of 8
// bytes, a string, numbers of 8 bytes, a string. The tables follow.
const HEADER = {
  magic: 0,
  version: 1,
  master: 2,
  generation: 3,
  workers: 4,
  draining: 5,
  reloadsRequested: 6,
  reloadsLoaded: 7,
  reloadsAnswered: 8,
  reopenings: 9,
  reopened: 10,
  changes: 15,
};
const HEADER_NUMBERS_AT = 64;
const URL_AT = 128;
const APP_AT = URL_AT + 1024;
const RELOAD_AT = APP_AT + 1024;
const STARTS_AT = RELOAD_AT + 8 + 1024;
const PAST_METRICS_AT = STARTS_AT + START_REASONS.length * 8;
const VERSIONS_AT = PAGE_BYTES - 128;
const LISTENERS_AT = PAGE_BYTES;
const PAST_SLOW_AT = LISTENERS_AT + LISTENER_TABLE_BYTES;

/** Versions of software. */
export interface Versions {
  /** The version of tine. */
  readonly tine: string;
  /** The version of Deno. */
  readonly deno: string;
  /** The version of V8. */
  readonly v8: string;
}

/** The whole scoreboard. */
export class Scoreboard {
  /** The slots. */
  readonly slots: readonly Slot[];
  /** What was measured of the requests of workers that have ended. */
  readonly pastMetrics: RequestMetrics;
  /** The slowest requests of workers that have ended. */
  readonly pastSlow: RequestTable;
  /** The listening sockets. */
  readonly listeners: ListenerTable;
  readonly #integers: Int32Array;
  readonly #numbers: Float64Array;
  readonly #url: Text;
  readonly #app: Text;
  readonly #reload: Float64Array;
  readonly #reloadFailure: Text;
  readonly #starts: Float64Array;
  readonly #versions: Text;

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
    this.#integers = new Int32Array(memory, 0, 16);
    if (this.#integers[HEADER.version] !== VERSION || memory.byteLength < SCOREBOARD_BYTES) {
      throw new Error("Cannot read the scoreboard: it was written by another version of tine");
    }
    this.#numbers = new Float64Array(memory, HEADER_NUMBERS_AT, 8);
    this.#url = new Text(memory, URL_AT, 1024);
    this.#app = new Text(memory, APP_AT, 1024);
    this.#reload = new Float64Array(memory, RELOAD_AT, 1);
    this.#reloadFailure = new Text(memory, RELOAD_AT + 8, 1024);
    this.#starts = new Float64Array(memory, STARTS_AT, START_REASONS.length);
    this.#versions = new Text(memory, VERSIONS_AT, PAGE_BYTES - VERSIONS_AT);
    this.pastMetrics = new RequestMetrics(memory, PAST_METRICS_AT);
    this.pastSlow = new RequestTable(memory, PAST_SLOW_AT, PAST_SLOW);
    this.listeners = new ListenerTable(memory, LISTENERS_AT);
    const integers = new Int32Array(memory, 0, SCOREBOARD_BYTES / Int32Array.BYTES_PER_ELEMENT);
    const numbers = new Float64Array(memory, 0, SCOREBOARD_BYTES / Float64Array.BYTES_PER_ELEMENT);
    this.slots = Array.from({ length: SLOTS }, (_, i) => new Slot({ integers, numbers }, i));
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

  /** Whether the server has been told to stop, and still serves. */
  get draining(): boolean {
    return this.#integers[HEADER.draining] === 1;
  }
  set draining(value: boolean) {
    this.#integers[HEADER.draining] = Number(value);
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

  /** The versions of what the master runs on. */
  get versions(): Versions {
    const [tine = "", deno = "", v8 = ""] = this.#versions.get().split(" ");
    return { tine, deno, v8 };
  }
  set versions({ tine, deno, v8 }: Versions) {
    this.#versions.set(`${tine} ${deno} ${v8}`);
  }

  /** How many workers were started for each reason. */
  get starts(): { reason: StartReason; count: number }[] {
    return START_REASONS.map((reason, i) => ({ reason, count: this.#starts[i]! }));
  }

  /** Counts the start of a worker. */
  countStart(reason: StartReason): void {
    this.#starts[START_REASONS.indexOf(reason)]!++;
  }

  /** Frees the slot of a worker that has ended, and keeps what it has counted and measured. */
  retire(slot: Slot): void {
    const { requests, errors, metrics, slow } = slot;
    Atomics.add(this.#integers, HEADER.changes, 1);
    this.pastRequests += requests;
    this.pastErrors += errors;
    this.pastMetrics.add(metrics);
    for (const request of slow.slow(Date.now())) this.pastSlow.offer(request);
    slot.clear();
    Atomics.add(this.#integers, HEADER.changes, 1);
  }

  /**
   * How often {@linkcode retire} has begun or ended. A reader that sums up must find the same even
   * number before and after: otherwise it may count a worker twice, or not at all.
   */
  get changes(): number {
    return Atomics.load(this.#integers, HEADER.changes);
  }

  /** How often the master was asked to load new code. */
  get reloadsRequested(): number {
    return this.#integers[HEADER.reloadsRequested]!;
  }
  set reloadsRequested(value: number) {
    this.#integers[HEADER.reloadsRequested] = value;
  }

  /** How many of these requests the code answers with which the master was executed. */
  get reloadsLoaded(): number {
    return this.#integers[HEADER.reloadsLoaded]!;
  }
  set reloadsLoaded(value: number) {
    this.#integers[HEADER.reloadsLoaded] = value;
  }

  /** How many of these requests the outcome that was recorded last answers. */
  get reloadsAnswered(): number {
    return this.#integers[HEADER.reloadsAnswered]!;
  }

  /** How often the master was asked to open the logs again. */
  get reopenings(): number {
    return this.#integers[HEADER.reopenings]!;
  }
  set reopenings(value: number) {
    this.#integers[HEADER.reopenings] = value;
  }

  /** What {@linkcode Slot.reopened} is, for the master. */
  get reopened(): number {
    return this.#integers[HEADER.reopened]!;
  }
  set reopened(value: number) {
    this.#integers[HEADER.reopened] = value;
  }

  /**
   * Records that code was loaded just now, or failed to load.
   *
   * @param failure Why it failed, of which the first line is kept; `undefined` if it did not.
   * @param answered How many of the requests to load it are answered by that.
   */
  recordReload(failure?: string, answered: number = this.reloadsLoaded): void {
    this.reloadFailure = failure === undefined
      ? ""
      : failure.trim().split("\n")[0] || "no reason is known";
    this.reloaded = Date.now();
    // The last, because it tells readers to look at the others.
    this.#integers[HEADER.reloadsAnswered] = Math.max(this.reloadsAnswered, answered);
  }
}

/** How many bytes {@linkcode changesIn} needs. */
export const CHANGES_BYTES: number = 16 * 4;

/** Returns {@linkcode Scoreboard.changes} of the beginning of a scoreboard's file. */
export function changesIn(memory: ArrayBuffer): number {
  return memory.byteLength < CHANGES_BYTES ? 0 : new Int32Array(memory, 0, 16)[HEADER.changes]!;
}

/** Creates an empty scoreboard. */
export function createScoreboard(): { file: Descriptor; scoreboard: Scoreboard } {
  const file = memfd_create(SCOREBOARD_NAME);
  file.ftruncate(SCOREBOARD_BYTES);
  const memory = mmap(SCOREBOARD_BYTES, MAP_SHARED, file.fileno());
  new Int32Array(memory, 0, 2).set([MAGIC, VERSION]);
  return { file, scoreboard: new Scoreboard(memory) };
}

/** Maps the scoreboard that was created before this process re-executed itself. */
export function inheritScoreboard(file: Descriptor): Scoreboard {
  return new Scoreboard(mmap(SCOREBOARD_BYTES, MAP_SHARED, file.fileno()));
}
