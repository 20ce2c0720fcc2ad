/**
 * Side-by-side measurements: tine and others do the same work in turns, and only the ratio within a
 * round counts. A machine that is busy with other work slows all of them down alike.
 */
import { parseArgs } from "@std/cli/parse-args";
import { cleaningUp } from "../clean_up.ts";
import { fail } from "../task.ts";
import { against, findObstacle, PART_NAMES } from "./against.ts";
import { apps } from "./apps.ts";
import { barChart } from "./chart.ts";
import { type Contest, measure, panelOf, printTable } from "./contest.ts";
import { forkingServers, forks } from "./forks.ts";
import { isolation } from "./isolation.ts";
import { memory } from "./memory.ts";
import { million } from "./million.ts";
import { here, isThere, outputOf } from "./peers.ts";
import { starts } from "./start.ts";
import { throughput } from "./throughput.ts";
import { workers } from "./workers.ts";

const HELP = `Measures tine beside others.

Usage: deno task bench [measurement ...] [options]
       deno task bench --against FOLDER [--only PART,...] [options]

  fork           fork() beside Python's and C's
  3g             the article's last server beside Python's and C's
  prefork        requests per second, beside deno serve --parallel, nginx, Apache,
                 gunicorn and unicorn, two workers each
  apps           the same for apps of Express, Fastify and node:http beside node:cluster
                 in Node, Deno and Bun, and for a fetch app beside Bun; installs them
  start          from the command line to the first response, beside deno serve
  memory         what a million records take with four workers, beside deno serve
  workers        memory and start of forked workers, of fresh ones, and of threads of
                 deno serve --parallel
  million        what a million requests leave behind
  isolation      how clients fare while another one breaks its worker

All of them if none is named: about fourteen minutes.

With --against another checkout of tine and this one are measured in turns, and
nothing else: about eight minutes. The exit code is 1 when the median of a ratio
says that this one is worse by more than 3 in 100. The parts: throughput, memory,
start, fork, runtime (fork with an event loop) and 3g. What else the machine does
blurs it; with --against . both are this one, which shows by how much.

  --against DIR  the folder of the other checkout
  --only PART,.. what is measured of them; all parts if left out
  --rounds N     how often each program is measured, 1 to 100 (fork, 3g: 9,
                 prefork, apps: 7, start: 15, memory: 3; with --against start: 41,
                 memory: 3, others: 31)
  --seconds N    of each measurement no round is begun that would end later (240)
  --python FILE  the Python to compare with (python3)
  --output FILE  where the chart goes (tests/bench/results.svg)
  --help         this text

Programs that are missing are named and left out. With gcc (or cc) fork and 3g
measure the programs in C too. The other measurements need wrk. How fast a Python
forks depends on what it has loaded before its first line; that is printed first.`;

/** What is measured in turns: the number of rounds, and what is needed. */
interface Contests {
  readonly rounds: number;
  readonly needs: readonly string[];
  readonly prepare: (folder: string) => Contest[];
}

/** What is measured once, and prints its figures itself. */
interface Report {
  readonly needs: readonly string[];
  readonly print: () => Promise<void>;
}

async function main(): Promise<number> {
  const options = readArguments();
  const { other, parts, names, python } = options;
  const measurements = listMeasurements(python);
  const unknown = names.find((name) => !(name in measurements));
  if (unknown !== undefined) fail(`There is no ${unknown}; --help shows what there is`);
  const obstacle = other === undefined ? undefined : findObstacle(other, parts);
  if (obstacle !== undefined) fail(obstacle);
  const folder = Deno.makeTempDirSync({ prefix: "tine_bench_" });
  using _ = cleaningUp(() => Deno.removeSync(folder, { recursive: true }));
  try {
    if (other === undefined) {
      await measurePeers(measurements, options, folder);
      return 0;
    }
    const { rounds, seconds } = options;
    const budget = { ...rounds === undefined ? {} : { rounds }, milliseconds: seconds * 1000 };
    return await against(other, parts, folder, budget) ? 0 : 1;
  } catch (error) {
    log(`error: ${(error as Error).message}`);
    return 2;
  }
}

async function measurePeers(
  measurements: Record<string, Contests | Report>,
  { names, rounds, seconds, python, output }: Arguments,
  folder: string,
): Promise<void> {
  const contests: Contest[] = [];
  for (const name of names.length > 0 ? names : Object.keys(measurements)) {
    const measurement = measurements[name]!;
    const missing = measurement.needs.filter((program) => !isThere(program));
    if (missing.length > 0) {
      log(`Skipped: ${name}, for there is no ${missing.join(", ")}`);
    } else if ("print" in measurement) {
      log(`\n${name}`);
      await measurement.print();
    } else {
      log(`\n${name}`);
      const prepared = measurement.prepare(folder);
      const budget = { rounds: rounds ?? measurement.rounds, milliseconds: seconds * 1000 };
      await measure(prepared, budget);
      prepared.forEach(printTable);
      contests.push(...prepared);
    }
  }
  if (contests.length === 0) return;
  Deno.writeTextFileSync(output, barChart(contests.map(panelOf), await footnote(python)));
  log(`\nThe chart is in ${output}`);
}

function listMeasurements(python: string): Record<string, Contests | Report> {
  return {
    "fork": { rounds: 9, needs: [python], prepare: (folder) => forks(python, folder) },
    "3g": { rounds: 9, needs: [python], prepare: (folder) => forkingServers(python, folder) },
    "prefork": { rounds: 7, needs: ["wrk"], prepare: throughput },
    "apps": { rounds: 7, needs: ["wrk"], prepare: apps },
    "start": { rounds: 15, needs: [], prepare: starts },
    "memory": { rounds: 3, needs: ["wrk"], prepare: memory },
    "workers": { rounds: 5, needs: ["wrk"], prepare: workers },
    "million": { needs: ["wrk"], print: million },
    "isolation": { needs: [], print: isolation },
  };
}

interface Arguments {
  readonly names: readonly string[];
  /** The other checkout, and the parts to measure. */
  readonly other: string | undefined;
  readonly parts: readonly string[];
  readonly rounds: number | undefined;
  readonly seconds: number;
  readonly python: string;
  readonly output: string;
}

function readArguments(): Arguments {
  const options = parseArgs(Deno.args, {
    string: ["_", "against", "only", "rounds", "seconds", "python", "output"],
    boolean: ["help"],
    unknown(argument: string) {
      if (argument.startsWith("-")) fail(`There is no ${argument}; --help shows what there is`);
    },
  }) as
    & { [name in "against" | "only" | "rounds" | "seconds" | "python" | "output"]?: string }
    & { _: string[]; help: boolean };
  if (options.help) {
    console.log(HELP);
    Deno.exit();
  }
  const { _: names, against: other, only, rounds, seconds = "240" } = options;
  if (other === undefined && only !== undefined) fail("--only takes --against");
  if (other === "") fail("--against takes the folder of another checkout");
  if (other !== undefined) {
    if (names.length > 0) fail(`--against measures no ${names[0]}: choose with --only`);
    const alien = (["python", "output"] as const).find((name) => options[name] !== undefined);
    if (alien !== undefined) fail(`--${alien} is of no use with --against`);
  }
  return {
    names,
    other,
    parts: only === undefined ? PART_NAMES : only.split(","),
    rounds: rounds === undefined ? undefined : wholeNumber("--rounds", rounds, 100),
    seconds: wholeNumber("--seconds", seconds, 3600),
    python: options.python ?? "python3",
    output: options.output ?? here("results.svg"),
  };
}

function wholeNumber(option: string, value: string, most: number): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= most) return number;
  fail(`${option}: expected a whole number from 1 to ${most}, not "${value}"`);
}

/** Describes the machine. */
async function footnote(python: string): Promise<string> {
  const peer = isThere(python) ? `, ${await describe(python)}` : "";
  return `Median, least and most of all rounds. Deno ${Deno.version.deno}${peer}, ` +
    `${Deno.build.arch}, ${navigator.hardwareConcurrency} processors.`;
}

/** Describes Python: its version, and what it has loaded before its first line. */
async function describe(python: string): Promise<string> {
  return await outputOf([
    python,
    "-c",
    "import sys; print('Python', sys.version.split()[0], 'with', len(sys.modules), 'modules')",
  ]);
}

function log(message: string): void {
  console.error(message);
}

Deno.exit(await main());
