/**
 * Loads what the preforking server serves: a module whose default export has a `fetch` method, a
 * program that listens itself, or both in one.
 */
import { isAboutToListen } from "../../ffi/runtime/node_servers.ts";
import { delay, every, nextTurn, type Timer, timersWithin } from "../../ffi/runtime/timers.ts";
import { busyThreads } from "../../ffi/runtime/pool.ts";
import { isSyscallError } from "../../ffi/errno.ts";
import { surveyEventLoop } from "../../ffi/runtime/event_loop.ts";
import type { Catcher, CaughtServer } from "./caught_servers.ts";
import {
  type App,
  AppError,
  appOf,
  hasApp,
  type Hooks,
  hooksOf,
  importModule,
} from "./load_app.ts";
import type { MainModule } from "./main_module.ts";

/** What a program serves. */
export interface Program {
  /** Its default export, if that has a `fetch` method. */
  readonly app: App | undefined;
  /** What it has run in its workers, whether or not it listens itself. */
  readonly hooks: Hooks;
  /** The servers that it started itself. */
  readonly servers: readonly CaughtServer[];
  /** Reports the servers that it starts later; `undefined` if they are not caught. */
  readonly catcher: Catcher | undefined;
}

/** The interval at which a program that is being loaded is looked at, in milliseconds. */
const INTERVAL = 10;
/** How often in a row nothing must be going on until a program counts as waiting for a server. */
const LOOKS = 10;
/**
 * How often in a row the same must be going on: an idle connection to a database, for example. If the
 * program may be waiting for its server, timers that set others do not count: they never end.
 */
const MANY_LOOKS = 200;
/** Timers with a longer delay do not count as something that is going on, in milliseconds. */
const SHORT = 5000;
/** How many turns of the event loop a program that has started a server may take for the next. */
const TURNS = 3;

/**
 * Loads a program, and waits until it can be served.
 *
 * @param source The program, as for `loadApp()`, or the main module.
 * @param catcher The servers that it has started.
 * @throws {AppError} If it cannot be loaded, or serves nothing.
 */
export function loadProgram(source: MainModule | string, catcher: Catcher): Promise<Program> {
  return typeof source === "string"
    ? programOf(importModule(source), source, catcher)
    : programOf(source.load(), source.name, catcher);
}

/**
 * Watches for a program that ends this process while it is loaded: it may say nothing itself, and
 * its exit code be that of a server that was stopped.
 *
 * @param name The program's name, for messages.
 * @param onExit Called with an error that says so. The process then ends with the program's exit
 *   code, or with 1 for one that means something else.
 * @param taken Exit codes besides 0 that mean something else.
 * @returns A function that stops watching.
 */
export function watchExit(
  name: string,
  onExit: (error: AppError) => void,
  taken: readonly number[] = [],
): () => void {
  const listener = () => {
    const { exitCode } = Deno;
    const how = `it ended the process with exit code ${exitCode} while it was being loaded`;
    onExit(new AppError(`Cannot load ${name}: ${how}`));
    if ([0, ...taken].includes(exitCode)) Deno.exitCode = 1;
  };
  globalThis.addEventListener("unload", listener);
  return () => globalThis.removeEventListener("unload", listener);
}

/** Whether a program has been loaded. */
export function isProgram(source: Program | MainModule | string): source is Program {
  return typeof source === "object" && "servers" in source;
}

/**
 * Waits until a program can be served: until it has been evaluated, or until all that it waits for
 * is a server that it has started.
 *
 * @param evaluated The program's module, once it has been evaluated.
 * @param name The program's name, for messages.
 * @param catcher The servers that it has started.
 * @throws {AppError} If it cannot be loaded, or serves nothing.
 */
async function programOf(
  evaluated: Promise<Record<string, unknown>>,
  name: string,
  catcher: Catcher,
): Promise<Program> {
  const { servers } = catcher;
  let module: Record<string, unknown> | undefined;
  const evaluation = evaluated.then(
    (namespace) => void (module = namespace),
    (error) => {
      refuse(name, catcher); // which may be why the program threw
      throw error;
    },
  );
  // Deno does not load the main module while anything else keeps the event loop alive; but it must
  // stay alive for a program that waits for nothing but its server.
  let hold: Timer | undefined;
  catcher.onCaught = () => hold ??= every(INTERVAL, () => {});
  try {
    const countAll = repetitions();
    const countWork = repetitions();
    let looks = 0;
    await Promise.race([evaluation, delay(0, false)]);
    for (;;) {
      if (module !== undefined && !isAboutToListen()) {
        if (hasApp(module)) break;
        if (servers.length > 0) {
          for (let turn = 0; turn < TURNS; turn++) await nextTurn();
          if (!isAboutToListen()) break;
        }
      }
      if (catcher.failure !== undefined || looks === LOOKS) refuse(name, catcher);
      const work = workInProgress();
      const now = [...timersWithin(SHORT), ...work].join();
      looks = countAll(now);
      if (now === "" && looks >= LOOKS && (module !== undefined || servers.length > 0)) break;
      if (looks >= MANY_LOOKS && servers.length > 0) break;
      if (countWork(work.join()) >= MANY_LOOKS && servers.some((one) => one.isAwaited)) break;
      await (module === undefined
        ? Promise.race([evaluation, delay(INTERVAL, false)])
        : delay(INTERVAL));
    }
  } finally {
    hold?.cancel();
    catcher.onCaught = undefined;
  }
  evaluation.catch(() => {}); // it may fail in a worker, which then reports it
  refuse(name, catcher);
  const isApp = module !== undefined && (hasApp(module) || servers.length === 0);
  if (isApp && !hasApp(module!) && catcher.unbound !== undefined) {
    throw new AppError(`Cannot serve ${name}: ${catcher.unbound}`); // the program took no notice
  }
  // A program that still awaits its server has exported nothing yet.
  const hooks = module === undefined ? {} : hooksOf(module, name);
  return { app: isApp ? appOf(module!, name) : undefined, hooks, servers, catcher };
}

function refuse(name: string, catcher: Catcher): void {
  const problem = catcher.failure ?? catcher.problem;
  if (problem !== undefined) throw new AppError(`Cannot serve ${name}: ${problem}`);
}

/** Returns a function that counts how often in a row it was given the same as the time before. */
function repetitions(): (now: string) => number {
  let [before, count] = ["", 0];
  return (now) => {
    count = now === before ? count + 1 : 0;
    before = now;
    return count;
  };
}

/** Describes what the program waits for that may end by itself, besides timers. */
function workInProgress(): string[] {
  return [...busyThreads(), ...openWork(), ...isAboutToListen() ? ["lookup"] : []];
}

/** Describes what the event loop waits for. */
function openWork(): string[] {
  try {
    return surveyEventLoop().flatMap(({ work }) => work.map(({ fd, data }) => `${fd} ${data}`));
  } catch (error) {
    if (isSyscallError(error)) return []; // the self-check of fork() will say why
    throw error;
  }
}
