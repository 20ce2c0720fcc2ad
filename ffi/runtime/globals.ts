/**
 * The global objects that tine replaces. They are all listed here, with when and why, and every
 * replacement is done by this module: a test checks that no other file does it.
 *
 * (The one exception is `SyscallError`, which changes `Error.stackTraceLimit` while an error is
 * constructed.)
 *
 * A program may have replaced the same objects before, or may do so later. The program's
 * replacement is kept; the list says how.
 */

/** The replaced properties of global objects. */
interface Replaceable {
  /**
   * When tine is loaded, and again before a fork if V8's function is back (`entropy.ts`). V8
   * generates numbers from memory that fork() copies, and never reseeds: siblings would generate
   * the same numbers. A package that keeps the function when it is loaded keeps the replacement if
   * tine is imported before it.
   *
   * Not replaced if the program has installed its own function, for example a seeded one: that
   * stays, in each child as in the parent.
   */
  "Math.random": typeof Math.random;

  /**
   * When the program first uses `Buffer` (`id_pools.ts`), to find the random bytes that packages
   * draw in advance for ids. The replacement calls the previous function.
   */
  "Buffer.alloc": (size: number, ...rest: unknown[]) => Uint8Array<ArrayBuffer>;
  /** See `Buffer.alloc`. nanoid 6 gets a buffer with two methods of its own. */
  "Buffer.allocUnsafe": (size: number) => Uint8Array<ArrayBuffer>;

  /**
   * When tine is loaded (`fetch.ts`). The replacement behaves like Deno's, but creates its own
   * connections in a child that needs them.
   *
   * A wrapper that the program installs stays, and so does one installed before tine was loaded,
   * which is passed the child's client.
   */
  "globalThis.fetch": typeof fetch;

  /**
   * When tine is loaded (`fetch.ts`), to remember the options: in a child, `fetch` uses another
   * client with the same ones. The replacement calls the previous function.
   */
  "Deno.createHttpClient": typeof Deno.createHttpClient;

  /**
   * Before the first fork (`fork.ts`), as a getter that asks the kernel: Deno's value in each child
   * is the parent's pid.
   */
  "Deno.pid": typeof Deno.pid;

  /**
   * In a child that has loaded `node:process`, for the duration of one call (`node_process.ts`),
   * which must stop after the pid.
   */
  "Deno.ppid": typeof Deno.ppid;

  /**
   * Before the first fork, up to Deno 2.8 (`node_process.ts`): in a child, `process.pid` is the
   * parent's pid there, and means the child. So the child cannot signal its parent in this way. The
   * replacement calls the previous function.
   */
  "process.kill": (pid: number, signal?: string | number) => true;

  /**
   * In a child whose parent had listeners (`fork.ts`), permanently. The child does not inherit the
   * thread that all listeners need, and Deno would silently wait for it. The child therefore gets
   * an error, even if the program has wrapped the function.
   *
   * Also when Deno serves the main module's default export, which tine does (`caught_servers.ts`),
   * until Deno has added its own listeners, which are ignored.
   */
  "Deno.addSignalListener": typeof Deno.addSignalListener;

  /**
   * Before the first fork (`file_watcher.ts`). A child does not inherit the thread that all watchers need,
   * and Deno would wait for it forever. A child whose parent has watched files therefore gets an
   * error; any other calls the previous function.
   */
  "Deno.watchFs": typeof Deno.watchFs;

  /**
   * In a child under `deno run --watch` (`file_watcher.ts`), permanently: Deno would wait for the
   * same thread.
   */
  "globalThis.Worker": typeof Worker;

  /**
   * Before the preforking server forks a worker (`cpu_usage.ts`), in which it goes on from the
   * master's: a program may have read it while it was loaded. The replacement calls the previous
   * function.
   */
  "Deno.cpuUsage": () => { readonly user: number; readonly system: number };

  /**
   * In a worker of the preforking server (`web_sockets.ts`). Deno's server no longer counts a
   * WebSocket as a request and does not close it when the worker ends. The replacement calls the
   * previous function.
   */
  "Deno.upgradeWebSocket": typeof Deno.upgradeWebSocket;

  /**
   * Before the preforking server loads a program that may listen itself (`caught_servers.ts`). The
   * replacement remembers the server, which each worker starts on a socket that all workers share.
   * tine itself uses the previous function, see {@linkcode originalOf}.
   */
  "Deno.serve": typeof Deno.serve;

  /**
   * In a worker of the preforking server (`error_log.ts`). If standard error or output cannot be
   * written to (a full disk), the app's request would fail. The replacement calls the previous
   * function.
   */
  "console.debug": typeof console.debug;
  /** See `console.debug`. */
  "console.error": typeof console.error;
  /** See `console.debug`. */
  "console.info": typeof console.info;
  /** See `console.debug`. */
  "console.log": typeof console.log;
  /** See `console.debug`. */
  "console.trace": typeof console.trace;
  /** See `console.debug`. */
  "console.warn": typeof console.warn;
}

/**
 * What is watched while an app is loaded in the master of the preforking server (`creation.ts`): the
 * functions and classes that open what does not survive a fork. Each is wrapped, and the wrapper
 * passes the call on and keeps the place of the call. Afterwards the previous value is put back,
 * unless the program has put something else in its place, which stays: it may call the wrapper,
 * which then only passes the call on. Of `Deno.Command`, the prototype's `spawn` is replaced instead,
 * of Node's `net.Socket` its `connect`, and of its timers the method that creates one.
 */
export const WATCHED = [
  "Deno.addSignalListener",
  "Deno.Command",
  "Deno.connect",
  "Deno.connectTls",
  "Deno.cron",
  "Deno.openKv",
  "Deno.watchFs",
  "globalThis.BroadcastChannel",
  "globalThis.WebSocket",
  "globalThis.Worker",
] as const;

/**
 * Wraps a function or class of {@linkcode WATCHED} for a while. What Deno loads when it is first
 * referenced is still loaded then, and wrapped.
 *
 * @param name The name.
 * @param wrap Creates the wrapper.
 * @returns A function that puts the previous value back.
 */
export function wrapGlobal<T extends object>(
  name: typeof WATCHED[number],
  wrap: (original: T) => T,
): () => void {
  const [object, property] = name.split(".") as [string, string];
  const owner = (globalThis as unknown as Record<string, object>)[object]!;
  const previous = Object.getOwnPropertyDescriptor(owner, property);
  if (previous === undefined) return () => {}; // it needs a flag that was not given
  const { enumerable = false } = previous;
  let original: T | undefined;
  let wrapper: T | undefined;
  const get = (): T | undefined => {
    const current: T | undefined = previous.get?.call(owner) ?? previous.value;
    if (current === undefined || current === original) return wrapper;
    original = current;
    return wrapper = wrap(current);
  };
  const set = (value: unknown): void => {
    Object.defineProperty(owner, property, {
      value,
      writable: true,
      enumerable,
      configurable: true,
    });
  };
  Object.defineProperty(owner, property, { get, set, enumerable, configurable: true });
  return () => {
    const isOwn = Object.getOwnPropertyDescriptor(owner, property)?.get === get;
    if (isOwn) Object.defineProperty(owner, property, previous);
  };
}

/**
 * Replaces a function.
 *
 * @param name The name of the function.
 * @param make Creates the new function from the previous one.
 */
export function replaceGlobal<N extends keyof Replaceable>(
  name: N,
  make: (original: Replaceable[N]) => Replaceable[N],
): void {
  const [owner, property] = find(name);
  // Not an assignment: Deno 2.8.0 to 2.8.2 have a getter for Deno.upgradeWebSocket.
  Object.defineProperty(owner, property, { value: make(owner[property]!), writable: true });
}

/** The previous functions, by their names, of those that were replaced without being loaded. */
const originals = new Map<keyof Replaceable, () => unknown>();

/**
 * Replaces a function that Deno loads when it is first referenced, without loading it.
 *
 * @param name The name of the function.
 * @param make Creates the new function; the argument returns the previous one.
 */
export function replaceUnloaded<N extends keyof Replaceable>(
  name: N,
  make: (original: () => Replaceable[N]) => Replaceable[N],
): void {
  const [owner, property] = find(name);
  const descriptor = Object.getOwnPropertyDescriptor(owner, property)!;
  const original = () => descriptor.get === undefined ? descriptor.value : descriptor.get();
  originals.set(name, original);
  Object.defineProperty(owner, property, {
    value: make(original),
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

/** Returns the function that {@linkcode replaceUnloaded} has replaced, or else the present one. */
export function originalOf<N extends keyof Replaceable>(name: N): Replaceable[N] {
  const [owner, property] = find(name);
  return originals.has(name) ? originals.get(name)!() as Replaceable[N] : owner[property]!;
}

/**
 * Replaces a value with a getter.
 *
 * @returns A function that restores the previous value.
 */
export function replaceGetter<N extends keyof Replaceable>(
  name: N,
  get: () => Replaceable[N],
): () => void {
  const [owner, property] = find(name);
  const original = Object.getOwnPropertyDescriptor(owner, property)!;
  Object.defineProperty(owner, property, { get, enumerable: true, configurable: true });
  return () => void Object.defineProperty(owner, property, original);
}

/**
 * Reports the first use of a global object that Deno loads when it is used. The property is the
 * same as before then.
 *
 * @param owner `globalThis` or `Deno`.
 * @param name The name of the property.
 * @param callback Called before the program gets the object.
 * @returns Whether Deno has the object and has not loaded it.
 */
export function onFirstUse(owner: object, name: string, callback: () => void): boolean {
  const original = Object.getOwnPropertyDescriptor(owner, name);
  if (original?.get === undefined) return false;
  Object.defineProperty(owner, name, {
    ...original,
    get(this: Record<string, unknown>): unknown {
      Object.defineProperty(owner, name, original);
      callback();
      return this[name];
    },
  });
  return true;
}

function find<N extends keyof Replaceable>(
  name: N,
): [owner: Record<string, Replaceable[N]>, property: string] {
  const [object, property] = name.split(".") as [string, string];
  const objects = globalThis as unknown as Record<string, Record<string, Replaceable[N]>>;
  return [objects[object]!, property];
}

/**
 * Replaces a property of a prototype. There are four:
 *
 * - that of Node's `Timeout`, from `becomeForkable()` on, if timers were created before: it reports
 *   the timers created later, which a child must not run (`timers.ts`).
 * - that of all typed arrays, when tine is loaded: `slice()` finds the random bytes that uuid has
 *   drawn in advance (`id_pools.ts`). It calls the previous function.
 * - that of Node's `net.Server`, when a program that the preforking server has loaded creates its
 *   first server (`node_servers.ts`): what listens is a socket that all workers share.
 * - those of `Deno.Command` and of Node's `ChildProcess`, when the program first uses them
 *   (`subprocess_mask.ts`): a method that starts a process calls the previous one with another
 *   signal mask.
 */
export function replaceProperty<T extends object, K extends keyof T>(
  owner: T,
  property: K,
  make: (original: T[K]) => T[K],
): void {
  owner[property] = make(owner[property]);
}

/**
 * Reports each object of a prototype of Deno's when it first gets a property, which is one of a
 * list of timers (`timers.ts`), from `becomeForkable()` on. The object keeps the property.
 *
 * @param prototype The objects' prototype.
 * @param property The property, which a constructor assigns.
 * @param onSet Called with each object.
 */
export function interceptProperty<T extends object>(
  prototype: T,
  property: keyof T,
  onSet: (object: T) => void,
): void {
  Object.defineProperty(prototype, property, {
    set(this: T, value: unknown): void {
      Object.defineProperty(this, property, { value });
      onSet(this);
    },
  });
}

/**
 * Reports the first assignment of a property that no object of a prototype has before its
 * constructor assigns it. Afterwards the prototype is as before. There are five uses, from the time
 * when the preforking server loads a program. Three last as long as there is nothing to report
 * (`node_servers.ts`): Deno's internal object, when Deno loads the first module of Node's; and from
 * then on `Object.prototype`, until the first server of Node's is created, and until `node:cluster`
 * is loaded. Two are `Object.prototype` while the program is loaded, until the first socket and the
 * first timer of Node's are created (`creation.ts`).
 *
 * @param owner The object, or the prototype.
 * @param property The property.
 * @param onSet Called with the object that gets the property, before it has it.
 * @returns A function that ends the wait for it.
 */
export function onFirstAssignment(
  owner: object,
  property: string,
  onSet: (object: object) => void,
): () => void {
  function set(this: object, value: unknown): void {
    end();
    onSet(this);
    Object.defineProperty(this, property, {
      value,
      writable: true,
      enumerable: true,
      configurable: true,
    });
  }
  function end(): void {
    if (Object.getOwnPropertyDescriptor(owner, property)?.set !== set) return;
    delete (owner as Record<string, unknown>)[property];
  }
  Object.defineProperty(owner, property, { configurable: true, set });
  return end;
}

/**
 * Keeps a method of one object from being used, whatever is assigned to it later. The object is that
 * of `node:cluster`, in a program that the preforking server loads (`node_servers.ts`): its workers
 * would be servers beside tine's.
 *
 * @param owner The object.
 * @param method The method's name.
 * @param replacement Called instead.
 */
export function interceptMethod(owner: object, method: string, replacement: () => unknown): void {
  Object.defineProperty(owner, method, {
    get: () => replacement,
    set: () => {},
    enumerable: true,
    configurable: true,
  });
}

/** Under this name a program knows of its server, whatever copy of tine asks. */
const SERVING = Symbol.for("tine.serving");

/** Whether this process is a preforking server, or one of its children. */
export function isServing(): boolean {
  return Reflect.get(globalThis, SERVING) === true;
}

/** Sets {@linkcode isServing}, for all copies of tine in this program. */
export function setServing(value: boolean): void {
  Reflect.set(globalThis, SERVING, value);
}

/**
 * Gives one object another prototype. In a worker of the preforking server, this is Deno's internal
 * body of a request that is read within limits (`http_internals.ts`): a copy would lose Deno's fast
 * ways to read it. No other body changes, and `Request` is unchanged.
 */
export function replacePrototype(object: object, prototype: object): void {
  Object.setPrototypeOf(object, prototype);
}
