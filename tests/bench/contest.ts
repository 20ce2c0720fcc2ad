/** Contests: programs that do the same work in turns, their figures, and the ratios of these. */
import type { Bar, Panel } from "./chart.ts";

/** Programs that do the same work. The others are compared with the first one. */
export interface Contest {
  readonly title: string;
  readonly unit: string;
  readonly better: "less" | "more";
  readonly contestants: readonly Contestant[];
  /** The goals of a contestant, relative to others. */
  readonly goals?: readonly Goal[];
}

/** A program and its figures, one for each round. */
export interface Contestant {
  readonly label: string;
  readonly measure: () => Promise<number>;
  readonly figures: number[];
}

/** A ratio of the figures of two contestants, and its required value. */
export interface Goal {
  readonly of: string;
  readonly to: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** The time limit and the number of rounds. */
export interface Budget {
  readonly rounds: number;
  readonly milliseconds: number;
}

/** Returns a contestant without figures. */
export function contestant(label: string, measure: () => Promise<number>): Contestant {
  return { label, measure, figures: [] };
}

/**
 * Measures all contestants in turns, in alternating order, until the rounds or the time are used
 * up.
 */
export async function measure(
  contests: readonly Contest[],
  { rounds, milliseconds }: Budget,
): Promise<void> {
  const start = performance.now();
  for (let round = 1; round <= rounds; round++) {
    const spent = performance.now() - start;
    if (round > 1 && spent * round / (round - 1) > milliseconds) {
      console.error(`Skipped: the last ${rounds - round + 1} rounds, for lack of time`);
      return;
    }
    console.error(`Round ${round} of ${rounds}`);
    for (const { contestants } of contests) {
      const inTurn = round % 2 === 1 ? contestants : contestants.toReversed();
      for (const { measure, figures } of inTurn) figures.push(await measure());
    }
  }
}

/** Prints the figures and ratios of a contest, and whether its goals are reached. */
export function printTable({ title, unit, better, contestants, goals = [] }: Contest): void {
  const first = contestants[0]!;
  const rows = contestants.map((contestant) => {
    const figures = spread(contestant.label, contestant.figures);
    const ratios = ratiosOf(contestant, first);
    return [
      contestant.label,
      ...[figures.median, figures.min, figures.max].map((figure) => figure.toFixed(0)),
      ...[ratios.median, ratios.min, ratios.max].map((ratio) => ratio.toFixed(2)),
    ];
  });
  console.log(`\n${title}: ${unit} (${better} is better), and ratio to ${first.label}`);
  printRows([["", "median", "min", "max", "ratio", "min", "max"], ...rows]);
  if (goals.length === 0) return;
  console.log("");
  printRows([
    ["", "ratio", "min", "max", "goal", ""],
    ...goals.map((goal) => {
      const find = (label: string) => contestants.find((one) => one.label === label)!;
      const { median, min, max } = ratiosOf(find(goal.of), find(goal.to));
      const { atLeast = 0, atMost = Infinity } = goal;
      return [
        `${goal.of} / ${goal.to}`,
        ...[median, min, max].map((ratio) => ratio.toFixed(2)),
        atMost === Infinity ? `>= ${atLeast}` : `<= ${atMost}`,
        median >= atLeast && median <= atMost ? "reached" : "missed",
      ];
    }),
  ]);
}

/** Prints a table: the first column is left-aligned, the others are right-aligned. */
export function printRows(rows: readonly (readonly string[])[]): void {
  for (const [label, ...cells] of rows) {
    console.log(label!.padEnd(32) + cells.map((cell) => cell.padStart(10)).join(""));
  }
}

/** Aligns the columns of a table to the widest cells. */
export function printColumns(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((cells) => cells[i]!.length)));
  for (const [label, ...cells] of rows) {
    const padded = cells.map((cell, i) => cell.padStart(widths[i + 1]! + 3));
    console.log(label!.padEnd(widths[0]!) + padded.join(""));
  }
}

/** Returns a contest as a part of a chart. */
export function panelOf({ title, unit, better, contestants }: Contest): Panel {
  const first = contestants[0]!;
  return {
    title: `${title}: ${unit}, as a multiple of ${first.label}'s (${better} is better)`,
    bars: contestants.map((contestant) => ratiosOf(contestant, first)),
    line: 1,
  };
}

/** Divides the figures of a contestant by those of another, round by round. */
export function ratiosOf({ label, figures }: Contestant, other: Contestant): Bar {
  return spread(label, figures.map((figure, round) => figure / other.figures[round]!));
}

/** The minimum, the median and the maximum of some figures. */
export function spread(label: string, figures: readonly number[]): Bar {
  const sorted = figures.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { label, min: sorted[0]!, median: (low + high) / 2, max: sorted.at(-1)! };
}
