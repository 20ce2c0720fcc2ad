/**
 * Fact 5: random state is memory, so fork() copies it, and siblings would draw
 * the same "unique" numbers.
 */

// Deno's generator (rand 0.8) draws blocks of 256 bytes from a seed and has seen,
// through pthread_atfork(), that the process forked; but it acts on that only
// where a new block begins. Drawing a whole block gets it there.
const BLOCK = new Uint8Array(256);

// Math.random() never seeds itself again. Its stand-in draws from a pool of
// secure random numbers, 53 bits a piece as the original.
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

/** Gives a forked child random state of its own. */
export function renewEntropy(): void {
  crypto.getRandomValues(BLOCK);
  left = 0;
  Math.random = random;
}
