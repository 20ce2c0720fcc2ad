/**
 * Deno's threads that watch files: one for `Deno.watchFs()`, and one under `deno run --watch` for the
 * modules of the program. To watch another file, Deno sends such a thread a message, and waits for
 * the answer without a time limit. A child does not inherit the threads, so it would wait forever.
 */
import { close } from "../descriptor_calls.ts";
import { getpid } from "../process.ts";
import { isSyscallError } from "../errno.ts";
import { readText } from "../proc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { deadSocket, duplicateOnto, openDescriptors, surveyEventLoop } from "./event_loop.ts";
import { replaceGlobal } from "./globals.ts";
import { hasFileWatcher } from "./threads.ts";
import { delay } from "./timers.ts";
import { denosArguments } from "./v8_flags.ts";

/** The process that has one of the threads. */
let watcher: number | undefined;

/** Makes `Deno.watchFs()` throw in each child that would wait. Called before the first fork. */
export function refuseFileWatchers(): void {
  if (hasFileWatcher()) watcher = getpid();
  replaceGlobal("Deno.watchFs", (original) => (...args) => {
    watcher ??= getpid();
    if (watcher === getpid()) return original(...args);
    throw new Error(
      `Cannot watch ${
        args[0]
      } in this child: Deno started its thread for watching files before the ` +
        "fork, in the parent. Watch files in the child only, and not under --watch",
    );
  });
}

/** Whether Deno reports each module that the program imports to the thread, if that is known. */
let known: boolean | undefined;
/** Whether Deno has begun to do so. */
let hasBegun = false;
/** Whether modules of this process are no longer reported. */
let isLeft = false;

/**
 * How long to wait until Deno has told the thread of a module. It does so at the end of the turn of
 * the event loop in which the module was imported, or of the next one. A short timer may already be
 * due in the same turn, and there is no other sign.
 */
const TURNS = 5;
const TURN_MILLISECONDS = 10;

/** The descriptors with which Deno wakes the thread. */
let wakers: readonly number[] = [];

/** Waits, before a fork, until Deno has told the thread of all modules that are imported. */
export async function awaitModuleWatcher(): Promise<void> {
  if (!watchesModules() || isLeft) return;
  for (let turn = 0; turn < TURNS; turn++) await delay(TURN_MILLISECONDS);
}

/**
 * Checks, before a fork, that a child does not come to wait for the thread that watches its parent's
 * modules.
 *
 * @throws {Error} If Deno has not yet told the thread which files the program consists of. It would
 *   do so in the child as well.
 */
export function checkModuleWatcher(): void {
  if (hasBegun || !watchesModules()) return;
  hasBegun = watchesFiles();
  if (!hasBegun) {
    throw new Error(
      "Cannot fork with a runtime under --watch before Deno watches the program's files, which it " +
        "does in the first turn of the event loop: use forkRuntimeChild(), which waits for that",
    );
  }
  const links = openDescriptors();
  wakers = surveyEventLoop()
    .filter(({ work }) => work.some(({ fd }) => links.get(fd) === ASSUMPTIONS.inotifyLink.value))
    .flatMap(({ waker }) => waker.map(({ fd }) => fd));
  console.error(
    "warning: Under --watch, a forked child ends with an error (Deno has panicked) when it imports a " +
      "module that its parent does not know: import it before the fork, with a literal name, or " +
      "watch with the command serve --watch",
  );
}

/**
 * In a child, breaks what wakes the thread that watches its parent's modules: where Deno would wait
 * for an answer forever, it ends the child with an error instead.
 */
export function leaveModuleWatcher(): void {
  if (isLeft || !watchesModules()) return;
  isLeft = true;
  const dead = deadSocket();
  for (const fd of wakers) duplicateOnto(dead, fd);
  close(dead);
  replaceGlobal("globalThis.Worker", (original) =>
    new Proxy(original, {
      construct(_target, [specifier]): never {
        throw new Error(
          `Cannot start the worker ${specifier} in this child: under --watch, Deno would wait for ` +
            "its thread for watching files, which only the parent has",
        );
      },
    }));
}

function watchesModules(): boolean {
  return known ??= hasFileWatcher() &&
    denosArguments().some((one) => /^--watch(-hmr)?(=|$)/.test(one));
}

/** Whether an inotify instance of this process has a file to watch. */
function watchesFiles(): boolean {
  for (const [fd, link] of openDescriptors()) {
    if (link !== ASSUMPTIONS.inotifyLink.value) continue;
    try {
      if (/^inotify /m.test(readText(`/proc/self/fdinfo/${fd}`))) return true;
    } catch (error) {
      if (!isSyscallError(error, "ENOENT")) throw error; // closed since
    }
  }
  return false;
}
