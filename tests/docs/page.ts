/**
 * What a page of the documentation has its readers do. A code block of `console` or `sh` is run:
 *
 *     $ a command                   a line that begins with "$ ", or one of `sh`
 *     what it prints                "..." stands for any lines; <pid>, <port>, <number>, <seconds>
 *                                   for a number, <anything else> for some text; <pid of the child>
 *                                   for one that is the same wherever the section names it; blanks
 *                                   for as many as there are
 *     > what is typed into it       also in the blocks that follow, which have no command then
 *     ^C                            it goes on until the reader ends it
 *
 * What a command of `sh` prints is not compared. A block of `console` without commands is what the
 * last program in the background prints next. Comments before a block, `<!-- docs: WORD ... -->`,
 * say what readers know or see without being told:
 *
 *     run COMMANDS      what they have done before
 *     file NAME         the block is this file of theirs
 *     background        the block's last command runs in another terminal, to the section's end
 *     again             its last command is repeated until it prints what it should
 *     skip REASON       it is not run
 *     slow REASON       the section is not run with --quick
 *     needs PROGRAM     the section takes a program that a machine may not have
 *     user REASON       the section is not run by root
 *
 * After `background`, `again` and `skip`, a part of a command in backquotes tells which one is
 * meant. A section begins at each heading, and has a shell of its own.
 */

/** A place that a reader can go to. */
interface Place {
  /** The number of the line in the page, from 1. */
  readonly line: number;
}

/** A command that a reader types. */
export interface Command extends Place {
  readonly kind: "command";
  readonly text: string;
  /** The lines that are typed into it. */
  readonly input: readonly string[];
  /** The lines that it prints; `undefined` if any will do. */
  readonly expected: readonly string[] | undefined;
  /** Whether the reader ends it. */
  readonly interrupted: boolean;
  readonly background: boolean;
  readonly again: boolean;
  /** Why it is not run. */
  readonly skipped: string | undefined;
}

/** What the last program in the background prints next. */
export interface Output extends Place {
  readonly kind: "output";
  readonly expected: readonly string[];
}

/** What a reader has done before. */
export interface Preparation extends Place {
  readonly kind: "preparation";
  readonly text: string;
}

/** A file that a reader writes. */
export interface SourceFile extends Place {
  readonly kind: "file";
  readonly name: string;
  readonly text: string;
}

/** What a reader does, or sees. */
export type Step = Command | Output | Preparation | SourceFile;

/** A section of a page: the steps below one heading. */
export interface Section extends Place {
  readonly page: string;
  readonly title: string;
  readonly steps: readonly Step[];
  /** Why it is slow. */
  readonly slow: string | undefined;
  /** Programs that it takes. */
  readonly needs: readonly string[];
  /** Why root cannot run it. */
  readonly user: string | undefined;
}

/** A comment for this program. */
interface Directive extends Place {
  readonly word: string;
  /** The part of a command that it is about. */
  readonly part: string | undefined;
  readonly rest: string;
  used: boolean;
}

/** The words of comments about the block that follows, and those about the section. */
const WORDS = ["file", "background", "again", "skip", "run", "slow", "needs", "user"];

/** The languages of blocks that readers run, or that are programs. */
const LANGUAGES = /^(console|sh|ts|js|jsonc?)$/;

/** The sections of a page that have something to do. */
export function parsePage(page: string, text: string): Section[] {
  const sections: Section[] = [];
  let title = "";
  let begin = 1;
  let steps: Step[] = [];
  let directives: Directive[] = [];
  let slow: string | undefined;
  let user: string | undefined;
  let needs: string[] = [];

  const fail = (line: number, problem: string): never => {
    throw new Error(`${page}:${line}: ${problem}`);
  };
  const finish = () => {
    for (const { line, word, used } of directives) {
      if (!used) fail(line, `there is no block for "${word}"`);
    }
    if (steps.length > 0) sections.push({ page, title, line: begin, steps, slow, needs, user });
    [steps, directives, needs, slow, user] = [[], [], [], undefined, undefined];
  };
  /** Adds what a program prints next, or what is typed into the last one. */
  const addOutput = (line: number, lines: string[]) => {
    const { typed, printed } = split(lines);
    const last = steps.at(-1);
    if (typed.length === 0) steps.push({ kind: "output", expected: lines, line });
    else if (last?.kind === "command" && last.input.length > 0) {
      const input = [...last.input, ...typed];
      steps[steps.length - 1] = { ...last, input, expected: [...last.expected!, ...printed] };
    } else fail(line, "there is no program into which this could be typed");
  };
  const addBlock = (line: number, language: string, lines: string[]) => {
    const of = (word: string) => directives.filter((one) => one.word === word && !one.used);
    const [file] = of("file");
    const whole = of("skip").find(({ part }) => part === undefined);
    if (file !== undefined) {
      file.used = true;
      steps.push({ kind: "file", name: file.rest, text: `${lines.join("\n")}\n`, line });
    } else if (whole !== undefined) {
      whole.used = true;
      steps.push({
        kind: "command",
        text: commandsIn(lines)[0]?.text ?? `a block of ${language}`,
        input: [],
        expected: undefined,
        interrupted: false,
        background: false,
        again: false,
        skipped: whole.rest,
        line,
      });
    } else if (language === "sh" || language === "console") {
      const commands = language === "sh" ? linesOf(lines) : commandsIn(lines);
      if (commands.length === 0) return addOutput(line, lines);
      for (const [i, { text, output, at }] of commands.entries()) {
        const about = (word: string) => {
          const isLast = i === commands.length - 1;
          const one = of(word).find(({ part }) =>
            part === undefined ? isLast : text.includes(part)
          );
          if (one !== undefined) one.used = true;
          return one;
        };
        const interrupted = output?.at(-1) === "^C";
        const { typed, printed } = split(interrupted ? output!.slice(0, -1) : output ?? []);
        steps.push({
          kind: "command",
          text,
          input: typed,
          expected: output && printed,
          interrupted,
          background: about("background") !== undefined,
          again: about("again") !== undefined,
          skipped: about("skip")?.rest,
          line: line + 1 + at,
        });
      }
    } else fail(line, `a block of ${language} is neither a file nor skipped`);
  };

  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const [, fence, language] = line.match(/^ *(```+)(\S*)/) ?? [];
    if (fence !== undefined) {
      const end = lines.findIndex((other, at) => at > i && other.trim() === fence);
      if (end < 0) fail(i + 1, "the block has no end");
      const block = lines.slice(i + 1, end);
      if (LANGUAGES.test(language!)) addBlock(i + 1, language!, block);
      i = end;
    } else if (/^#+ /.test(line)) {
      finish();
      [title, begin] = [line.replace(/^#+ /, ""), i + 1];
    } else if (line.startsWith("<!-- docs: ")) {
      const end = lines.findIndex((other, at) => at >= i && other.endsWith("-->"));
      const [, word, part, rest] = lines.slice(i, end + 1).join("\n")
        .match(/^<!-- docs: (\w+)\s*(?:`([^`]+)`)?[:\s]*([^]*?)\s*-->$/) ?? [];
      if (!WORDS.includes(word!)) fail(i + 1, `there is no "${word}"`);
      if (word === "run") steps.push({ kind: "preparation", text: rest!, line: i + 1 });
      else if (word === "slow") slow = rest!;
      else if (word === "user") user = rest!;
      else if (word === "needs") needs.push(...rest!.split(/\s+/));
      else directives.push({ word: word!, part, rest: rest!, line: i + 1, used: false });
      i = end;
    }
  }
  finish();
  return sections;
}

/** A command, its output, and the place of its line in its block. */
interface Typed {
  text: string;
  output: string[] | undefined;
  at: number;
}

/** The commands of a terminal's session. */
function commandsIn(lines: readonly string[]): Typed[] {
  const commands: Typed[] = [];
  for (const [at, line] of lines.entries()) {
    const last = commands.at(-1);
    if (line.startsWith("$ ")) commands.push({ text: line.slice(2), output: [], at });
    else if (last?.output?.length === 0 && last.text.endsWith("\\")) last.text += `\n${line}`;
    else last?.output?.push(line);
  }
  return commands;
}

/** What is typed into a program, and what it prints. */
function split(lines: readonly string[]): { typed: string[]; printed: string[] } {
  return {
    typed: lines.filter((line) => line.startsWith("> ")).map((line) => line.slice(2)),
    printed: lines.filter((line) => !line.startsWith("> ")),
  };
}

/** The commands of a script that is shown. */
function linesOf(lines: readonly string[]): Typed[] {
  const commands: Typed[] = [];
  for (const [at, line] of lines.entries()) {
    const last = commands.at(-1);
    if (last?.text.endsWith("\\")) last.text += `\n${line}`;
    else if (/^[^#\s]/.test(line)) commands.push({ text: line, output: undefined, at });
  }
  return commands;
}
