/** Text for a terminal: its width, wrapped paragraphs, lines that are cut off. */
import * as colorsUntyped from "@std/fmt/colors";

/** Styles text; the package has no type declarations. */
export const colors = colorsUntyped as
  & Record<
    "bold" | "dim" | "red" | "green" | "yellow" | "cyan" | "magenta",
    (text: string) => string
  >
  & { setColorEnabled(isEnabled: boolean): void; stripAnsiCode(text: string): string };

/** How many columns a text takes. */
export function widthOf(text: string): number {
  return [...colors.stripAnsiCode(text)].length;
}

/** Breaks a text into lines of at most some columns, each after an indentation. */
export function wrap(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && indent.length + widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(indent + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, indent + line];
}

/** Cuts a line off at some columns; styles in it end there. */
export function cut(line: string, width: number): string {
  if (widthOf(line) <= width) return line;
  let columns = 0;
  let kept = "";
  // deno-lint-ignore no-control-regex -- styles begin with ESC
  for (const part of line.split(/(\x1b\[[\d;]*m)/)) {
    if (part.startsWith("\x1b")) kept += part;
    else {
      const characters = [...part].slice(0, Math.max(0, width - 1 - columns));
      kept += characters.join("");
      columns += characters.length;
    }
  }
  return `${kept}…`;
}

/** Pads a text with spaces to some columns. */
export function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - widthOf(text)));
}
