/** From the command line to the first response, beside `deno serve`. */
import { type Contest, contestant } from "./contest.ts";
import { denoServe, type HttpServer, prefork, preforkAtOnce, start } from "./http_servers.ts";
import { here } from "./peers.ts";

/** The contests: the smallest app, and one with a framework. */
export function starts(folder: string): Contest[] {
  return [
    contest("start, the smallest app", here("hello.ts"), folder),
    contest("start, an app of Hono's", here("../../examples/apps/hono.ts"), folder),
  ];
}

function contest(title: string, app: string, folder: string): Contest {
  const servers = [denoServe(app), preforkAtOnce(app, 2), prefork(app, 2)]
    .map((server, index) => withCache(server, `${folder}/deno${index}`));
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
    goals: [{ of: "tine, with V8's flags", to: "deno serve", atMost: 2 }],
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
