/**
 * Timers across a fork: the parent's would run the parent's code in a child that has a
 * runtime, so they are cleared there.
 *
 * Deno loads Node's timers, 6 ms of work, where a program first names `setTimeout`. A
 * program that forks as soon as it starts, and has its children load it, would wait for
 * that twice. Below are Deno's own timers, which count all that were ever made: so it
 * can be told whether there are any to clear, and tine itself needs no others. A Deno
 * that hides them is asked for the public ones.
 */

/** A timer of Deno's own. Its number tells how many were made before it. */
interface CoreTimer {
  readonly _timerId: number;
}

interface Core {
  createTimer(
    callback: () => void,
    milliseconds: number,
    args: undefined,
    isRepeated: boolean,
    keepsAlive: boolean,
  ): CoreTimer;
  cancelTimer(timer: CoreTimer): void;
}

/** A timer that was set. */
export interface Timer {
  /** Has it never run again. Harmless when it has. */
  cancel(): void;
}

/** How many of the newest, and of the oldest, timers are looked for. */
const NEWEST = 1_000_000;
const OLDEST = 100_000;

const own = new Set<Timer>();
let made = 0;
let othersMade = false;

/**
 * Calls a function once.
 *
 * @param milliseconds When, from now.
 * @param callback The function.
 */
export function after(milliseconds: number, callback: () => void): Timer {
  const timer = set(milliseconds, false, () => {
    own.delete(timer);
    callback();
  });
  return timer;
}

/**
 * Calls a function again and again.
 *
 * @param milliseconds How often.
 * @param callback The function.
 */
export function every(milliseconds: number, callback: () => void): Timer {
  return set(milliseconds, true, callback);
}

/** Waits, in milliseconds. */
export function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => after(milliseconds, resolve));
}

/** Waits for a turn of the event loop, which begins with no promise job waiting. */
export function nextTurn(): Promise<void> {
  return delay(0);
}

function set(milliseconds: number, isRepeated: boolean, callback: () => void): Timer {
  const stop = setCore(milliseconds, isRepeated, callback) ??
    setPublic(milliseconds, isRepeated, callback);
  const timer = {
    cancel(): void {
      own.delete(timer);
      stop();
    },
  };
  own.add(timer);
  return timer;
}

function setCore(
  milliseconds: number,
  isRepeated: boolean,
  callback: () => void,
): (() => void) | undefined {
  const core = coreOf();
  if (core === undefined) return undefined;
  const timer = core.createTimer(callback, milliseconds, undefined, isRepeated, true);
  // A number that was skipped is another's.
  if (timer._timerId !== ++made) othersMade = true;
  return () => core.cancelTimer(timer);
}

function setPublic(milliseconds: number, isRepeated: boolean, callback: () => void): () => void {
  const id = (isRepeated ? setInterval : setTimeout)(callback, milliseconds);
  return () => clearTimeout(id);
}

function coreOf(): Core | undefined {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = Deno as unknown as Record<symbol, { core?: Partial<Core> } | undefined>;
  const core = internal === undefined ? undefined : inside[internal]?.core;
  const isThere = typeof core?.createTimer === "function" && typeof core.cancelTimer === "function";
  return isThere ? core as Core : undefined;
}

/** Clears the parent's timers in a child: they would run the parent's code there. */
export function abandonTimers(): void {
  for (const timer of own) timer.cancel();
  setCore(0, false, () => {})?.();
  if (made > 0 && !othersMade) return;
  const newest = Number(setTimeout(() => {}, 0));
  for (let id = Math.max(1, newest - NEWEST); id <= newest; id++) clearTimeout(id);
  for (let id = 1; id <= Math.min(OLDEST, newest - NEWEST); id++) clearTimeout(id);
}
