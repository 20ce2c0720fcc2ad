/** From the command line to the first response, beside `deno serve`. */
import { type Contest, contestant } from "./contest.ts";
import { denoServe, prefork, start } from "./http_servers.ts";
import { here } from "./peers.ts";

/** The contests: the smallest app, and one with a framework. */
export function starts(): Contest[] {
  return [
    contest("start, the smallest app", here("hello.ts")),
    contest("start, an app of Hono's", here("../../examples/apps/hono.ts")),
  ];
}

function contest(title: string, app: string): Contest {
  return {
    title,
    unit: "milliseconds to the first response",
    better: "less",
    contestants: [denoServe(app), prefork(app, 2)].map((server) =>
      contestant(server.label, async () => {
        await using running = await start(server);
        return running.startTime;
      })
    ),
    goals: [{ of: "tine", to: "deno serve", atMost: 2 }],
  };
}
