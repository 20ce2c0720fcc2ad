/** The time from the command line to the first response, compared with `deno serve`. */
import { type Contest, type Contestant, contestant } from "./contest.ts";
import {
  denoServe,
  type HttpServer,
  prefork,
  preforkAtOnce,
  preforkInstalled,
  ROOT,
  start,
} from "./http_servers.ts";
import { here } from "./peers.ts";

/** The contests: the smallest app, and one with a framework. */
export function starts(folder: string): Contest[] {
  const contest = (title: string, app: string) =>
    contestOf(
      title,
      [
        denoServe(app),
        preforkInstalled("tine, installed", ROOT, folder, app),
        preforkAtOnce(app, 2),
        prefork(app, 2),
      ],
      folder,
    );
  return [
    contest("start, the smallest app", here("hello.ts")),
    contest("start, an app of Hono's", here("../../examples/apps/hono.ts")),
  ];
}

function contestOf(title: string, servers: readonly HttpServer[], folder: string): Contest {
  return {
    title,
    unit: "milliseconds to the first response",
    better: "less",
    contestants: servers.map((server, index) => startOf(server, `${folder}/deno${index}`)),
    goals: [{ of: "tine, installed", to: "deno serve", atMost: 2 }],
  };
}

/**
 * The time to the first response of a server, in milliseconds.
 *
 * @param server The server.
 * @param cache A folder for the code that Deno compiles. V8 rejects code that was compiled with other
 *   flags: with a common folder, each server would replace the code of the other.
 */
export function startOf(server: HttpServer, cache: string): Contestant {
  const cached = { ...server, env: { ...server.env, DENO_DIR: cache } };
  let isFirst = true;
  return contestant(server.label, async () => {
    if (isFirst) await startTime(cached); // it may have to load packages, and compiles
    isFirst = false;
    return await startTime(cached);
  });
}

async function startTime(server: HttpServer): Promise<number> {
  await using running = await start(server);
  return running.startTime;
}
