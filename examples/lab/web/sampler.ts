/** Looks again and again, as often as a small part of one processor allows. */
import { clock_gettime, CLOCK_PROCESS_CPUTIME_ID } from "../../../mod.ts";

/** Milliseconds between two looks at least: twenty a second. */
const INTERVAL = 50;
/** The share of one processor that looking may take. */
const SHARE = 0.05;
/** How often its rate is told, in milliseconds. */
const REPORT = 5000;

/** What sampling costs. */
export interface Rate {
  /** Looks a second. */
  readonly perSecond: number;
  /** The share of one processor that they took. */
  readonly share: number;
}

/**
 * Looks again and again until it is stopped.
 *
 * @param look Looks once.
 * @param report Is told now and then what that costs.
 * @returns Stops it.
 */
export function sample(look: () => void, report: (rate: Rate) => void): () => void {
  let timer: ReturnType<typeof setTimeout>;
  let [looks, cpu, since] = [0, 0, performance.now()];
  const next = () => {
    // Not the time on the clock: others may have had the processor meanwhile.
    const begin = clock_gettime(CLOCK_PROCESS_CPUTIME_ID);
    look();
    const took = clock_gettime(CLOCK_PROCESS_CPUTIME_ID) - begin;
    timer = setTimeout(next, Math.max(INTERVAL, 1000 * took * (1 / SHARE - 1)));
    looks++;
    cpu += took;
    const seconds = (performance.now() - since) / 1000;
    if (seconds * 1000 < REPORT) return;
    report({
      perSecond: Math.round(10 * looks / seconds) / 10,
      share: Math.round(1000 * cpu / seconds) / 1000,
    });
    [looks, cpu, since] = [0, 0, performance.now()];
  };
  timer = setTimeout(next);
  return () => clearTimeout(timer);
}
