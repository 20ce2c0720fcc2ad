/**
 * The prefork model: workers that are forked before clients connect. Each runs Deno's own HTTP
 * server on the shared listening socket.
 */
import { type Address, AF_UNIX, formatAddress } from "../../ffi/address.ts";
import { umask } from "../../ffi/credentials.ts";
import { getenv, unsetenv } from "../../ffi/environment.ts";
import { O_CLOEXEC, O_RDONLY, open } from "../../ffi/descriptor.ts";
import { isatty } from "../../ffi/descriptor_calls.ts";
import { testFork } from "../../ffi/forking/fork.ts";
import { unreachableListener } from "../../ffi/runtime/acceptor.ts";
import { watchCreation } from "../../ffi/runtime/creation.ts";
import { findFixedIds } from "../../ffi/runtime/id_pools.ts";
import { poolRoom } from "../../ffi/runtime/pool.ts";
import { isServing, setServing } from "../../ffi/runtime/globals.ts";
import { checkThrowAwayAddress } from "../../ffi/runtime/throw_away_address.ts";
import { awaitModuleWatcher } from "../../ffi/runtime/file_watcher.ts";
import { after, delay, every, nextTurn, type Timer } from "../../ffi/runtime/timers.ts";
import { getpid } from "../../ffi/process.ts";
import { signal } from "../../ffi/signal.ts";
import { SIGINT, SIGQUIT, SIGTERM } from "../../ffi/signals.ts";
import type { Socket } from "../../ffi/socket.ts";
import { type Bind, catchServers } from "../app/caught_servers.ts";
import { type App, AppError } from "../app/load_app.ts";
import { isProgram, loadProgram, type Program, watchExit } from "../app/load_program.ts";
import type { MainModule } from "../app/main_module.ts";
import type { Log } from "../log.ts";
import { sleepInterruptibly } from "../sleep_interruptibly.ts";
import { VERSION } from "../version.ts";
import { admitHosts } from "./status/admin_hosts.ts";
import { LONGEST_TIMER } from "../options.ts";
import { takeActivatedSockets } from "./host/activation.ts";
import { checkLogFile } from "./logs/log_file.ts";
import { redirectStderr, reopenStderr, stderrLog } from "./logs/error_log.ts";
import { checkCertificates, describeInvalid, readCertificates } from "./certificates.ts";
import {
  bindSocket,
  formatUrl,
  hasCertificate,
  type ListenAddress,
  removeStaleSocket,
} from "../listen.ts";
import { isCanary, LOADED, reportFailure } from "./master/canary.ts";
import type { ChildContext, Context, Inheritance, Place } from "./master/context.ts";
import { rememberEnvironment, restoreGivenEnvironment } from "./master/given_environment.ts";
import { inherit } from "./master/inheritance.ts";
import { withFile } from "./master/listeners.ts";
import { supervise } from "./master/loop.ts";
import {
  bindAside,
  bindOnTrial,
  plannedServers,
  ProgramSockets,
} from "./master/program_sockets.ts";
import { runAsMaster } from "./become_master.ts";
import { checkAccess, checkServers } from "./check_servers.ts";
import type { Config } from "./options.ts";
import { tell } from "./orders.ts";
import {
  checkNothingOpen,
  describeOpenResources,
  disownOpenResources,
  formatOpenResource,
  killOpenSubprocesses,
  type OpenResource,
  openSubprocesses,
} from "./open_resources.ts";
import { findSocketAccess } from "./host/account.ts";
import { describeLimits } from "./host/cgroup.ts";
import { takeOpened } from "./host/opened.ts";
import { unreadablePem } from "./host/pem_files.ts";
import { openNotify } from "./host/notify.ts";
import { removePidFile, writePidFile } from "./host/pid_file.ts";
import { findStartDirectory } from "./host/start_directory.ts";
import { ADMIN, createScoreboard } from "./scoreboard.ts";
import { isFreshWorker } from "./fresh_worker.ts";
import { loadOptionalModules, type OptionalModules } from "./worker/optional_modules.ts";
import { runForkedWorker } from "./worker/worker.ts";

const STDIN = 0;
const ADMIN_BACKLOG = 64;
/** The number of threads a worker must be able to create for file operations and the like. */
const ROOM = 8;
/** How long to wait for that, in milliseconds. Idle threads end after ten seconds. */
const ROOM_PATIENCE = 15_000;
/** After how many seconds it is said that an app is still being loaded. */
const LONG_LOAD = 2;
/** The environment variable that contains the pid of a process that loads its app again. */
const AGAIN = "TINE_LOADS_AGAIN";

/** Stops watching for an app that ends this process while it is being loaded. */
let unwatchExit = () => {};

/** An app, or what it is loaded from. */
type Source = App | string | URL | MainModule;

/** How a program is executed again: from which directory, and with which variables. */
type Origin = Pick<Context, "startDirectory" | "variables">;

/**
 * Serves an app with forked workers until a signal ends the server. The process must be forkable.
 *
 * @param app The app's module, or the app itself.
 * @param config The configuration.
 * @param variables What the program needs in its environment when it is executed again.
 * @param refused The names of options that a restart should change, and the caller could not.
 * @param startWatcher Starts a process that sends SIGHUP when a file of the app's changes.
 * @returns The exit code, in the master.
 * @throws As `servePrefork()` does.
 */
export async function serve(
  app: Source,
  config: Config,
  variables: Origin["variables"] = {},
  refused: readonly string[] = [],
  startWatcher: (() => number) | undefined = undefined,
): Promise<number> {
  if (isServing()) {
    throw new AppError(
      "A program that tine serves cannot call servePrefork(): let it export default { fetch }, or " +
        "listen itself",
    );
  }
  setServing(true);
  try {
    return await serveOnce(app, config, variables, refused, startWatcher);
  } finally {
    setServing(false);
  }
}

async function serveOnce(
  app: Source,
  config: Config,
  variables: Origin["variables"],
  refused: readonly string[],
  startWatcher: (() => number) | undefined,
): Promise<number> {
  if (isFreshWorker()) {
    const { runFreshWorker } = await import("./worker/fresh.ts");
    return await runFreshWorker(loadable(app));
  }
  const origin = { startDirectory: findStartDirectory(), variables }; // before the app can change it
  if (isCanary()) {
    try {
      await tryOut(app, config, bindOnTrial);
    } finally {
      killOpenSubprocesses();
    }
    Deno.exit(LOADED);
  }
  const inheritance = inherit();
  if (inheritance === undefined) {
    checkCertificates(config.listen);
    const begun = await start(app, config, origin);
    return await run(app, config, origin, begun, { watcher: startWatcher?.() });
  }
  const fixed = fixedOptions(inheritance.config, config);
  let listen: readonly ListenAddress[];
  try {
    listen = sameAddresses(inheritance.config, config);
  } catch (error) {
    return await keepOld(error, origin, inheritance);
  }
  const kept = { ...config, ...fixed, givenAddress: inheritance.config.givenAddress, listen };
  const begun = await restart(app, kept, inheritance);
  reportUnreadable(stderrLog("master"));
  const names = [...Object.keys(fixed), ...refused];
  if (names.length > 0) {
    stderrLog("master")(
      `SIGHUP cannot change ${names.join(", ")}: stop the server and start it again for that`,
    );
  }
  return await run(app, kept, origin, begun, inheritance);
}

/** What a program would serve, and what it holds open that its workers could not use. */
export interface Trial {
  readonly servers: readonly {
    readonly url: string;
    /** What of the program it serves. */
    readonly of: "the default export" | "Deno.serve()" | "a server of node:http" | "a TCP server";
  }[];
  readonly open: readonly OpenResource[];
}

/**
 * Does what a server does up to the fork, without binding an address.
 *
 * @param app The app.
 * @param config The configuration.
 * @throws As `servePrefork()` does.
 */
export async function check(app: MainModule, config: Config): Promise<Trial> {
  const wanted = new Map<Socket, Address>();
  const program = await tryOut(app, config, ({ address }) => {
    const socket = bindAside(address);
    wanted.set(socket, address);
    return socket;
  });
  const own = program.app === undefined ? [] : config.listen.map(({ address, certificates }) => ({
    address,
    url: formatUrl(address, typeof address !== "string" && certificates.length > 0),
    of: "the default export" as const,
  }));
  const { servers } = program;
  const planned = plannedServers(
    servers,
    servers.map(({ socket }) => wanted.get(socket!)!),
    config,
  );
  checkAccess([...own, ...planned].map(({ address }) => address), config);
  const open = config.preload ? describeOpenResources() : [];
  killOpenSubprocesses();
  return {
    servers: [
      ...own.map(({ url, of }) => ({ url, of })),
      ...planned.map(({ url, server }) => ({
        url,
        of: server.kind === "fetch"
          ? "Deno.serve()" as const
          : server.isHttp
          ? "a server of node:http" as const
          : "a TCP server" as const,
      })),
    ],
    open,
  };
}

/** Does what a server does up to the fork. */
async function tryOut(app: Source, config: Config, bind: Bind): Promise<Program> {
  checkCertificates(config.listen);
  const program = await loadInTime(app, { ...config, preload: true }, bind) as Program;
  checkServers(program, config);
  await loadModules(config, program); // tine may be a new one
  checkStrictly(app, config);
  testFork({ runtime: true }); // Deno may be a new one, too
  checkAccessLog(config);
  return program;
}

/**
 * Goes on supervising the old workers if this is a master that has re-executed itself, and the new
 * options are invalid. Its canary could still use them, so they have changed once more.
 *
 * @param error What is wrong with the new options.
 * @param variables What the program needs in its environment when it is executed again.
 * @returns The exit code, in the master.
 * @throws The error, if this process has inherited no workers.
 */
export async function keepServing(
  error: unknown,
  variables: Origin["variables"],
): Promise<number> {
  const inheritance = isCanary() ? undefined : inherit();
  if (inheritance === undefined) throw error;
  const origin = { startDirectory: findStartDirectory(), variables };
  return await keepOld(error, origin, inheritance);
}

async function keepOld(error: unknown, origin: Origin, inheritance: Inheritance): Promise<number> {
  const { scoreboard, config } = inheritance;
  reportUnloadable(error, inheritance);
  const begun = { ...withSockets(config, inheritance), loaded: undefined, modules: undefined };
  return await run(scoreboard.app, config, origin, begun, inheritance);
}

/** The options that are in use for as long as a server runs. */
const FIXED = [
  "port",
  "hostname",
  "path",
  "unixMode",
  "unixGroup",
  "user",
  "group",
  "umask",
  "backlog",
  "proxyProtocol",
  "pidFile",
  "admin",
] as const;

/** Returns the old values of those options that a restart should change, and cannot. */
function fixedOptions(old: Config, config: Config): Partial<Config> {
  const names = FIXED.filter((name) => String(old[name]) !== String(config[name]));
  const fixed: Partial<Config> = Object.fromEntries(names.map((name) => [name, old[name]]));
  const isGiven = old.givenAddress.listen || config.givenAddress.listen;
  if (isGiven && addressesOf(old) !== addressesOf(config)) {
    Object.assign(fixed, { listen: old.listen }); // see sameAddresses()
  }
  if (fixed.proxyProtocol && config.trustProxy.length === 0) {
    Object.assign(fixed, { trustProxy: old.trustProxy }); // who may connect
  }
  // Where standard error went before is not known any more.
  return config.errorLog === undefined && old.errorLog !== undefined
    ? { ...fixed, errorLog: old.errorLog }
    : fixed;
}

function addressesOf({ listen }: Config): string {
  return listen.map(({ address }) => formatAddress(address)).sort().join();
}

/**
 * Returns the addresses on which the server listens, with new certificates.
 *
 * @param old The configuration before a restart, whose certificates are not known any more, but
 *   their files are.
 * @param config The new configuration. If it lacks an address, the address keeps its files.
 * @throws {AppError} If an address has no certificate any more.
 */
function sameAddresses(old: Config, config: Config): ListenAddress[] {
  if (old.listen.length === 1 && config.listen.length === 1) {
    return [{ ...old.listen[0]!, certificates: config.listen[0]!.certificates }];
  }
  return old.listen.map((one, i) => {
    const name = formatAddress(one.address);
    const same = [config.listen[i]!, ...config.listen]
      .find((other) => other !== undefined && formatAddress(other.address) === name);
    if (same !== undefined) return { ...one, certificates: same.certificates };
    if (one.certificates.some(({ files }) => files === undefined)) {
      throw new AppError(`SIGHUP cannot change listen: ${name} has no certificate any more`);
    }
    return readCertificates([one])[0]!;
  });
}

/** Runs the master, and in each child what it was forked for. */
async function run(
  app: Source,
  config: Config,
  origin: Origin,
  { place, sockets, loaded, modules }: Start,
  inheritance: Partial<Inheritance> & Pick<Inheritance, "watcher">,
): Promise<number> {
  const cleanUp = cleanUpFor(config, place);
  let current = config;
  try {
    const { scoreboard } = place;
    scoreboard.master = getpid();
    scoreboard.versions = { tine: VERSION, deno: Deno.version.deno, v8: Deno.version.v8 };
    scoreboard.started ||= Date.now();
    scoreboard.generation += inheritance.workers === undefined ? 0 : 1;
    if (loaded !== undefined) {
      scoreboard.url = sockets.urls;
      scoreboard.app = nameOf(app) ?? "";
    }
    const log = stderrLog("master");
    for (const line of describeLimits(config.cgroup, config.workers)) log(line);
    for (const line of describeInvalid(config.listen)) log(line);
    const fixed = findFixedIds();
    if (fixed !== undefined) {
      log(`${fixed}. Make the first one in onWorkerStart(), or start with --no-preload`);
    }
    if (loaded !== undefined && config.preload) {
      for (const one of describeOpenResources()) log(formatOpenResource(one));
      disownOpenResources();
    }
    await awaitModuleWatcher();
    // No promise job is pending when a turn of the event loop begins, so none runs in a child.
    const turn = nextTurn();
    prepareWorkers();
    await turn;
    const outcome = supervise({
      ...place,
      ...origin,
      get config() {
        return current;
      },
      workers: inheritance.workers ?? [],
      resized: inheritance.resized ?? { from: config.workers, to: config.workers },
      failedRestarts: inheritance.failedRestarts ?? 0,
      oldSubprocesses: inheritance.oldSubprocesses ?? [],
      subprocesses: loaded !== undefined && config.preload ? openSubprocesses() : [],
      watcher: inheritance.watcher,
      hasApp: loaded !== undefined,
      lend: (request) => sockets.lend(request),
      served: () => sockets.served,
      urls: () => sockets.urls,
      closeUnused: () => sockets.closeUnused(),
      renewCertificates() {
        try {
          const listen = readCertificates(current.listen);
          checkCertificates(listen);
          current = { ...current, listen };
          reportUnreadable(log);
          for (const line of describeInvalid(listen)) log(line);
        } catch (error) {
          log(`${(error as Error).message}. The old certificates stay in use`);
        }
      },
      log,
      reopenLogs: () => config.errorLog === undefined || reopenStderr(config.errorLog, log),
      notify: openNotify(log),
    });
    if (typeof outcome === "number") return outcome;
    return await (outcome.number === ADMIN
      ? runAdmin(config, modules!, place, outcome)
      : serveAsWorker(current, modules!.worker, place, outcome, loaded!));
  } finally {
    cleanUp();
  }
}

function reportUnreadable(log: Log): void {
  for (const path of unreadablePem()) {
    log(
      `Cannot read ${path} any more: what root read at the start stays in use. Let the user read ` +
        "it, or start the server again",
    );
  }
}

/** Does once here what each worker would have to do. */
function prepareWorkers(): void {
  void Request; // Deno loads it when it is first referenced
  unreachableListener();
  leaveTerminal();
}

/**
 * Replaces standard input, if it is a terminal, by one that is at its end. The terminal stops a
 * worker that reads from it, and Deno does so to ask for a permission; without a terminal, it
 * throws an error that names the permission.
 */
function leaveTerminal(): void {
  if (!isatty(STDIN)) return;
  using nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  nothing.dup2(STDIN);
}

/** What must exist before workers are forked. */
interface Start {
  readonly place: Place;
  /** The sockets among it. */
  readonly sockets: ProgramSockets;
  /** `undefined` if new code could not be loaded after a restart. */
  readonly loaded: Program | string | undefined;
  /** What the children need beside it. */
  readonly modules: Modules | undefined;
}

type Modules = Awaited<ReturnType<typeof loadModules>>;

/** Loads the modules that only the children of some servers need. */
async function loadModules(config: Config, loaded: Program | string) {
  return {
    admin: config.admin === undefined ? undefined : await import("./status/admin.ts"),
    worker: await loadOptionalModules(config, isProgram(loaded) ? loaded.servers : []),
  };
}

/**
 * Starts the server. Any failure ends it and is reported on the original standard error: the error
 * log is opened last. No file is created before the app is loaded: Deno itself ends the process if
 * it cannot load the main module.
 */
async function start(app: Source, config: Config, origin: Origin): Promise<Start> {
  const isAgain = takeAgain();
  const opened = takeOpened(); // by root
  const activated = takeActivatedSockets().map(({ socket }) => socket);
  const isActivated = activated.length > 0;
  const existing = isActivated ? { listeners: activated, requested: [] } : opened;
  const sockets = new ProgramSockets(config, { ...existing, isActivated });
  const closeOpened = cleanUpFor(config, { ...opened, isActivated: false });
  let { admin } = opened;
  const cleanUp = () => {
    sockets.close();
    closeOpened();
    if (admin !== opened.admin) cleanUpFor(config, { admin, isActivated, listeners: [] })();
  };
  if (config.umask !== undefined) umask(parseInt(config.umask, 8));
  try {
    const loading = loadInTime(app, config, (request) => sockets.bind(request)).then((loaded) => {
      // A process that was given sockets or root's data could not pass them on twice.
      const canRepeat = !isAgain && existing.listeners.length === 0 && config.user === undefined;
      if (canRepeat && poolRoom() < ROOM) loadAgain(origin, cleanUp);
      return whenThereIsRoom(loaded);
    });
    const loaded = await interruptibly(loading, cleanUp);
    const modules = await loadModules(config, loaded);
    checkStrictly(app, config);
    if (config.pidFile !== undefined) writePidFile(config.pidFile);
    admin ??= openAdmin(config);
    admin?.listen(ADMIN_BACKLOG);
    const { file, scoreboard } = createScoreboard();
    const shared = { admin, isActivated, scoreboard, scoreboardFile: file };
    sockets.listen(isProgram(loaded) ? loaded : undefined);
    const place = { ...shared, ...sockets.listeners };
    for (const socket of [...place.listeners, place.admin]) {
      if (socket !== undefined) checkThrowAwayAddress(socket.family);
    }
    checkAccessLog(config);
    if (config.errorLog !== undefined) redirectStderr(config.errorLog);
    return { place, sockets, loaded, modules };
  } catch (error) {
    cleanUp();
    throw error;
  }
}

/**
 * Continues after a re-execution. Workers depend on this process, so it continues without anything
 * that is not essential.
 */
async function restart(app: Source, config: Config, inherited: Place): Promise<Start> {
  const { errorLog, pidFile } = config;
  try {
    if (errorLog !== undefined) redirectStderr(errorLog);
    if (pidFile !== undefined) writePidFile(pidFile);
  } catch (error) {
    stderrLog("master")((error as Error).message);
  }
  const place = withFiles(inherited, config);
  const sockets = new ProgramSockets(config, place);
  try {
    checkCertificates(config.listen);
    // Deno ends a process whose main module it cannot load.
    if (isMain(app) && config.preload) await app.check();
    const loaded = await loadInTime(app, config, (request) => sockets.bind(request)).then(
      whenThereIsRoom,
    );
    checkStrictly(app, config);
    const modules = await loadModules(config, loaded);
    sockets.listen(isProgram(loaded) ? loaded : undefined);
    return { place: { ...place, ...sockets.listeners }, sockets, loaded, modules };
  } catch (error) {
    sockets.close();
    reportUnloadable(error, place);
    return { ...withSockets(config, place), loaded: undefined, modules: undefined };
  }
}

/** Makes the files of UNIX sockets again that somebody has deleted. */
function withFiles(place: Place, config: Config): Place {
  const log = stderrLog("master");
  const admin = place.admin && withFile(place.admin, () => ({}), log);
  if (admin !== place.admin) admin?.listen(ADMIN_BACKLOG);
  if (place.isActivated) return { ...place, admin };
  const access = () => findSocketAccess(config);
  return { ...place, admin, listeners: place.listeners.map((one) => withFile(one, access, log)) };
}

/** Keeps the sockets of the old program. */
function withSockets(config: Config, place: Place): Pick<Start, "place" | "sockets"> {
  const sockets = new ProgramSockets(config, place);
  return { place: { ...place, ...sockets.listeners }, sockets };
}

function reportUnloadable(error: unknown, { scoreboard }: Place): void {
  const { message } = error as Error;
  stderrLog("master")(`The new code cannot be loaded, the old workers keep serving: ${message}`);
  scoreboard.recordReload(message);
}

function checkStrictly(app: Source, { strict, preload }: Config): void {
  if (strict && preload) checkNothingOpen(nameOf(app) ?? "the app");
}

function checkAccessLog({ accessLog }: Config): void {
  if (accessLog !== undefined && accessLog !== "-") checkLogFile(accessLog);
}

/**
 * Returns the function that closes the sockets and removes the files of a server. It is created
 * while the sockets are open: they know their paths, whatever the options of new code say.
 */
function cleanUpFor(
  config: Config,
  { listeners, admin, isActivated }: Pick<Place, "listeners" | "admin" | "isActivated">,
): () => void {
  // Sockets that the service manager opened belong to it.
  const own = [...isActivated ? [] : listeners, ...admin === undefined ? [] : [admin]];
  const files = own.filter(({ family }) => family === AF_UNIX)
    .map((socket) => String(socket.getsockname()));
  return () => {
    for (const socket of [...listeners, admin]) socket?.close();
    for (const file of files) removeStaleSocket(file);
    if (config.pidFile !== undefined) removePidFile(config.pidFile);
  };
}

/**
 * Loads the app with a time limit: a module's top level may wait for something that never happens.
 */
async function loadInTime(
  app: Source,
  config: Config,
  bind: Bind,
): Promise<Program | string> {
  const { bootTimeout } = config;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new AppError(
      `Cannot load ${nameOf(app)}: its top level did not finish within ${bootTimeout} s. ` +
        "Allow more time with --boot-timeout, or await less at the top level",
    );
    timer = after(Math.min(bootTimeout * 1000, LONGEST_TIMER), () => reject(error), false);
  });
  const notice = after(LONG_LOAD * 1000, () => {
    stderrLog("master")(
      `Still loading ${nameOf(app)} after ${LONG_LOAD} s: its top level has not finished, or it ` +
        `does not listen yet. That may take ${bootTimeout} s (--boot-timeout)`,
    );
  }, false);
  unwatchExit = watchExit(nameOf(app) ?? "the app", reportExit, [LOADED]);
  try {
    return await Promise.race([load(app, config, bind), late]);
  } finally {
    unwatchExit();
    timer?.cancel();
    notice.cancel();
  }
}

/** Reports an app that has ended this process. */
function reportExit(error: AppError): void {
  reportFailure(error);
  console.error(`error: ${error.message}`);
}

/**
 * Handles stop signals while an app is loading. They are blocked otherwise, and Control-C would
 * have no effect.
 */
async function interruptibly<T>(work: Promise<T>, cleanUp: () => void): Promise<T> {
  let stopped = false;
  const timer = every(50, () => {
    // Set the handlers every time: Deno sets its own half a second after it starts.
    for (const signum of [SIGTERM, SIGINT, SIGQUIT]) signal(signum, () => stopped = true);
    sleepInterruptibly(0);
    if (!stopped) return;
    unwatchExit(); // it is not the app
    cleanUp();
    Deno.exit(0);
  }, false);
  try {
    return await work;
  } finally {
    timer.cancel();
  }
}

/** Returns the program, or the specifier from which each worker loads it. */
async function load(
  app: Source,
  { preload, listen }: Pick<Config, "preload" | "listen">,
  bind: Bind,
): Promise<Program | string> {
  const source = loadable(app);
  if (isProgram(source)) return source;
  if (!preload) return nameOf(app)!;
  const unwatch = watchCreation();
  rememberEnvironment();
  try {
    return await loadProgram(source, catchServers(bind, hasCertificate(listen)));
  } finally {
    unwatch();
  }
}

/**
 * Runs this process's program again from its start. Most of the threads were needed once, to fetch
 * packages that are in Deno's cache from now on; and the new program has none of them.
 */
function loadAgain({ startDirectory, variables }: Origin, cleanUp: () => void): never {
  stderrLog("master")(
    "Loading the app started many threads, as when Deno fetches packages. Loading it again",
  );
  cleanUp();
  killOpenSubprocesses();
  Deno.chdir(startDirectory);
  restoreGivenEnvironment({ ...variables, [AGAIN]: String(getpid()) });
  runAsMaster();
}

/** Whether the app was loaded before, by {@linkcode loadAgain}. */
function takeAgain(): boolean {
  const pid = getenv(AGAIN);
  unsetenv(AGAIN);
  return pid === String(getpid());
}

/**
 * Waits, for a limited time, until the runtime has ended the threads it created to load the app:
 * the threads that exist when workers are forked reduce the number that a worker can create.
 */
async function whenThereIsRoom<T>(loaded: T): Promise<T> {
  if (poolRoom() >= ROOM) return loaded;
  stderrLog("master")(
    "Loading the app started many threads, because it read many files at the same time. Waiting " +
      "until the runtime ends them, about 10 s",
  );
  const end = performance.now() + ROOM_PATIENCE;
  while (poolRoom() < ROOM && performance.now() < end) {
    await delay(100);
  }
  return loaded;
}

/** Runs a child that serves clients. */
function serveAsWorker(
  config: Config,
  modules: OptionalModules,
  place: Place,
  child: ChildContext,
  program: Program | string,
) {
  place.admin?.close();
  return runForkedWorker({ ...place, ...child, config, modules, program });
}

/** Runs the child that serves the admin socket. */
function runAdmin(
  config: Config,
  { admin, worker }: Modules,
  place: Place,
  child: ChildContext,
): Promise<never> {
  for (const socket of place.listeners) socket.close();
  const address = place.admin!.getsockname();
  const names = [
    ...config.adminHosts,
    ...typeof config.admin === "object" ? [config.admin[0]] : [],
  ];
  // Only the mode of a socket that is a file guards who may connect.
  const tellMaster = typeof address === "string" && address.startsWith("/")
    ? (command: string) => tell(child.channel, "command", command)
    : undefined;
  return runForkedWorker({
    ...child,
    config: adminConfig(config),
    modules: worker,
    program: asProgram({
      fetch: admin!.adminHandler(place.scoreboard, admitHosts(address, names), tellMaster),
    }),
    listeners: [place.admin!],
    requested: [],
    scoreboard: place.scoreboard,
  });
}

/** Returns the name of an app's module; `undefined` for an app itself. */
function nameOf(app: Source): string | undefined {
  if (isMain(app)) return app.name;
  return isSpecifier(app) ? String(app) : undefined;
}

function isMain(app: Source): app is MainModule {
  return typeof app === "object" && "load" in app && !("fetch" in app);
}

function isSpecifier(app: Source): app is string | URL {
  return typeof app === "string" || app instanceof URL;
}

/** Returns an app as a program, or that from which one is loaded. */
function loadable(app: Source): Program | MainModule | string {
  if (isMain(app)) return app;
  return isSpecifier(app) ? String(app) : asProgram(app);
}

function asProgram(app: App): Program {
  return { app, hooks: app, servers: [], catcher: undefined };
}

function openAdmin({ admin }: Config): Socket | undefined {
  return admin === undefined ? undefined : bindSocket(admin);
}

/** The admin process serves plain HTTP, and is not replaced after a number of requests. */
function adminConfig(config: Config): Config {
  return {
    ...config,
    listen: [],
    maxRequests: Infinity,
    maxConnections: Infinity,
    accessLog: undefined,
    requestIdHeader: undefined,
  };
}
