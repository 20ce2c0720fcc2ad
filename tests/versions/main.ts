/** Tries tine on many versions of Deno, and keeps the table in docs/measured.md. */
import { parseArgs } from "@std/cli/parse-args";
import { cleaningUp } from "../clean_up.ts";
import { ROOT } from "../support.ts";
import { fail } from "../task.ts";
import { denoOf, newestDeno } from "./deno.ts";
import { ASPECTS, VERSIONS } from "./list.ts";
import { countLost, formatTable, parseTable, replaceTable, type Row } from "./table.ts";
import { tryVersion, type Verdict } from "./trial.ts";

const HELP =
  `Tries tine on many versions of Deno, and compares them with the table in docs/measured.md.

Usage: deno task test:versions [options]

  --only VERSION,...  these only, also others than those of tests/versions/list.ts
  --ci                those that CI tries
  --write             writes the table of docs/measured.md anew
  --help              this text

The tests of tests/versions/list.ts run with the Deno that runs this, and the programs
that they start with the version that is tried. npx fetches it. Without --only, the newest
Deno that npm has is tried, too. A version that does worse than the table says is tried
twice. The exit code is 1 if it does so again, and for a version that the table does not
have, if it does worse than the table's first.

A version takes a minute. The last line is "N passed, N failed": what the table says that
fails counts as neither.`;

const PAGE = new URL("docs/measured.md", ROOT);

/** What became of the versions: of one that could not even be tried, the reason. */
type Outcome = Verdict | { readonly version: string; readonly reason: string };

async function main(): Promise<number> {
  const options = parseArgs(Deno.args, {
    string: ["only"],
    boolean: ["ci", "write", "help"],
    unknown(argument: string) {
      fail(`There is no ${argument}; --help shows what there is`);
    },
  }) as { only?: string; ci: boolean; write: boolean; help: boolean };
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  if (options.write && (options.ci || options.only !== undefined)) {
    fail("--write takes all versions");
  }
  const versions = options.only?.split(",") ?? await choose(options.ci);

  const folder = Deno.makeTempDirSync({ prefix: "tine_versions_" });
  using _ = cleaningUp(() => Deno.removeSync(folder, { recursive: true }));
  Deno.chmodSync(folder, 0o755); // some tests give up root

  const page = Deno.readTextFileSync(PAGE);
  const table = parseTable(page);
  let [passed, failed] = [0, 0];
  const outcomes: Outcome[] = [];
  for (const [i, version] of versions.entries()) {
    const row = table.has(version) ? table.get(version) : table.values().next().value;
    const outcome = await judge(
      version,
      row,
      `${folder}/${version}`,
      `${i + 1} of ${versions.length}`,
    );
    outcomes.push(outcome);
    failed += "reason" in outcome ? 1 : countLost(outcome, row);
    if (!("reason" in outcome)) passed += countPassed(outcome);
  }
  const verdicts = outcomes.filter((outcome) => !("reason" in outcome)) as Verdict[];
  const text = formatTable(verdicts);
  console.log(`\n${text}`);
  if (options.write && verdicts.length === outcomes.length) {
    Deno.writeTextFileSync(PAGE, replaceTable(page, text));
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** The versions to try, newest first. */
async function choose(isCi: boolean): Promise<string[]> {
  const listed = VERSIONS.filter(({ inCi }) => !isCi || inCi === true).map(({ name }) => name);
  const newest = await newestDeno();
  return VERSIONS.some(({ name }) => name === newest) ? listed : [newest, ...listed];
}

/** Tries a version, twice if it does worse than a row of the table. */
async function judge(version: string, row: Row, folder: string, place: string): Promise<Outcome> {
  try {
    const deno = await denoOf(version);
    const once = async () => {
      const begin = performance.now();
      Deno.mkdirSync(folder);
      const verdict = await tryVersion(version, deno, folder);
      Deno.removeSync(folder, { recursive: true });
      const seconds = ((performance.now() - begin) / 1000).toFixed(0);
      console.log(`${place}: ${version}: ${describe(verdict, row)}, ${seconds} s`);
      for (const test of verdict.failures) console.log(`  failed: ${test}`);
      return verdict;
    };
    const verdict = await once();
    return countLost(verdict, row) === 0 ? verdict : await once();
  } catch (error) {
    const { message } = error as Error;
    console.log(`${place}: ${version}: ${message}`);
    return { version, reason: message };
  }
}

function describe(verdict: Verdict, row: Row): string {
  const { scores } = verdict;
  const text = scores === undefined
    ? "too old, and says so"
    : ASPECTS.map((aspect) => `${aspect} ${scores[aspect].passed} of ${scores[aspect].total}`)
      .join(", ");
  const lost = countLost(verdict, row);
  return lost === 0 ? text : `${text}: ${lost} less than the table says`;
}

function countPassed({ scores }: Verdict): number {
  if (scores === undefined) return 1;
  return ASPECTS.reduce((sum, aspect) => sum + scores[aspect].passed, 0);
}

Deno.exit(await main());
