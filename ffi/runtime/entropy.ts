/**
 * Fact 5: random state is memory, so fork() copies it, and siblings would draw
 * the same "unique" numbers.
 *
 * Deno's generator (rand 0.8) draws blocks of 256 bytes, and through
 * pthread_atfork() it knows that its process was forked: there it seeds itself
 * anew, but only where the next block begins. What is left of the block at hand
 * would be drawn twice, and so would the UUIDs in stock. So the parent throws its
 * copy away after each fork: the child, which has little time, does nothing, and
 * each number is drawn once.
 */

import { ASSUMPTIONS } from "./assumptions.ts";
import { replaceGlobal } from "./globals.ts";

// A whole block, from wherever in the block the generator stands.
const BLOCK = new Uint8Array(ASSUMPTIONS.randomBlock.value);
const UUIDS_AT_ONCE = ASSUMPTIONS.uuidsAtOnce.value;

// Math.random() never seeds itself anew. Its stand-in draws from a pool of secure
// random numbers, 53 bits a piece as the original.
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
 * Before a fork: no random number may come from V8's state, which does not know of forks. What the
 * program itself has put in its place is the program's to answer for.
 */
export function makeEntropyForkSafe(): void {
  if (Math.random === checked) return;
  const isNative = Function.prototype.toString.call(Math.random) === ASSUMPTIONS.nativeRandom.value;
  if (isNative) replaceGlobal("Math.random", () => random);
  checked = Math.random;
}

/** Throws away what was drawn in advance: in the parent after each fork, since it is the child's now. */
export function discardStock(): void {
  // First of all: new UUIDs are drawn below, and not from what the child has left of the block.
  crypto.getRandomValues(BLOCK);
  for (let i = 0; i < UUIDS_AT_ONCE; i++) crypto.randomUUID();
  BLOCK.fill(0);
  left = 0;
}
