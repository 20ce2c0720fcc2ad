/**
 * Two checkouts beside each other: the same programs of both take turns, and what counts is
 * the ratio within one turn. The programs are each checkout's own, through what is public of
 * it; what measures them, and the apps that are served, are this one's.
 */
import { bundle } from "../bundle.ts";
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
  forkableDeno,
  type HttpServer,
  preforkOf,
  type RunningServer,
  start,
} from "./http_servers.ts";
import { fresh, keepAlive, type Load } from "./load.ts";
import { memoryOf } from "./memory.ts";
import { figureOf, figureOfServer, here, isThere, tine } from "./peers.ts";
import { startOf } from "./start.ts";

/** What every median is to reach: a change may cost what no measurement can tell. */
const LEAST = 0.97;

const ROUND_TRIPS = 400;
const RUNTIME_ROUND_TRIPS = 100;
const CONNECTIONS = 400;
/** How many loads of a second a server gets before it is started anew. */
const LOADS = 10;

/** A checkout, and what it is called. */
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
  /** Programs of which it takes one, and the package that has them. */
  readonly needs?: { readonly oneOf: readonly string[]; readonly install: string };
  /** @param atEnd Ends what lasts for more than one round. */
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
        title: "ms to the first response, from the bundle",
        better: "less",
        of: ({ label, root }) => {
          const file = `${folder}/${label}.js`;
          bundle(file, root);
          return startOf(
            preforkOf(label, [...forkableDeno(root), file], HELLO, 2),
            `${folder}/bundle_${label}`,
          );
        },
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
 * A server's requests per second. Both servers are there all the time, so that no more than a
 * second lies between the two that are compared.
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

/** A program of this folder, with the checkout's tine. */
function roundTrips({ label, root }: Checkout, program: string, count: number): Contestant {
  const line = tine(program, `${root}/deno.json`);
  return contestant(label, () => figureOf([...line, `${count}`]));
}

/** What is wrong with what is to be measured; nothing if it can be. */
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
 * Measures this checkout and another one, and prints how they compare.
 *
 * @param root The other one's folder.
 * @param parts What is measured.
 * @param folder For temporary files.
 * @param budget How long, and how often unless each part knows that itself.
 * @returns Whether this one is as good.
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

/** Prints the table; says whether all ratios are good enough. */
function print(contests: readonly Contest[]): boolean {
  const rows = contests.map(({ title, better, contestants }) => {
    const [ours, theirs] = contestants as [Contestant, Contestant];
    // The larger, the better this one.
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
