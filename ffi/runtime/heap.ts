/**
 * Fact 1: V8 maps every part of its heap so that a child does not inherit it
 * (`MADV_DONTFORK`), and a child without a heap dies at once.
 */
import { libc } from "../libc.ts";
import { architecture } from "../platform.ts";
import { awaitV8Workers } from "./v8_workers.ts";

const MADV_DOFORK = 11;
const AT_SYSINFO_EHDR = 33n;

// Where user space ends: beyond it nothing is mapped, and madvise(2) passes over holes.
const END_OF_USER_SPACE = { x86_64: 0x7fff_ffff_f000n, aarch64: 0xffff_ffff_f000n } as const;

let end = 0n;
let kernelCode = 0n;
let aboveKernelCode = 0n;

/**
 * fork(2) with a child that inherits the whole heap. V8 maps new memory all the
 * time, so it is seen to before every fork.
 *
 * madvise() walks up and stops with EINVAL at the kernel's own data ([vvar]),
 * having done all below. The kernel's code ([vdso]) lies right above, and there
 * the second walk starts. Neither result says anything: the tests look at the
 * effect, in `/proc/self/smaps` and in many children.
 *
 * @returns What fork(2) returns.
 */
export function forkWithHeap(): number {
  const { fork, getauxval, madvise } = libc();
  if (end === 0n) {
    end = END_OF_USER_SPACE[architecture()];
    kernelCode = getauxval(AT_SYSINFO_EHDR);
    aboveKernelCode = end - kernelCode;
  }
  awaitV8Workers();
  // From here to fork() nothing may allocate, not even a bigint: were it the
  // allocation that maps a new part of the heap, the child would lack that part.
  madvise(0n, end, MADV_DOFORK);
  if (kernelCode !== 0n) madvise(kernelCode, aboveKernelCode, MADV_DOFORK);
  return fork();
}
