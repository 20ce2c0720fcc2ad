/**
 * The command `deno task learn`: lists the lessons, and plays them in the terminal.
 *
 * @module
 */
import { parseArgs as parseUntyped } from "@std/cli/parse-args";
import { closestString as closestUntyped } from "@std/text/closest-string";
import { type LessonEntry, LESSONS } from "./lessons/all.ts";
import { colors } from "./terminal/text.ts";

// The packages have no type declarations.
const closestString = closestUntyped as (word: string, words: string[]) => string;
const parseArgs = parseUntyped as (
  args: string[],
  options: {
    boolean: string[];
    string: string[];
    alias: Record<string, string>;
    unknown: (arg: string, key?: string) => boolean;
  },
) => Record<"all" | "slow" | "json" | "help", boolean> & { patience?: string; _: string[] };

const HELP = `\
Usage: deno task learn [LESSON ...] [options]

Plays lessons: real servers fail, and their cures work. Without a lesson, lists them. A lesson's
name may be shortened, as long as it is the only one that begins so.

  --all               all lessons, in their order
  --slow              with pauses as long as in the article, some of them a minute
  --json              prints what happens as JSON, one event per line
  --patience SECONDS  how long anything is waited for at most
  --help              prints this

Exit status: 0 if all is as expected, 1 if a verdict differs, 2 for a wrong command line, 130 after
Control-C.`;

class UsageError extends Error {}

/** What the command line asks for. */
interface Wish {
  readonly entries: readonly LessonEntry[];
  readonly slow: boolean;
  readonly json: boolean;
  readonly all: boolean;
  readonly patience: number | undefined;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(error.message);
  Deno.exit(2);
}

async function main(): Promise<void> {
  colors.setColorEnabled(Deno.stdout.isTerminal() && !Deno.noColor);
  const args = parseArgs(Deno.args, {
    boolean: ["all", "slow", "json", "help"],
    string: ["patience", "_"],
    alias: { h: "help" },
    unknown: (arg, key) => {
      if (key === undefined) return true;
      throw new UsageError(`Unknown option ${arg}: deno task learn --help lists the options`);
    },
  });
  if (args.help) return console.log(HELP);
  if (args.all && args._.length > 0) {
    throw new UsageError("Cannot play a lesson and --all: expected one of them");
  }
  const entries = args.all ? LESSONS : args._.map(find);
  if (entries.length === 0) return list(args.json);
  const patience = args.patience === undefined ? undefined : Number(args.patience);
  if (patience !== undefined && !(patience > 0)) {
    throw new UsageError(
      `Cannot wait for "${args.patience}" seconds: expected a number such as 20`,
    );
  }
  // All that lessons need is loaded only now: listing them is quick.
  const { learn } = await import("./terminal/learn.ts");
  await learn({ ...args, entries, patience });
}

function list(json: boolean): void {
  if (json) {
    for (const { name, title } of LESSONS) console.log(JSON.stringify({ name, title }));
    return;
  }
  const column = Math.max(...LESSONS.map(({ name }) => name.length));
  const [first] = LESSONS;
  console.log("Lessons: real servers fail, and their cures work.\n");
  for (const { name, title } of LESSONS) {
    console.log(`  ${colors.bold(name.padEnd(column))}  ${title}`);
  }
  console.log(`
deno task learn ${first!.name}       plays one; further names follow it
deno task learn --all    plays all; --help lists the options`);
}

/** Finds a lesson by its name, or the only one whose name begins so. */
function find(wanted: string): LessonEntry {
  const exact = LESSONS.find(({ name }) => name === wanted.toLowerCase());
  if (exact !== undefined) return exact;
  const candidates = LESSONS.filter(({ name }) => name.startsWith(wanted.toLowerCase()));
  if (candidates.length === 1) return candidates[0]!;
  const hint = candidates.length > 1
    ? `it could be ${candidates.map(({ name }) => name).join(", ")}`
    : `the nearest is ${closestString(wanted, LESSONS.map(({ name }) => name))}`;
  throw new UsageError(`There is no lesson "${wanted}": ${hint}; deno task learn lists them`);
}
