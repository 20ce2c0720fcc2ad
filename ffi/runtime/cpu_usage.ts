/**
 * The processor time that Deno and Node report. The kernel counts a child's from zero: a program that
 * has read it before the fork, as packages for metrics do, would see it decrease.
 */
import { getpid } from "../process.ts";
import { replaceGlobal } from "./globals.ts";

/** Processor time, in microseconds. Deno's types lack it. */
interface CpuUsage {
  readonly user: number;
  readonly system: number;
}

/** The process that forks. */
let parent = 0;
/** What it had used at its last fork. */
let used: CpuUsage = { user: 0, system: 0 };

/**
 * Lets `Deno.cpuUsage()`, and `process.cpuUsage()` with it, go on in the next child from where it
 * is in its parent. Called in the parent, so that it costs the child nothing.
 */
export function carryCpuUsageOn(): void {
  const inDeno = Deno as unknown as { cpuUsage?: () => CpuUsage };
  if (inDeno.cpuUsage === undefined) return;
  if (parent === 0) {
    replaceGlobal("Deno.cpuUsage", (original) => () => {
      const own = original();
      if (getpid() === parent) return own;
      return { ...own, user: used.user + own.user, system: used.system + own.system };
    });
  }
  parent = getpid();
  used = inDeno.cpuUsage();
}
