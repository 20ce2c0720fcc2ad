/**
 * Fact 2, at the fork: V8 gives its worker threads no work that it waits for, but each collection
 * wakes one of them. That thread takes the lock of the queue to find that it is empty; the first
 * time it even sleeps there. If the process forked in that moment, the child's copy of the lock
 * would stay locked, and the child's next collection would hang.
 *
 * Only this process's main thread wakes them. Once they have been seen waiting, they keep waiting
 * for as long as nothing is allocated.
 */
import { cString } from "../c_string.ts";
import { O_CLOEXEC, O_RDONLY } from "../descriptor.ts";
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { architecture, SYSTEM_CALLS } from "../platform.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isV8Worker, threads } from "./threads.ts";

/**
 * The number of times to check them. They are usually waiting; otherwise they take about 10 µs to 3
 * ms.
 */
const ATTEMPTS = 1000;

// Created in advance: once they wait, nothing may be allocated.
const LENGTH = 3;
const size = BigInt(LENGTH);
const call = new Uint8Array(new ArrayBuffer(LENGTH));
const waiting = new Uint8Array(new ArrayBuffer(LENGTH));
let files: readonly Uint8Array<ArrayBuffer>[] | undefined;

/**
 * Finds V8's worker threads before the first fork, when there may be no free descriptor to search
 * with.
 */
export function prepareV8Workers(): void {
  files ??= findWorkers();
}

/** Waits until V8's worker threads are waiting to be woken. */
export function awaitV8Workers(): void {
  files ??= findWorkers();
  for (let i = 0; i < ATTEMPTS && !areWaiting(files); i++) pauseBriefly();
}

/** The files that show in which system call each thread is: the number comes first. */
function findWorkers(): Uint8Array<ArrayBuffer>[] {
  new TextEncoder().encodeInto(
    `${SYSTEM_CALLS[architecture()][ASSUMPTIONS.idleCall.value]} `,
    waiting,
  );
  return threads().filter(isV8Worker).map(({ tid }) => cString(`/proc/self/task/${tid}/syscall`));
}

function areWaiting(files: readonly Uint8Array<ArrayBuffer>[]): boolean {
  const { close, open, read_few } = libc();
  for (let i = 0; i < files.length; i++) {
    const fd = open(files[i]!, O_RDONLY | O_CLOEXEC, 0);
    if (fd === -1) continue; // a forked child does not have them
    const count = read_few(fd, call, size);
    close(fd);
    // -1 after setuid(2), when a process may not inspect its own threads.
    if (count !== -1 && !isSame(call, waiting)) return false;
  }
  return true;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
