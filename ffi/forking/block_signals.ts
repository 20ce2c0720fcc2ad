/**
 * Fact 3, for a process whose only threads besides the main one belong to tokio's blocking pool.
 * Pool threads run the work they are given, so each can be made to block signals permanently, and
 * the program need not run again. V8's worker threads cannot be given work: they must have blocked
 * the signals from their start.
 */
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { readNumbers } from "../proc.ts";
import { kernelMask, setKernelMask, SIG_BLOCK, signalsIn, sigset } from "../signal_mask.ts";
import { isIdle, isV8Worker, ofThread, threadStatus } from "../runtime/threads.ts";

/** The time limit for all threads, in milliseconds. A few tenths of a millisecond are usual. */
const PATIENCE = 100;

/**
 * Makes every thread block signals. A thread that is created later inherits the mask of the thread
 * that creates it.
 *
 * @param signals The numbers of the signals.
 * @returns Whether all threads block them. Threads outside the pool are not changed.
 */
export function blockInEveryThread(signals: ReadonlySet<number>): boolean {
  setKernelMask(sigset([...signalsIn(kernelMask()), ...signals]));
  const set = sigset(signals);
  const end = performance.now() + PATIENCE;
  for (;;) {
    const missing = readNumbers("/proc/self/task").flatMap((tid) => threadStatus(tid) ?? [])
      .filter(({ blocked }) => !signals.isSubsetOf(blocked));
    if (missing.length === 0) return true;
    if (performance.now() > end || missing.some(isV8Worker)) return false;
    // The pool chooses the thread: usually the one that has been idle longest. If one of them were
    // still busy, the pool would create another thread.
    if (missing.every(({ tid }) => isIdle(ofThread(tid, "syscall") ?? ""))) {
      for (const _ of missing) libc().pthread_sigmask_on_pool(SIG_BLOCK, set, null);
    }
    pauseBriefly();
  }
}
