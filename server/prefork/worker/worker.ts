/**
 * A worker: a forked child with an event loop of its own. It runs Deno's HTTP
 * server on the listening sockets that all workers share, and does what the master
 * says, until that is gone.
 */
import { isSyscallError } from "../../../ffi/errno.ts";
import { after, every } from "../../../ffi/runtime/timers.ts";
import {
  _exit,
  getpid,
  PR_SET_PDEATHSIG,
  prctl,
  SCHED_BATCH,
  sched_setscheduler,
  setpgid,
} from "../../../ffi/process.ts";
import { readAsync } from "../../../ffi/runtime/read_async.ts";
import { releaseSignals } from "../../../ffi/signal_mask.ts";
import { SIG_DFL, signal } from "../../../ffi/signal.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import type { Socket } from "../../../ffi/socket.ts";
import {
  clock_gettime,
  CLOCK_PROCESS_CPUTIME_ID,
  ITIMER_PROF,
  setitimer,
} from "../../../ffi/time.ts";
import { type App, AppError, loadApp, type WorkerInfo } from "../../app/load_app.ts";
import { addrOf } from "../../app/request_host.ts";
import type { Log } from "../../log.ts";
import { LONGEST_TIMER } from "../../options.ts";
import { keepConsoleQuiet, reopenStderr, stderrLog } from "../logs/error_log.ts";
import type { Config } from "../options.ts";
import { type Order, tell } from "../orders.ts";
import { ADMIN, type Scoreboard, type Slot } from "../scoreboard.ts";
import { openService, type Service } from "./service.ts";
import { HANDLED_SIGNALS } from "../signals.ts";

/** What a worker starts with. */
export interface WorkerContext {
  readonly config: Config;
  /** The app where it was loaded before the fork, or where it can be loaded from. */
  readonly app: App | string;
  readonly listeners: readonly Socket[];
  /** Its end of the talk with the master. */
  readonly channel: Socket;
  readonly slot: Slot;
  readonly scoreboard: Scoreboard;
  readonly number: number;
}

/**
 * How long open connections may stay silent before a worker that stops, or that
 * leaves its place to another, closes them, in milliseconds: a request may be on its way.
 */
const LINGER = { stop: 1000, leave: 5000, orphaned: 1000 } as const;
type Ending = keyof typeof LINGER;

/**
 * Serves until the master says stop, or is gone.
 *
 * @returns Never: the process ends.
 */
export async function runWorker(context: WorkerContext): Promise<never> {
  const { config, channel, slot, number, listeners, scoreboard } = context;
  const log = stderrLog(number === ADMIN ? "admin" : `worker ${number}`);
  keepConsoleQuiet();
  // As long as nothing here could notice that the master is gone.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // What a terminal sends to all that run in it is the master's to hear. Neither ignoring it
  // nor blocking it would do, for the app's own subprocesses would inherit that.
  setpgid(0, 0);
  letOthersFinish();
  for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
  releaseSignals(HANDLED_SIGNALS);
  try {
    const info: WorkerInfo = { pid: getpid(), number };
    const app = typeof context.app === "string" ? await loadApp(context.app) : context.app;
    const stopHeartbeat = startHeartbeat(slot, config.timeout);
    await app.onWorkerStart?.(info);
    const address = addrOf(listeners[0]!.getsockname());
    const onMaxRequests = () => tell(channel, "retire", `${config.maxRequests} requests`);
    const service = openService(app, { config, listeners, slot, scoreboard, log, onMaxRequests });
    app.onListen?.(address);
    slot.state = "ready";
    tell(channel, "ready");
    // From here on it hears when the master is gone; with a timeout, the watchdog ends it
    // should it hang.
    prctl(PR_SET_PDEATHSIG, 0);
    const next = () => followOrders(channel, service, () => reopenLogs(config, service, log));
    let end = 0;
    const beginEnd = (order: Ending) => {
      end = Math.min(end || Infinity, performance.now() + LINGER[order]);
      if (order === "orphaned") endWithin(config.grace);
    };
    const order = await next();
    beginEnd(order);
    slot.state = "stopping";
    // While it leaves, the server may stop, or the master be gone.
    next().then(beginEnd);
    if (order !== "leave") await service.acceptRest();
    await service.drain(() => end);
    await app.onWorkerStop?.(info);
    stopHeartbeat();
    _exit(0);
  } catch (error) {
    tell(channel, "failed", error instanceof Error ? error.message : String(error));
    log(error instanceof Error && !(error instanceof AppError) ? error.stack! : `${error}`);
    _exit(1);
  }
}

/**
 * On a busy machine a worker that is woken interrupts nobody: so more requests wait for it when
 * it gets to run, and it answers all of them in one go.
 */
function letOthersFinish(): void {
  try {
    sched_setscheduler(0, SCHED_BATCH);
  } catch (error) {
    // A sandbox may forbid it, and all works without.
    if (!isSyscallError(error)) throw error;
  }
}

/** Nobody else sees to it. */
function endWithin(seconds: number): void {
  after(Math.min(seconds * 1000, LONGEST_TIMER), () => _exit(1));
}

function reopenLogs(config: Config, service: Service, log: Log): void {
  service.reopenLog();
  if (config.errorLog !== undefined) reopenStderr(config.errorLog, log);
}

/** Shows the master that the event loop turns. Its own watchdog ends it where there is no master. */
function startHeartbeat(slot: Slot, timeout: number): () => void {
  const interval = timeout === 0 ? 1 : Math.min(1, timeout / 4);
  const cpuTime = () => clock_gettime(CLOCK_PROCESS_CPUTIME_ID);
  let cpu = cpuTime();
  let at = performance.now();
  const watchdog = () => timeout > 0 && setitimer(ITIMER_PROF, 2 * timeout + 1);
  watchdog();
  const timer = every(interval * 1000, () => {
    slot.heartbeat++;
    watchdog();
    const [cpuNow, now] = [cpuTime(), performance.now()];
    // A moving average over some seconds.
    slot.busy += ((cpuNow - cpu) / ((now - at) / 1000) - slot.busy) * 0.5;
    [cpu, at] = [cpuNow, now];
  });
  return () => timer.cancel();
}

/** Does what the master says, until it says how this is to end. */
async function followOrders(
  channel: Socket,
  service: Service,
  reopenLogs: () => void,
): Promise<Ending> {
  for (;;) {
    const message = await readAsync(channel.fileno(), 64);
    const order = new TextDecoder().decode(message) as Order | "";
    if (order === "stop" || order === "leave") return order;
    if (order === "") return "orphaned"; // no master is left that would kill it
    if (order === "look") service.lookAgain();
    if (order === "reopen") reopenLogs();
  }
}
