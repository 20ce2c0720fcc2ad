/** Runs the tests that are chosen with one version of Deno. */
import { ROOT } from "../support.ts";
import { runInTime } from "../task.ts";
import { type Aspect, aspectOf, ASPECTS, CHOSEN } from "./list.ts";

/** The tests of one aspect. */
export interface Score {
  readonly passed: number;
  readonly total: number;
}

/** What became of a version. */
export interface Verdict {
  readonly version: string;
  /** `undefined` if it is too old, and says so. */
  readonly scores: Readonly<Record<Aspect, Score>> | undefined;
  /** The tests that failed, by their names. */
  readonly failures: readonly string[];
}

/** No version may take longer, in milliseconds. */
const PATIENCE = 600_000;

/**
 * Tries a version.
 *
 * @param version The version.
 * @param deno Its file.
 * @param folder A folder of its own, for Deno's caches: versions that share one empty it in turn.
 */
export async function tryVersion(
  version: string,
  deno: string,
  folder: string,
): Promise<Verdict> {
  // Programs start others by their own file, and those inherit the environment.
  const program = `${folder}/deno`;
  Deno.writeTextFileSync(program, `#!/bin/sh\nDENO_DIR='${folder}' exec '${deno}' "$@"\n`);
  Deno.chmodSync(program, 0o755);
  const store = { DENO_TLS_CA_STORE: "mozilla,system" }; // old versions know fewer certificates
  const { code, stderr } = await run(program, [
    "run",
    "--quiet",
    "--no-lock",
    "-A",
    "server/cli.ts",
    "--help",
  ], store);
  if (code === 1 && /^error: tine needs Deno \S+ or later[^\n]*\n$/.test(stderr)) {
    return { version, scores: undefined, failures: [] };
  }
  // No program shall have to fetch or compile anything.
  const sources = ["mod.ts", "server/cli.ts", "server/cli/serve.ts", "tests/prefork/app.ts"];
  const cached = await run(program, ["cache", "--quiet", "--no-lock", ...sources], store);
  if (cached.code !== 0) throw new Error(`deno ${version} cannot load tine: ${cached.stderr}`);
  const results = await runTests(program);
  const scores = Object.fromEntries(ASPECTS.map((aspect) => {
    const own = [...results].filter(([test]) => aspectOf(test) === aspect);
    return [aspect, { passed: own.filter(([, passed]) => passed).length, total: own.length }];
  })) as Record<Aspect, Score>;
  const failures = [...results].filter(([, passed]) => !passed).map(([test]) => test);
  return { version, scores, failures };
}

/** Runs the tests. Their programs run with `program`, and they themselves with this Deno. */
async function runTests(program: string): Promise<Map<string, boolean>> {
  const parts = CHOSEN.flatMap(({ tests }) => tests);
  const filter = `/${parts.map((part) => part.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|")}/`;
  const files = new Set(CHOSEN.map(({ file }) => file));
  const args = ["test", "-A", "--no-check", "--reporter=tap", "--filter", filter, ...files];
  const { stdout } = await run(Deno.execPath(), args, { TINE_TEST_DENO: program });
  return readTap(stdout);
}

/** Reads which tests passed from the output of `deno test --reporter=tap`. */
export function readTap(output: string): Map<string, boolean> {
  const lines = output.matchAll(/^(not )?ok \d+ - (.*?)(?: # SKIP.*)?$/gm);
  return new Map([...lines].map(([, not, test]) => [test!, not === undefined]));
}

function run(command: string, args: string[], env: Record<string, string> = {}) {
  return runInTime(command, args, { cwd: ROOT, env }, PATIENCE);
}
