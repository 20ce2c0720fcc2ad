/**
 * Tests tine on aarch64, under emulation if the machine has another processor: the constants, the
 * struct layouts, both kinds of fork, and a real server.
 *
 * `deno task test:aarch64 [--require]`
 *
 * If the emulator is missing, all tests are skipped, and a message says what is missing; with
 * `--require` that is a failure. The emulator ignores `MADV_DONTFORK`, so these tests say nothing
 * about the sharing of V8's heap.
 */
import { exchange, HELLO, portOf, Program, ROOT, until, zombiesOf } from "../support.ts";
import { aarch64Deno, emulated, MissingError } from "./emulation.ts";

const PATIENCE = 180_000;

/** The guest programs and the signals that they handle. */
const GUESTS = [
  { file: "calls.ts", signals: ["CHLD"] },
  { file: "fork.ts", signals: ["CHLD"] },
  { file: "signal.ts", signals: ["CHLD", "USR1", "ALRM"] },
  { file: "runtime.ts", signals: ["CHLD"] },
];

interface Tally {
  passed: number;
  failed: number;
}

/** Starts a program of this repository on aarch64. */
async function startThere(
  file: string,
  flags: string[],
  args: string[],
  signals: string[],
): Promise<Program> {
  const [command, ...start] = await aarch64Deno(signals);
  const path = new URL(file, ROOT).pathname;
  return new Program(command!, [...start, "run", "--no-lock", ...flags, path, ...args]);
}

/** Runs a guest program to its end, and counts its checks. */
async function runGuest(file: string, signals: string[]): Promise<Tally> {
  const folder = Deno.makeTempDirSync({ prefix: "tine_aarch64_" });
  try {
    await using guest = await startThere(`tests/aarch64/${file}`, ["-A"], [folder], signals);
    const end = await guest.ended(PATIENCE).catch((error: Error) => ({ error }));
    console.log(guest.stdout.trimEnd());
    const passed = guest.stdout.match(/^ok /gm)?.length ?? 0;
    let failed = guest.stdout.match(/^not ok /gm)?.length ?? 0;
    const planned = Number(guest.stdout.match(/^1\.\.(\d+)$/m)?.[1] ?? NaN);
    if ("error" in end || end.code !== 0 || planned !== passed + failed) {
      failed++;
      const reason = "error" in end ? "in time" : `but ended with ${end.signal ?? end.code}`;
      console.log(`not ok ${file} did not reach its end ${reason}`);
    }
    if (failed > 0) console.log(guest.stderr.trimEnd().replace(/^/gm, "# "));
    return { passed, failed };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** The last server of the article, with clients outside the emulator. */
async function runServer(): Promise<Tally> {
  const name = "examples/part3/webserver3g.ts answers 20 clients and leaves no zombies";
  try {
    await using server = await startThere(
      "examples/part3/webserver3g.ts",
      ["--allow-ffi"],
      ["0"],
      ["CHLD"],
    );
    await server.printed(/port \d+/, PATIENCE);
    const port = await portOf(server);
    const answers = await Promise.all(Array.from({ length: 20 }, () => exchange(port)));
    if (!answers.every((answer) => answer === HELLO)) throw new Error(JSON.stringify(answers));
    await until(() => zombiesOf(server.pid).length === 0, "the last zombie");
    server.kill("SIGINT");
    const { signal } = await server.ended();
    if (signal !== "SIGINT") throw new Error(`It ended with ${signal} after SIGINT`);
    console.log(`ok ${name}`);
    return { passed: 1, failed: 0 };
  } catch (error) {
    console.log(`not ok ${name}: ${error}`);
    return { passed: 0, failed: 1 };
  }
}

async function main(): Promise<number> {
  try {
    const command = await aarch64Deno([]);
    console.log(`aarch64, ${emulated ? "emulated" : "native"}: ${command.at(-1)}`);
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    console.log(error.message);
    console.log("skipped: tine was not tried on aarch64");
    return Deno.args.includes("--require") ? 1 : 0;
  }
  const total = { passed: 0, failed: 0 };
  const runs: [string, () => Promise<Tally>][] = [
    ...GUESTS.map(({ file, signals }): [string, () => Promise<Tally>] => [
      file,
      () => runGuest(file, signals),
    ]),
    ["webserver3g.ts", runServer],
  ];
  const begin = performance.now();
  for (const [name, run] of runs) {
    const start = performance.now();
    const { passed, failed } = await run();
    total.passed += passed;
    total.failed += failed;
    console.log(`# ${name}: ${seconds(start)} s`);
  }
  console.log(`# all: ${seconds(begin)} s`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

Deno.exit(await main());
