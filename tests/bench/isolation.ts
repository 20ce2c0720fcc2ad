/** What clients notice while another client sends requests that break their worker. */
import { printRows } from "./contest.ts";
import { denoServeParallel, get, type HttpServer, prefork, start } from "./http_servers.ts";
import { here } from "./peers.ts";

const WORKERS = 4;
/** The time between two requests, each over a new connection, in milliseconds. */
const INTERVAL = 5;
/** The time after which a request without a response has failed, in milliseconds. */
const PATIENCE = 5000;
/** The number of harmful requests of each kind, and the pause after each. */
const BLOWS = 5;
const PAUSE = 500;
const PATHS = ["/throw", "/exit", "/crash", "/heap", "/hang"];

/** Prints the latencies and failures of the other clients, for each kind of harmful request. */
export async function isolation(): Promise<void> {
  const app = here("hostile.ts");
  for (
    const server of [
      prefork(app, WORKERS, "--timeout", "2"),
      denoServeParallel(app, WORKERS),
    ]
  ) {
    const rows = [];
    for (const path of ["/", ...PATHS]) {
      console.error(`${server.label}: ${path}`);
      const { latencies, failed } = await underBlows(withSmallHeap(server), path);
      rows.push([
        path === "/" ? "none" : path,
        `${latencies.length + failed}`,
        `${failed}`,
        ...[0.5, 0.99, 1].map((share) => quantile(latencies, share)),
      ]);
    }
    console.log(`\n${server.label}: latency of the others in milliseconds, ${BLOWS} blows each`);
    printRows([["blow", "requests", "failed", "median", "99 %", "max"], ...rows]);
  }
}

/** A small heap, which is exhausted soon. */
function withSmallHeap(server: HttpServer): HttpServer {
  return { ...server, env: { ...server.env, DENO_V8_FLAGS: "--max-old-space-size=128" } };
}

interface Outcome {
  readonly latencies: number[];
  readonly failed: number;
}

async function underBlows(server: HttpServer, path: string): Promise<Outcome> {
  await using running = await start(server);
  const outcome = { latencies: [] as number[], failed: 0 };
  const pending: Promise<void>[] = [];
  const id = setInterval(() => pending.push(ask(running.port, outcome)), INTERVAL);
  await pause();
  for (let blow = 0; blow < BLOWS; blow++) {
    // It ends with a response, or together with the worker.
    await within(PATIENCE, get(running.port, path)).catch(() => {});
    await pause();
  }
  clearInterval(id);
  await Promise.all(pending);
  return outcome;
}

async function ask(port: number, outcome: { latencies: number[]; failed: number }): Promise<void> {
  const begin = performance.now();
  try {
    await within(PATIENCE, get(port, "/"));
    outcome.latencies.push(performance.now() - begin);
  } catch {
    outcome.failed++;
  }
}

async function within(milliseconds: number, work: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const id = setTimeout(() => late.reject(new Error("No answer in time")), milliseconds);
  try {
    await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(id);
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE));
}

function quantile(figures: readonly number[], share: number): string {
  const sorted = figures.toSorted((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1]?.toFixed(2) ?? "-";
}
