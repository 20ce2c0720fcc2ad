/**
 * What packages that make ids keep of random numbers drawn in advance. fork() copies it, and
 * siblings would make the same ids.
 *
 * Only what is recognized as such a pool, by the function that made it, is drawn again. Any other
 * random bytes may be a secret that the processes share on purpose, or a table that other data
 * depends on.
 */
import { onFirstUse, replaceGlobal, replaceProperty } from "./globals.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Something drawn in advance. */
interface Pool<T extends object = object> {
  readonly target: WeakRef<T>;
  /** Draws it again. */
  readonly renew: (target: T) => void;
}

let pools: Pool[] = [];

function add<T extends object>(target: T, renew: (target: T) => void): void {
  const pool: Pool<T> = { target: new WeakRef(target), renew };
  pools.push(pool as unknown as Pool);
}

/** Draws all pools again: in the parent after each fork, because the child uses them now. */
export function renewPools(): void {
  if (pools.length === 0) return;
  pools = pools.filter(({ target, renew }) => {
    const alive = target.deref();
    if (alive !== undefined) renew(alive);
    return alive !== undefined;
  });
}

function refill(bytes: Bytes): void {
  crypto.getRandomValues(bytes);
}

/** Recognizes a package's functions among the callers. */
class Callers {
  readonly #functions: RegExp;
  /** How many stack traces may be in vain: each takes 50 µs. */
  #lookups = 100;

  /**
   * @param functions Matches the stack trace. In a bundle, a function's name may have a number. One
   *   that is called as a method has an object's name, too.
   */
  constructor(functions: RegExp) {
    this.#functions = functions;
  }

  areHere(): boolean {
    if (this.#lookups === 0) return false;
    const found = this.#functions.test(new Error().stack ?? "");
    if (!found) this.#lookups--;
    return found;
  }
}

/** nanoid 3 to 5 draws the bytes of 128 ids. */
const NANOID = {
  callers: new Callers(/\bat fillPool\d* .*\n\s*at (?:\w+\.)?(nanoid|random)\d* /),
  ids: 128,
};
/**
 * nanoid 6 draws at least 16 ids, and keeps a text. It allocates a buffer for the text, fills that
 * or another one with random bytes, and makes the text.
 */
const NANOID_6 = { callers: new Callers(/\bat fillRandom\d* /), ids: 16 };
/** Files are read in larger pieces. */
const LARGEST = 32_768;
/** How many random bytes another buffer has for a character of the text. */
const SPARE = { least: 1.6, most: 3.2 };
/** bson 7 draws the bytes that all ObjectIds of a process have in common. */
const BSON = { callers: new Callers(/\bat new ObjectId\d* /), bytes: 5 };

/** How many more buffers may be watched in vain, in search of nanoid 6. */
let watches = 1000;
/** The buffer that was allocated last. */
let previous: WeakRef<Bytes> | undefined;

// A package gets Buffer from the global object each time it uses it. The first use loads it, which
// takes tens of milliseconds: not here.
onFirstUse(globalThis, "Buffer", () => {
  replaceGlobal("Buffer.allocUnsafe", (original) =>
    function allocUnsafe(this: unknown, size) {
      const buffer = original.call(this, size);
      if (!(size > 0 && size <= SPARE.most * LARGEST)) return buffer;
      const isPool = size % NANOID.ids === 0 && size <= LARGEST && NANOID.callers.areHere();
      if (isPool) add(buffer, refill);
      else if (watches > 0 && watches-- > 0) watchFill(buffer);
      return buffer;
    });
  replaceGlobal("Buffer.alloc", (original) =>
    function alloc(this: unknown, size, ...rest) {
      const buffer = original.call(this, size, ...rest);
      if (size === BSON.bytes && BSON.callers.areHere()) add(buffer, refill);
      return buffer;
    });
});

/** Gives nanoid 6, if it is what fills the buffer, a text that can be discarded. */
function watchFill(buffer: Bytes): void {
  const before = previous;
  previous = new WeakRef(buffer);
  override(buffer, "subarray", (...range: number[]) => {
    const part = buffer.subarray(...range);
    if (part.byteOffset === buffer.byteOffset && NANOID_6.callers.areHere()) {
      watches++;
      replaceText(buffer);
      const other = before?.deref();
      const spare = buffer.length / (other?.length ?? 0);
      if (other && spare >= SPARE.least && spare <= SPARE.most) replaceText(other);
    }
    return part;
  });
}

function replaceText(buffer: Bytes): void {
  if (buffer.length % NANOID_6.ids !== 0) return;
  override(buffer, "toString", (encoding: string, ...rest: []) => {
    const text = (buffer.toString as (encoding: string) => string)(encoding, ...rest);
    return encoding === "latin1" ? discardable(text) : text;
  });
}

/** Overrides a method of a buffer, for one call. */
function override(buffer: Bytes, name: "subarray" | "toString", method: unknown): void {
  const value = (...args: unknown[]) => {
    Reflect.deleteProperty(buffer, name);
    return (method as (...args: unknown[]) => unknown)(...args);
  };
  Object.defineProperty(buffer, name, { value, configurable: true, writable: true });
}

/** Returns an object that behaves like a text, and has nothing left once that is discarded. */
function discardable(text: string): object {
  const left = { text };
  const pool = new Proxy(left, {
    get(left, name) {
      const value = Reflect.get(Object(left.text), name);
      return typeof value === "function" ? value.bind(left.text) : value;
    },
  });
  add(pool, () => left.text = "");
  return pool;
}

/** uuid up to 13 draws the bytes of 16 ids. */
const UUID = { callers: new Callers(/\bat rng\d* /), bytes: 256, idBytes: 16 };
/** uuid from 11 on draws the bytes that all ids of `v1()` have in common. */
const UUID_V1 = { callers: new Callers(/\bat updateV1State\d* /), bytes: 6, of: 16 };
/** uuid up to 10 keeps them as numbers. */
const OLD_UUID_V1 = new Callers(/\bat rng\d* .*\n\s*at (?:\w+\.)?v1\d* /);

const poolsOfUuid = new WeakSet<Bytes>();
let hasNewV1 = false;
let hasOldV1 = false;

const typedArray: Pick<Bytes, "slice"> = Object.getPrototypeOf(Uint8Array.prototype);
replaceProperty(
  typedArray,
  "slice",
  (original) =>
    function slice(this: Bytes, start?: number, end?: number): Bytes {
      const part: Bytes = Reflect.apply(original, this, [start, end]);
      if (part.length === UUID.idBytes && this.length === UUID.bytes) findPool(this);
      else if (part.length === UUID_V1.bytes && this.length === UUID_V1.of) findNode(part);
      return part;
    },
);

function findPool(bytes: Bytes): void {
  if (!poolsOfUuid.has(bytes)) {
    if (!UUID.callers.areHere()) return;
    poolsOfUuid.add(bytes);
    add(bytes, refill);
  }
  hasOldV1 ||= !hasNewV1 && OLD_UUID_V1.areHere();
}

function findNode(node: Bytes): void {
  if (!UUID_V1.callers.areHere()) return;
  hasNewV1 = true;
  hasOldV1 = false; // it was this version
  add(node, (node) => {
    refill(node);
    node[0]! |= 1; // no address of a network interface, RFC 9562 section 6.10
  });
}

/**
 * Returns what siblings would have in common, and cannot be drawn again, once.
 *
 * @returns A sentence.
 */
export function findFixedIds(): string | undefined {
  if (!hasOldV1) return undefined;
  hasOldV1 = false;
  return "uuid has made an id with v1() before the fork, so that several processes make the same " +
    "ids (up to version 10 of uuid)";
}
