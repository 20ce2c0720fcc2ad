/** From the command line to the first response, beside `deno serve`. */
import { type Contest, contestant } from "./contest.ts";
import { bundle } from "../bundle.ts";
import {
  denoServe,
  type HttpServer,
  prefork,
  preforkAtOnce,
  preforkInstalled,
  start,
} from "./http_servers.ts";
import { here } from "./peers.ts";

/** The contests: the smallest app, and one with a framework. */
export function starts(folder: string): Contest[] {
  const cli = `${folder}/tine.js`;
  bundle(cli);
  const contest = (title: string, app: string) =>
    contestOf(
      title,
      [
        denoServe(app),
        preforkInstalled(cli, app, 2),
        preforkAtOnce(app, 2),
        prefork(app, 2),
      ].map((server, index) => withCache(server, `${folder}/deno${index}`)),
    );
  return [
    contest("start, the smallest app", here("hello.ts")),
    contest("start, an app of Hono's", here("../../examples/apps/hono.ts")),
  ];
}

function contestOf(title: string, servers: readonly HttpServer[]): Contest {
  return {
    title,
    unit: "milliseconds to the first response",
    better: "less",
    contestants: servers.map((server) => {
      let isFirst = true;
      return contestant(server.label, async () => {
        if (isFirst) await startTime(server); // it may have to load packages, and compiles
        isFirst = false;
        return await startTime(server);
      });
    }),
    goals: [{ of: "tine, installed", to: "deno serve", atMost: 2 }],
  };
}

/**
 * Deno keeps compiled code by its source, and V8 takes it only with the flags that it was compiled
 * with: in turns, each would undo the other's.
 */
function withCache(server: HttpServer, folder: string): HttpServer {
  return { ...server, env: { ...server.env, DENO_DIR: folder } };
}

async function startTime(server: HttpServer): Promise<number> {
  await using running = await start(server);
  return running.startTime;
}
