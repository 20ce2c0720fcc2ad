import { cString } from "./c_string.ts";
import { Descriptor } from "./descriptor.ts";
import { check, fail } from "./errno.ts";
import { libc } from "./libc.ts";

/** `mmap()`: what one process writes, the others that have it mapped read. */
export const MAP_SHARED = 0x01;
/** `mmap()`: no file, but new memory filled with zeros. */
export const MAP_ANONYMOUS = 0x20;

const PROT_READ_WRITE = 1 | 2;
const MFD_CLOEXEC = 1;

/**
 * Maps memory, to be read and written, until this process ends.
 *
 * With `MAP_SHARED` all children that are forked later see it: what one writes, the
 * others read. Use `Atomics` on it where two may write at once.
 *
 * @param byteLength The size in bytes, at least 1.
 * @param flags `MAP_SHARED`, or-ed with `MAP_ANONYMOUS` where there is no file.
 * @param fd A file to map, from its start, so that processes which are no children can see it
 *   too; see {@linkcode memfd_create}. It may be closed afterwards. The process dies of SIGBUS
 *   where it touches a page behind the file's end.
 * @returns The memory.
 * @throws {RangeError} When the size is not a whole number from 1.
 * @throws {SyscallError} `ENOMEM` when there is not that much; `EBADF` when a file is wanted and
 *   the descriptor is not open; `EACCES` when the file is not open for reading and writing; `EINVAL`.
 *
 * @example A counter that children raise
 * ```ts
 * import { MAP_ANONYMOUS, MAP_SHARED, mmap } from "@tine/tine";
 *
 * const counter = new Int32Array(mmap(4, MAP_SHARED | MAP_ANONYMOUS));
 * Atomics.add(counter, 0, 1);
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/mmap.2.html mmap(2)}
 */
export function mmap(byteLength: number, flags: number, fd = -1): ArrayBuffer {
  if (!Number.isSafeInteger(byteLength) || byteLength < 1) {
    throw new RangeError(`Cannot map ${byteLength} bytes: expected a whole number of at least 1`);
  }
  const pointer = libc().mmap(0n, BigInt(byteLength), PROT_READ_WRITE, flags, fd, 0n);
  // MAP_FAILED is (void *) -1.
  if (pointer === null || Deno.UnsafePointer.value(pointer) === 0xffff_ffff_ffff_ffffn) {
    fail("mmap", `${byteLength} bytes`);
  }
  return Deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
}

/**
 * Makes a file that lies in memory only. Its descriptor may be mapped, inherited,
 * and kept across execve(2); others open it as `/proc/PID/fd/N`. Give it a size with
 * `ftruncate()`.
 *
 * @param name What `/proc/PID/fd` shows it as, behind `/memfd:`.
 * @returns Its descriptor, close-on-exec.
 * @throws {SyscallError} `EMFILE`, `ENOMEM`, `EINVAL` when the name is longer than 249 bytes.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/memfd_create.2.html memfd_create(2)}
 */
export function memfd_create(name: string): Descriptor {
  const fd = check(libc().memfd_create(cString(name), MFD_CLOEXEC), "memfd_create", name);
  return new Descriptor(fd);
}
