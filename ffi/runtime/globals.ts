/**
 * What tine replaces of what belongs to the whole program. It is all here, with when and why, and
 * what replaces anything goes through here: a test sees to it that no other file does.
 *
 * (Only `SyscallError` changes one by itself, `Error.stackTraceLimit`, while it is being made.)
 *
 * A program may have replaced the same before, or do so later. What it has put in place stays; the
 * list says how.
 */

/** What is replaced: a global object and its property. */
interface Replaceable {
  /**
   * Before a fork (`entropy.ts`). V8 draws from memory that fork() copies and never seeds it anew:
   * siblings would draw the same numbers.
   *
   * Not where it is the program's own, one with a seed, say: that stays, in each child as in the
   * parent.
   */
  "Math.random": typeof Math.random;

  /**
   * When tine is loaded (`fetch.ts`). It does what Deno's does, but where a child needs connections
   * of its own it makes them.
   *
   * Whatever the program puts around it stays, and so does what it put there before tine was loaded,
   * which is given the child's client.
   */
  "globalThis.fetch": typeof fetch;

  /**
   * Before the first fork (`fork.ts`), as a getter that asks the kernel: Deno's value is the parent's
   * in each child.
   */
  "Deno.pid": typeof Deno.pid;

  /**
   * In a child that has loaded `node:process`, for the length of one call (`node_process.ts`), which
   * is to go no further than to the pid.
   */
  "Deno.ppid": typeof Deno.ppid;

  /**
   * In a child whose parent had listeners (`fork.ts`), for good. The thread that all of them need did
   * not come along, and Deno would wait for it without a word. So a child is told, whatever the
   * program has put around it.
   */
  "Deno.addSignalListener": typeof Deno.addSignalListener;

  /**
   * In a worker of the preforking server (`web_sockets.ts`). To Deno's server a WebSocket is no
   * request any more, and nobody else would close it when the worker ends. It calls what was there.
   */
  "Deno.upgradeWebSocket": typeof Deno.upgradeWebSocket;

  /**
   * In a worker of the preforking server (`error_log.ts`). Where standard error or output cannot be
   * written, the disk being full, the app's request would fail for it. It calls what was there.
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
 * Replaces a function.
 *
 * @param name Which.
 * @param make Makes the new one of what is there.
 */
export function replaceGlobal<N extends keyof Replaceable>(
  name: N,
  make: (original: Replaceable[N]) => Replaceable[N],
): void {
  const [owner, property] = find(name);
  // Not assigned: Deno 2.8.0 to 2.8.2 have a getter for Deno.upgradeWebSocket.
  Object.defineProperty(owner, property, { value: make(owner[property]!), writable: true });
}

/**
 * Replaces a value with one that is asked for each time.
 *
 * @returns Puts back what was there.
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

function find<N extends keyof Replaceable>(
  name: N,
): [owner: Record<string, Replaceable[N]>, property: string] {
  const [object, property] = name.split(".") as [string, string];
  const objects = globalThis as unknown as Record<string, Record<string, Replaceable[N]>>;
  return [objects[object]!, property];
}

/**
 * Replaces a property of a prototype of Deno's. There are two, and both are for the timers that a
 * child must not run (`timers.ts`), from `becomeForkable()` on:
 *
 * - that of Node's `Timeout`, where timers were made before: it tells of those to come.
 * - that of Deno's lists of timers, see {@linkcode interceptProperty}.
 */
export function replaceProperty<T extends object, K extends keyof T>(
  owner: T,
  property: K,
  make: (original: T[K]) => T[K],
): void {
  owner[property] = make(owner[property]);
}

/**
 * Hears of each object of a prototype when it first gets a property, which it keeps.
 *
 * @param prototype The objects' prototype.
 * @param property The property, which a constructor assigns.
 * @param onSet Hears of each object.
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
 * Gives one object another prototype. In a worker of the preforking server, what Deno has of the
 * body of a request that is read within limits (`http_internals.ts`): a copy would lose Deno's fast
 * ways to read it. No other body changes, and `Request` stays what it is.
 */
export function replacePrototype(object: object, prototype: object): void {
  Object.setPrototypeOf(object, prototype);
}
