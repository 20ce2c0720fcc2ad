/** Requests per second of the preforking server and of others, with two workers each. */
import { type Contest, type Contestant, contestant } from "./contest.ts";
import {
  debianServers,
  denoServeParallel,
  type HttpServer,
  prefork,
  start,
} from "./http_servers.ts";
import { fresh, keepAlive, type Load } from "./load.ts";
import { here } from "./peers.ts";

const WORKERS = 2;
const WARM_UP = 1;
const SECONDS = 2;

/** The goals of tine relative to each peer, with kept connections. */
const GOALS: Record<string, number> = {
  "deno serve --parallel": 0.95,
  "nginx, a constant": 0.85,
  "Apache prefork, a file": 3,
  "gunicorn, sync": 5,
  "unicorn": 5,
};

/** The contests: with kept connections, and with a new one for each request. */
export function throughput(folder: string): Contest[] {
  const app = here("hello.ts");
  const ours = [denoServeParallel(app, WORKERS), prefork(app, WORKERS)];
  const all = [...ours, ...debianServers(folder)];
  return [
    contest("prefork, connections kept", all, keepAlive, GOALS),
    contest("prefork, a connection per request", ours, fresh, { "deno serve --parallel": 0.95 }),
  ];
}

type Generator = (port: number, seconds: number) => Promise<Load>;

function contest(
  title: string,
  servers: HttpServer[],
  generator: Generator,
  goals: Record<string, number>,
): Contest {
  return {
    title,
    unit: "requests per second",
    better: "more",
    contestants: servers.map((server) => underLoad(server, generator)),
    goals: servers.flatMap(({ label }) => {
      const atLeast = goals[label];
      return atLeast === undefined ? [] : [{ of: "tine", to: label, atLeast }];
    }),
  };
}

function underLoad(server: HttpServer, generator: Generator): Contestant {
  return contestant(server.label, async () => {
    await using running = await start(server);
    await generator(running.port, WARM_UP);
    const { perSecond, errors } = await generator(running.port, SECONDS);
    if (errors > 0) console.error(`${server.label}: ${errors} errors`);
    return perSecond;
  });
}
