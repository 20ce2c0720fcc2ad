/** Shows a lesson's events on a terminal, or in a file: there without colours and live drawings. */
import type {
  FigureEvent,
  LabEvent,
  LessonEvent,
  ProgramView,
  Snapshot,
  VerdictEvent,
} from "../lesson.ts";
import { draw } from "./draw.ts";
import { colors, cut, pad, widthOf, wrap } from "./text.ts";

const WIDTH = 80;
const FIGURE_COLUMNS = 42;
const BELOW = "      ";
const PPOLL =
  "accept(), recv() and sleep() of tine wait in ppoll(2): signal handlers run only there";
const ROOT = new URL("../../../", import.meta.url);

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
  #programs: readonly ProgramView[] = [];
  #hasRemarked = false;

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
        this.#programs = event.programs;
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
          ...this.#remark(event.snapshot),
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

  /** Says once why a program that has called accept() is seen in another system call. */
  #remark({ processes }: Snapshot): string[] {
    const isSeen = processes.some(({ call, line }) => call === "ppoll" && line !== undefined);
    if (this.#hasRemarked || !isSeen) return [];
    this.#hasRemarked = true;
    return wrap(`(${PPOLL})`, this.#width, "  ").map(colors.dim);
  }

  #figure({ figure, value, expected, holds }: FigureEvent): string[] {
    const mark = holds === undefined ? "·" : holds ? colors.green("✓") : colors.red("✗");
    const line = `  ${mark} ${pad(figure, FIGURE_COLUMNS)}  ${colors.bold(value)}`;
    const fits = widthOf(line) <= this.#width;
    const lines = fits
      ? [line]
      : [`  ${mark} ${figure}`, ...wrap(value, this.#width, BELOW).map(colors.bold)];
    const remark = remarkOn(value, expected, holds);
    if (remark === undefined) return lines;
    const whole = `${line}  ${colors.dim(remark)}`;
    if (widthOf(whole) <= this.#width) return [whole];
    return [...lines, ...wrap(remark, this.#width, BELOW).map(colors.dim)];
  }

  #verdict({ holds, text, answer, read, next }: VerdictEvent): string[] {
    return [
      "",
      ...wrap(text, this.#width).map(colors.bold).map(holds ? colors.green : colors.red),
      "",
      ...wrap(answer, this.#width),
      "",
      ...this.#programs.flatMap(decisiveLine).map((line) => cut(line, this.#width)),
      ...read.length === 0 ? [] : wrap(`Read: ${read.join(", ")}`, this.#width),
      ...next === undefined ? [] : [`Next: ${colors.bold(`deno task learn ${next}`)}`],
    ];
  }

  /** Prints lines that stay, above the live drawing. */
  #print(type: LabEvent["type"], lines: readonly string[]): void {
    const isNewPart = this.#last !== undefined && type !== this.#last &&
      (type === "figure" || type === "say" || this.#last === "figure") &&
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

/** What is to be said beside a figure's value, if it does not speak for itself. */
function remarkOn(value: string, expected?: string, holds?: boolean): string | undefined {
  if (expected === undefined || (holds && expected === value)) return undefined;
  // "1: one more" is the value and why it is so.
  const [, why] = holds && expected.startsWith(value) &&
      expected.slice(value.length).match(/^[:,] (.*)$/s) || [];
  return why === undefined ? `(expected: ${expected})` : `(${why})`;
}

/** A program's decisive line: where it stands, and what it says. */
function decisiveLine({ file, decisive }: ProgramView): string[] {
  if (decisive === undefined) return [];
  const text = Deno.readTextFileSync(new URL(file, ROOT));
  const begin = text.indexOf(decisive); // the line in which it begins: it may take several
  const number = text.slice(0, begin).split("\n").length;
  return [colors.dim(`${file}:${number}`), `  ${text.split("\n")[number - 1]!.trim()}`, ""];
}
