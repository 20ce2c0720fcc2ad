/** Shows a lesson's events on a terminal, or in a file: there without colours and live drawings. */
import type { FigureEvent, LabEvent, LessonEvent, Snapshot, VerdictEvent } from "../lesson.ts";
import { draw } from "./draw.ts";
import { colors, cut, pad, widthOf, wrap } from "./text.ts";

const WIDTH = 80;
const FIGURE_COLUMNS = 42;

/** Where to show, and how. */
export interface TerminalOptions {
  /** Whether lines can be written over, and colours are understood. */
  readonly isTerminal: boolean;
  readonly write: (text: string) => void;
  readonly size: () => { columns: number; rows: number };
}

/** Renders events. */
export class Terminal {
  readonly #options: TerminalOptions;
  /** How many lines the live drawing has now. */
  #drawn = 0;
  #snapshot: Snapshot | undefined;
  #progress = "";
  #last: LabEvent["type"] | undefined;

  constructor(options: TerminalOptions) {
    this.#options = options;
  }

  /** Shows an event. */
  show(event: LabEvent): void {
    switch (event.type) {
      case "snapshot":
        this.#snapshot = event.snapshot;
        return this.#redraw();
      case "progress":
        this.#progress = `… ${event.text}, ${event.seconds} s`;
        return this.#redraw();
      case "lesson":
        return this.#print(event.type, this.#lesson(event));
      case "command":
        // In one line, however long: it can be copied.
        return this.#print(event.type, [colors.bold(`$ ${event.text}`)]);
      case "say":
        return this.#print(event.type, wrap(event.text, this.#width, "  "));
      case "picture":
        return this.#print(event.type, [
          "",
          colors.bold(`  ${event.caption}`),
          ...draw(event.snapshot, this.#width),
          "",
        ]);
      case "figure":
        return this.#print(event.type, this.#figure(event));
      case "verdict":
        this.#snapshot = undefined;
        return this.#print(event.type, this.#verdict(event));
    }
  }

  /** Takes the live drawing away. */
  clear(): void {
    if (this.#drawn > 0) this.#options.write(`\x1b[${this.#drawn}A\x1b[J`);
    this.#drawn = 0;
    this.#snapshot = undefined;
    this.#progress = "";
  }

  get #width(): number {
    return Math.min(WIDTH, this.#options.size().columns);
  }

  #lesson({ name, title, source, question, programs }: LessonEvent): string[] {
    return [
      "",
      `${colors.bold(colors.cyan(name))}  ${colors.bold(title)}`,
      ...wrap(source, this.#width, "    ").map(colors.dim),
      ...programs.flatMap(({ file, differsFrom }) => [
        colors.dim(`    ${file}`),
        ...differsFrom === undefined ? [] : [colors.dim(`    diff ${differsFrom} ${file}`)],
      ]),
      "",
      ...wrap(question, this.#width),
      "",
    ];
  }

  #figure({ figure, value, expected, holds }: FigureEvent): string[] {
    const mark = holds === undefined ? "·" : holds ? colors.green("✓") : colors.red("✗");
    const line = `  ${mark} ${pad(figure, FIGURE_COLUMNS)}  ${colors.bold(value)}`;
    if (expected === undefined || (holds && expected === value)) return [line];
    const told = colors.dim(`(expected: ${expected})`);
    const whole = `${line}  ${told}`;
    return widthOf(whole) <= this.#width ? [whole] : [line, `      ${told}`];
  }

  #verdict({ holds, text, answer, read, next }: VerdictEvent): string[] {
    return [
      "",
      holds ? colors.green(colors.bold(text)) : colors.red(colors.bold(text)),
      "",
      ...wrap(answer, this.#width),
      "",
      ...read.length === 0 ? [] : wrap(`Read: ${read.join(", ")}`, this.#width),
      ...next === undefined ? [] : [`Next: ${colors.bold(`deno task learn ${next}`)}`],
    ];
  }

  /** Prints lines that stay, above the live drawing. */
  #print(type: LabEvent["type"], lines: readonly string[]): void {
    const isNewPart = this.#last !== undefined && type !== this.#last &&
      (type === "figure" || type === "command" || this.#last === "figure") &&
      type !== "picture" && type !== "verdict" && this.#last !== "picture" &&
      this.#last !== "lesson";
    const { write } = this.#options;
    if (this.#drawn > 0) write(`\x1b[${this.#drawn}A\x1b[J`);
    this.#drawn = 0;
    this.#progress = "";
    write([...isNewPart ? [""] : [], ...lines].map((line) => `${line}\n`).join(""));
    this.#last = type;
    this.#redraw();
  }

  #redraw(): void {
    const { isTerminal, write, size } = this.#options;
    if (!isTerminal) return;
    const { columns, rows } = size();
    const lines = [
      ...this.#snapshot === undefined || this.#snapshot.processes.length === 0
        ? []
        : [colors.dim("  now"), ...draw(this.#snapshot, Math.min(WIDTH, columns) - 1)],
      ...this.#progress === "" ? [] : [cut(colors.dim(`  ${this.#progress}`), columns - 1)],
    ].slice(0, Math.max(0, rows - 2));
    const back = this.#drawn === 0 ? "" : `\x1b[${this.#drawn}A`;
    // Each line is written over, and what is left of it erased: nothing flickers.
    const text = lines.map((line) => `${line}\x1b[K\n`).join("");
    if (back !== "" || text !== "") write(`${back}${text}\x1b[J`);
    this.#drawn = lines.length;
  }
}
