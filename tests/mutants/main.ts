/**
 * Checks that the tests notice what they guard against: applies each change of the list to a copy
 * of the repository, one at a time, and runs the test that must fail.
 */
import { parseArgs } from "@std/cli/parse-args";
import { cleaningUp } from "../clean_up.ts";
import { ROOT } from "../support.ts";
import { fail, print } from "../task.ts";
import { MUTANTS } from "./list.ts";
import { type Mutant, Trial, type Verdict } from "./mutant.ts";

const HELP = `Breaks the code on purpose, and tells which breaks the tests notice.

Usage: deno task mutants [options]

  --only NAME,...  these only
  --list           shows what there is
  --help           this text

Each change of tests/mutants/list.ts is made in a copy of the repository, and the test
that is named there must fail. The exit code is 1 unless each one is noticed:

  noticed          the test failed, and passes without the change
  NOT NOTICED      the test passed
  did not compile  the change has a type error, or nothing starts with it
  stale            the text to replace, or the test, is not there (any more)
  fails without it the test fails anyway

A change takes five to thirty seconds.`;

async function main(): Promise<number> {
  const options = parseArgs(Deno.args, {
    string: ["only"],
    boolean: ["list", "help"],
    unknown(argument: string) {
      fail(`There is no ${argument}; --help shows what there is`);
    },
  }) as { only?: string; list: boolean; help: boolean };
  if (options.help) return print(HELP);
  const mutants = options.only === undefined ? MUTANTS : options.only.split(",").map(find);
  if (options.list) return print(mutants.map(describe).join("\n"));

  const folder = Deno.makeTempDirSync({ prefix: "tine_mutants_" });
  using _ = cleaningUp(() => Deno.removeSync(folder, { recursive: true }));
  const [copy, temporary] = [`${folder}/copy`, `${folder}/tmp`];
  Deno.chmodSync(folder, 0o755); // some tests change to another user
  Deno.mkdirSync(temporary);
  Deno.chmodSync(temporary, 0o1777);
  copyFolder(ROOT.pathname, copy);

  const trial = new Trial(copy, temporary);
  const verdicts: Verdict[] = [];
  for (const [i, mutant] of mutants.entries()) {
    const begin = performance.now();
    const verdict = await trial.try(mutant);
    verdicts.push(verdict);
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    console.error(
      `${i + 1} of ${mutants.length}: ${mutant.name}: ${verdict.outcome}, ${seconds} s`,
    );
  }
  printTable(mutants, verdicts);
  return verdicts.every(({ outcome }) => outcome === "noticed") ? 0 : 1;
}

function find(name: string): Mutant {
  return MUTANTS.find((mutant) => mutant.name === name) ??
    fail(`There is no mutant ${name}; --list shows what there is`);
}

function describe({ name, file, test, filter }: Mutant): string {
  return `${name}: ${file}, to be noticed by ${test} "${filter}"`;
}

function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (name === ".git" || name === "node_modules") continue;
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

function printTable(mutants: readonly Mutant[], verdicts: readonly Verdict[]): void {
  const width = Math.max(...mutants.map(({ name }) => name.length)) + 2;
  console.log("");
  for (const [i, { name }] of mutants.entries()) {
    const { outcome, reason } = verdicts[i]!;
    console.log(`${name.padEnd(width)}${outcome}${reason === undefined ? "" : ` (${reason})`}`);
  }
  const noticed = verdicts.filter(({ outcome }) => outcome === "noticed").length;
  console.log(`\n${noticed} of ${mutants.length} noticed`);
}

Deno.exit(await main());
