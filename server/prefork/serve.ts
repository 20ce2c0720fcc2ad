/**
 * The highest rung: workers that are forked before the clients come, each running
 * Deno's own HTTP server on the one listening socket.
 */
import { AF_UNIX } from "../../ffi/address.ts";
import { poolRoom } from "../../ffi/runtime/pool.ts";
import { after, delay, every, nextTurn, type Timer } from "../../ffi/runtime/timers.ts";
import { getpid } from "../../ffi/process.ts";
import { signal } from "../../ffi/signal.ts";
import { SIGINT, SIGQUIT, SIGTERM } from "../../ffi/signals.ts";
import type { Socket } from "../../ffi/socket.ts";
import { type App, AppError, loadApp } from "../app/load_app.ts";
import { sleepInterruptibly } from "../sleep_interruptibly.ts";
import { adminHandler } from "./status/admin.ts";
import { LONGEST_TIMER } from "../options.ts";
import { takeActivatedSockets } from "./host/activation.ts";
import { checkLogFile } from "./logs/log_file.ts";
import { redirectStderr, reopenStderr, stderrLog } from "./logs/error_log.ts";
import { checkCertificate, formatUrl, openListener, removeStaleSocket } from "../listen.ts";
import type { ChildContext, Place } from "./master/context.ts";
import { inherit } from "./master/inheritance.ts";
import { supervise } from "./master/loop.ts";
import type { Config } from "./options.ts";
import { openNotify } from "./host/notify.ts";
import { removePidFile, writePidFile } from "./host/pid_file.ts";
import { isCanary, LOADED } from "./master/restart.ts";
import { findStartDirectory } from "./host/start_directory.ts";
import { ADMIN, createScoreboard } from "./scoreboard.ts";
import { runWorker } from "./worker/worker.ts";

const ADMIN_BACKLOG = 64;
/** How many threads a worker is to be able to have for file operations and the like. */
const ROOM = 8;
/** How long that is waited for, in milliseconds: idle threads end after ten seconds. */
const ROOM_PATIENCE = 15_000;

/**
 * Serves an app with forked workers, in a process that is forkable, until a signal ends the server.
 *
 * @param app The app's module, or the app itself.
 * @param config How it is served.
 * @returns The exit code, in the master.
 * @throws As `servePrefork()` does.
 */
export async function serve(app: App | string | URL, config: Config): Promise<number> {
  const startDirectory = findStartDirectory(); // before the app can change it
  if (config.cert !== undefined) checkCertificate(config.cert, config.key!);
  if (isCanary()) {
    if (isSpecifier(app)) await loadApp(String(app));
    Deno.exit(LOADED);
  }
  const inheritance = inherit();
  const { place, loaded } = inheritance === undefined
    ? await start(app, config)
    : await restart(app, config, inheritance);
  const cleanUp = cleanUpFor(config, place);
  try {
    const { scoreboard, listeners } = place;
    scoreboard.master = getpid();
    scoreboard.started ||= Date.now();
    scoreboard.generation += inheritance === undefined ? 0 : 1;
    scoreboard.url = formatUrl(listeners[0]!.getsockname(), config.cert !== undefined);
    scoreboard.app = isSpecifier(app) ? String(app) : "";
    const log = stderrLog("master");
    // A turn of the event loop begins with no promise job waiting: none runs in a child.
    const turn = nextTurn();
    loadOnce();
    await turn;
    const outcome = supervise({
      ...place,
      config,
      workers: inheritance?.workers ?? [],
      resized: inheritance?.resized ?? { from: config.workers, to: config.workers },
      failedRestarts: inheritance?.failedRestarts ?? 0,
      hasApp: loaded !== undefined,
      startDirectory,
      log,
      reopenLogs: () => config.errorLog !== undefined && reopenStderr(config.errorLog, log),
      notify: openNotify(log),
    });
    if (typeof outcome === "number") return outcome;
    return await (outcome.number === ADMIN
      ? runAdmin(config, place, outcome)
      : serveAsWorker(config, place, outcome, loaded!));
  } finally {
    cleanUp();
  }
}

/** Deno loads this where it is first named: here, and not in each worker. */
function loadOnce(): void {
  void Request;
}

/** What there must be before workers are forked. */
interface Start {
  readonly place: Place;
  /** Nothing when new code could not be loaded after a restart. */
  readonly loaded: App | string | undefined;
}

/** Whatever fails is the end, and is said where the server was started: its log comes last. */
async function start(app: App | string | URL, config: Config): Promise<Start> {
  const place = openPlace(config);
  const cleanUp = cleanUpFor(config, place);
  try {
    if (config.pidFile !== undefined) writePidFile(config.pidFile);
    const loaded = await interruptibly(loadInTime(app, config).then(whenThereIsRoom), cleanUp);
    if (config.accessLog !== undefined && config.accessLog !== "-") checkLogFile(config.accessLog);
    if (config.errorLog !== undefined) redirectStderr(config.errorLog);
    return { place, loaded };
  } catch (error) {
    cleanUp();
    throw error;
  }
}

/** Workers depend on this process: it goes on without what it can do without. */
async function restart(app: App | string | URL, config: Config, place: Place): Promise<Start> {
  const { errorLog, pidFile } = config;
  try {
    if (errorLog !== undefined) redirectStderr(errorLog);
    if (pidFile !== undefined) writePidFile(pidFile);
  } catch (error) {
    stderrLog("master")((error as Error).message);
  }
  try {
    return { place, loaded: await loadInTime(app, config).then(whenThereIsRoom) };
  } catch (error) {
    stderrLog("master")(
      `The new code cannot be loaded, the old workers serve on: ${(error as Error).message}`,
    );
    return { place, loaded: undefined };
  }
}

function openPlace(config: Config): Place {
  const activated = takeActivatedSockets().map(({ socket }) => socket);
  const address = config.path ?? [config.hostname, config.port] as const;
  const listeners = activated.length > 0 ? activated : [openListener(address, config.backlog)];
  const isActivated = activated.length > 0;
  try {
    const { file, scoreboard } = createScoreboard();
    return { listeners, admin: openAdmin(config), isActivated, scoreboard, scoreboardFile: file };
  } catch (error) {
    cleanUpFor(config, { listeners, admin: undefined, isActivated })();
    throw error;
  }
}

/**
 * Makes the function that closes the sockets and removes the files of a server. It is made while
 * the sockets are open: they know their paths, whatever the options of new code say.
 */
function cleanUpFor(
  config: Config,
  { listeners, admin, isActivated }: Pick<Place, "listeners" | "admin" | "isActivated">,
): () => void {
  // What the service manager has opened is its own.
  const own = [...isActivated ? [] : listeners, ...admin === undefined ? [] : [admin]];
  const files = own.filter(({ family }) => family === AF_UNIX)
    .map((socket) => String(socket.getsockname()));
  return () => {
    for (const socket of [...listeners, admin]) socket?.close();
    for (const file of files) removeStaleSocket(file);
    if (config.pidFile !== undefined) removePidFile(config.pidFile);
  };
}

/** A module's top level may wait for something that never comes. */
async function loadInTime(app: App | string | URL, config: Config): Promise<App | string> {
  const { bootTimeout } = config;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new AppError(
      `Cannot load ${app}: its top level has not finished within ${bootTimeout} s. ` +
        "Allow it more time with --boot-timeout, or wait for less",
    );
    timer = after(Math.min(bootTimeout * 1000, LONGEST_TIMER), () => reject(error));
  });
  try {
    return await Promise.race([load(app, config), late]);
  } finally {
    timer?.cancel();
  }
}

/** Nothing lets signals in while an app is loaded: Control-C would be dead. */
async function interruptibly<T>(work: Promise<T>, cleanUp: () => void): Promise<T> {
  let stopped = false;
  const timer = every(50, () => {
    // Each time anew: Deno, half a second after its start, sets handlers of its own.
    for (const signum of [SIGTERM, SIGINT, SIGQUIT]) signal(signum, () => stopped = true);
    sleepInterruptibly(0);
    if (!stopped) return;
    cleanUp();
    Deno.exit(0);
  });
  try {
    return await work;
  } finally {
    timer.cancel();
  }
}

/** The app, or where each worker finds it. */
async function load(app: App | string | URL, { preload }: Config): Promise<App | string> {
  if (!isSpecifier(app)) return app;
  return preload ? await loadApp(String(app)) : String(app);
}

/**
 * Waits until the runtime has let go of threads that loading the app took: those that it has
 * when workers are forked, none of them can have.
 */
async function whenThereIsRoom<T>(loaded: T): Promise<T> {
  if (poolRoom() >= ROOM) return loaded;
  stderrLog("master")(
    "Loading the app took many threads: it read many files at the same time. Waiting until the " +
      "runtime ends them, about 10 s",
  );
  const end = performance.now() + ROOM_PATIENCE;
  while (poolRoom() < ROOM && performance.now() < end) {
    await delay(100);
  }
  return loaded;
}

/** A child that answers clients. */
function serveAsWorker(config: Config, place: Place, child: ChildContext, app: App | string) {
  place.admin?.close();
  return runWorker({ ...place, ...child, config, app });
}

/** The child that answers on the admin socket. */
function runAdmin(config: Config, place: Place, child: ChildContext): Promise<never> {
  for (const socket of place.listeners) socket.close();
  return runWorker({
    ...child,
    config: adminConfig(config),
    app: { fetch: adminHandler(place.scoreboard) },
    listeners: [place.admin!],
    scoreboard: place.scoreboard,
  });
}

function isSpecifier(app: App | string | URL): app is string | URL {
  return typeof app === "string" || app instanceof URL;
}

function openAdmin({ admin }: Config): Socket | undefined {
  return admin === undefined ? undefined : openListener(admin, ADMIN_BACKLOG);
}

/** The admin process serves in plain HTTP, and is not replaced for what it has served. */
function adminConfig(config: Config): Config {
  return {
    ...config,
    cert: undefined,
    key: undefined,
    maxRequests: Infinity,
    maxConnections: Infinity,
    accessLog: undefined,
  };
}
