/**
 * A worker is a forked child with an event loop of its own, or a fresh Deno. It runs Deno's HTTP
 * server on the listening sockets that all workers share, and follows the master's orders for as
 * long as the master exists.
 */
import { setenv } from "../../../ffi/environment.ts";
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
import { catchServers, type ListenRequest } from "../../app/caught_servers.ts";
import { AppError, type WorkerInfo } from "../../app/load_app.ts";
import { isProgram, loadProgram, type Program, watchExit } from "../../app/load_program.ts";
import type { MainModule } from "../../app/main_module.ts";
import { addrOf } from "../../app/request_host.ts";
import { hasCertificate } from "../../listen.ts";
import type { Log } from "../../log.ts";
import { LONGEST_TIMER } from "../../options.ts";
import { keepConsoleQuiet, reopenStderr, stderrLog } from "../logs/error_log.ts";
import { checkServers } from "../check_servers.ts";
import { askForApp, askToListen, LENT, listenOf } from "../listen_request.ts";
import type { Config } from "../options.ts";
import { type Order, tell } from "../orders.ts";
import { ADMIN, type Scoreboard, type Slot } from "../scoreboard.ts";
import type { OptionalModules } from "./optional_modules.ts";
import { type Listener, openService, type Service } from "./service.ts";
import { HANDLED_SIGNALS } from "../signals.ts";
import { restoreTelemetry } from "../telemetry.ts";

/** What a worker needs to start. */
export interface WorkerContext {
  readonly config: Config;
  /** The modules that it needs, if they were loaded before the fork. */
  readonly modules?: OptionalModules;
  /** The program if it was loaded before the fork; otherwise what it is loaded from. */
  readonly program: Program | MainModule | string;
  readonly listeners: readonly Socket[];
  /** What each of them was requested as. */
  readonly requested: readonly string[];
  /** The worker's end of the socket pair shared with the master. */
  readonly channel: Socket;
  readonly slot: Slot;
  readonly scoreboard: Scoreboard;
  readonly number: number;
  /** Ends the process. */
  readonly exit: (code: number) => never;
}

/** The environment variable in which a program finds the worker's number. */
const NUMBER = "TINE_WORKER";

/**
 * How long open connections may stay silent before a worker closes them, in milliseconds, by
 * whether the worker stops or is replaced. A request may be on its way.
 */
const LINGER = { stop: 1000, leave: 5000, orphaned: 1000 } as const;
type Ending = keyof typeof LINGER;

/**
 * Runs a worker in a forked child, whose signals are still the master's.
 *
 * @returns Never; the process exits.
 */
export function runForkedWorker(context: Omit<WorkerContext, "exit">): Promise<never> {
  for (const signum of HANDLED_SIGNALS) signal(signum, SIG_DFL);
  releaseSignals(HANDLED_SIGNALS);
  restoreTelemetry(); // for programs that the app executes
  return runWorker({ ...context, exit: _exit });
}

/**
 * Serves until the master orders the worker to stop, or the master ends.
 *
 * @returns Never; the process exits.
 */
export async function runWorker(context: WorkerContext): Promise<never> {
  const { config, modules, channel, slot, number, scoreboard, exit } = context;
  const log = stderrLog(number === ADMIN ? "admin" : `worker ${number}`);
  keepConsoleQuiet();
  // Until the worker can notice by itself that the master has ended.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Signals that a terminal sends to its foreground process group are for the master. Ignoring or
  // blocking them instead would not do: the app's own subprocesses would inherit that.
  setpgid(0, 0);
  letOthersFinish();
  try {
    const info: WorkerInfo = { pid: getpid(), number };
    if (number !== ADMIN) setenv(NUMBER, String(number));
    const { program, listeners } = await load(context);
    const { app, hooks } = program;
    const stopHeartbeat = startHeartbeat(slot, config.timeout);
    await hooks.onWorkerStart?.(info);
    const onMaxRequests = () => tell(channel, "retire", `${config.maxRequests} requests`);
    const onManyNames = () => tell(channel, "retire", "names in TLS");
    const service = await openService(program, {
      ...{ config, modules, listeners, slot, scoreboard, log, onMaxRequests, onManyNames },
    });
    app?.onListen?.(addrOf(listeners[0]!.socket.getsockname()));
    slot.state = "ready";
    tell(channel, "ready");
    // From here on the worker notices that the master has ended. If the worker hangs and a timeout
    // is set, the watchdog ends it.
    prctl(PR_SET_PDEATHSIG, 0);
    const next = () => followOrders(channel, service, () => reopenLogs(context, service, log));
    let end = 0;
    let isOrphaned = false;
    const beginEnd = (order: Ending) => {
      end = Math.min(end || Infinity, performance.now() + LINGER[order]);
      if (order !== "orphaned" || isOrphaned) return;
      isOrphaned = true;
      log(`The master has ended unexpectedly: stopping, within ${config.grace} s`);
      endWithin(config.grace);
    };
    const order = await next();
    beginEnd(order);
    slot.state = "stopping";
    // While the worker leaves, the server may stop or the master may end.
    next().then(beginEnd);
    if (order !== "leave") await service.acceptRest();
    await service.drain(() => end);
    await hooks.onWorkerStop?.(info);
    stopHeartbeat();
    return exit(0);
  } catch (error) {
    tell(channel, "failed", error instanceof Error ? error.message : String(error));
    log(error instanceof Error && !(error instanceof AppError) ? error.stack! : `${error}`);
    return exit(1);
  }
}

/** Returns the program, and the sockets on which it serves. */
async function load(
  { program, listeners, requested, channel, config }: WorkerContext,
): Promise<{ program: Program; listeners: readonly Listener[] }> {
  const bind = (request: ListenRequest) => askToListen(channel, request);
  const withCertificates = (socket: Socket, listen = 0) => ({
    socket,
    certificates: config.listen[listen]?.certificates ?? [],
  });
  if (isProgram(program)) {
    if (program.catcher !== undefined) Object.assign(program.catcher, { bind, isServing: true });
    // They were lent to workers before this one, which asks for them if it needs them.
    const isLent = (_: Socket, i: number) => requested[i]?.startsWith(LENT) === true;
    for (const socket of listeners.filter(isLent)) socket.close();
    return {
      program,
      listeners: listeners
        .map((socket, i) => withCertificates(socket, listenOf(requested[i] ?? "")))
        .filter(({ socket }, i) => !isLent(socket, i)),
    };
  }
  for (const socket of listeners) socket.close();
  // Deno would end this process, and the master would not know why.
  if (typeof program === "object") await program.check();
  const catcher = catchServers(bind, hasCertificate(config.listen));
  const name = typeof program === "object" ? program.name : program;
  const unwatch = watchExit(name, ({ message }) => tell(channel, "failed", message));
  const loaded = await loadProgram(program, catcher).finally(unwatch);
  catcher.isServing = true;
  checkServers(loaded, config);
  const lent = loaded.app !== undefined || config.listen.length > 1 ? askForApp(channel) : [];
  return {
    program: loaded,
    listeners: lent.map(({ socket, listen }) => withCertificates(socket, listen)),
  };
}

/**
 * Sets the scheduling policy SCHED_BATCH. On a busy machine, a woken worker then does not preempt
 * other processes: more requests are waiting when it runs, and it answers all of them in one go.
 */
function letOthersFinish(): void {
  try {
    sched_setscheduler(0, SCHED_BATCH);
  } catch (error) {
    // A sandbox may forbid the call. The worker runs without it.
    if (!isSyscallError(error)) throw error;
  }
}

/** Exits after a time limit, because no master is left to enforce one. */
function endWithin(seconds: number): void {
  after(Math.min(seconds * 1000, LONGEST_TIMER), () => _exit(1));
}

function reopenLogs({ config, scoreboard, slot }: WorkerContext, service: Service, log: Log): void {
  const { reopenings } = scoreboard;
  const isAccessLogOpen = service.reopenLog();
  const isErrorLogOpen = config.errorLog === undefined || reopenStderr(config.errorLog, log);
  slot.reopened = isAccessLogOpen && isErrorLogOpen ? reopenings : -reopenings;
}

/**
 * Shows the master that the event loop is running. If there is no master, a watchdog timer ends the
 * worker.
 */
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
    // A moving average over a few seconds.
    slot.busy += ((cpuNow - cpu) / ((now - at) / 1000) - slot.busy) * 0.5;
    [cpu, at] = [cpuNow, now];
  });
  return () => timer.cancel();
}

/** Follows the master's orders until one tells how the worker is to end. */
async function followOrders(
  channel: Socket,
  service: Service,
  reopenLogs: () => void,
): Promise<Ending> {
  for (;;) {
    const message = await readAsync(channel.fileno(), 64);
    const order = new TextDecoder().decode(message) as Order | "";
    if (order === "stop" || order === "leave") return order;
    if (order === "") return "orphaned"; // the master has ended
    if (order === "look") service.lookAgain();
    if (order === "reopen") reopenLogs();
  }
}
