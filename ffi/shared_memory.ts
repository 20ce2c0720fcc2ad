import { fail } from "./errno.ts";
import { libc } from "./libc.ts";

const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED_ANONYMOUS = 0x01 | 0x20;

/**
 * Memory that this process and all children forked later see: what one writes,
 * the others read. Use `Atomics` on it where two may write at once. It lasts
 * until the last of the processes ends.
 *
 * @param byteLength The size in bytes, at least 1.
 * @returns The memory, filled with zeros.
 * @throws {RangeError} When the size is not a whole number from 1.
 * @throws {SyscallError} `ENOMEM` when there is not that much.
 *
 * @example A counter that children raise
 * ```ts
 * import { mapShared } from "@tine/tine";
 *
 * const counter = new Int32Array(mapShared(4));
 * Atomics.add(counter, 0, 1);
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/mmap.2.html mmap(2)}, `MAP_SHARED`
 */
export function mapShared(byteLength: number): ArrayBuffer {
  if (!Number.isSafeInteger(byteLength) || byteLength < 1) {
    throw new RangeError(`Cannot map ${byteLength} bytes: it takes a whole number from 1`);
  }
  const pointer = libc().mmap(
    0n,
    BigInt(byteLength),
    PROT_READ_WRITE,
    MAP_SHARED_ANONYMOUS,
    -1,
    0n,
  );
  // MAP_FAILED is (void *) -1.
  if (pointer === null || Deno.UnsafePointer.value(pointer) === 0xffff_ffff_ffff_ffffn) {
    fail("mmap", `${byteLength} bytes`);
  }
  return Deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
}
