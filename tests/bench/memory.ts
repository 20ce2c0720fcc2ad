/** The memory that a large dataset takes when four workers, or four threads, read it. */
import { type Contest, contestant } from "./contest.ts";
import {
  denoServe,
  denoServeParallel,
  type HttpServer,
  prefork,
  processTree,
  start,
} from "./http_servers.ts";
import { requests } from "./load.ts";
import { here } from "./peers.ts";

const REQUESTS = 100_000;
const RECORDS = 1_000_000;
const WORKERS = 4;

/** The contest: megabytes of all processes, with shared pages counted once. */
export function memory(): Contest[] {
  const app = here("../../examples/lab/dataset.ts");
  return [{
    title: "a million records, after 100,000 requests",
    unit: "MB, of all processes",
    better: "less",
    contestants: [
      denoServe(app),
      denoServeParallel(app, WORKERS),
      prefork(app, WORKERS),
    ].map((server) => contestant(server.label, () => memoryOf(server))),
    goals: [{ of: "tine", to: "deno serve", atMost: 1.35 }],
  }];
}

/** Returns the memory of all processes of a server after many requests, in megabytes. */
export async function memoryOf(server: HttpServer): Promise<number> {
  await using running = await start(server);
  const load = await requests(running.port, REQUESTS, RECORDS);
  if (load.requests < REQUESTS) throw new Error(`${server.label} answered ${load.requests} only`);
  return proportionalSetSize(processTree(running.pid)) / 1024;
}

/** Returns the memory of processes, in kB: a shared page is divided among those that share it. */
export function proportionalSetSize(pids: readonly number[]): number {
  const sizes = pids.map((pid) => {
    const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
    return Number(text.match(/^Pss:\s+(\d+) kB$/m)![1]);
  });
  return sizes.reduce((sum, size) => sum + size, 0);
}
