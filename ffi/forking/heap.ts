/**
 * Fact 1: V8 marks every mapping that it makes as not to be inherited
 * (`MADV_DONTFORK`), and a child without a heap dies at once.
 */
import { libc } from "../libc.ts";
import { architecture } from "../platform.ts";

const MADV_DOFORK = 11;
const AT_SYSINFO_EHDR = 33n;

// Where user space ends: beyond it nothing is mapped, and madvise(2) passes over holes.
const END_OF_USER_SPACE = { x86_64: 0x7fff_ffff_f000n, aarch64: 0xffff_ffff_f000n } as const;

let kernelCode: bigint | undefined;

/**
 * Has the next fork() give its child the whole heap. V8 maps new memory all the
 * time, so this is done before every fork.
 *
 * madvise() walks up and stops with EINVAL at the kernel's own data ([vvar]),
 * having done all below. The kernel's code ([vdso]) lies right above, and there
 * the second walk starts. Neither result says anything: the tests look at the
 * effect, in `/proc/self/smaps`.
 */
export function shareHeap(): void {
  const end = END_OF_USER_SPACE[architecture()];
  const { getauxval, madvise } = libc();
  kernelCode ??= getauxval(AT_SYSINFO_EHDR);
  madvise(0n, end, MADV_DOFORK);
  if (kernelCode !== 0n) madvise(kernelCode, end - kernelCode, MADV_DOFORK);
}
