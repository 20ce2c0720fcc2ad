/**
 * Side-by-side measurements: tine, Python and C do the same work in turns, and
 * what counts is the ratio within one turn. So a machine that is busy with other
 * things slows all of them down alike.
 */
import { parseArgs } from "@std/cli/parse-args";
import { type Bar, barChart } from "./chart.ts";
import {
  type CommandLine,
  compile,
  figureOf,
  figureOfServer,
  here,
  isThere,
  outputOf,
  tine,
} from "./peers.ts";

const HELP = `Measures tine beside Python and C: forks, and connections to a forking server.

Usage: deno task bench [options]

  --rounds N     how often each program is measured, 1 to 100 (9)
  --seconds N    no round is begun that would end later than this (150)
  --python FILE  the Python to compare with (python3)
  --output FILE  where the chart goes (tests/bench/results.svg)
  --help         this text

With gcc (or cc) it measures the programs in C too, and the servers' client is
in C. Ratios are to Python's figure of the same round. How fast a Python forks
depends on what it has loaded before its first line; that is printed first.`;

const ROUND_TRIPS = 400;
const CONNECTIONS = 400;
const CONCURRENCY = 4;

/** Programs that do the same; the first one is what the others are compared with. */
interface Contest {
  readonly title: string;
  readonly unit: string;
  readonly better: "less" | "more";
  readonly contestants: readonly Contestant[];
}

/** One program and its figures, one per round. */
interface Contestant {
  readonly label: string;
  readonly measure: () => Promise<number>;
  readonly figures: number[];
}

async function main(): Promise<void> {
  const { rounds, seconds, python, output } = readArguments();
  if (!isThere(python)) fail(`${python} is needed, and was not found`);
  const folder = Deno.makeTempDirSync({ prefix: "tine_bench_" });
  try {
    const peer = await describe(python);
    log(peer);
    const contests = prepare(python, folder);
    await measure(contests, rounds, seconds * 1000);
    for (const contest of contests) printTable(contest);
    Deno.writeTextFileSync(output, draw(contests, peer));
    log(`The chart is in ${output}`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

interface Arguments {
  readonly rounds: number;
  readonly seconds: number;
  readonly python: string;
  readonly output: string;
}

function readArguments(): Arguments {
  const options = parseArgs(Deno.args, {
    string: ["rounds", "seconds", "python", "output"],
    boolean: ["help"],
    default: { rounds: "9", seconds: "150", python: "python3", output: here("results.svg") },
    unknown: (argument: string) => fail(`There is no ${argument}; --help shows what there is`),
  }) as { [Name in keyof Arguments]: string } & { help: boolean };
  if (options.help) {
    console.log(HELP);
    Deno.exit();
  }
  return {
    rounds: wholeNumber("--rounds", options.rounds, 100),
    seconds: wholeNumber("--seconds", options.seconds, 3600),
    python: options.python,
    output: options.output,
  };
}

function wholeNumber(option: string, value: string, most: number): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= most) return number;
  fail(`${option} takes a whole number from 1 to ${most}, not "${value}"`);
}

/** Which Python it is, and how much it is before its first line. */
async function describe(python: string): Promise<string> {
  return await outputOf([
    python,
    "-c",
    "import sys; print('Python', sys.version.split()[0], 'with', len(sys.modules), 'modules')",
  ]);
}

function prepare(python: string, folder: string): Contest[] {
  const compiler = ["gcc", "cc"].find(isThere);
  if (compiler === undefined) {
    log("Skipped: the programs in C, for there is neither gcc nor cc. The client is in Python");
  }
  const inC = (file: string): CommandLine[] => compiler ? [[compile(compiler, file, folder)]] : [];
  const [client = [python, here("client.py")]] = inC("client.c");
  return [forks(python, inC("fork_roundtrip.c")), servers(python, inC("webserver3g.c"), client)];
}

function forks(python: string, inC: CommandLine[]): Contest {
  const contestant = (label: string, [command, ...args]: CommandLine, ...more: string[]) => ({
    label,
    measure: () => figureOf([command, ...args, `${ROUND_TRIPS}`, ...more]),
    figures: [],
  });
  return {
    title: "fork, exit, wait",
    unit: "microseconds per round trip",
    better: "less",
    contestants: [
      contestant("Python", [python, here("fork_roundtrip.py")]),
      contestant("tine", tine("fork_roundtrip.ts")),
      ...inC.flatMap((program) => [
        contestant("C", program),
        contestant("C, 11 MB scattered", program, "scattered"),
        contestant("C, 11 MB in one piece", program, "contiguous"),
      ]),
    ],
  };
}

function servers(python: string, inC: CommandLine[], [client, ...args]: CommandLine): Contest {
  const load = (
    port: number,
    count: number,
  ): CommandLine => [client, ...args, `${port}`, `${count}`, `${CONCURRENCY}`];
  const contestant = (label: string, server: CommandLine) => ({
    label,
    measure: () => figureOfServer(server, load, CONNECTIONS),
    figures: [],
  });
  return {
    title: "webserver3g",
    unit: "connections per second",
    better: "more",
    contestants: [
      contestant("Python", [python, here("webserver3g.py")]),
      contestant("tine", tine("../../examples/part3/webserver3g.ts")),
      ...inC.map((program) => contestant("C", program)),
    ],
  };
}

async function measure(contests: Contest[], rounds: number, milliseconds: number): Promise<void> {
  const start = performance.now();
  for (let round = 1; round <= rounds; round++) {
    const spent = performance.now() - start;
    if (round > 1 && spent * round / (round - 1) > milliseconds) {
      log(`Skipped: the last ${rounds - round + 1} rounds, for lack of time`);
      return;
    }
    log(`Round ${round} of ${rounds}`);
    for (const { contestants } of contests) {
      for (const { measure, figures } of contestants) figures.push(await measure());
    }
  }
}

function printTable({ title, unit, better, contestants }: Contest): void {
  const head = ["", "median", "min", "max", "to Python", "min", "max"];
  const rows = contestants.map((contestant) => {
    const figures = spread(contestant.label, contestant.figures);
    const ratios = ratiosOf(contestant, contestants);
    return [
      contestant.label,
      ...[figures.median, figures.min, figures.max].map((figure) => figure.toFixed(0)),
      ...[ratios.median, ratios.min, ratios.max].map((ratio) => ratio.toFixed(2)),
    ];
  });
  console.log(`\n${title}: ${unit} (${better} is better)`);
  for (const [label, ...cells] of [head, ...rows]) {
    console.log(label!.padEnd(24) + cells.map((cell) => cell.padStart(10)).join(""));
  }
}

/** A contestant's figures over the first one's, round by round. */
function ratiosOf({ label, figures }: Contestant, [first]: readonly Contestant[]): Bar {
  return spread(label, figures.map((figure, round) => figure / first!.figures[round]!));
}

function spread(label: string, figures: readonly number[]): Bar {
  const sorted = figures.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { label, min: sorted[0]!, median: (low + high) / 2, max: sorted.at(-1)! };
}

function draw(contests: Contest[], peer: string): string {
  const panels = contests.map(({ title, unit, better, contestants }) => ({
    title: `${title}: ${unit}, as a multiple of Python's (${better} is better)`,
    bars: contestants.map((contestant) => ratiosOf(contestant, contestants)),
    line: 1,
  }));
  const rounds = contests[0]!.contestants[0]!.figures.length;
  return barChart(
    panels,
    `Median, least and most of ${rounds} rounds. Deno ${Deno.version.deno}, ${peer}, ` +
      `${Deno.build.arch}, ${navigator.hardwareConcurrency} processors.`,
  );
}

function log(message: string): void {
  console.error(message);
}

function fail(message: string): never {
  console.error(`error: ${message}`);
  Deno.exit(2);
}

await main();
