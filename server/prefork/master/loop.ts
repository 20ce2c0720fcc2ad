/**
 * The master forks workers, watches them, and replaces those that end. One loop does all of its
 * work, in this order: reap ended children, act on signals, read the workers' messages, check their
 * health, end the old code's subprocesses, spawn a missing worker, sleep. Signal handlers only
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
import { HANDLED_SIGNALS } from "../signals.ts";
import type { ChildContext, Context } from "./context.ts";
import { End } from "./end.ts";
import { Health } from "./health.ts";
import { Restart } from "./restart.ts";
import { Subprocesses } from "./subprocesses.ts";
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
  const { log, scoreboard } = context;
  const signals: number[] = [];
  const workers = new Workers(context);
  const health = new Health(context, workers);
  const subprocesses = new Subprocesses(context);
  const restart = new Restart(context, workers, subprocesses);
  const end = new End(context, workers, restart);
  let failed = false;
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
      if (workers.areAllNew) subprocesses.endOld();
      if (signals.length === 0) restart.proceed();
      if (workers.haveFailed && !workers.stopping) end.stop(0, "Giving up");
      end.proceed();
      if (workers.stopping && workers.size === 0) return finish();
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
        return end.request(signum);
      case SIGQUIT: // immediately
        return end.stop(0, signalName(signum));
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
        subprocesses.reaped(pid);
        if (!restart.reaped(pid, status)) workers.reaped(pid, status);
      }
    } catch (error) {
      if (!isSyscallError(error, "ECHILD")) throw error;
    }
  }

  /** Sleeps until a signal arrives, a worker sends a message, or the next check is due. */
  function sleep(): void {
    const requests = workers.channels().map((fd) => ({ fd, events: POLLIN }));
    sleepInterruptibly(Math.min(health.interval, workers.untilSpawn(), end.delayLeft), requests);
  }

  function finish(): number {
    for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
    log("Stopped");
    return workers.haveFailed ? 1 : 0;
  }
}
