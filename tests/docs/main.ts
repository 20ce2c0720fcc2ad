/** Runs what the documentation has its readers do. */
import { parseArgs } from "@std/cli/parse-args";
import { cleaningUp } from "../clean_up.ts";
import { isInstalled, ROOT } from "../support.ts";
import { fail, print } from "../task.ts";
import { parsePage, type Section, type Step } from "./page.ts";
import { lessonOf, makePictures, picturesIn } from "./pictures.ts";
import { prepare } from "./place.ts";
import { type Outcome, runSection } from "./session.ts";

const HELP = `Runs every command of the documentation, and compares what it prints.

Usage: deno task docs [options] [PAGE[#WORDS] ...]

  --quick   without the sections that take long
  --wait S  how long a line that is expected may take (default 30)
  --pictures [NAME ...]
            plays lessons, and writes anew the pictures that the pages show, or these
  --list    shows what would be run
  --help    this text

Without arguments, all of README.md and docs/. After "#", words of a heading choose one
section: deno task docs docs/learn.md#zombies. tests/docs/page.ts says how a page tells
what to run and what to expect.

A section has a shell of its own, in a copy of this checkout, and free ports in the place
of those that the page names. What it has started is ended.

The last line is "N passed, N failed, N skipped", in commands.`;

/** How many sections run at the same time: they wait more than they compute. */
const AT_ONCE = 4;

async function main(): Promise<number> {
  const options = parseArgs(Deno.args, {
    string: ["wait"],
    boolean: ["quick", "pictures", "list", "help"],
    unknown(argument: string) {
      if (argument.startsWith("-")) fail(`There is no ${argument}; --help shows what there is`);
    },
  }) as {
    wait?: string;
    quick: boolean;
    pictures: boolean;
    list: boolean;
    help: boolean;
    _: string[];
  };
  if (options.help) return print(HELP);
  if (options.pictures) return await writePictures(options._);
  const chosen = choose(options._);
  if (options.list) return print(chosen.map(describe).join("\n"));

  const place = prepare(options.quick, Number(options.wait ?? 30) * 1000);
  using _ = cleaningUp(() => Deno.removeSync(place.root, { recursive: true }));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const waiting = [...chosen];
  const work = async () => {
    for (let section = waiting.shift(); section !== undefined; section = waiting.shift()) {
      const begin = performance.now();
      const reason = whyNot(section, options.quick);
      const outcomes = reason === undefined
        ? await runSection(section, place)
        : commandsOf(section).map((step): Outcome => ({ step, verdict: "skipped" }));
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      const has = (verdict: string) => outcomes.filter((one) => one.verdict === verdict).length;
      for (const verdict of ["passed", "failed", "skipped"] as const) {
        counts[verdict] += has(verdict);
      }
      const verdict = reason !== undefined
        ? `skipped: ${reason}`
        : `${has("failed") > 0 ? "failed" : "ok"}, ${seconds} s`;
      console.log(
        [`${nameOf(section)}: ${verdict}`, ...outcomes.flatMap((one) => explain(section, one))]
          .join("\n"),
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return counts.failed === 0 ? 0 : 1;
}

/** Writes the pictures that pages show, or those that arguments name. */
async function writePictures(names: readonly string[]): Promise<number> {
  const text = pagesOf().map((page) => Deno.readTextFileSync(new URL(page, ROOT))).join("\n");
  const wanted = new Set(names.length === 0 ? picturesIn(text) : names);
  const pictures = await makePictures([...new Set([...wanted].map(lessonOf))]);
  for (const { name, caption, svg } of pictures) {
    if (!wanted.delete(name)) continue;
    Deno.writeTextFileSync(new URL(`docs/pictures/${name}.svg`, ROOT), svg);
    console.log(`docs/pictures/${name}.svg: ${caption}`);
  }
  if (wanted.size > 0) fail(`No lesson makes ${[...wanted].join(", ")}`);
  return 0;
}

function pagesOf(): string[] {
  const folder = [...Deno.readDirSync(new URL("docs", ROOT))].map(({ name }) => `docs/${name}`);
  return ["README.md", ...folder.filter((name) => name.endsWith(".md")).sort()];
}

/** The sections that arguments name. */
function choose(names: readonly string[]): Section[] {
  const pages = pagesOf();
  if (names.length === 0) names = pages;
  return names.flatMap((name) => {
    const [page, words = ""] = name.split("#");
    let text: string;
    try {
      text = Deno.readTextFileSync(new URL(page!, ROOT));
    } catch {
      fail(`There is no page ${page}; there are ${pages.join(", ")}`);
    }
    const wanted = words.toLowerCase().replaceAll("-", " ");
    const sections = parsePage(page!, text)
      .filter(({ title }) => title.toLowerCase().includes(wanted));
    if (sections.length === 0 && words !== "") fail(`${page} has no such section: ${words}`);
    return sections;
  });
}

/** Why a section is not run here. */
function whyNot(section: Section, isQuick: boolean): string | undefined {
  if (section.slow !== undefined && isQuick) return section.slow;
  if (section.user !== undefined && Deno.uid() === 0) return section.user;
  const missing = section.needs.find((program) => !isInstalled(program));
  return missing === undefined ? undefined : `${missing} is not installed`;
}

function commandsOf({ steps }: Section): Step[] {
  return steps.filter(({ kind }) => kind === "command");
}

function nameOf({ page, line, title }: Section): string {
  return `${page}:${line}: ${title}`;
}

/** The lines about a command that failed or was skipped. */
function explain({ page }: Section, { step, verdict, reason }: Outcome): string[] {
  if (reason === undefined) return [];
  const what = step.kind === "output" ? "(what it prints next)" : "text" in step ? step.text : "";
  return [
    `  ${page}:${step.line}: ${verdict}: ${what.split("\n")[0]}`,
    ...reason.map((line) => `    ${line}`),
  ];
}

function describe(section: Section): string {
  const lines = commandsOf(section).map((step) => `  $ ${"text" in step ? step.text : ""}`);
  return [nameOf(section), ...lines].join("\n");
}

Deno.exit(await main());
