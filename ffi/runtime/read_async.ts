import { libc } from "../libc.ts";

/**
 * read(2) by a thread of the runtime's blocking pool, for a process whose event
 * loop must go on turning meanwhile. The thread is taken for as long as it waits.
 *
 * @param fd The descriptor.
 * @param size The most bytes to take.
 * @returns The bytes; none at the end of the stream, and none when the read failed: what errno
 *   said belongs to the other thread.
 */
export async function readAsync(fd: number, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(size);
  const count = await libc().read_on_pool(fd, buffer, BigInt(size));
  return buffer.subarray(0, Math.max(0, Number(count)));
}
