/**
 * Compares two checkouts: the same programs run alternately with each, and only the ratio within a
 * round counts. Each checkout runs its own code, through its public interface. The measuring
 * programs, and the apps that are served, come from this checkout.
 */
import {
  type Budget,
  type Contest,
  type Contestant,
  contestant,
  measure,
  printColumns,
  ratiosOf,
  spread,
} from "./contest.ts";
import { clientFor } from "./forks.ts";
import {
  DENO,
  type HttpServer,
  preforkInstalled,
  preforkOf,
  type RunningServer,
  start,
} from "./http_servers.ts";
import { fresh, keepAlive, type Load } from "./load.ts";
import { memoryOf } from "./memory.ts";
import { figureOf, figureOfServer, here, isThere, tine } from "./peers.ts";
import { startOf } from "./start.ts";

/** The least median of the ratios: a smaller loss cannot be measured. */
const LEAST = 0.97;

const ROUND_TRIPS = 400;
const RUNTIME_ROUND_TRIPS = 100;
const CONNECTIONS = 400;
/** How often a server is put under load for a second before it is restarted. */
const LOADS = 10;

/** A checkout and its name. */
interface Checkout {
  readonly label: "this" | "other";
  readonly root: string;
}

/** What is measured of each checkout. */
interface Figure {
  readonly title: string;
  readonly better: Contest["better"];
  readonly of: (checkout: Checkout) => Contestant;
}

/** Figures that are measured in the same rounds. */
interface Part {
  readonly rounds: number;
  /** Programs of which one is needed, and the package that contains them. */
  readonly needs?: { readonly oneOf: readonly string[]; readonly install: string };
  /** @param atEnd Stops what runs for more than one round. */
  readonly figures: (folder: string, atEnd: AsyncDisposableStack) => readonly Figure[];
}

const WRK = { oneOf: ["wrk"], install: "wrk" };

/** The parts by their names, in the order in which they are measured. */
const PARTS: Readonly<Record<string, Part>> = {
  throughput: {
    rounds: 31,
    needs: WRK,
    figures: (_, atEnd) => [
      {
        title: "requests per second, connections kept",
        better: "more",
        of: (checkout) => underLoad(fromSource(checkout, HELLO, 2), keepAlive, atEnd),
      },
      {
        title: "requests per second, a connection each",
        better: "more",
        of: (checkout) => underLoad(fromSource(checkout, HELLO, 2), fresh, atEnd),
      },
    ],
  },
  memory: {
    rounds: 3,
    needs: WRK,
    figures: () => [{
      title: "MB with a million records, 4 workers",
      better: "less",
      of: (checkout) => {
        const server = fromSource(checkout, here("../../examples/lab/dataset.ts"), 4);
        return contestant(server.label, () => memoryOf(server));
      },
    }],
  },
  start: {
    rounds: 41,
    figures: (folder) => [
      {
        title: "ms to the first response, from its source",
        better: "less",
        of: (checkout) =>
          startOf(fromSource(checkout, HELLO, 2), `${folder}/source_${checkout.label}`),
      },
      {
        title: "ms to the first response, installed",
        better: "less",
        of: ({ label, root }) =>
          startOf(
            preforkInstalled(label, root, `${folder}/installed_${label}`, HELLO),
            `${folder}/cache_${label}`,
          ),
      },
    ],
  },
  fork: {
    rounds: 31,
    figures: () => [{
      title: "µs of fork, exit, wait",
      better: "less",
      of: (checkout) => roundTrips(checkout, "fork_roundtrip.ts", ROUND_TRIPS),
    }],
  },
  runtime: {
    rounds: 31,
    figures: () => [{
      title: "µs of fork with a runtime, exit, wait",
      better: "less",
      of: (checkout) => roundTrips(checkout, "fork_runtime.ts", RUNTIME_ROUND_TRIPS),
    }],
  },
  "3g": {
    rounds: 31,
    needs: { oneOf: ["gcc", "cc", "python3"], install: "gcc" },
    figures: (folder) => {
      const client = clientFor("python3", folder);
      return [{
        title: "connections per second of webserver3g",
        better: "more",
        of: ({ label, root }) => {
          const server = tine(`${root}/examples/part3/webserver3g.ts`);
          return contestant(label, () => figureOfServer(server, client, CONNECTIONS));
        },
      }];
    },
  },
};

/** The names of what can be measured. */
export const PART_NAMES: readonly string[] = Object.keys(PARTS);

const HELLO = here("hello.ts");

function fromSource({ label, root }: Checkout, app: string, workers: number): HttpServer {
  return preforkOf(label, [...DENO, `${root}/server/cli.ts`], app, workers);
}

/**
 * The requests per second of a server. Both servers run all the time, so that the two values of a
 * round are measured within two seconds.
 */
function underLoad(
  server: HttpServer,
  generator: (port: number, seconds: number) => Promise<Load>,
  atEnd: AsyncDisposableStack,
): Contestant {
  let running: RunningServer | undefined;
  let loads = 0;
  const end = async () => await running?.[Symbol.asyncDispose]();
  atEnd.defer(end);
  return contestant(server.label, async () => {
    if (running === undefined || loads === LOADS) {
      await end();
      running = await start(server);
      await generator(running.port, 1); // compiles what is to be compiled
      loads = 0;
    }
    loads++;
    const { perSecond, errors } = await generator(running.port, 1);
    if (errors > 0) console.error(`${server.label}: ${errors} errors`);
    return perSecond;
  });
}

/** Runs a program of this folder with the tine of a checkout. */
function roundTrips({ label, root }: Checkout, program: string, count: number): Contestant {
  const line = tine(program, `${root}/deno.json`);
  return contestant(label, () => figureOf([...line, `${count}`]));
}

/** Returns why the parts cannot be measured; `undefined` if they can. */
export function findObstacle(root: string, parts: readonly string[]): string | undefined {
  for (const file of ["mod.ts", "server/cli.ts", "deno.json"]) {
    if (!exists(`${root}/${file}`)) return `${root} is no checkout of tine: it has no ${file}`;
  }
  for (const name of parts) {
    const part = PARTS[name];
    if (part === undefined) {
      return `There is no part ${name}: choose from ${PART_NAMES.join(", ")}`;
    }
    if (part.needs === undefined || part.needs.oneOf.some(isThere)) continue;
    const { oneOf, install } = part.needs;
    return `${name} needs ${oneOf.join(" or ")}: apt-get install ${install}, or choose other ` +
      "parts with --only";
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/**
 * Measures this checkout and another one, and prints a comparison.
 *
 * @param root The folder of the other checkout.
 * @param parts The parts to measure.
 * @param folder A folder for temporary files.
 * @param budget The time limit, and the number of rounds if it is not the default of each part.
 * @returns Whether this checkout is as good as the other.
 */
export async function against(
  root: string,
  parts: readonly string[],
  folder: string,
  budget: Pick<Budget, "milliseconds"> & Partial<Budget>,
): Promise<boolean> {
  const checkouts: Checkout[] = [
    { label: "this", root: Deno.realPathSync(here("../..")) },
    { label: "other", root: Deno.realPathSync(root) },
  ];
  const contests: Contest[] = [];
  for (const name of parts) {
    const { rounds, figures } = PARTS[name]!;
    console.error(`\n${name}`);
    await using atEnd = new AsyncDisposableStack();
    const measured = figures(folder, atEnd).map(({ title, better, of }) => ({
      title,
      unit: "",
      better,
      contestants: checkouts.map(of),
    }));
    await measure(measured, { rounds, ...budget });
    contests.push(...measured);
  }
  return print(contests);
}

/** Prints the table, and returns whether all ratios are good enough. */
function print(contests: readonly Contest[]): boolean {
  const rows = contests.map(({ title, better, contestants }) => {
    const [ours, theirs] = contestants as [Contestant, Contestant];
    // Above 1, this checkout is the better one.
    const ratio = better === "more" ? ratiosOf(ours, theirs) : ratiosOf(theirs, ours);
    return {
      isGood: ratio.median >= LEAST,
      cells: [
        title,
        ...[ours, theirs].map(({ label, figures }) => spread(label, figures).median.toFixed(0)),
        `${ratio.median.toFixed(3)} (${ratio.min.toFixed(2)} to ${ratio.max.toFixed(2)})`,
        ratio.median >= LEAST ? "yes" : "NO",
      ],
    };
  });
  console.log("");
  printColumns([
    ["figure (median)", "this", "other", "this / other", `at least ${LEAST}?`],
    ...rows.map(({ cells }) => cells),
  ]);
  console.log("\nA ratio above 1 says that this checkout is the better one, also where less is.");
  return rows.every(({ isGood }) => isGood);
}
