/** Tables of the documentation that a command writes: each stands between two comments. */

/** Where a table stands. */
export interface Marks {
  /** What it is called in the comments, such as `versions`. */
  readonly name: string;
  /** The command that writes it. */
  readonly command: string;
}

/** Returns a table, its columns as wide as their widest cell. */
export function formatRows(cells: readonly (readonly string[])[]): string {
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  const lines = cells.map((row) => line(row.map((cell, i) => cell.padEnd(widths[i]!))));
  lines.splice(1, 0, line(widths.map((width) => "-".repeat(width))));
  return `${lines.join("\n")}\n`;
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

/** Breaks a list item's lines as `deno fmt` does. */
export function wrap(item: string): string {
  const lines = [""];
  for (const word of item.split(" ")) {
    const longer = `${lines.at(-1)}${lines.at(-1) === "" ? "" : " "}${word}`;
    if (longer.length <= 100) lines[lines.length - 1] = longer;
    else lines.push(`  ${word}`);
  }
  return lines.join("\n");
}

/**
 * Reads a table of a page.
 *
 * @returns The cells of its rows, the header's first.
 * @throws {Error} If it is not there.
 */
export function readRows(page: string, marks: Marks): string[][] {
  const rows = parts(page, marks)[1].split("\n").filter((row) => row.startsWith("|"));
  const cells = rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
  return cells.toSpliced(1, 1);
}

/**
 * Returns a page with another text in a table's place.
 *
 * @throws {Error} If there is no place.
 */
export function replaceTable(page: string, marks: Marks, text: string): string {
  const [before, , after] = parts(page, marks);
  return `${before}${begin(marks)}\n${text}\n${end(marks)}${after}`;
}

/** A page before, in and after the comments. */
function parts(page: string, marks: Marks): [before: string, table: string, after: string] {
  const [before, rest, ...more] = page.split(begin(marks));
  const [table, after, ...others] = rest?.split(end(marks)) ?? [];
  if (after === undefined || more.length + others.length > 0) {
    throw new Error(`There is no place for the table of ${marks.name}`);
  }
  return [before!, table!, after];
}

function begin({ name, command }: Marks): string {
  return `<!-- ${name}: ${command} -->\n`;
}

function end({ name }: Marks): string {
  return `<!-- /${name} -->\n`;
}
