/**
 * Fact 1: V8 maps every part of its heap so that a child does not inherit it (`MADV_DONTFORK`), and
 * a child without a heap dies immediately.
 */
import { libc } from "../libc.ts";
import { architecture } from "../platform.ts";

const MADV_DOFORK = 11;
const AT_SYSINFO_EHDR = 33n;

// The end of user space: nothing is mapped beyond it, and madvise(2) skips holes.
const END_OF_USER_SPACE = { x86_64: 0x7fff_ffff_f000n, aarch64: 0xffff_ffff_f000n } as const;

let end = 0n;
let kernelCode = 0n;
let aboveKernelCode = 0n;

/**
 * Calls fork(2) with a child that inherits the whole heap. V8 maps new memory all the time, so this
 * is done before every fork.
 *
 * madvise() walks upwards and stops with EINVAL at the kernel's own data ([vvar]), after it has
 * processed everything below. The kernel's code ([vdso]) lies directly above; the second walk
 * starts there. The results of both calls are meaningless: the tests check the effect, in
 * `/proc/self/smaps` and in many children.
 *
 * @returns The return value of fork(2).
 */
export function forkWithHeap(): number {
  const { fork, getauxval, madvise } = libc();
  if (end === 0n) {
    end = END_OF_USER_SPACE[architecture()];
    kernelCode = getauxval(AT_SYSINFO_EHDR);
    aboveKernelCode = end - kernelCode;
  }
  // Nothing may be allocated from here to fork(), not even a bigint: if that allocation mapped a
  // new part of the heap, the child would lack that part.
  madvise(0n, end, MADV_DOFORK);
  if (kernelCode !== 0n) madvise(kernelCode, aboveKernelCode, MADV_DOFORK);
  return fork();
}

/** An array of so many elements is in the young generation: 64 KB. */
const FILLER = 8000;
/** How many of them fill it twice, whatever its size: at most twice 4 MB. */
const MOST_FILLERS = 128;
/** After so many collections, an object that is in use is an old one. */
const COLLECTIONS = 2;

/**
 * Has V8 collect its young objects, so that children share those that are in use, and have room for
 * their own. Each child would otherwise move them when it has allocated a little itself, which
 * delays its first work by milliseconds and takes memory of its own: 2 MB of 6 in a worker that
 * has served nothing.
 *
 * V8 has no function for that without a flag that programs would notice, `--expose-gc`: this
 * allocates until V8 collects by itself, which takes two milliseconds.
 */
export function collectYoungObjects(): void {
  let collections = 0;
  let { heapUsed } = Deno.memoryUsage();
  for (let i = 0; i < MOST_FILLERS && collections < COLLECTIONS; i++) {
    void new Array(FILLER);
    const before = heapUsed;
    ({ heapUsed } = Deno.memoryUsage());
    if (heapUsed < before) collections++;
  }
}
