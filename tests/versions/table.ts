/** The table of versions, as the README shows it. */
import { type Aspect, ASPECTS } from "./list.ts";
import type { Score, Verdict } from "./trial.ts";

const BEGIN = "<!-- versions: deno task test:versions --write -->\n";
const END = "<!-- /versions -->\n";
const TOO_OLD = "too old";

/** A row: what a version has passed; `undefined` if it is too old. */
export type Row = Verdict["scores"];

/** Returns the table, and below it the tests that failed. */
export function formatTable(verdicts: readonly Verdict[]): string {
  const cells = [
    ["Deno", ...ASPECTS],
    ...verdicts.map(({ version, scores }) => [
      version,
      ...ASPECTS.map((aspect) => scores === undefined ? TOO_OLD : format(scores[aspect])),
    ]),
  ];
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  const lines = cells.map((row) => line(row.map((cell, i) => cell.padEnd(widths[i]!))));
  lines.splice(1, 0, line(widths.map((width) => "-".repeat(width))));
  return [...lines, "", ...formatFailures(verdicts)].join("\n").trimEnd() + "\n";
}

function format({ passed, total }: Score): string {
  return `${passed} of ${total}`;
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function formatFailures(verdicts: readonly Verdict[]): string[] {
  const tests = new Set(verdicts.flatMap(({ failures }) => failures));
  return [...tests].map((test) => {
    const versions = verdicts.filter(({ failures }) => failures.includes(test));
    return wrap(`- ${versions.map(({ version }) => version).join(", ")}: "${test}" fails.`);
  });
}

/** Breaks a list item's lines as `deno fmt` does. */
function wrap(item: string): string {
  const lines = [""];
  for (const word of item.split(" ")) {
    const longer = `${lines.at(-1)}${lines.at(-1) === "" ? "" : " "}${word}`;
    if (longer.length <= 100) lines[lines.length - 1] = longer;
    else lines.push(`  ${word}`);
  }
  return lines.join("\n");
}

/**
 * Reads the table of a README: the rows by their versions.
 *
 * @throws {Error} If there is no table, or it is not well-formed.
 */
export function parseTable(readme: string): Map<string, Row> {
  const [, header, , ...rows] = parts(readme)[1].split(/\n/);
  const names = ["Deno", ...ASPECTS];
  if (header === undefined || cellsOf(header).join() !== names.join()) {
    throw new Error(`The columns of the table of versions are not ${names.join(", ")}`);
  }
  return new Map(
    rows.filter((row) => row.startsWith("|")).map((row) => {
      const [version, ...cells] = cellsOf(row);
      if (cells.length === ASPECTS.length && cells.every((cell) => cell === TOO_OLD)) {
        return [version!, undefined];
      }
      const scores = ASPECTS.map((aspect, i): [Aspect, Score] => {
        const [, passed, total] = cells[i]?.match(/^(\d+) of (\d+)$/) ?? [];
        if (total === undefined) throw new Error(`The table of versions has a bad row: ${row}`);
        return [aspect, { passed: Number(passed), total: Number(total) }];
      });
      return [version!, Object.fromEntries(scores) as Record<Aspect, Score>];
    }),
  );
}

/** Returns a README with another table. */
export function replaceTable(readme: string, table: string): string {
  const [before, , after] = parts(readme);
  return `${before}${BEGIN}\n${table}\n${END}${after}`;
}

/** A README before, in and after the marks. */
function parts(readme: string): [before: string, table: string, after: string] {
  const [before, rest, ...more] = readme.split(BEGIN);
  const [table, after, ...others] = rest?.split(END) ?? [];
  if (after === undefined || more.length + others.length > 0) {
    throw new Error("There is no place for the table of versions");
  }
  return [before!, table!, after];
}

function cellsOf(row: string): string[] {
  return row.split("|").slice(1, -1).map((cell) => cell.trim());
}

/**
 * Says how much worse a version does than a row of the table: how many tests fail more.
 *
 * @param verdict The version.
 * @param row The row.
 */
export function countLost({ scores }: Verdict, row: Row): number {
  if (row === undefined) return scores === undefined ? 0 : 1;
  return ASPECTS.reduce((sum, aspect) => {
    const [own, known] = [scores?.[aspect] ?? { passed: 0, total: 0 }, row[aspect]];
    // What has not even run has failed, too.
    const failed = Math.max(own.total, known.total) - own.passed;
    return sum + Math.max(0, failed - (known.total - known.passed));
  }, 0);
}
