/**
 * Timers across a fork: the parent's timers would run the parent's code in a child that has a
 * runtime, so the child cancels them.
 *
 * Deno loads Node's timers, which takes 6 ms, when a program first references `setTimeout`. A
 * program that forks as soon as it starts, and whose children load it, would wait for that twice.
 * This module uses Deno's own timers; tine itself needs no others. If a version of Deno hides them,
 * the public ones are used.
 *
 * Deno keeps its timers in lists, one for each duration in use, which can only be reached from
 * outside through a timer in them. One list leads to the prototype of all lists, through which tine
 * is notified of each new list. A child cancels the timers it finds in them, however many timers
 * there have been.
 */

import { ASSUMPTIONS, type Listed } from "./assumptions.ts";
import { interceptProperty, replaceProperty } from "./globals.ts";

const { timer: TIMER, create: CREATE, destroy: DESTROY } = ASSUMPTIONS.nodeTimer.value;
const DURATION = ASSUMPTIONS.listDuration.value;

/** A timer of Deno's own. */
type CoreTimer = Listed<typeof ASSUMPTIONS.coreTimer.value, AnyTimer>;

interface AnyTimer {
  /** The number of timers that were made until then, itself included. */
  readonly _timerId: number;
  /** The delay, in milliseconds. */
  readonly _idleTimeout: number;
  readonly _onTimeout: { readonly name: string } | null;
  /** The neighbors in the list of timers with the same delay; unset while the timer runs. */
  readonly _idlePrev: CoreTimer | TimersList | null;
  readonly _idleNext: CoreTimer | TimersList | null;
  /** The interval of a repeated timer, in milliseconds. */
  readonly _repeat: number | boolean | null | undefined;
}

/** A list of timers with the same delay: a ring, closed by the list itself. */
interface TimersList {
  readonly [DURATION]: number;
  readonly _idleNext: CoreTimer | TimersList;
}

/** One of Node's timers, which are the public ones. */
interface Timeout {
  readonly [TIMER]: CoreTimer;
}

/** A function that waits for the next turn of the event loop, in the list of all such functions. */
interface Immediate {
  readonly _idleNext: Immediate | null;
}

type Core = Listed<typeof ASSUMPTIONS.coreTimers.value, AnyCore>;

interface AnyCore {
  createTimer(
    callback: () => void,
    milliseconds: number,
    args: undefined,
    isRepeated: boolean,
    keepsAlive: boolean,
  ): CoreTimer;
  cancelTimer(timer: CoreTimer): void;
  readonly immediateQueue: { readonly head: Immediate | null };
  clearImmediate(immediate: Immediate): void;
}

/** A timer that was set. */
export interface Timer {
  /** Cancels the timer. It has no effect if the timer has run. */
  cancel(): void;
}

/**
 * Calls a function once.
 *
 * @param milliseconds The delay.
 * @param callback The function.
 * @param keepsAlive Whether the event loop waits for it. The default is true.
 */
export function after(milliseconds: number, callback: () => void, keepsAlive = true): Timer {
  return set(milliseconds, false, callback, keepsAlive);
}

/**
 * Calls a function repeatedly.
 *
 * @param milliseconds The interval.
 * @param callback The function.
 * @param keepsAlive Whether the event loop waits for it. The default is true.
 */
export function every(milliseconds: number, callback: () => void, keepsAlive = true): Timer {
  return set(milliseconds, true, callback, keepsAlive);
}

/**
 * Waits.
 *
 * @param milliseconds How long.
 * @param keepsAlive Whether the event loop waits, too. The default is true.
 */
export function delay(milliseconds: number, keepsAlive = true): Promise<void> {
  return new Promise((resolve) => after(milliseconds, resolve, keepsAlive));
}

/** Waits for a turn of the event loop. No promise job is pending when it begins. */
export function nextTurn(): Promise<void> {
  return delay(0);
}

function set(
  milliseconds: number,
  isRepeated: boolean,
  callback: () => void,
  keepsAlive: boolean,
): Timer {
  watchTimers();
  if (core === undefined) {
    const id = (isRepeated ? setInterval : setTimeout)(callback, milliseconds);
    if (!keepsAlive) Deno.unrefTimer(id);
    return { cancel: () => clearTimeout(id) };
  }
  const timer = core.createTimer(callback, milliseconds, undefined, isRepeated, keepsAlive);
  rememberListOf(timer);
  own.add(timer);
  return { cancel: () => core?.cancelTimer(timer) };
}

/** The timers of tine's own. */
const own = new WeakSet<CoreTimer>();

/**
 * Returns the names of the program's own timers that will run once, and had at most the given delay;
 * none if Deno hides its timers.
 */
export function timersWithin(milliseconds: number): string[] {
  return [...lists.values()].flatMap((ref) => {
    const list = ref.deref();
    const found: string[] = [];
    if (list === undefined || list[DURATION] > milliseconds) return found;
    for (let one = list._idleNext; !isList(one); one = one._idleNext!) {
      if (!own.has(one) && !one._repeat && !resetsDate(one)) found.push(`timer ${one._timerId}`);
    }
    return found;
  });
}

/** The lists by duration. The references are weak, so lists that Deno has dropped are collected. */
const lists = new Map<number, WeakRef<TimersList>>();
/** The number of lists at which to remove collected ones. */
let crowd = 64;
let isWatching = false;
/** Deno's own timers, available once every list that may contain one is known. */
let core: Core | undefined;

/** Tracks Deno's timers from here on, so that a child can cancel them. */
export function watchTimers(): void {
  if (isWatching) return;
  isWatching = true;
  const found = findCore();
  if (found === undefined) return;
  const first = found.createTimer(() => {}, 0, undefined, false, false);
  const list = listOf(first);
  found.cancelTimer(first);
  if (list === undefined) return;
  remember(list);
  interceptProperty(Object.getPrototypeOf(list), DURATION, remember);
  if (first._timerId === ASSUMPTIONS.firstTimer.value || lookBack(found, first._timerId)) {
    core = found;
  }
}

function findCore(): Core | undefined {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = Deno as unknown as Record<symbol, { core?: Core } | undefined>;
  const core = internal === undefined ? undefined : inside[internal]?.core;
  return ASSUMPTIONS.coreTimers.value.every((name) => core?.[name] !== undefined)
    ? core
    : undefined;
}

/**
 * Finds the lists that were created before tracking began, through the timers in them: Node's
 * timers, which are the public ones, can be found by their numbers.
 *
 * @returns Whether it succeeded.
 */
function lookBack(core: Core, made: number): boolean {
  const timeout = setTimeout(() => {}, 0) as unknown as Timeout;
  const prototype = Object.getPrototypeOf(timeout);
  clearTimeout(+timeout);
  const [create, destroy] = [CREATE, DESTROY].map((name) =>
    Object.getOwnPropertySymbols(prototype).find(({ description }) => description === name)
  );
  if (create === undefined || destroy === undefined) return false;
  // A timer that is created later may be added to a list that is empty now.
  replaceProperty(prototype, create, (original) =>
    function (this: Timeout): number {
      const id = original.call(this);
      rememberListOf(this[TIMER]);
      return id;
    });
  const durations = new Set<number>();
  const { [destroy]: destroyTimer } = prototype;
  replaceProperty(prototype, destroy, () =>
    function (this: Timeout): void {
      durations.add(this[TIMER]._idleTimeout);
    });
  for (let id = 1; id < made; id++) clearTimeout(id);
  replaceProperty(prototype, destroy, () => destroyTimer);
  for (const duration of durations) {
    const timer = core.createTimer(() => {}, duration, undefined, false, false);
    rememberListOf(timer);
    core.cancelTimer(timer);
  }
  return true;
}

function rememberListOf(timer: CoreTimer): void {
  const list = listOf(timer);
  if (list !== undefined && lists.get(list[DURATION])?.deref() !== list) remember(list);
}

/** Returns the list of a timer that was just created: the timer is at its end. */
function listOf({ _idlePrev }: CoreTimer): TimersList | undefined {
  return isList(_idlePrev) ? _idlePrev : undefined;
}

function isList(one: CoreTimer | TimersList | null | undefined): one is TimersList {
  return typeof (one as TimersList | null | undefined)?.[DURATION] === "number";
}

function remember(list: TimersList): void {
  lists.set(list[DURATION], new WeakRef(list));
  if (lists.size < crowd) return;
  for (const [msecs, list] of lists) if (list.deref() === undefined) lists.delete(msecs);
  crowd = Math.max(64, 2 * lists.size);
}

/** A timer of the program that has not fired yet. */
export interface LiveTimer {
  /** Its number, as {@linkcode timerNumber} returns it. */
  readonly number: number;
  /** The delay or the interval, in milliseconds. */
  readonly milliseconds: number;
  readonly isRepeated: boolean;
}

/** Returns the program's timers that have not fired yet, as far as Deno shows them. */
export function liveTimers(): LiveTimer[] {
  if (core === undefined) return [];
  const found: LiveTimer[] = [];
  for (const ref of lists.values()) {
    const list = ref.deref();
    for (let one = list?._idleNext; one !== undefined && !isList(one); one = one._idleNext!) {
      if (own.has(one) || resetsDate(one)) continue;
      found.push({
        number: one._timerId,
        milliseconds: one._idleTimeout,
        isRepeated: Boolean(one._repeat),
      });
    }
  }
  return found.sort((a, b) => a.number - b.number);
}

/**
 * Returns the number of a timer, which counts up from the first one.
 *
 * @param timeout What `setTimeout()` or `setInterval()` has returned.
 */
export function timerNumber(timeout: unknown): number | undefined {
  return (timeout as Partial<Timeout> | undefined)?.[TIMER]?._timerId;
}

/** Cancels the parent's timers in a child: they would run the parent's code there. */
export function abandonTimers(): void {
  if (core === undefined) return clearPublicTimers();
  // Node's setImmediate(), the shortest timer of all.
  for (let one = core.immediateQueue.head; one !== null;) {
    const next = one._idleNext;
    core.clearImmediate(one);
    one = next;
  }
  const newest = core.createTimer(() => {}, 0, undefined, false, false);
  core.cancelTimer(newest);
  // Not now: the code that forked may be the callback of an interval, which returns to its list
  // only afterwards.
  queueMicrotask(() => {
    for (const ref of lists.values()) {
      const list = ref.deref();
      if (list !== undefined) cancelOlder(list, newest);
    }
  });
}

/** Cancels the timers of a list that were created before another timer. */
function cancelOlder(list: TimersList, { _timerId }: CoreTimer): void {
  for (let one = list._idleNext; !isList(one);) {
    const next = one._idleNext!;
    if (one._timerId < _timerId && !resetsDate(one)) core?.cancelTimer(one);
    one = next;
  }
}

/** Node's servers keep the date until a timer empties it: a child needs that, too. */
function resetsDate({ _onTimeout }: CoreTimer): boolean {
  return _onTimeout?.name === ASSUMPTIONS.dateReset.value;
}

/** The same, where Deno hides its timers: all numbers that a public one can have. */
function clearPublicTimers(): void {
  const newest = Number(setTimeout(() => {}, 0));
  for (let id = 1; id <= newest; id++) clearTimeout(id);
}
