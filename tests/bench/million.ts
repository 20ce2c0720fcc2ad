/** What is left after a million requests. */
import { printRows } from "./contest.ts";
import { prefork, processTree, start } from "./http_servers.ts";
import { fresh, keepAlive, requests } from "./load.ts";
import { proportionalSetSize } from "./memory.ts";
import { here } from "./peers.ts";

const REQUESTS = 1_000_000;
const SECONDS_OF_FRESH_CONNECTIONS = 3;

/** Prints the state of the master and the workers before and after a million requests. */
export async function million(): Promise<void> {
  await using server = await start(prefork(here("hello.ts"), 2));
  await keepAlive(server.port, 1); // compiles what is to be compiled
  const before = state(server.pid);
  const onFresh = await fresh(server.port, SECONDS_OF_FRESH_CONNECTIONS);
  const kept = REQUESTS - onFresh.requests;
  const onKept = [];
  // In parts, so that each one ends within its time limit on a slow machine.
  for (let part = 0; part < 10; part++) {
    onKept.push(await requests(server.port, Math.ceil(kept / 10), 1));
  }
  const after = state(server.pid);
  const sum = [onFresh, ...onKept].reduce((sum, { requests }) => sum + requests, 0);
  const errors = [onFresh, ...onKept].reduce((sum, { errors }) => sum + errors, 0);
  console.log(
    `\n${sum} requests, ${onFresh.requests} of them on connections of their own: ${errors} errors`,
  );
  printRows([
    ["", "before", "after"],
    ...Object.entries(before).map(([name, value], i) => [
      name,
      `${value}`,
      `${Object.values(after)[i]}`,
    ]),
  ]);
}

function state(master: number): Record<string, number> {
  const [, ...workers] = processTree(master);
  return {
    "processes": workers.length + 1,
    "zombies": workers.filter(isZombie).length,
    "master's descriptors": descriptors(master),
    "workers' descriptors": workers.reduce((sum, pid) => sum + descriptors(pid), 0),
    "master's memory, kB": residentMemory(master),
    "workers' memory, kB": workers.reduce((sum, pid) => sum + residentMemory(pid), 0),
    "all memory, shared once, kB": proportionalSetSize([master, ...workers]),
  };
}

function isZombie(pid: number): boolean {
  return /^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
}

function descriptors(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

/** Returns the memory that is not backed by a file. */
function residentMemory(pid: number): number {
  return Number(Deno.readTextFileSync(`/proc/${pid}/status`).match(/^RssAnon:\s+(\d+) kB$/m)![1]);
}
