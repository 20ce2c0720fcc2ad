/**
 * What a program holds open that a fork with a runtime does not pass on: it belongs to the parent,
 * or to threads that a child does not have. What survives is left out: regular files, databases in
 * memory, idle connections of `fetch` and of Node's HTTP agents, which are opened anew.
 */
import { formatAddress } from "../address.ts";
import { isSyscallError } from "../errno.ts";
import { getpid } from "../process.ts";
import { readText } from "../proc.ts";
import { getpeername } from "../socket_calls.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import {
  type Creation,
  isWorker,
  newNumbers,
  placeIn,
  placeOfSocket,
  placeOfTimer,
  watchedCreations,
} from "./creation.ts";
import { openDescriptors, watchedDescriptors } from "./event_loop.ts";
import { hasNodeProcess } from "./node_process.ts";
import { denoResources, type ResourceKind } from "./resources.ts";
import {
  isFileWatcher,
  isPoolThread,
  isV8Worker,
  ofThread,
  type Thread,
  threads,
} from "./threads.ts";
import { liveTimers } from "./timers.ts";

/** Something open. */
export interface Open {
  readonly kind: ResourceKind | "worker" | "thread" | "database" | "timer" | "interval";
  /** An address, a path, a name; empty if it is not known. */
  readonly detail: string;
  /** Where the program opened it, if that is known: a path or URL, with the line and column. */
  readonly place: string | undefined;
  /** The pid of a subprocess. */
  readonly pid?: number;
}

/** Returns what is open, of each kind in the order of creation. */
export function findOpen(): Open[] {
  return [
    ...resources(),
    ...nodeConnections(),
    ...unixConnections(),
    ...databases(),
    ...foreignThreads(),
    ...timers(),
  ];
}

/** What cannot be used after a fork: some of it would fail without a reason, some would wait forever. */
const UNUSABLE: { readonly [kind in Open["kind"]]?: readonly string[] } = {
  connection: ["read", "write", "readable", "writable"],
  webSocket: ["send"],
  kv: ["get", "getMany", "set", "delete", "list", "enqueue", "listenQueue", "atomic", "watch"],
  subprocess: ["status", "output", "stdin", "stdout", "stderr"],
  worker: ["postMessage"],
};

/**
 * Makes the objects that the program got while it was watched fail with an error that says why, and
 * has the agents of `node:http` forget their idle connections. The parent calls it, which will not
 * use them either, so that the fork costs nothing; it must return to the event loop once before.
 *
 * @param explain Returns the error's message.
 */
export function disown(explain: (open: Open) => string): void {
  for (const creation of watchedCreations()) {
    const { kind, object } = creation;
    const target = object?.deref();
    if (target === undefined) continue;
    const fail = (): never => {
      throw new Error(explain({ kind, ...about(creation) }));
    };
    for (const name of UNUSABLE[kind] ?? []) refuse(target, name, fail);
  }
  for (const handle of nodeHandles()) {
    if (isKeptByAgent(handle)) handle.destroy?.();
  }
  for (const { object, ...open } of nodeConnections()) {
    const explained = () => new Error(explain(open));
    const write = (...args: unknown[]) => (args.at(-1) as (error: Error) => void)(explained());
    for (const name of ["_write", "_writev"]) Object.defineProperty(object, name, { value: write });
  }
}

/** Replaces a method or a property of an object with one that fails. */
function refuse(target: object, name: string, fail: () => never): void {
  let prototype: object | null = Object.getPrototypeOf(target);
  while (prototype !== null && !Object.hasOwn(prototype, name)) {
    prototype = Object.getPrototypeOf(prototype);
  }
  if (prototype === null) return;
  const original = Object.getOwnPropertyDescriptor(prototype, name)!;
  const isAsync = original.value?.constructor.name === "AsyncFunction";
  const method = isAsync ? () => Promise.try(fail) : fail;
  Object.defineProperty(
    target,
    name,
    original.get === undefined ? { value: method } : { get: fail },
  );
}

/** Deno's own resources. */
function resources(): Open[] {
  const found = denoResources().filter(({ kind }) => kind !== "subprocess" && kind !== "signal")
    .map(({ kind, number }) => {
      return { kind, ...about(find(kind, number)) };
    });
  return [...found, ...findSubprocesses(), ...signalListeners()];
}

function about(creation: Creation | undefined): Pick<Open, "detail" | "place"> {
  const { detail = "", place } = creation ?? {};
  return { detail, place: place && placeIn(place) };
}

/** Returns the subprocesses of Deno's and of Node's: those of which Deno has a resource. */
export function findSubprocesses(): Open[] {
  const count = denoResources().filter(({ kind }) => kind === "subprocess").length;
  if (count === 0) return [];
  // A process that has executed this program anew may have older children.
  const all = newNumbers("child").sort((a, b) => a - b).map((pid) => ({
    pid,
    name: nameOfProcess(pid),
    creation: find("subprocess", pid),
  }));
  const known = all.filter(({ creation }) => creation !== undefined);
  // The others are Node's, and later ones tine's.
  const others = all.filter(({ creation }) => creation === undefined);
  return [...known, ...others.slice(0, Math.max(0, count - known.length))]
    .map(({ pid, name, creation }): Open => ({
      kind: "subprocess",
      detail: `${name} (pid ${pid})`,
      place: about(creation).place,
      pid,
    }));
}

function nameOfProcess(pid: number): string {
  try {
    return readText(`/proc/${pid}/comm`).trim();
  } catch (error) {
    if (isSyscallError(error)) return "process"; // it has ended
    throw error;
  }
}

function signalListeners(): Open[] {
  const live = denoResources().filter(({ kind }) => kind === "signal");
  const found = live.flatMap(({ number }) => find("signal", number) ?? [])
    .map((creation): Open => ({ kind: "signal", ...about(creation) }));
  if (live.length === found.length || !hasNodeProcess()) return found;
  const names = nodeProcess().eventNames?.().filter((name) => /^SIG/.test(String(name))) ?? [];
  return [
    ...found,
    ...names.map((name): Open => ({ kind: "signal", detail: String(name), place: undefined })),
  ];
}

/** A connection of Node's. */
interface NodeConnection extends Open {
  readonly object: object;
}

/** The relevant parts of `node:process`, and of a socket of `node:net`. */
interface NodeProcess {
  eventNames?(): PropertyKey[];
  [ASSUMPTIONS.nodeHandles.value]?(): NodeHandle[];
}

interface NodeHandle {
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly [ASSUMPTIONS.nodeAgent.value.request]?: object | null;
  listenerCount?(event: string): number;
  destroy?(): void;
}

function nodeProcess(): NodeProcess {
  return (globalThis as unknown as { process: NodeProcess }).process;
}

/** Connections of Node's over TCP, which have no resource of Deno's. */
function nodeConnections(): NodeConnection[] {
  return nodeHandles().flatMap((object): NodeConnection[] => {
    const { remoteAddress, remotePort } = object;
    if (remoteAddress === undefined || isKeptByAgent(object)) return [];
    const detail = formatAddress([remoteAddress, remotePort!]);
    const place = placeOfSocket(object);
    return [{ kind: "connection", detail, place: place && placeIn(place), object }];
  });
}

function nodeHandles(): NodeHandle[] {
  return hasNodeProcess() ? nodeProcess()[ASSUMPTIONS.nodeHandles.value]?.() ?? [] : [];
}

/** Whether a socket is one that an agent of `node:http` keeps for a later request. */
function isKeptByAgent(handle: NodeHandle): boolean {
  const { event, request } = ASSUMPTIONS.nodeAgent.value;
  return (handle.listenerCount?.(event) ?? 0) > 0 && handle[request] === null;
}

/** Connections to UNIX sockets that Deno has no resource for: Node's. */
function unixConnections(): Open[] {
  if (!hasNodeProcess()) return [];
  const known = new Set(watchedCreations().map(({ detail }) => detail));
  return watchedDescriptors().flatMap(({ fd }): Open[] => {
    const detail = peerOf(fd);
    if (detail === "" || known.has(detail)) return [];
    return [{ kind: "connection", detail, place: undefined }];
  });
}

/** The path of the UNIX socket that a socket is connected to; empty if there is none. */
function peerOf(fd: number): string {
  try {
    const address = getpeername(fd);
    return typeof address === "string" ? formatAddress(address) : "";
  } catch (error) {
    if (isSyscallError(error)) return ""; // not a socket, or not connected
    throw error;
  }
}

/** SQLite databases, by their open files. */
function databases(): Open[] {
  const paths = new Set(openDescriptors(newNumbers("fd")).values());
  return [...paths].filter((path) => isDatabase(path, paths) && !isKv(path))
    .map((path) => ({ kind: "database", detail: path, place: undefined }));
}

function isDatabase(path: string, all: ReadonlySet<string>): boolean {
  if (!path.startsWith("/") || /-(wal|shm|journal)$/.test(path)) return false;
  if (new RegExp(`${ASSUMPTIONS.cacheName.value}\\d+$`).test(path)) return false;
  return /\.(db|sqlite)\d?$/.test(path) ||
    ["-wal", "-shm", "-journal"].some((end) => all.has(path + end));
}

/** Whether a database is known as one of `Deno.openKv()`. */
function isKv(path: string): boolean {
  return denoResources().some(({ kind, number }) => {
    if (kind !== "kv") return false;
    const name = find("kv", number)?.detail.replace(/^"\.?\/?|"$/g, "");
    return path.endsWith(name || ASSUMPTIONS.kvFile.value);
  });
}

/** Web Workers, and the threads that neither the runtime nor V8 has started. */
function foreignThreads(): Open[] {
  const all = threads(newNumbers("task"));
  const workers = all.filter(({ name }) => isWorker(name)).map(({ tid, name }): Open => {
    const creation = find("worker", tid);
    return { kind: "worker", ...about(creation), ...creation === undefined && { detail: name } };
  });
  const foreign = all.filter((thread) => !isWorker(thread.name) && !isRuntimes(thread));
  const addOns = foreign.length === 0 ? "" : nativeAddOns().map((name) => ` (${name})`).join("");
  const byName = Map.groupBy(foreign, ({ name }) => name);
  return [
    ...workers,
    ...[...byName].map(([name, { length }]): Open => ({
      kind: "thread",
      detail: `${length === 1 ? "thread" : `${length} threads`} "${name}"${addOns}`,
      place: undefined,
    })),
  ];
}

function isRuntimes(thread: Thread): boolean {
  const { tid, name } = thread;
  if (tid === getpid() || isV8Worker(thread) || isPoolThread(thread)) return true;
  if (isFileWatcher(thread) || name.startsWith(ASSUMPTIONS.kvThreadName.value)) return true;
  // The threads for signals and for telemetry have the name of the main thread.
  return name === ofThread(getpid(), "comm")?.trim();
}

/** The names of the native add-ons that are loaded. */
function nativeAddOns(): string[] {
  const names = readText("/proc/self/maps").matchAll(/\/([^/\n]+\.node)$/gm);
  return [...new Set([...names].map(([, name]) => name!))];
}

/** Timers that the program has set itself. */
function timers(): Open[] {
  return liveTimers().flatMap(({ number, milliseconds, isRepeated }): Open[] => {
    const place = placeOfTimer(number);
    if (place === undefined) return [];
    const kind = isRepeated ? "interval" : "timer";
    return [{ kind, detail: `${milliseconds} ms`, place: placeIn(place) }];
  });
}

function find(kind: Creation["kind"], number: number): Creation | undefined {
  return watchedCreations().find((one) => one.kind === kind && one.number === number);
}
