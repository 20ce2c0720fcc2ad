/**
 * The master: it forks workers, watches them, replaces those that end, and never
 * serves a request itself. One loop does it all, in this order: reap what has
 * ended, act on the signals, hear the workers, check their health, spawn what is
 * missing, sleep. Signal handlers only queue; the `switch` in `act()` is the manual.
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
import { HANDLED_SIGNALS } from "../signals.ts";
import type { ChildContext, Context } from "./context.ts";
import { Health } from "./health.ts";
import { stopListening } from "./listeners.ts";
import { Restart } from "./restart.ts";
import { Workers } from "./workers.ts";

/** How long the loop rests after an error in it, in milliseconds. */
const PAUSE_AFTER_ERROR = 1000;
/** Signals to stop within so many milliseconds are one: `deno task` passes on a terminal's SIGINT. */
const ONE_REQUEST = 500;

/**
 * Keeps the workers running until a signal ends the server.
 *
 * @param context What the master works with.
 * @returns In the master the exit code; in each child, who it is.
 */
export function supervise(context: Context): ChildContext | number {
  const { config, log, notify } = context;
  const signals: number[] = [];
  const workers = new Workers(context);
  const health = new Health(context, workers);
  const restart = new Restart(context, workers);
  let failed = false;
  let toldToStopAt = -Infinity;

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
      health.check();
      if (signals.length === 0) restart.proceed();
      if (workers.haveFailed && !workers.stopping) stop(0, "Giving up");
      if (workers.stopping && workers.size === 0) return end();
      const number = workers.missing();
      if (number !== undefined) {
        const child = workers.spawn(number);
        if (child !== undefined) return child;
      } else if (signals.length === 0) {
        sleep();
      }
    } catch (error) {
      // A child never gets here: spawn() lets no error out of it. The workers need their master.
      failed = true;
      log(`Error in the master's loop, which goes on: ${(error as Error).stack ?? error}`);
    }
  }

  /** The signals, and what each does. */
  function act(signum: number): void {
    switch (signum) {
      case SIGTERM:
      case SIGINT: // gracefully; the second time at once
        return stopGracefully(signum);
      case SIGQUIT: // at once
        return stop(0, signalName(signum));
      case SIGHUP: // new code, no connection dropped
        return restart.request();
      case SIGUSR2: // new workers, one after the other
        return workers.replaceAll();
      case SIGUSR1: // the logs have been moved
        return reopenLogs();
      case SIGTTIN: // one worker more
        return workers.resize(workers.wanted + 1);
      case SIGTTOU: // one worker less
        return workers.resize(workers.wanted - 1);
    }
  }

  function stopGracefully(signum: number): void {
    const now = performance.now();
    if (now - toldToStopAt < ONE_REQUEST) return;
    toldToStopAt = now;
    stop(workers.stopping ? 0 : config.grace, signalName(signum));
  }

  function stop(grace: number, why: string): void {
    if (!workers.stopping) notify("stopping");
    const limit = grace === 0 ? " at once" : grace === Infinity ? "" : `, within ${grace} s`;
    log(`${why}: stopping ${workers.count()} workers${limit}`);
    stopListening(context, grace > 0);
    restart.abort();
    workers.stop(grace);
  }

  function reopenLogs(): void {
    context.reopenLogs();
    log("SIGUSR1: logs reopened");
    workers.tellAll("reopen");
  }

  /** Collects every child that has ended. */
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

  /** Until a signal comes, a worker says something, or it is time for the next check. */
  function sleep(): void {
    const requests = workers.channels().map((fd) => ({ fd, events: POLLIN }));
    sleepInterruptibly(Math.min(health.interval, workers.untilSpawn()), requests);
  }

  function end(): number {
    for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
    log("Stopped");
    return workers.haveFailed ? 1 : 0;
  }
}
