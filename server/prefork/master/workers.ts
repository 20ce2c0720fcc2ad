/**
 * The workers of a master: how they are spawned, told to stop, killed and reaped;
 * and how long to wait before the next attempt when they fail.
 */
import { fork } from "../../../ffi/forking/fork.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { _exit, getpid, kill } from "../../../ffi/process.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import { SOCK_SEQPACKET, type Socket, socketpair } from "../../../ffi/socket.ts";
import type { WaitStatus } from "../../../ffi/wait.ts";
import { formatStatus } from "../../log.ts";
import { hear, type Order, tell } from "../orders.ts";
import { ADMIN, type Slot } from "../scoreboard.ts";
import type { ChildContext, Context, InheritedWorker } from "./context.ts";

/** A worker, as the master knows it. Times are in milliseconds of `performance.now()`. */
export interface Worker extends ChildContext {
  readonly pid: number;
  /** When it was spawned; long ago if it is inherited. */
  readonly spawnedAt: number;
  ready: boolean;
  /** Why it is to be replaced: it stops once there is another in its place. */
  retiring?: string;
  /** Whether it was told to stop. */
  stopping: boolean;
  /** When it is to be killed: it was told to stop, or it is not ready yet. */
  killAt: number;
  /** Why the master has killed it. */
  killedFor?: string;
  /** When to try again what the kernel has refused. */
  retryAt: number;
  /** What it said before it failed. */
  failure?: string;
  /** Its heartbeat at the last change, and when that was. */
  heartbeat: number;
  heardAt: number;
}

/** A worker that serves nobody and lives for less is replaced after a short delay. */
const QUICK = 1000;
/** After so many workers in a row that never got ready, with none left, the server gives up. */
const MAX_FAILURES = 5;
/** The delay after the first of them; each further one doubles it, up to the longest. */
const FIRST_DELAY = 100;
const LONGEST_DELAY = 30_000;
/** When to try again what the kernel has refused: to make a process, to kill one. */
const FORK_RETRY = 1000;
const KILL_RETRY = 10_000;

/** The workers of a master, the admin process among them. */
export class Workers {
  /** How many workers there are to be. */
  wanted: number;
  /** Whether all were told to stop, and none is to be spawned any more. */
  stopping = false;
  /** Whether there is no worker, and no way to get one: the server is to give up. */
  haveFailed = false;
  readonly #context: Context;
  readonly #workers = new Map<number, Worker>();
  /** What the last worker of each number ended of. */
  readonly #lastEnd = new Map<number, string>();
  /** Those that are still to be replaced, one after the other. */
  #toReplace: Worker[] = [];
  #failures = 0;
  #spawnAt = 0;
  #announced = false;

  /** Begins with the workers that the context has inherited. */
  constructor(context: Context) {
    this.#context = context;
    const { config, resized } = context;
    this.wanted = resized.from === config.workers ? resized.to : config.workers;
    context.scoreboard.workers = this.wanted;
    for (const worker of context.workers) this.#adopt(worker);
  }

  /** How many processes there are. */
  get size(): number {
    return this.#workers.size;
  }

  /** How many workers there are. */
  count(): number {
    return this.all().filter(isWorker).length;
  }

  /** All of them, the admin process included. */
  all(): Worker[] {
    return [...this.#workers.values()];
  }

  /** The descriptors on which they say something. */
  channels(): number[] {
    return this.all().map(({ channel }) => channel.fileno());
  }

  /** How many milliseconds it is until the next one may be spawned; `Infinity` if that is now. */
  untilSpawn(): number {
    const wait = this.#spawnAt - performance.now();
    return wait > 0 ? wait : Infinity;
  }

  /** The number of a worker that is to be spawned now, if any is. */
  missing(): number | undefined {
    if (this.stopping || !this.#context.hasApp || performance.now() < this.#spawnAt) return;
    const present = new Set(this.all().filter(stays).map(({ number }) => number));
    for (let number = 1; number <= this.wanted; number++) if (!present.has(number)) return number;
    return this.#context.admin !== undefined && !present.has(ADMIN) ? ADMIN : undefined;
  }

  /**
   * Forks a worker.
   *
   * @param number Its number.
   * @returns In the child, who it is; nothing in the master, also where it could not be forked:
   *   that is logged, and tried again later.
   */
  spawn(number: number): ChildContext | undefined {
    const slot = this.#context.scoreboard.slots.find((one) => one.pid === 0);
    if (slot === undefined) return this.#spawnLater("no slot of the scoreboard is free");
    let ends: [ours: Socket, theirs: Socket];
    try {
      ends = socketpair(SOCK_SEQPACKET);
    } catch (error) {
      return this.#spawnLater(error);
    }
    const [ours, theirs] = ends;
    slot.state = "booting";
    slot.number = number;
    slot.generation = this.#context.scoreboard.generation;
    slot.started = Date.now();
    slot.reason = this.#reasonFor(number);
    let pid: number;
    try {
      pid = fork({ runtime: true });
    } catch (error) {
      slot.clear();
      ours.close();
      theirs.close();
      return this.#spawnLater(error);
    }
    if (pid === 0) return this.#inChild({ number, slot, channel: theirs }, ours);
    theirs.close(); // parent
    slot.pid = pid;
    const { bootTimeout } = this.#context.config;
    this.#add({ pid, number, slot, channel: ours }, {
      killAt: performance.now() + bootTimeout * 1000,
    });
  }

  /** Closes the master's ends. An error must not take the child into the master's loop. */
  #inChild(child: ChildContext, ours: Socket): ChildContext {
    try {
      child.slot.pid = getpid();
      ours.close();
      for (const { channel } of this.#workers.values()) channel.close();
      return child;
    } catch (error) {
      console.error(`error: forked worker ${getpid()} cannot start: ${error}`);
      _exit(1);
    }
  }

  #adopt({ pid, number, slot, channel, ready, stopping, timeLeft }: InheritedWorker): void {
    this.#add({ pid, number, slot, channel }, {
      spawnedAt: -Infinity,
      ready,
      stopping,
      heartbeat: slot.heartbeat,
      killAt: performance.now() + (timeLeft ?? Infinity),
      ...this.#context.hasApp || stopping ? { retiring: "SIGHUP" } : {},
    });
  }

  #add(child: ChildContext & { pid: number }, known: Partial<Worker>): void {
    const now = performance.now();
    this.#workers.set(child.pid, {
      ready: false,
      stopping: false,
      spawnedAt: now,
      killAt: Infinity,
      retryAt: 0,
      heartbeat: 0,
      heardAt: now,
      ...child,
      ...known,
    });
  }

  /** What the worker before it ended of, or is replaced for. */
  #reasonFor(number: number): string {
    const previous = this.all().find((one) => one.number === number && one.retiring);
    return previous?.retiring ?? this.#lastEnd.get(number) ?? "start";
  }

  /** There is nothing to fork with just now. */
  #spawnLater(error: unknown): undefined {
    const reason = error instanceof Error ? error.message : error;
    this.#context.log(`Cannot start a worker, trying again in a second: ${reason}`);
    this.#spawnAt = performance.now() + FORK_RETRY;
  }

  /** Reads what the workers have said. */
  hear(): void {
    for (const worker of this.#workers.values()) this.#hear(worker);
  }

  #hear(worker: Worker): void {
    for (let said; (said = hear(worker.channel)) !== undefined;) {
      switch (said.word) {
        case "ready":
          worker.ready = true;
          if (!worker.stopping) worker.killAt = Infinity;
          worker.heardAt = performance.now();
          if (isWorker(worker)) this.#onReady();
          break;
        case "failed":
          worker.failure = said.reason;
          break;
        case "retire":
          worker.retiring ??= said.reason;
          break;
        case "look":
          this.tellAll("look");
          break;
      }
    }
  }

  /** A worker has become ready: once all are, those that they replace stop. */
  #onReady(): void {
    const { config, log, notify, scoreboard } = this.#context;
    const ready = this.all().filter((worker) => isWorker(worker) && worker.ready && stays(worker));
    if (ready.length < this.wanted) {
      if (!this.#announced) log(`${ready.length} of ${this.wanted} workers ready`);
      return;
    }
    if (!this.#announced) {
      log(`Serving ${scoreboard.url} with ${this.wanted} workers`);
      notify("ready");
      // Deno loads timers where they are first named: now, for all workers that come later.
      void setTimeout;
    }
    this.#announced = true;
    for (const worker of this.#workers.values()) {
      if (worker.retiring !== undefined && !worker.stopping) {
        this.#stop(worker, config.grace, "leave");
      }
    }
  }

  /** Says something to all that are ready. */
  tellAll(order: Order): void {
    for (const worker of this.#workers.values()) if (worker.ready) tell(worker.channel, order);
  }

  /** Has all workers replaced, one after the other. */
  replaceAll(): void {
    this.#context.log("SIGUSR2: replacing all workers, one after the other");
    this.#toReplace = this.all().filter((worker) => isWorker(worker) && stays(worker));
  }

  /** Retires the next one that {@linkcode replaceAll} has named, once the one before it stops. */
  replaceNext(): void {
    const isOneRetiring = this.all().some((one) => one.retiring !== undefined && !one.stopping);
    if (this.#toReplace.length === 0 || isOneRetiring) return;
    const next = this.#toReplace.shift()!;
    if (this.#workers.has(next.pid) && stays(next)) next.retiring = "SIGUSR2";
  }

  /** Changes how many workers there are, within what the scoreboard has room for. */
  resize(count: number): void {
    const { config, log, scoreboard } = this.#context;
    this.wanted = Math.min(Math.max(count, 1), scoreboard.slots.length / 2);
    scoreboard.workers = this.wanted;
    log(`${this.wanted} workers from now on`);
    for (const worker of this.all()) {
      if (worker.number > this.wanted) this.#stop(worker, config.grace, "leave");
    }
  }

  /** Stops all: within `grace` seconds, or at once if that is 0. */
  stop(grace: number): void {
    this.stopping = true;
    for (const worker of this.all()) {
      this.#stop(worker, grace, "stop");
      if (grace > 0 && worker.ready) continue;
      if (this.#kill(worker)) worker.killAt = Infinity; // one that boots hears nothing
    }
  }

  #stop(worker: Worker, grace: number, order: "stop" | "leave"): void {
    worker.retiring ??= order;
    worker.stopping = true;
    tell(worker.channel, order);
    worker.killAt = Math.min(worker.killAt, performance.now() + grace * 1000);
  }

  /** Kills a worker. What it ends of is why. */
  kill(worker: Worker, why: string): void {
    if (this.#kill(worker)) worker.killedFor = `killed, for ${why}`;
  }

  /** Whether it could: a worker that has changed its user may be beyond the master's reach. */
  #kill(worker: Worker): boolean {
    try {
      kill(worker.pid, SIGKILL);
      return true;
    } catch (error) {
      if (!isSyscallError(error)) throw error;
      worker.retryAt = performance.now() + KILL_RETRY;
      this.#context.log(`${error.message}. Trying again in ${KILL_RETRY / 1000} s`);
      return false;
    }
  }

  /** A child has ended: counts, logs, and decides when the next one may be spawned. */
  reaped(pid: number, status: WaitStatus): void {
    const worker = this.#workers.get(pid);
    if (worker === undefined) return;
    this.#hear(worker); // its last words
    this.#workers.delete(pid);
    worker.channel.close();
    const { scoreboard, log } = this.#context;
    const { slot, ready } = worker;
    const hasServed = slot.requests > 0;
    const end = worker.killedFor ?? formatStatus(status);
    if (isWorker(worker)) {
      scoreboard.pastRequests += slot.requests;
      scoreboard.pastErrors += slot.errors;
    }
    if (!worker.stopping || worker.killedFor !== undefined) {
      scoreboard.crashes++;
      log(
        `${nameOf(worker)} ${ready ? "ended" : "failed to start"}: ${end}` +
          `${worker.failure === undefined ? "" : `: ${worker.failure}`}${describeRequests(slot)}`,
      );
    }
    slot.clear();
    this.#lastEnd.set(worker.number, worker.retiring ?? end);
    if (this.stopping || worker.stopping) return;
    if (!ready) return this.#failed(worker.failure ?? end);
    this.#failures = 0;
    // The app can be loaded; but should each worker end at once, forking must not be all there is.
    const isQuick = performance.now() - worker.spawnedAt < QUICK;
    if (isQuick && !hasServed) this.#spawnAt = performance.now() + FIRST_DELAY;
  }

  /** A worker has ended before it was ready. */
  #failed(reason: string): void {
    this.#failures++;
    const delay = Math.min(FIRST_DELAY * 2 ** (this.#failures - 1), LONGEST_DELAY);
    this.#spawnAt = performance.now() + delay;
    if (this.#failures < MAX_FAILURES || this.all().some((other) => other.ready)) return;
    this.#context.log(`${this.#failures} workers in a row have failed, the last one: ${reason}`);
    this.haveFailed = true;
  }

  /** The workers, for the program that is executed in this one's place. */
  handOn(): InheritedWorker[] {
    const now = performance.now();
    return this.all().map((worker) => ({
      ...worker,
      timeLeft: worker.killAt === Infinity ? null : worker.killAt - now,
    }));
  }
}

/** Whether it is a worker, and not the admin process. */
export function isWorker({ number }: ChildContext): boolean {
  return number !== ADMIN;
}

/** Whether a worker is neither to be replaced nor killed. */
export function stays(worker: Worker): boolean {
  return worker.retiring === undefined && worker.killedFor === undefined;
}

/** A worker as the log names it. */
export function nameOf(worker: Worker): string {
  const name = isWorker(worker) ? `Worker ${worker.number}` : "The admin process";
  return `${name} (pid ${worker.pid})`;
}

function describeRequests({ inFlight, request }: Slot): string {
  return inFlight > 0 ? `, ${inFlight} in flight, last ${request}` : "";
}
