/** Contests: programs that do the same in turns, their figures, and the ratios that count. */
import type { Bar, Panel } from "./chart.ts";

/** Programs that do the same; the first one is what the others are compared with. */
export interface Contest {
  readonly title: string;
  readonly unit: string;
  readonly better: "less" | "more";
  readonly contestants: readonly Contestant[];
  /** What one contestant is to reach beside others. */
  readonly goals?: readonly Goal[];
}

/** One program and its figures, one per round. */
export interface Contestant {
  readonly label: string;
  readonly measure: () => Promise<number>;
  readonly figures: number[];
}

/** A ratio of two contestants' figures, and what it must be. */
export interface Goal {
  readonly of: string;
  readonly to: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** How long and how often is measured. */
export interface Budget {
  readonly rounds: number;
  readonly milliseconds: number;
}

/** A contestant that has not begun. */
export function contestant(label: string, measure: () => Promise<number>): Contestant {
  return { label, measure, figures: [] };
}

/** Measures all contestants in turns, forth and back, until the rounds or the time are used up. */
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

/** Prints a contest's figures, its ratios, and whether its goals are reached. */
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

/** Prints a table: the first column to the left, the others to the right. */
export function printRows(rows: readonly (readonly string[])[]): void {
  for (const [label, ...cells] of rows) {
    console.log(label!.padEnd(32) + cells.map((cell) => cell.padStart(10)).join(""));
  }
}

/** The same, with columns as wide as what stands in them. */
export function printColumns(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((cells) => cells[i]!.length)));
  for (const [label, ...cells] of rows) {
    const padded = cells.map((cell, i) => cell.padStart(widths[i + 1]! + 3));
    console.log(label!.padEnd(widths[0]!) + padded.join(""));
  }
}

/** A contest as part of a chart. */
export function panelOf({ title, unit, better, contestants }: Contest): Panel {
  const first = contestants[0]!;
  return {
    title: `${title}: ${unit}, as a multiple of ${first.label}'s (${better} is better)`,
    bars: contestants.map((contestant) => ratiosOf(contestant, first)),
    line: 1,
  };
}

/** A contestant's figures over another's, round by round. */
export function ratiosOf({ label, figures }: Contestant, other: Contestant): Bar {
  return spread(label, figures.map((figure, round) => figure / other.figures[round]!));
}

/** The least, the median and the most of some figures. */
export function spread(label: string, figures: readonly number[]): Bar {
  const sorted = figures.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { label, min: sorted[0]!, median: (low + high) / 2, max: sorted.at(-1)! };
}
