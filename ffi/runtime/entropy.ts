/**
 * Fact 5: random state is memory, so fork() copies it, and siblings would generate the same
 * "unique" numbers.
 *
 * Deno's generator (rand 0.8) produces blocks of 256 bytes, and detects a fork with
 * pthread_atfork(): it then reseeds itself, but only at the start of the next block. The rest of
 * the current block would be used twice, and so would the UUIDs generated in advance. The parent
 * therefore discards its copy after each fork. The child, whose time is expensive, does nothing,
 * and each number is used once.
 */

import { isOlder } from "../platform.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { replaceGlobal } from "./globals.ts";
import { renewPools } from "./id_pools.ts";
import { isSeeded } from "./v8_flags.ts";

// A whole block, from wherever in the block the generator stands.
const BLOCK = new Uint8Array(ASSUMPTIONS.randomBlock.value);
const UUIDS_AT_ONCE = ASSUMPTIONS.uuidsAtOnce.value;
// How many the self-check may leave unnoticed: between its two tests, the parent draws as many as are
// expected, and two more. A Deno in which they were counted draws no more than that.
const UUIDS_UNNOTICED = isOlder(ASSUMPTIONS.uuidsCounted.value, Deno.version.deno)
  ? 2 * UUIDS_AT_ONCE + 2
  : UUIDS_AT_ONCE;

// Math.random() never reseeds itself. Its replacement uses a pool of secure random numbers, 53 bits
// each like the original.
const pool = new Uint32Array(512);
let left = 0;

function random(): number {
  if (left === 0) {
    crypto.getRandomValues(pool);
    left = pool.length;
  }
  const high = pool[--left]! >>> 5;
  const low = pool[--left]! >>> 6;
  return (high * 0x400_0000 + low) / 0x20_0000_0000_0000;
}

let checked: typeof random | undefined;

/**
 * Replaces V8's `Math.random()`, whose state is not aware of forks: when tine is loaded, because a
 * module may keep the function when it is loaded in turn, and before each fork, because a program
 * may have put V8's back. A generator that the program has installed is the program's own
 * responsibility.
 */
export function makeEntropyForkSafe(): void {
  if (Math.random === checked) return;
  const isNative = Function.prototype.toString.call(Math.random) === ASSUMPTIONS.nativeRandom.value;
  if (isNative) replaceGlobal("Math.random", () => random);
  checked = Math.random;
}

makeEntropyForkSafe();

/**
 * Discards the numbers generated in advance: in the parent after each fork, because the child uses
 * them now.
 *
 * @param isTested Whether the child is tested: if Deno draws more UUIDs at once, and the two would
 *   have some in common, {@linkcode findDoubled} finds one. Two tests in a row do not find that
 *   where Deno draws up to {@linkcode UUIDS_UNNOTICED}; so many are discarded without a test.
 */
export function discardStock(isTested: boolean): void {
  // Do this first: the new UUIDs below must not come from the part of the block that is left to the
  // child.
  crypto.getRandomValues(BLOCK);
  const uuids = isTested ? UUIDS_AT_ONCE : UUIDS_UNNOTICED;
  for (let i = 0; i < uuids; i++) crypto.randomUUID();
  BLOCK.fill(0);
  left = 0;
  renewPools();
}

/**
 * Numbers from each source that a program has without loading a module; none where the program has
 * a function of its own, which may be meant to repeat itself, and whose state is left alone.
 */
export interface Numbers {
  readonly values: readonly number[];
  readonly uuid: string;
  readonly randoms: readonly number[];
}

/** Draws what the next child would draw first: in the parent, after a fork. */
export function drawNumbers(): Numbers {
  return {
    values: isDenos("getRandomValues") ? [...crypto.getRandomValues(new Uint32Array(2))] : [],
    uuid: isDenos("randomUUID") ? crypto.randomUUID() : "",
    randoms: isNative(Math.random) ? [Math.random(), Math.random()] : [],
  };
}

// More than a stock of UUIDs twice as large as expected takes from the generator at once.
const SAMPLE_BYTES = BLOCK.length + 4 * 16 * UUIDS_AT_ONCE;

/**
 * Draws numbers in a child, and looks for those that a sibling would draw. These come after
 * everything that {@linkcode discardStock} discards, so as much is drawn here.
 *
 * @param siblings What the parent has drawn since the fork.
 * @returns The source that gave the same to both; `undefined` if none did.
 */
export function findDoubled({ values, uuid, randoms }: Numbers): string | undefined {
  const sample = new Uint32Array(SAMPLE_BYTES / 4);
  if (values.length > 0) crypto.getRandomValues(sample);
  for (let drawn = 0; drawn < UUIDS_AT_ONCE && uuid !== ""; drawn++) crypto.randomUUID();
  const own = drawNumbers();
  const doubled = values.length > 0 && includesPair(sample, values)
    ? "crypto.getRandomValues()"
    : uuid !== "" && own.uuid === uuid
    ? "crypto.randomUUID()"
    : own.randoms.some((number) => randoms.includes(number))
    ? "Math.random()"
    : undefined;
  return doubled === undefined || isSeeded() ? undefined : doubled;
}

function includesPair(words: Uint32Array, [first, second]: readonly number[]): boolean {
  for (let at = words.indexOf(first!); at !== -1; at = words.indexOf(first!, at + 1)) {
    if (words[at + 1] === second) return true;
  }
  return false;
}

function isDenos(name: keyof Crypto): boolean {
  return !Object.hasOwn(crypto, name);
}

/** Whether it is V8's generator, or tine's. */
function isNative(generator: typeof random): boolean {
  if (generator === random) return true;
  return generator.name === "random" && /\[native code\]/.test(String(generator));
}
