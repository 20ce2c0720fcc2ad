/**
 * Fact 3, for a process whose threads are those of tokio's blocking pool, besides the
 * main one. They run what they are given, so each can be made to block signals for
 * good, and the program need not run again. V8's worker threads take no such orders:
 * they must have blocked the signals from their start.
 */
import { pauseBriefly } from "../interruption.ts";
import { libc } from "../libc.ts";
import { readNumbers } from "../proc.ts";
import { kernelMask, setKernelMask, SIG_BLOCK, signalsIn, sigset } from "../signal_mask.ts";
import { isIdle, isV8Worker, ofThread, threadStatus } from "../runtime/threads.ts";

/** How long it may take all threads, in milliseconds. Some tenths of one are usual. */
const PATIENCE = 100;

/**
 * Has every thread block signals. Threads that are made later block what the one that makes them
 * does.
 *
 * @param signals The signals' numbers.
 * @returns Whether all do: a thread that is not the pool's goes on as it was.
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
    // Who does it is the pool's choice: mostly the thread that has had nothing to do for longest.
    // Were one of them still at it, the pool would make another thread.
    if (missing.every(({ tid }) => isIdle(ofThread(tid, "syscall") ?? ""))) {
      for (const _ of missing) libc().pthread_sigmask_on_pool(SIG_BLOCK, set, null);
    }
    pauseBriefly();
  }
}
