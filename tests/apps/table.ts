/** The table of apps, as docs/measured.md shows it. */
import { formatRows, readRows, replaceTable as replace, wrap } from "../page_table.ts";
import type { App } from "./list.ts";
import { MODES, type Outcome } from "./trial.ts";

const MARKS = { name: "apps", command: "deno task test:apps --write" };

const HEADER = ["app", "version", "run by", ...MODES.map((mode) => mode.replace(/^--.*/, "`$&`"))];

/** What became of an app. */
export interface Row {
  readonly app: App;
  /** The version of its package. */
  readonly version: string;
  /** In the order of the modes. */
  readonly outcomes: readonly Outcome[];
}

/** Returns the table, and below it what failed. */
export function formatTable(rows: readonly Row[]): string {
  const cells = rows.map(({ app, version, outcomes }) => [
    app.title,
    version,
    app.by === "run" ? "`deno run`" : "`deno serve`",
    ...outcomes.map(cellOf),
  ]);
  const failures = rows.flatMap(({ outcomes }) => outcomes.flatMap(describe));
  return `${formatRows([HEADER, ...cells])}\n${failures.join("\n")}`.trimEnd() + "\n";
}

function cellOf({ app, mode, verdict }: Outcome): string {
  return verdict === "refused" ? app.refused![mode]!.cell : verdict;
}

function describe({ app, mode, failures }: Outcome): string[] {
  return failures.map(({ check, why }) => wrap(`- ${app.title}, ${mode}: ${check}: ${why}`));
}

/**
 * Reads the table of a page: whether an app was served in each mode, by the app's title.
 *
 * @throws {Error} If there is no table, or its columns are others.
 */
export function parseTable(page: string): Map<string, boolean[]> {
  const [header, ...rows] = readRows(page, MARKS);
  if (header?.join() !== HEADER.join()) {
    throw new Error(`The columns of the table of apps are not ${HEADER.join(", ")}`);
  }
  return new Map(rows.map(([title, , , ...cells]) => [title!, cells.map((cell) => cell !== "no")]));
}

/** Returns a page with another table. */
export function replaceTable(page: string, table: string): string {
  return replace(page, MARKS, table);
}
