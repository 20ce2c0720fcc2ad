import { cString } from "./c_string.ts";
import { Descriptor } from "./descriptor.ts";
import { check, fail } from "./errno.ts";
import { libc } from "./libc.ts";

/** `mmap()`: other processes that map the same memory see the changes. */
export const MAP_SHARED = 0x01;
/** `mmap()`: new memory filled with zeros, without a file. */
export const MAP_ANONYMOUS = 0x20;

const PROT_READ_WRITE = 1 | 2;
const MFD_CLOEXEC = 1;

/**
 * Maps memory for reading and writing, until this process ends.
 *
 * With `MAP_SHARED`, all children that are forked later share it: each sees what the others write.
 * Use `Atomics` on it if several may write at the same time.
 *
 * @param byteLength The size in bytes, at least 1.
 * @param flags `MAP_SHARED`, OR-ed with `MAP_ANONYMOUS` if there is no file.
 * @param fd A file to map from its start, so that processes other than children can see it too; see
 *   {@linkcode memfd_create}. It may be closed afterwards. SIGBUS ends the process if it accesses a
 *   page after the end of the file.
 * @returns The memory.
 * @throws {RangeError} If the size is not a whole number of at least 1.
 * @throws {SyscallError} `ENOMEM` if there is not enough memory; `EBADF` if a file is required and
 *   the descriptor is not open; `EACCES` if the file is not open for reading and writing; `EINVAL`.
 *
 * @example A counter that children increment
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
 * Creates a file that exists only in memory. Its descriptor can be mapped, inherited, and kept
 * across execve(2); other processes can open it as `/proc/PID/fd/N`. Set its size with
 * `ftruncate()`.
 *
 * @param name The name that `/proc/PID/fd` shows, after `/memfd:`.
 * @returns Its descriptor, which is close-on-exec.
 * @throws {SyscallError} `EMFILE`, `ENOMEM`, or `EINVAL` if the name is longer than 249 bytes.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/memfd_create.2.html memfd_create(2)}
 */
export function memfd_create(name: string): Descriptor {
  const fd = check(libc().memfd_create(cString(name), MFD_CLOEXEC), "memfd_create", name);
  return new Descriptor(fd);
}
