/**
 * Where a program opened what it holds: while an app is loaded, the functions and classes that open
 * something are wrapped (`globals.ts` lists them), and each call is remembered with its place.
 */
import { readNumbers } from "../proc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { onFirstAssignment, replaceProperty, type WATCHED, wrapGlobal } from "./globals.ts";
import { denoResources, type ResourceKind } from "./resources.ts";
import { ofThread, threads } from "./threads.ts";
import { timerNumber } from "./timers.ts";

/** What the program opened with one call. */
export interface Creation {
  readonly kind: Kind;
  /** What it is, such as an address or a name. */
  readonly detail: string;
  /** The object that the program got, if it got one and still has it. */
  readonly object: WeakRef<object> | undefined;
  /** The number of Deno's resource; the pid of a subprocess; the id of a Worker's thread. */
  readonly number: number | undefined;
  /** Holds the stack. It is formatted when it is first read, which takes far longer. */
  readonly place: Error;
}

type Kind = ResourceKind | "worker";

const SOCKET = ASSUMPTIONS.nodeSocket.value;
const TIMER = ASSUMPTIONS.nodeTimerSet.value;
const { create: CREATE } = ASSUMPTIONS.nodeTimer.value;
/** How many places of timers are kept: an app may wait thousands of times while it is loaded. */
const MOST_TIMERS = 1000;

let isWatching = false;
let creations: Creation[] = [];
/** The places where timers were set, by their numbers. */
let timers = new Map<number, Error>();
/** The places where sockets of Node's were connected. */
const sockets = new WeakMap<object, Error>();
/** What the process had before, by its numbers. */
let before: { readonly [kind in "fd" | "task" | "child"]: ReadonlySet<number> } = {
  fd: new Set(),
  task: new Set(),
  child: new Set(),
};
/** What puts back the properties of prototypes. */
let restores: (() => void)[] = [];

/**
 * Remembers what the program opens from now on, and where.
 *
 * @returns A function that ends this, and puts the globals back.
 */
export function watchCreation(): () => void {
  [isWatching, creations, timers] = [true, [], new Map()];
  before = { fd: numbersOf("fd"), task: numbersOf("task"), child: numbersOf("child") };
  restores = [
    watch("Deno.addSignalListener", "signal", String),
    watch("Deno.connect", "connection", addressOf),
    watch("Deno.connectTls", "connection", addressOf),
    watch("Deno.cron", "cron", (name) => `"${name}"`),
    watch("Deno.openKv", "kv", (path) => path === undefined ? "" : `"${path}"`),
    watch("Deno.watchFs", "fileWatcher", (paths) => [paths].flat().join(", ")),
    watch("globalThis.BroadcastChannel", "broadcastChannel", (name) => `"${name}"`),
    watch("globalThis.WebSocket", "webSocket", withoutQuery),
    wrapGlobal("Deno.Command", watchSpawn),
    wrapGlobal("globalThis.Worker", watchWorker),
    onFirstAssignment(Object.prototype, SOCKET.own, watchSockets),
    onFirstAssignment(Object.prototype, TIMER.own, watchTimers),
  ];
  return () => {
    isWatching = false;
    for (const restore of restores.splice(0)) restore();
  };
}

/** Returns what the program opened while it was watched. It may have closed some of it. */
export function watchedCreations(): readonly Creation[] {
  return creations;
}

/**
 * Returns the descriptors, the threads or the child processes that did not exist before
 * {@linkcode watchCreation}.
 */
export function newNumbers(kind: keyof typeof before): number[] {
  return [...numbersOf(kind).difference(before[kind])];
}

function numbersOf(kind: keyof typeof before): Set<number> {
  return new Set(kind === "child" ? childProcesses() : readNumbers(`/proc/self/${kind}`));
}

function childProcesses(): number[] {
  const tids = readNumbers("/proc/self/task");
  return tids.flatMap((tid) => ofThread(tid, "children")?.match(/\d+/g) ?? []).map(Number);
}

/**
 * Returns an error with the stack of the call that set a timer; `undefined` if that was not the
 * program itself: modules of Node's set timers for it, too, and set them again.
 */
export function placeOfTimer(number: number): Error | undefined {
  const error = timers.get(number);
  const [caller] = String(error?.stack).split("\n").slice(1).filter((line) => {
    return !TIMERS.test(line) && !line.includes("<anonymous>") &&
      !OWN.some((beginning) => line.includes(beginning));
  });
  return caller === undefined || /[( ](?:ext|node):/.test(caller) ? undefined : error;
}

/** Returns an error with the stack of the call that connected a socket of Node's. */
export function placeOfSocket(socket: object): Error | undefined {
  return sockets.get(socket);
}

/**
 * Returns the place of a call in the program's own code, or in a package that the program uses.
 *
 * @param error An error that was created in that call.
 */
export function placeIn(error: Error): string | undefined {
  const places = [...String(error.stack).matchAll(/\(?((?:file|https?):[^\s()]+:\d+:\d+)\)?$/gm)]
    .map(([, place]) => place!)
    .filter((place) => !OWN.some((beginning) => place.startsWith(beginning)));
  const place = places.find((place) => !/\/node_modules\/|\/npm\/registry/.test(place)) ??
    places[0];
  return place?.startsWith("file://") ? decodeURIComponent(place.slice("file://".length)) : place;
}

/** A place in one of the modules that set a timer for their caller. */
const TIMERS = new RegExp(TIMER.modules);

/** How the places in tine's own modules begin; in a bundle, there is but one. */
const OWN = import.meta.url.endsWith("/ffi/runtime/creation.ts")
  ? ["../../ffi/", "../../server/"].map((folder) => new URL(folder, import.meta.url).href)
  : [`${import.meta.url}:`];

type Anything = (...args: unknown[]) => unknown;

/** Watches a function, or a class. */
function watch(
  name: typeof WATCHED[number],
  kind: Kind,
  describe: (first: unknown) => string,
): () => void {
  return wrapGlobal(name, (original: Anything) => {
    const note = (args: unknown[], result: unknown): void => {
      if (isWatching) noteResult(kind, describe(args[0]), new Error(), result);
    };
    return new Proxy(original, {
      apply(target, self, args) {
        const result = Reflect.apply(target, self, args);
        note(args, result);
        return result;
      },
      construct(target, args, newTarget) {
        const result = Reflect.construct(target, args, newTarget);
        note(args, result);
        return result;
      },
    });
  });
}

function noteResult(kind: Kind, detail: string, place: Error, result: unknown): void {
  const note = (object?: object): void => {
    const taken = new Set(creations.map(({ number }) => number));
    const [newest] = denoResources().filter((one) => one.kind === kind && !taken.has(one.number))
      .slice(-1);
    remember(kind, detail, place, newest?.number, object);
  };
  // A cron job's promise does not settle while there is the job.
  if (result instanceof Promise && kind !== "cron") result.then(note, () => {});
  // Deno has the resource once the connection is established.
  else if (result instanceof EventTarget && kind === "webSocket") {
    result.addEventListener("open", () => note(result), { once: true });
  } else note(typeof result === "object" && result !== null ? result : undefined);
}

function remember(
  kind: Kind,
  detail: string,
  place: Error,
  number: number | undefined,
  object: object | undefined,
): void {
  creations.push({ kind, detail, place, number, object: object && new WeakRef(object) });
}

/** @param timeout The first timer that the program sets. */
function watchTimers(timeout: object): void {
  const owner = Object.getPrototypeOf(timeout);
  const create = Object.getOwnPropertySymbols(owner)
    .find(({ description }) => description === CREATE);
  if (create === undefined) return;
  watchMethod(owner, create, (_, timer) => {
    const number = timerNumber(timer);
    if (number === undefined) return;
    timers.set(number, new Error());
    if (timers.size > MOST_TIMERS) timers.delete(timers.keys().next().value!);
  });
}

function watchWorker(original: typeof Worker): typeof Worker {
  return new Proxy(original, {
    construct(target, args, newTarget) {
      const before = new Set(threads().map(({ tid }) => tid));
      const worker = Reflect.construct(target, args, newTarget);
      if (isWatching) {
        const [specifier, options] = args as ConstructorParameters<typeof Worker>;
        const name = options?.name === undefined ? "" : `"${options.name}" `;
        // Its thread has its name as soon as it exists.
        const thread = threads().find((thread) => !before.has(thread.tid) && isWorker(thread.name));
        const detail = `${name}(${shorten(String(specifier))})`;
        remember("worker", detail, new Error(), thread?.tid, worker);
      }
      return worker;
    },
  });
}

/** Whether a thread is that of a Web Worker. */
export function isWorker(name: string): boolean {
  return name.startsWith(ASSUMPTIONS.webWorkerName.value);
}

function watchSpawn(original: typeof Deno.Command): typeof Deno.Command {
  watchMethod(original.prototype, "spawn", (child: Deno.ChildProcess) => {
    remember("subprocess", "", new Error(), child.pid, child);
  });
  return original;
}

/** @param socket The first socket that the program creates. */
function watchSockets(socket: object): void {
  let owner: Record<string, Anything> | null = Object.getPrototypeOf(socket);
  while (owner !== null && !Object.hasOwn(owner, SOCKET.connect)) {
    owner = Object.getPrototypeOf(owner);
  }
  if (owner === null) return;
  watchMethod(owner, SOCKET.connect, (socket: object) => sockets.set(socket, new Error()));
}

/** Watches a method while the program is watched, unless the program has replaced it since. */
function watchMethod<T>(
  owner: object,
  name: PropertyKey,
  note: (result: T, self: unknown) => void,
): void {
  const methods = owner as Record<PropertyKey, Anything>;
  const original = methods[name]!;
  function watched(this: unknown, ...args: unknown[]): unknown {
    const result = original.apply(this, args);
    if (isWatching) note(result as T, this);
    return result;
  }
  replaceProperty(methods, name, () => watched);
  restores.push(() => {
    if (methods[name] === watched) replaceProperty(methods, name, () => original);
  });
}

function addressOf(options: unknown): string {
  const { hostname = "127.0.0.1", port, path, cid } = options as Record<string, unknown>;
  return String(path ?? (cid === undefined ? `${hostname}:${port}` : `${cid}:${port}`));
}

function withoutQuery(url: unknown): string {
  return shorten(String(url).replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//"));
}

/** The beginning of a long address: one that is the code itself, in particular. */
function shorten(url: string): string {
  return url.length > 100 ? `${url.slice(0, 40)}…` : url;
}
