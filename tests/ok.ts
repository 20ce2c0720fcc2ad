/**
 * All checks before a commit, the quick ones first; the further ones run at the same time. If a
 * step fails, the others still run. A test that fails and then passes three times alone is unsteady:
 * it is shown, and counts as passed. The last line shows how many tests passed, and how many tests and
 * steps failed.
 *
 * `deno task ok [--aarch64] [--versions] [--apps]`
 */

import { filesToRetry } from "./retry.ts";

/** The counts of passed and failed tests. */
interface Tally {
  readonly passed: number;
  readonly failed: number;
}

/** One step: a command line of Deno. */
interface Step {
  readonly name: string;
  readonly args: readonly string[];
  /** Whether its output ends with a tally, which is then counted. */
  readonly counts?: boolean;
  /** Whether it uses a processor all the time. */
  readonly isBusy?: boolean;
  /** Whether it is `deno test`, whose failed files can be run again. */
  readonly isRetried?: boolean;
}

/** How often a file must pass whose tests have failed. */
const RETRIES = 3;

const STEPS: readonly Step[] = [
  { name: "format", args: ["fmt", "--check", "--quiet"] },
  { name: "lint", args: ["lint", "--quiet"] },
  { name: "documentation", args: ["doc", "--lint", "mod.ts", "ffi/mod.ts", "server/mod.ts"] },
  { name: "types", args: ["check", "--quiet", "."] },
  { name: "package", args: ["publish", "--dry-run", "--allow-dirty", "--quiet"] },
  { name: "tests", args: ["task", "--quiet", "test"], counts: true, isRetried: true },
];

/** Steps that take more: an emulator, other versions of Deno, or packages and databases. */
const FURTHER: Readonly<Record<string, Step>> = {
  "--aarch64": {
    name: "aarch64",
    args: ["task", "--quiet", "test:aarch64", "--require"],
    counts: true,
    isBusy: true,
  },
  "--versions": {
    name: "versions",
    args: ["task", "--quiet", "test:versions", "--ci"],
    counts: true,
  },
  "--apps": {
    name: "apps",
    args: ["task", "--quiet", "test:apps"],
    counts: true,
  },
};

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((arg) => !Object.hasOwn(FURTHER, arg));
  if (unknown !== undefined) {
    const flags = Object.keys(FURTHER).map((flag) => `[${flag}]`).join(" ");
    console.error(`error: There is no ${unknown}; usage: deno task ok ${flags}`);
    return 2;
  }
  let [passed, failed] = [0, 0];
  const further = Object.entries(FURTHER).flatMap(([flag, step]) =>
    args.includes(flag) ? step : []
  );
  const add = (tally: Tally) => {
    passed += tally.passed;
    failed += tally.failed;
  };
  for (const step of STEPS) {
    console.log(`== ${step.name}`);
    add(step.counts ? await count(step) : await run(step));
  }
  // The emulator needs a processor for itself. The others mostly wait: they run at the same time.
  for (const step of further.filter(({ isBusy }) => isBusy)) {
    add(show(step, await command(step, "piped").output()));
  }
  const running = further.filter(({ isBusy }) => !isBusy).map((step) =>
    [step, command(step, "piped").output()] as const
  );
  for (const [step, output] of running) add(show(step, await output));
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Runs a step that counts as one failure if it fails. */
async function run(step: Step): Promise<Tally> {
  const { success } = await command(step, "inherit").spawn().status;
  if (!success) console.log(`failed: deno ${step.args.join(" ")}`);
  return { passed: 0, failed: success ? 0 : 1 };
}

/** Runs a step that reports its own counts, and shows its output. */
async function count(step: Step): Promise<Tally> {
  const child = command(step, "piped").spawn();
  const [shown, kept] = child.stdout.tee();
  const [output, { success }] = await Promise.all([
    new Response(kept).text(),
    child.status,
    shown.pipeTo(Deno.stdout.writable, { preventClose: true }),
  ]);
  const tally = tallyOf(step, output, success);
  const files = step.isRetried ? filesToRetry(output) : [];
  for (const file of files) {
    if (!await passes(file)) return tally;
  }
  return files.length === 0 ? tally : { passed: tally.passed + tally.failed, failed: 0 };
}

/** Whether the tests of a file pass again and again, without others beside them. */
async function passes(file: string): Promise<boolean> {
  const again: Step = { name: file, args: ["test", "--allow-all", file] };
  for (let i = 1; i <= RETRIES; i++) {
    console.log(`== ${file}, once more: ${i} of ${RETRIES}`);
    if ((await run(again)).failed > 0) return false;
  }
  console.log(`unsteady: ${file}: failed, and passed ${RETRIES} times since`);
  return true;
}

/** Shows the output of a step that reports its own counts and has ended. */
function show(step: Step, { success, stdout }: Deno.CommandOutput): Tally {
  const output = new TextDecoder().decode(stdout);
  console.log(`== ${step.name}\n${output.trimEnd()}`);
  return tallyOf(step, output, success);
}

function tallyOf(step: Step, output: string, success: boolean): Tally {
  // "ok | 12 passed | 0 failed (3s)" of deno test, "12 passed, 0 failed" of the emulated tests
  const tally = output.split("\n").findLast((line) => /\d+ passed.*\d+ failed/.test(line));
  const passed = Number(tally?.match(/(\d+) passed/)?.[1] ?? 0);
  const failed = Number(tally?.match(/(\d+) failed/)?.[1] ?? 0);
  if (success && tally !== undefined && failed === 0) return { passed, failed };
  console.log(`failed: deno ${step.args.join(" ")}`);
  // A run that ended before it reported its counts has failed too.
  return { passed, failed: Math.max(failed, 1) };
}

function command({ args }: Step, stdout: "inherit" | "piped"): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: new URL("../", import.meta.url),
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout,
    stderr: "inherit",
  });
}

Deno.exit(await main(Deno.args));
