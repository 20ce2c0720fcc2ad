/** A deliberate change, and its outcome. */
import { runInTime } from "../task.ts";

/** A change of the code that a test must notice. */
export interface Mutant {
  /** What it breaks, in a few words joined by hyphens. */
  readonly name: string;
  /** The file that is changed, relative to the repository's root. */
  readonly file: string;
  /** The text that is replaced. It occurs in the file exactly once. */
  readonly text: string;
  /** The replacement. */
  readonly replacement: string;
  /** The test file that must notice the change. */
  readonly test: string;
  /** A part of the test's name, as written in the file, for `deno test --filter`. */
  readonly filter: string;
}

/** The outcome of a mutant. Only `noticed` is good. */
export type Outcome = "noticed" | "NOT NOTICED" | "did not compile" | "stale" | "fails without it";

type TestResult = "passed" | "failed" | "not there";

/** A mutant's outcome, with the reason if it is not obvious. */
export interface Verdict {
  readonly outcome: Outcome;
  readonly reason?: string;
}

/** The time limit of a test, in milliseconds. A test that hangs has noticed the change too. */
const PATIENCE = 180_000;

/** Returns what is wrong with an entry of the list, if the code has changed since. */
export function findStale(root: string, mutant: Mutant): string | undefined {
  const { file, text, replacement, test, filter } = mutant;
  const source = readIfThere(`${root}/${file}`);
  if (source === undefined) return `there is no ${file}`;
  const count = source.split(text).length - 1;
  if (count !== 1) return `its text is ${count} times in ${file}`;
  if (text === replacement) return "it changes nothing";
  const tests = readIfThere(`${root}/${test}`);
  if (tests === undefined) return `there is no ${test}`;
  if (!tests.includes(filter)) return `there is no "${filter}" in ${test}`;
}

/** Tries mutants, one at a time, in a copy of the repository. */
export class Trial {
  /** The results of the mutants' tests on the unchanged code, by name. */
  readonly #without = new Map<string, TestResult>();
  readonly #root: string;
  readonly #temporary: string;

  /**
   * @param root The copy, which is changed.
   * @param temporary The folder for the tests' temporary files.
   */
  constructor(root: string, temporary: string) {
    this.#root = root;
    this.#temporary = temporary;
  }

  /** Returns the outcome of a mutant. Afterwards, the copy is unchanged again. */
  async try(mutant: Mutant): Promise<Verdict> {
    const stale = findStale(this.#root, mutant);
    if (stale !== undefined) return { outcome: "stale", reason: stale };
    const without = await this.#testWithout(mutant);
    if (without !== "passed") {
      const reason = `${mutant.test} "${mutant.filter}"`;
      if (without === "failed") return { outcome: "fails without it", reason };
      return { outcome: "stale", reason: `there is no test ${reason}` };
    }
    const path = `${this.#root}/${mutant.file}`;
    const original = Deno.readTextFileSync(path);
    try {
      // A function, so that "$&" in a replacement has no special meaning.
      Deno.writeTextFileSync(path, original.replace(mutant.text, () => mutant.replacement));
      const obstacle = await this.#obstacle(mutant);
      if (obstacle !== undefined) return { outcome: "did not compile", reason: obstacle };
      const result = await this.#test(mutant);
      return { outcome: result === "failed" ? "noticed" : "NOT NOTICED" };
    } finally {
      Deno.writeTextFileSync(path, original);
    }
  }

  async #testWithout(mutant: Mutant): Promise<TestResult> {
    const key = `${mutant.test} ${mutant.filter}`;
    const known = this.#without.get(key);
    if (known !== undefined) return known;
    const result = await this.#test(mutant);
    this.#without.set(key, result);
    return result;
  }

  async #test({ test, filter }: Mutant): Promise<TestResult> {
    const args = ["test", "--allow-all", "--no-check", "--filter", filter, test];
    const { success, output } = await this.#deno(args);
    if (!success) return "failed";
    return /\b[1-9]\d* passed/.test(output) ? "passed" : "not there";
  }

  /** Returns why the mutant cannot be tested: it does not compile. */
  async #obstacle({ file }: Mutant): Promise<string | undefined> {
    const files = file.endsWith(".ts") ? [file] : [];
    for (
      const args of [
        ["check", "--quiet", ...files, "mod.ts", "server/cli.ts"],
        ["run", "--allow-all", "--no-check", "mod.ts"],
        ["run", "--allow-all", "--no-check", "server/cli.ts", "serve", "--help"],
      ]
    ) {
      const { success, output } = await this.#deno(args);
      if (!success) return `deno ${args.join(" ")}: ${firstError(output)}`;
    }
  }

  async #deno(args: string[]): Promise<{ success: boolean; output: string }> {
    const { code, stdout, stderr } = await runInTime(
      Deno.execPath(),
      args,
      { cwd: this.#root, env: { TMPDIR: this.#temporary } },
      PATIENCE,
    );
    return { success: code === 0, output: stdout + stderr };
  }
}

function firstError(output: string): string {
  return output.match(/^.*error.*$/im)?.[0] ?? output.trim().split("\n")[0]!;
}

function readIfThere(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
