/**
 * What the kinds of workers cost: forked ones, fresh ones (`--no-preload`), and the threads of
 * `deno serve --parallel`.
 */
import { type Contest, contestant } from "./contest.ts";
import { denoServeParallel, prefork } from "./http_servers.ts";
import { memoryOf } from "./memory.ts";
import { here } from "./peers.ts";
import { startOf } from "./start.ts";

const WORKERS = 2;

const APPS = {
  "the smallest app": here("hello.ts"),
  "an app of Hono's": here("../../examples/apps/hono.ts"),
  "a million records": here("../../examples/lab/dataset.ts"),
};

/** The contests: memory and start of each app. */
export function workers(folder: string): Contest[] {
  return Object.entries(APPS).flatMap(([name, app]): Contest[] => {
    const servers = [
      { ...prefork(app, WORKERS, "--no-preload"), label: "tine --no-preload" },
      prefork(app, WORKERS),
      denoServeParallel(app, WORKERS),
    ];
    return [
      {
        title: `memory with two workers, ${name}, after 100,000 requests`,
        unit: "MB, of all processes",
        better: "less",
        contestants: servers.map((server) => contestant(server.label, () => memoryOf(server))),
      },
      {
        title: `start with two workers, ${name}`,
        unit: "milliseconds to the first response",
        better: "less",
        contestants: servers.map((server, i) => startOf(server, `${folder}/workers${i}`)),
      },
    ];
  });
}
