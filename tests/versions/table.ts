/** The table of versions, as docs/measured.md shows it. */
import { formatRows, readRows, replaceTable as replace, wrap } from "../page_table.ts";
import { type Aspect, ASPECTS } from "./list.ts";
import type { Score, Verdict } from "./trial.ts";

const MARKS = { name: "versions", command: "deno task test:versions --write" };
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
  return `${formatRows(cells)}\n${formatFailures(verdicts).join("\n")}`.trimEnd() + "\n";
}

function format({ passed, total }: Score): string {
  return `${passed} of ${total}`;
}

function formatFailures(verdicts: readonly Verdict[]): string[] {
  const tests = new Set(verdicts.flatMap(({ failures }) => failures));
  return [...tests].map((test) => {
    const versions = verdicts.filter(({ failures }) => failures.includes(test));
    return wrap(`- ${versions.map(({ version }) => version).join(", ")}: "${test}" fails.`);
  });
}

/**
 * Reads the table of a page: the rows by their versions.
 *
 * @throws {Error} If there is no table, or it is not well-formed.
 */
export function parseTable(page: string): Map<string, Row> {
  const [header, ...rows] = readRows(page, MARKS);
  const names = ["Deno", ...ASPECTS];
  if (header?.join() !== names.join()) {
    throw new Error(`The columns of the table of versions are not ${names.join(", ")}`);
  }
  return new Map(
    rows.map(([version, ...cells]) => {
      if (cells.length === ASPECTS.length && cells.every((cell) => cell === TOO_OLD)) {
        return [version!, undefined];
      }
      const scores = ASPECTS.map((aspect, i): [Aspect, Score] => {
        const [, passed, total] = cells[i]?.match(/^(\d+) of (\d+)$/) ?? [];
        if (total === undefined) {
          throw new Error(`The table of versions has a bad row: ${version} ${cells}`);
        }
        return [aspect, { passed: Number(passed), total: Number(total) }];
      });
      return [version!, Object.fromEntries(scores) as Record<Aspect, Score>];
    }),
  );
}

/** Returns a page with another table. */
export function replaceTable(page: string, table: string): string {
  return replace(page, MARKS, table);
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
