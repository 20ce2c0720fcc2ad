import { libc } from "../libc.ts";

/**
 * Calls read(2) on a thread of the runtime's blocking pool, so that the event loop keeps running.
 * The thread is occupied for as long as the call waits.
 *
 * @param fd The descriptor.
 * @param size The maximum number of bytes to read.
 * @returns The bytes; empty at the end of the stream, and if the read failed: errno belongs to the
 *   other thread.
 */
export async function readAsync(fd: number, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(size);
  const count = await libc().read_on_pool(fd, buffer, BigInt(size));
  return buffer.subarray(0, Math.max(0, Number(count)));
}
