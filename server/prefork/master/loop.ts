/**
 * The master forks workers, watches them, and replaces those that end. It never serves a request
 * itself. One loop does all of its work, in this order: reap ended children, act on signals, read
 * the workers' messages, check their health, spawn a missing worker, sleep. Signal handlers only
 * queue; the `switch` in `act()` documents the signals.
 */
import { isSyscallError } from "../../../ffi/errno.ts";
import { POLLIN } from "../../../ffi/poll.ts";
import { SIG_DFL, signal } from "../../../ffi/signal.ts";
import {
  SIGCHLD,
  SIGHUP,
  SIGINT,
  signalName,
  SIGQUIT,
  SIGTERM,
  SIGTTIN,
  SIGTTOU,
  SIGUSR1,
  SIGUSR2,
} from "../../../ffi/signals.ts";
import { waitpid, WNOHANG } from "../../../ffi/wait.ts";
import { sleepInterruptibly } from "../../sleep_interruptibly.ts";
import { StopRequests } from "../../stop_requests.ts";
import { HANDLED_SIGNALS } from "../signals.ts";
import type { ChildContext, Context } from "./context.ts";
import { Health } from "./health.ts";
import { stopListening } from "./listeners.ts";
import { Restart } from "./restart.ts";
import { Workers } from "./workers.ts";

/** The signals that do the same as the commands of the admin socket. */
const SIGNALS = new Map([
  ["reload", SIGHUP],
  ["stop", SIGTERM],
  ["stop now", SIGQUIT],
  ["reopen logs", SIGUSR1],
]);

/** How long the loop pauses after an error, in milliseconds. */
const PAUSE_AFTER_ERROR = 1000;

/**
 * Keeps the workers running until a signal ends the server.
 *
 * @param context The master's context.
 * @returns In the master, the exit code; in each child, its context.
 */
export function supervise(context: Context): ChildContext | number {
  const { config, log, notify, scoreboard } = context;
  const signals: number[] = [];
  const workers = new Workers(context);
  const health = new Health(context, workers);
  const restart = new Restart(context, workers);
  let failed = false;
  /** When to stop, once the server drains. */
  let stopAt = Infinity;
  const stops = new StopRequests();

  for (const signum of HANDLED_SIGNALS) {
    signal(signum, signum === SIGCHLD ? () => {} : () => signals.push(signum));
  }

  for (;;) {
    try {
      if (failed) sleepInterruptibly(PAUSE_AFTER_ERROR);
      failed = false;
      reap();
      for (let signum; (signum = signals.shift()) !== undefined;) act(signum);
      workers.hear();
      for (let command; (command = workers.commands.shift()) !== undefined;) obey(command);
      health.check();
      if (signals.length === 0) restart.proceed();
      if (workers.haveFailed && !workers.stopping) stop(0, "Giving up");
      if (!workers.stopping && performance.now() >= stopAt) {
        stop(config.grace, "The drain delay is over");
      }
      if (workers.stopping && workers.size === 0) return end();
      if (workers.stopping && workers.count() === 0) workers.stopAdmin();
      const number = workers.missing();
      if (number !== undefined) {
        const child = workers.spawn(number);
        if (child !== undefined) return child;
      } else if (signals.length === 0) {
        sleep();
      }
    } catch (error) {
      // A child never gets here: spawn() does not throw in it. The workers need their master.
      failed = true;
      log(`Error in the master's loop, which continues: ${(error as Error).stack ?? error}`);
    }
  }

  /** Acts on a signal. */
  function act(signum: number): void {
    switch (signum) {
      case SIGTERM:
      case SIGINT: // gracefully, after the delay for load balancers; immediately the second time
        return stopGracefully(signum);
      case SIGQUIT: // immediately
        return stop(0, signalName(signum));
      case SIGHUP: // new code, no connection dropped
        return restart.request();
      case SIGUSR2: // new workers with new certificates, one after the other
        context.renewCertificates();
        return workers.replaceAll();
      case SIGUSR1: // the logs have been moved
        return reopenLogs();
      case SIGTTIN: // one worker more
        return workers.resize(workers.wanted + 1);
      case SIGTTOU: // one worker less
        return workers.resize(workers.wanted - 1);
    }
  }

  /** Acts on a command that has come through the admin socket: as a signal would. */
  function obey(command: string): void {
    log(`The admin socket was asked: ${command}`);
    const [word, workersWanted] = command.split(" ");
    if (word === "scale") return workers.resize(Number(workersWanted));
    const signum = SIGNALS.get(command);
    if (signum !== undefined) act(signum);
  }

  function stopGracefully(signum: number): void {
    if (!stops.add()) return;
    const { drainDelay, grace } = config;
    if (scoreboard.draining) stop(0, signalName(signum));
    else if (drainDelay > 0 && workers.isAnyReady()) drain(drainDelay, signalName(signum));
    else stop(grace, signalName(signum));
  }

  /** Lets load balancers notice that the server is about to stop, before it does. */
  function drain(seconds: number, why: string): void {
    announceEnd();
    stopAt = performance.now() + seconds * 1000;
    log(`${why}: draining for ${seconds} s, then stopping ${workers.count()} workers`);
    restart.abort();
  }

  /** Tells everyone who asks that the server is about to stop. */
  function announceEnd(): void {
    if (!scoreboard.draining) notify("stopping");
    scoreboard.draining = true;
  }

  function stop(grace: number, why: string): void {
    announceEnd();
    const limit = grace === 0 ? " immediately" : grace === Infinity ? "" : `, within ${grace} s`;
    log(`${why}: stopping ${workers.count()} workers${limit}`);
    stopListening(context, grace > 0);
    restart.abort();
    workers.stop(grace);
  }

  function reopenLogs(): void {
    const count = ++scoreboard.reopenings;
    scoreboard.reopened = context.reopenLogs() ? count : -count;
    log("SIGUSR1: logs reopened");
    workers.tellAll("reopen");
  }

  /** Reaps every child that has ended. */
  function reap(): void {
    try {
      for (;;) {
        const { pid, status } = waitpid(-1, WNOHANG);
        if (status === undefined) return;
        if (!restart.reaped(pid, status)) workers.reaped(pid, status);
      }
    } catch (error) {
      if (!isSyscallError(error, "ECHILD")) throw error;
    }
  }

  /** Sleeps until a signal arrives, a worker sends a message, or the next check is due. */
  function sleep(): void {
    const requests = workers.channels().map((fd) => ({ fd, events: POLLIN }));
    const untilStop = workers.stopping ? Infinity : Math.max(0, stopAt - performance.now());
    sleepInterruptibly(Math.min(health.interval, workers.untilSpawn(), untilStop), requests);
  }

  function end(): number {
    for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
    log("Stopped");
    return workers.haveFailed ? 1 : 0;
  }
}
