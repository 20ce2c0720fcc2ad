/**
 * The master: it forks workers, watches them, replaces those that end, and never
 * serves a request itself. One loop does it all, in this order: collect what has
 * ended, follow one signal after the other, hear the workers, look at the clock,
 * fork what is missing, sleep. Signals only wake it. The `switch` in `follow()` is
 * the manual.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { fork } from "../../../ffi/forking/fork.ts";
import { poll, POLLIN } from "../../../ffi/poll.ts";
import { getpid, kill } from "../../../ffi/process.ts";
import { readText } from "../../../ffi/proc.ts";
import { SIG_DFL, signal } from "../../../ffi/signal.ts";
import {
  SIGCHLD,
  SIGHUP,
  SIGINT,
  SIGKILL,
  signalName,
  SIGQUIT,
  SIGTERM,
  SIGTTIN,
  SIGTTOU,
  SIGUSR1,
  SIGUSR2,
} from "../../../ffi/signals.ts";
import { SOCK_SEQPACKET, type Socket, socketpair } from "../../../ffi/socket.ts";
import { dropConnectionRequests } from "../../../ffi/tcp.ts";
import { waitpid, type WaitStatus, WNOHANG } from "../../../ffi/wait.ts";
import { formatStatus, type Log } from "../../log.ts";
import { removeIfThere } from "../../remove_file.ts";
import type { Notify } from "../host/notify.ts";
import type { Config } from "../options.ts";
import { hear, tell } from "../orders.ts";
import { executeAnew, type Inheritance, LOADED, startCanary } from "./restart.ts";
import { ADMIN, type Slot } from "../scoreboard.ts";
import { HANDLED_SIGNALS } from "../signals.ts";

/** What a master begins with. */
export interface Reign extends Inheritance {
  readonly config: Config;
  /** Whether there is an app to fork with: not when new code failed to load after a restart. */
  readonly hasApp: boolean;
  readonly log: Log;
  /** Called when the logs have been moved. */
  reopenLogs(): void;
  /** Tells who started it what it does now. */
  notify: Notify;
}

/** A worker that was handed on. */
export interface Elder extends Newborn {
  readonly pid: number;
  readonly ready: boolean;
  /** Whether it was told to stop. */
  readonly dismissed: boolean;
  /** In how many milliseconds it is killed; `null` for never. */
  readonly timeLeft: number | null;
}

/** What the loop ends with in a child: who it is. */
export interface Newborn {
  /** Its number; 0 for the admin process. */
  readonly number: number;
  readonly slot: Slot;
  readonly channel: Socket;
}

/** A worker, as the master knows it. */
interface Worker extends Newborn {
  readonly pid: number;
  /** When it was forked; like all times here in milliseconds of `performance.now()`. */
  readonly born: number;
  ready: boolean;
  /** Why it is to go, once there is another in its place. */
  retiring?: string;
  /** Whether it was told to stop. */
  dismissed: boolean;
  /** When it is killed: it was told to stop, or does not get ready. */
  killAt: number;
  /** Why the master killed it. */
  killedFor?: string;
  /** What it said before it failed. */
  failure?: string;
  heartbeat: number;
  heardAt: number;
}

/** How often the master looks at the clock at least. */
const TICK = 1000;
/** A worker that serves nobody and lives less long is replaced after a short delay. */
const QUICK = 1000;
/** After so many workers in a row that never got ready, with none left, the server gives up. */
const MAX_FAILURES = 5;
/** The delay after the first of them; each further one doubles it, up to the longest. */
const FIRST_DELAY = 100;
const LONGEST_DELAY = 30_000;

/**
 * Keeps the workers running until a signal ends the server.
 *
 * @returns In the master the exit code; in each child, who it is.
 */
export function supervise(reign: Reign): Newborn | number {
  const { config, scoreboard, log } = reign;
  const queue: number[] = [];
  const workers = new Map<number, Worker>();
  /** What the last worker of each number ended of. */
  const lastEnd = new Map<number, string>();
  let wanted = config.workers;
  let stopping = false;
  let exitCode = 0;
  let announced = false;
  let failures = 0;
  let bootAt = 0;
  let rolling: Worker[] = [];
  let canary: { pid: number; killAt: number } | undefined;
  const tick = config.timeout > 0 ? Math.min(TICK, config.timeout * 250) : TICK;
  let watched = 0;
  let looked = 0;

  for (const signum of HANDLED_SIGNALS) {
    signal(signum, signum === SIGCHLD ? () => {} : () => queue.push(signum));
  }
  for (const elder of reign.elders) adopt(elder);
  scoreboard.workers = wanted;

  for (;;) {
    reap();
    for (let signum; (signum = queue.shift()) !== undefined;) follow(signum);
    listen();
    watch();
    if (stopping && workers.size === 0) return leave();
    const number = missing();
    if (number !== undefined) {
      const newborn = boot(number);
      if (newborn !== undefined) return newborn;
    } else if (queue.length === 0) {
      sleep();
    }
  }

  /** The signals, and what each does. */
  function follow(signum: number): void {
    switch (signum) {
      case SIGTERM:
      case SIGINT: // gracefully; the second time at once
        return stop(stopping ? 0 : config.grace, signalName(signum));
      case SIGQUIT: // at once
        return stop(0, signalName(signum));
      case SIGHUP: // new code, no connection dropped
        return tryNewCode();
      case SIGUSR2: // new workers, one after the other
        return replaceAll();
      case SIGUSR1: // the logs have been moved
        return reopenLogs();
      case SIGTTIN: // one worker more
        return resize(wanted + 1);
      case SIGTTOU: // one worker less
        return resize(wanted - 1);
    }
  }

  function stop(grace: number, why: string): void {
    if (!stopping) reign.notify("stopping");
    log(
      `${why}: stopping ${count()} workers${grace > 0 ? `, within ${grace} s` : " at once"}`,
    );
    stopping = true;
    for (const socket of reign.listeners) {
      if (grace > 0) refuseNew(socket);
      socket.close();
    }
    reign.admin?.close();
    if (canary !== undefined) kill(canary.pid, SIGKILL);
    for (const worker of workers.values()) {
      dismiss(worker, grace, "stop");
      if (grace > 0 && worker.ready) continue;
      kill(worker.pid, SIGKILL); // a booting worker hears nothing
      worker.killAt = Infinity;
    }
  }

  /** What the workers have not accepted would be reset: so nothing more comes to that. */
  function refuseNew(socket: Socket): void {
    // The service manager's socket lives on; what waits there waits for the next server.
    if (reign.isActivated || socket.fileno() === -1) return;
    try {
      if (socket.family === AF_UNIX) removeIfThere(String(socket.getsockname()));
      else dropConnectionRequests(socket.fileno());
    } catch {
      // Not everybody may; then who comes in the last milliseconds is reset.
    }
  }

  function tryNewCode(): void {
    if (stopping || canary !== undefined) return;
    log("SIGHUP: trying the new code");
    reign.notify("reloading");
    try {
      canary = { pid: startCanary(), killAt: performance.now() + config.bootTimeout * 1000 };
    } catch (error) {
      log(`Cannot try the new code, the old one serves on: ${error}`);
      reign.notify("ready");
    }
  }

  /** The canary has ended: the new code can be loaded, or it cannot. */
  function judge(status: WaitStatus): void {
    canary = undefined;
    if (stopping) return;
    if (status.kind === "exited" && status.code === LOADED) {
      log("The new code can be loaded: executing anew");
      const now = performance.now();
      const elders = [...workers.values()].map((worker) => ({
        ...worker,
        timeLeft: worker.killAt === Infinity ? null : worker.killAt - now,
      }));
      const error = executeAnew(reign, elders);
      log(`Cannot execute anew, the old code serves on: ${error.message}`);
    } else {
      log(`The new code cannot be loaded (${formatStatus(status)}), the old one serves on`);
    }
    reign.notify("ready");
  }

  function replaceAll(): void {
    log("SIGUSR2: replacing all workers, one after the other");
    rolling = [...workers.values()].filter((worker) => worker.number !== ADMIN && stays(worker));
  }

  function reopenLogs(): void {
    reign.reopenLogs();
    log("SIGUSR1: logs reopened");
    for (const { channel } of workers.values()) tell(channel, "reopen");
  }

  function resize(count: number): void {
    wanted = Math.min(Math.max(count, 1), scoreboard.slots.length / 2);
    scoreboard.workers = wanted;
    log(`${wanted} workers from now on`);
    const surplus = [...workers.values()].filter((worker) => worker.number > wanted);
    for (const worker of surplus) dismiss(worker, config.grace, "leave");
  }

  function count(): number {
    return [...workers.values()].filter(({ number }) => number !== ADMIN).length;
  }

  /** Collects every child that has ended. */
  function reap(): void {
    for (;;) {
      try {
        const { pid, status } = waitpid(-1, WNOHANG);
        if (status === undefined) return;
        if (pid === canary?.pid) judge(status);
        const worker = workers.get(pid);
        if (worker !== undefined) bury(worker, status);
      } catch (error) {
        if (isSyscallError(error, "ECHILD")) return;
        throw error;
      }
    }
  }

  function bury(worker: Worker, status: WaitStatus): void {
    listenTo(worker); // its last words
    const { pid, slot, ready, born, dismissed } = worker;
    const served = slot.requests > 0;
    workers.delete(pid);
    worker.channel.close();
    if (worker.number !== ADMIN) {
      scoreboard.pastRequests += slot.requests;
      scoreboard.pastErrors += slot.errors;
    }
    const end = worker.killedFor ?? formatStatus(status);
    if (!dismissed || worker.killedFor !== undefined) {
      scoreboard.crashes++;
      const during = slot.inFlight > 0 ? `, ${slot.inFlight} in flight, last ${slot.request}` : "";
      const failure = worker.failure === undefined ? "" : `: ${worker.failure}`;
      log(`${nameOf(worker)} ${ready ? "ended" : "failed to start"}: ${end}${failure}${during}`);
    }
    slot.clear();
    lastEnd.set(worker.number, worker.retiring ?? end);
    if (stopping || dismissed) return;
    if (ready) {
      failures = 0;
      // The app can be loaded; but should each worker end at once, forking must not be all there is.
      if (!served && performance.now() - born < QUICK) bootAt = performance.now() + FIRST_DELAY;
      return;
    }
    failures++;
    bootAt = performance.now() + Math.min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY);
    if (failures >= MAX_FAILURES && ![...workers.values()].some((other) => other.ready)) {
      log(`${failures} workers in a row have failed, the last one: ${worker.failure ?? end}`);
      exitCode = 1;
      stop(0, "Giving up");
    }
  }

  /** Hears what the workers have said. */
  function listen(): void {
    for (const worker of workers.values()) listenTo(worker);
  }

  function listenTo(worker: Worker): void {
    for (let said; (said = hear(worker.channel)) !== undefined;) {
      switch (said.word) {
        case "ready":
          worker.ready = true;
          if (!worker.dismissed) worker.killAt = Infinity;
          worker.heardAt = performance.now();
          if (worker.number !== ADMIN) welcome();
          break;
        case "failed":
          worker.failure = said.reason;
          break;
        case "retire":
          worker.retiring ??= said.reason;
          break;
        case "look":
          wakeAll();
          break;
      }
    }
  }

  /** A worker has become ready: others may go now. */
  function welcome(): void {
    const ready = [...workers.values()].filter((worker) =>
      worker.number !== ADMIN && worker.ready && stays(worker)
    );
    if (ready.length < wanted) {
      if (!announced) log(`${ready.length} of ${wanted} workers ready`);
      return;
    }
    if (!announced) {
      log(`Serving ${scoreboard.url} with ${wanted} workers`);
      reign.notify("ready");
      // Deno loads timers where they are first named: now, for all workers that come later.
      void setTimeout;
    }
    announced = true;
    for (const worker of workers.values()) {
      if (worker.retiring !== undefined && !worker.dismissed) {
        dismiss(worker, config.grace, "leave");
      }
    }
  }

  /** Looks at the clock. */
  function watch(): void {
    const now = performance.now();
    // Had this process not run either (a container that was paused), all would seem to stand still.
    const paused = now - watched > 2 * tick;
    watched = now;
    for (const worker of workers.values()) {
      const { slot } = worker;
      if (paused) worker.heardAt = now;
      if (slot.heartbeat !== worker.heartbeat) {
        worker.heartbeat = slot.heartbeat;
        worker.heardAt = now;
      }
      if (worker.killedFor !== undefined) continue;
      if (now >= worker.killAt) {
        slay(
          worker,
          worker.dismissed
            ? `it did not stop within ${config.grace} s`
            : `it did not get ready within ${config.bootTimeout} s`,
        );
      } else if (
        worker.ready && config.timeout > 0 && now - worker.heardAt > config.timeout * 1000
      ) {
        slay(worker, `its event loop stood still for ${config.timeout} s`);
      }
    }
    if (canary !== undefined && now >= canary.killAt) kill(canary.pid, SIGKILL);
    roll();
    if (now - looked >= TICK) {
      looked = now;
      wakeForgotten();
      weigh();
      reign.notify("tick");
    }
  }

  function roll(): void {
    const leaving = [...workers.values()].some((one) =>
      one.retiring !== undefined && !one.dismissed
    );
    if (rolling.length === 0 || leaving) return;
    const next = rolling.shift()!;
    if (workers.has(next.pid) && stays(next)) next.retiring = "SIGUSR2";
  }

  /**
   * A connection wakes one worker. Should that one end, or stop accepting, before it
   * has accepted, no other would know: so the master looks whether any waits.
   */
  function wakeForgotten(): void {
    if (stopping) return;
    const fds = reign.listeners.map((socket) => ({ fd: socket.fileno(), events: POLLIN }));
    if (isAnyReady(fds)) wakeAll();
  }

  function wakeAll(): void {
    for (const worker of workers.values()) if (worker.ready) tell(worker.channel, "look");
  }

  function weigh(): void {
    if (config.maxWorkerMemory === Infinity) return;
    for (const worker of workers.values()) {
      if (!worker.ready || worker.number === ADMIN || !stays(worker)) continue;
      const bytes = privateMemory(worker.pid);
      if (bytes > config.maxWorkerMemory) {
        worker.retiring = `${Math.round(bytes / 1e6)} MB of memory`;
        log(`${nameOf(worker)} is to be replaced: ${worker.retiring} of its own`);
      }
    }
  }

  /** The number of a worker that is to be forked now. */
  function missing(): number | undefined {
    if (stopping || !reign.hasApp || performance.now() < bootAt) return undefined;
    const present = new Set(
      [...workers.values()].filter(stays).map(({ number }) => number),
    );
    for (let number = 1; number <= wanted; number++) if (!present.has(number)) return number;
    return reign.admin !== undefined && !present.has(ADMIN) ? ADMIN : undefined;
  }

  function boot(number: number): Newborn | undefined {
    const slot = scoreboard.slots.find((one) => one.pid === 0);
    if (slot === undefined) return later("no place is left on the scoreboard");
    let channel: Socket;
    let theirs: Socket;
    try {
      [channel, theirs] = socketpair(SOCK_SEQPACKET);
    } catch (error) {
      return later(error);
    }
    slot.state = "booting";
    slot.number = number;
    slot.generation = scoreboard.generation;
    slot.started = Date.now();
    slot.reason = reasonFor(number);
    let pid: number;
    try {
      pid = fork({ runtime: true });
    } catch (error) {
      slot.clear();
      channel.close();
      theirs.close();
      return later(error);
    }
    if (pid === 0) { // child
      slot.pid = getpid();
      channel.close();
      for (const worker of workers.values()) worker.channel.close();
      return { number, slot, channel: theirs };
    }
    theirs.close(); // parent
    slot.pid = pid;
    const now = performance.now();
    workers.set(pid, {
      pid,
      number,
      slot,
      channel,
      born: now,
      ready: false,
      dismissed: false,
      killAt: now + config.bootTimeout * 1000,
      heartbeat: 0,
      heardAt: now,
    });
    return undefined;
  }

  /** What the worker replaces goes, or ended, of. */
  function reasonFor(number: number): string {
    const elder = [...workers.values()].find((one) => one.number === number && one.retiring);
    return elder?.retiring ?? lastEnd.get(number) ?? "start";
  }

  /** There is nothing to fork with just now. */
  function later(error: unknown): undefined {
    log(
      `Cannot start a worker, trying again in a second: ${
        error instanceof Error ? error.message : error
      }`,
    );
    bootAt = performance.now() + 1000;
  }

  function adopt({ pid, number, slot, channel, ready, dismissed, timeLeft }: Elder): void {
    workers.set(pid, {
      pid,
      number,
      slot,
      channel,
      born: -Infinity,
      ready,
      dismissed,
      ...reign.hasApp || dismissed ? { retiring: "SIGHUP" } : {},
      killAt: performance.now() + (timeLeft ?? Infinity),
      heartbeat: slot.heartbeat,
      heardAt: performance.now(),
    });
  }

  function dismiss(worker: Worker, grace: number, word: "stop" | "leave"): void {
    worker.retiring ??= word;
    worker.dismissed = true;
    tell(worker.channel, word);
    worker.killAt = Math.min(worker.killAt, performance.now() + grace * 1000);
  }

  function slay(worker: Worker, why: string): void {
    worker.killedFor = `killed, for ${why}`;
    kill(worker.pid, SIGKILL);
  }

  function leave(): number {
    for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
    log("Stopped");
    return exitCode;
  }

  function sleep(): void {
    const now = performance.now();
    const channels = [...workers.values()].map(({ channel }) => channel.fileno());
    const requests = channels.map((fd) => ({ fd, events: POLLIN }));
    const soon = Math.max(bootAt - now, 0);
    const next = Math.min(tick, ...soon > 0 ? [soon] : []);
    try {
      poll(requests, next);
    } catch (error) {
      if (!isSyscallError(error, "EINTR")) throw error;
    }
  }
}

/** Whether a worker is there to stay. */
function stays(worker: Worker): boolean {
  return worker.retiring === undefined && worker.killedFor === undefined;
}

function nameOf({ number, pid }: Worker): string {
  return number === ADMIN ? `The admin process (pid ${pid})` : `Worker ${number} (pid ${pid})`;
}

function isAnyReady(requests: { fd: number; events: number }[]): boolean {
  try {
    return poll(requests, 0).length > 0;
  } catch (error) {
    if (isSyscallError(error, "EINTR")) return false;
    throw error;
  }
}

/** The memory that a process shares with no other, in bytes. */
function privateMemory(pid: number): number {
  try {
    const text = readText(`/proc/${pid}/smaps_rollup`);
    const kilobytes = [...text.matchAll(/^Private_\w+:\s+(\d+) kB$/gm)];
    return kilobytes.reduce((sum, [, count]) => sum + Number(count) * 1024, 0);
  } catch (error) {
    if (isSyscallError(error)) return 0; // it has just ended
    throw error;
  }
}
