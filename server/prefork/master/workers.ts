/**
 * The workers of a master: how they are spawned, stopped, killed and reaped, and how long the
 * master waits before it retries after a failure.
 */
import { AwakeThreadsError, forkWithoutWaiting } from "../../../ffi/forking/fork.ts";
import { collectYoungObjects } from "../../../ffi/runtime/heap.ts";
import { concludeTest, UnsupportedRuntimeError } from "../../../ffi/forking/self_check.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { _exit, getpid, kill } from "../../../ffi/process.ts";
import { carryCpuUsageOn } from "../../../ffi/runtime/cpu_usage.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import { SOCK_SEQPACKET, type Socket, socketpair } from "../../../ffi/socket.ts";
import type { WaitStatus } from "../../../ffi/wait.ts";
import { formatCount, formatStatus } from "../../log.ts";
import { executeWorker } from "./execute_worker.ts";
import { answerListen } from "../listen_request.ts";
import { hear, type Order, type Said, tell } from "../orders.ts";
import { ADMIN, type Slot } from "../scoreboard.ts";
import { type StartReason, startReason } from "../start_reason.ts";
import type { ChildContext, Context, InheritedWorker } from "./context.ts";

/** A worker as the master sees it. Times are in milliseconds of `performance.now()`. */
export interface Worker extends ChildContext {
  readonly pid: number;
  /** When the worker was spawned; `-Infinity` if it is inherited. */
  readonly spawnedAt: number;
  ready: boolean;
  /** Why the worker is being replaced. It stops once its replacement is ready. */
  retiring?: string;
  /** Whether the worker has been told to stop. */
  stopping: boolean;
  /** When to kill the worker if it has not stopped, or is not ready, by then. */
  killAt: number;
  /** Why the master killed the worker. */
  killedFor?: string;
  /** When to retry a kill(2) that the kernel refused. */
  retryAt: number;
  /** The reason the worker reported before it failed. */
  failure?: string;
  /** The last heartbeat seen, and when it changed. */
  heartbeat: number;
  heardAt: number;
}

/** A worker that served no request and lived shorter than this is replaced after a short delay. */
const QUICK = 1000;
/** The server gives up after this many consecutive workers failed to start and none is ready. */
const MAX_FAILURES = 5;
/** The delay after the first failure. It doubles with each further failure, up to the maximum. */
const FIRST_DELAY = 100;
const LONGEST_DELAY = 30_000;
/** How long to wait before retrying a fork(2) or a kill(2) that the kernel refused. */
const FORK_RETRY = 1000;
/** After how many forks that failed in a row because V8's threads did not sleep they never will. */
const MOST_STUCK = 3;
const KILL_RETRY = 10_000;
/** How long the admin process may take to answer its last requests, in seconds. */
const ADMIN_GRACE = 2;

/** The workers of a master, including the admin process. */
export class Workers {
  /** The number of workers to maintain. */
  wanted: number;
  /** Whether all workers have been told to stop. No further worker is spawned then. */
  stopping = false;
  /** Whether no worker is left and none can be started. The server gives up then. */
  haveFailed = false;
  /** What the admin process was told to tell the master. */
  readonly commands: string[] = [];
  readonly #context: Context;
  readonly #workers = new Map<number, Worker>();
  /** How the last worker of each number ended. */
  readonly #lastEnd = new Map<number, string>();
  /** The workers still to be replaced, one at a time. */
  #toReplace: Worker[] = [];
  #failures = 0;
  #spawnAt = 0;
  #isPrepared = false;
  /** How often in a row a fork failed because V8's threads did not sleep. */
  #stuck = 0;
  #announced = false;

  /** Adopts the workers that the context has inherited. */
  constructor(context: Context) {
    this.#context = context;
    const { config, resized } = context;
    this.wanted = resized.from === config.workers ? resized.to : config.workers;
    context.scoreboard.workers = this.wanted;
    for (const worker of context.workers) this.#adopt(worker);
  }

  /** The number of child processes. */
  get size(): number {
    return this.#workers.size;
  }

  /** The number of workers. */
  count(): number {
    return this.all().filter(isWorker).length;
  }

  /** Whether at least one worker is ready. */
  isAnyReady(): boolean {
    return this.all().some((worker) => isWorker(worker) && worker.ready);
  }

  /** All child processes, including the admin process. */
  all(): Worker[] {
    return [...this.#workers.values()];
  }

  /** The descriptors on which the children send messages. */
  channels(): number[] {
    return this.all().map(({ channel }) => channel.fileno());
  }

  /**
   * The number of milliseconds until a worker may be spawned; `Infinity` if one may be spawned now.
   */
  untilSpawn(): number {
    const wait = this.#spawnAt - performance.now();
    return wait > 0 ? wait : Infinity;
  }

  /** The number of a worker to spawn now; `undefined` if none is missing. */
  missing(): number | undefined {
    if (this.stopping || !this.#context.hasApp || performance.now() < this.#spawnAt) return;
    const present = new Set(this.all().filter(stays).map(({ number }) => number));
    for (let number = 1; number <= this.wanted; number++) if (!present.has(number)) return number;
    return this.#context.admin !== undefined && !present.has(ADMIN) ? ADMIN : undefined;
  }

  /**
   * Forks a worker. Without preloading, it executes the server's program.
   *
   * @param number The worker's number.
   * @returns In a child that does not, its context. In the master, `undefined`, even if the fork failed: the
   *   failure is logged, and the master retries later.
   */
  spawn(number: number): ChildContext | undefined {
    const slot = this.#context.scoreboard.slots.find((one) => one.pid === 0);
    if (slot === undefined) return this.#spawnLater("the scoreboard has no free slot");
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
    slot.reopened = this.#context.scoreboard.reopenings; // its logs are open with the master's
    let pid: number;
    try {
      const isForked = this.#context.config.preload || number === ADMIN;
      if (isForked) carryCpuUsageOn();
      pid = isForked
        ? forkWithoutWaiting()
        : executeWorker(this.#context, { number, slot, channel: theirs });
    } catch (error) {
      slot.clear();
      ours.close();
      theirs.close();
      if (error instanceof UnsupportedRuntimeError) return this.#giveUp(error);
      this.#stuck += error instanceof AwakeThreadsError ? 1 : 0;
      return this.#spawnLater(error);
    }
    this.#stuck = 0;
    if (pid === 0) return this.#inChild({ number, slot, channel: theirs }, ours);
    theirs.close(); // parent
    slot.pid = pid;
    const { bootTimeout } = this.#context.config;
    if (number !== ADMIN) this.#context.scoreboard.countStart(this.#kindOf(slot.reason));
    this.#prepareForks();
    this.#add({ pid, number, slot, channel: ours }, {
      killAt: performance.now() + bootTimeout * 1000,
    });
  }

  /** Does for all workers but the first, while that boots, what each would have to do for itself. */
  #prepareForks(): void {
    if (this.#isPrepared || !this.#context.config.preload) return;
    this.#isPrepared = true;
    collectYoungObjects();
  }

  /**
   * Closes the master's ends of the socket pairs. An error must not take the child into the
   * master's loop.
   */
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

  #adopt(inherited: InheritedWorker): void {
    const { pid, number, slot, channel, ready, stopping, timeLeft, killedFor } = inherited;
    this.#add({ pid, number, slot, channel }, {
      spawnedAt: -Infinity,
      ready,
      stopping,
      heartbeat: slot.heartbeat,
      killAt: performance.now() + (timeLeft ?? Infinity),
      ...this.#context.hasApp || stopping ? { retiring: "SIGHUP" } : {},
      ...killedFor === undefined ? {} : { killedFor },
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

  /** How the previous worker of this number ended, or why it is being replaced. */
  #reasonFor(number: number): string {
    const previous = this.all().find((one) => one.number === number && one.retiring);
    return previous?.retiring ?? this.#lastEnd.get(number) ?? "start";
  }

  /** Which kind of reason that is. */
  #kindOf(reason: string): StartReason {
    const kind = startReason(reason);
    // All that the server began with have been ready.
    return kind === "start" && this.#announced ? "scale" : kind;
  }

  /** Whether this process seems to be unable to ever fork again. */
  get areStuck(): boolean {
    return this.#stuck >= MOST_STUCK;
  }

  /** Whether the workers of this program are ready, and those that they replace have ended. */
  get areAllNew(): boolean {
    return this.#context.hasApp && this.#announced && !this.all().some((one) => one.stopping);
  }

  /** Logs why no worker could be forked, and schedules a retry. */
  #spawnLater(error: unknown): undefined {
    const reason = error instanceof Error ? error.message : error;
    this.#context.log(`Cannot start a worker, trying again in a second: ${reason}`);
    this.#spawnAt = performance.now() + FORK_RETRY;
  }

  /** Reads the messages of the workers. */
  hear(): void {
    for (const worker of this.#workers.values()) this.#hear(worker);
  }

  #hear(worker: Worker): void {
    for (let said; (said = hear(worker.channel)) !== undefined;) {
      switch (said.word) {
        case "ready":
          concludeTest(worker.pid); // which it has passed
          worker.ready = true;
          if (!worker.stopping) worker.killAt = Infinity;
          worker.heardAt = performance.now();
          // The logs were moved while it was starting.
          if (Math.abs(worker.slot.reopened) < this.#context.scoreboard.reopenings) {
            tell(worker.channel, "reopen");
          }
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
        case "listen":
          this.#lend(said);
          break;
        case "command": // a worker that was broken into may not
          if (!isWorker(worker)) this.commands.push(said.reason);
          break;
      }
    }
  }

  /** Answers a worker that asks for a listening socket. */
  #lend({ reason, descriptor }: Said): void {
    if (descriptor === undefined) return;
    const { lend, log, scoreboard, urls } = this.#context;
    const error = answerListen(reason, descriptor, lend);
    scoreboard.url = urls();
    // Every worker would ask for the same.
    if (error === undefined || !reason.includes('"app":0') || this.#announced) return;
    log(error.message);
    this.haveFailed = true;
  }

  /**
   * Handles a worker that became ready. Once all are ready, the workers they replace are stopped.
   */
  #onReady(): void {
    const { config, hasApp, log, notify, scoreboard } = this.#context;
    const ready = this.all().filter((worker) => isWorker(worker) && worker.ready && stays(worker));
    if (ready.length < this.wanted) {
      if (!this.#announced) log(`${ready.length} of ${this.wanted} workers ready`);
      return;
    }
    if (!this.#announced) {
      if (hasApp) scoreboard.recordReload();
      log(`Serving ${scoreboard.url} with ${formatCount(this.wanted, "worker")}`);
      if (!scoreboard.draining) notify("ready");
      // Deno loads timers when they are first referenced: do so here, once for all later workers.
      void setTimeout;
    }
    this.#announced = true;
    for (const worker of this.#workers.values()) {
      if (worker.retiring !== undefined && !worker.stopping) {
        this.#stop(worker, config.grace, "leave");
      }
    }
  }

  /** Sends an order to all ready workers. */
  tellAll(order: Order): void {
    for (const worker of this.#workers.values()) if (worker.ready) tell(worker.channel, order);
  }

  /** Schedules all workers for replacement, one after the other. */
  replaceAll(): void {
    this.#context.log("SIGUSR2: replacing all workers, one by one");
    this.#toReplace = this.all().filter((worker) => isWorker(worker) && stays(worker));
  }

  /**
   * Retires the next worker scheduled by {@linkcode replaceAll} once the one before it is stopping.
   */
  replaceNext(): void {
    const isOneRetiring = this.all().some((one) => one.retiring !== undefined && !one.stopping);
    if (this.#toReplace.length === 0 || isOneRetiring) return;
    const next = this.#toReplace.shift()!;
    if (this.#workers.has(next.pid) && stays(next)) next.retiring = "SIGUSR2";
  }

  /** Changes the number of workers, within the capacity of the scoreboard. */
  resize(count: number): void {
    const { config, log, scoreboard } = this.#context;
    this.wanted = Math.min(Math.max(count, 1), scoreboard.slots.length / 2);
    scoreboard.workers = this.wanted;
    log(`${formatCount(this.wanted, "worker")} from now on`);
    for (const worker of this.all()) {
      if (worker.number > this.wanted) this.#stop(worker, config.grace, "leave");
    }
  }

  /**
   * Stops all workers: within `grace` seconds, or immediately if `grace` is 0.
   *
   * The admin process of a server that has drained shows what they still do, so
   * {@linkcode stopAdmin} stops it after them. Without a drain delay it stops with them: another
   * server may be about to start at its address.
   */
  stop(grace: number): void {
    this.stopping = true;
    const isLast = this.#context.config.drainDelay > 0 && grace > 0;
    this.#stopAll(this.all().filter((one) => isWorker(one) || !isLast), grace);
  }

  /** Stops the admin process. May be called again and again. */
  stopAdmin(): void {
    const grace = Math.min(ADMIN_GRACE, this.#context.config.grace);
    this.#stopAll(this.all().filter((one) => !isWorker(one) && !one.stopping), grace);
  }

  #stopAll(workers: readonly Worker[], grace: number): void {
    for (const worker of workers) {
      this.#stop(worker, grace, "stop");
      if (grace > 0 && worker.ready) continue;
      if (this.#kill(worker)) worker.killAt = Infinity; // a booting worker reads no orders
    }
  }

  #stop(worker: Worker, grace: number, order: "stop" | "leave"): void {
    worker.retiring ??= order;
    worker.stopping = true;
    tell(worker.channel, order);
    worker.killAt = Math.min(worker.killAt, performance.now() + grace * 1000);
  }

  /** Kills a worker, and records why. */
  kill(worker: Worker, why: string): void {
    if (this.#kill(worker)) worker.killedFor = `killed because ${why}`;
  }

  /**
   * Kills a worker. Returns false on failure: the master may not signal a worker that changed its
   * user.
   */
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

  /**
   * Handles a child that ended: updates the counters, logs, and decides when to spawn the next one.
   */
  reaped(pid: number, status: WaitStatus): void {
    const worker = this.#workers.get(pid);
    if (worker === undefined) return;
    this.#hear(worker); // its last messages
    const unsupported = concludeTest(pid, status);
    this.#workers.delete(pid);
    worker.channel.close();
    const { scoreboard, log } = this.#context;
    const { slot, ready } = worker;
    const hasServed = slot.requests > 0;
    const end = worker.killedFor ?? formatStatus(status);
    if (!worker.stopping || worker.killedFor !== undefined) {
      scoreboard.crashes++;
      log(
        `${nameOf(worker)} ${ready ? "ended" : "failed to start"}: ${end}` +
          `${worker.failure === undefined ? "" : `: ${worker.failure}`}${describeRequests(slot)}`,
      );
    }
    if (isWorker(worker)) scoreboard.retire(slot);
    else slot.clear();
    this.#lastEnd.set(worker.number, worker.retiring ?? end);
    // What the new program needs, its workers have asked for by now.
    if (this.areAllNew) this.#context.closeUnused();
    if (this.stopping || worker.stopping) return;
    if (unsupported !== undefined) return this.#giveUp(unsupported);
    if (!ready && this.#cannotLoad(worker)) {
      this.haveFailed = true;
      return;
    }
    if (!ready) return this.#failed(worker.failure ?? end);
    this.#failures = 0;
    // The app loads. The delay keeps a worker that ends immediately from causing a fork loop.
    const isQuick = performance.now() - worker.spawnedAt < QUICK;
    if (isQuick && !hasServed) this.#spawnAt = performance.now() + FIRST_DELAY;
  }

  /** Handles a worker that ended before it was ready. */
  #failed(reason: string): void {
    this.#failures++;
    const { hasApp, scoreboard } = this.#context;
    // The workers have never been ready with this code.
    if (hasApp && !this.#announced) scoreboard.recordReload(reason);
    const delay = Math.min(FIRST_DELAY * 2 ** (this.#failures - 1), LONGEST_DELAY);
    this.#spawnAt = performance.now() + delay;
    if (this.#failures < MAX_FAILURES || this.all().some((other) => other.ready)) return;
    this.#context.log(
      `${this.#failures} workers in a row failed to start, the last one: ${reason}`,
    );
    this.haveFailed = true;
  }

  /**
   * Whether the app cannot be loaded at all: each worker loads it, and the first one that tried said
   * that it failed. A preloaded app fails earlier, in the master.
   */
  #cannotLoad({ failure }: Worker): boolean {
    const { config, workers } = this.#context;
    return failure !== undefined && !config.preload && workers.length === 0 && !this.#announced &&
      !this.all().some((other) => other.ready);
  }

  /** Handles a runtime that cannot fork: no worker can ever be started. */
  #giveUp(error: UnsupportedRuntimeError): undefined {
    if (!this.haveFailed) this.#context.log(error.message);
    this.haveFailed = true;
  }

  /** Describes the workers for the program that replaces this one. */
  handOn(): InheritedWorker[] {
    const now = performance.now();
    return this.all().map((worker) => ({
      ...worker,
      timeLeft: worker.killAt === Infinity ? null : worker.killAt - now,
    }));
  }
}

/** Whether a child is a worker, as opposed to the admin process. */
export function isWorker({ number }: ChildContext): boolean {
  return number !== ADMIN;
}

/** Whether a worker is neither being replaced nor killed. */
export function stays(worker: Worker): boolean {
  return worker.retiring === undefined && worker.killedFor === undefined;
}

/** Returns the name of a worker in the log. */
export function nameOf(worker: Worker): string {
  const name = isWorker(worker) ? `Worker ${worker.number}` : "The admin process";
  return `${name} (pid ${worker.pid})`;
}

function describeRequests({ inFlight, request }: Slot): string {
  return inFlight > 0 ? `, ${inFlight} in flight, last request ${request}` : "";
}
