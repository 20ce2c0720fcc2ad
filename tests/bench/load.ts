/** Load on an HTTP server, from wrk: one thread, so that the servers have the rest of the machine. */
import { type CommandLine, here, outputOf } from "./peers.ts";

/** Connections at a time, the same for every server. */
const CONNECTIONS = 32;

/** What wrk has counted. */
export interface Load {
  readonly requests: number;
  readonly perSecond: number;
  /** Connections that failed, and answers that were none. */
  readonly errors: number;
}

/** Requests over connections that are kept, for some seconds. */
export async function keepAlive(port: number, seconds: number): Promise<Load> {
  return await wrk(port, [`-d${seconds}`]);
}

/** Requests with a connection each, for some seconds. */
export async function fresh(port: number, seconds: number): Promise<Load> {
  return await wrk(port, [`-d${seconds}`, "-H", "Connection: close"]);
}

/** A number of requests for paths from `/0` on, over connections that are kept. */
export async function requests(port: number, count: number, paths: number): Promise<Load> {
  return await wrk(port, ["-d60", "-s", here("requests.lua")], [`${count}`, `${paths}`]);
}

async function wrk(port: number, options: string[], scriptOptions: string[] = []): Promise<Load> {
  const line: CommandLine = [
    "wrk",
    ...["-t1", `-c${CONNECTIONS}`, ...options, `http://127.0.0.1:${port}/`, "--"],
    ...scriptOptions,
  ];
  const output = await outputOf(line);
  const number = (pattern: RegExp) => Number(output.match(pattern)?.[1] ?? 0);
  const socketErrors = output.match(/Socket errors: (.*)/)?.[1]?.match(/\d+/g) ?? [];
  return {
    requests: number(/(\d+) requests in/),
    perSecond: number(/Requests\/sec:\s+([\d.]+)/),
    errors: socketErrors.reduce((sum, count) => sum + Number(count), number(/responses: (\d+)/)),
  };
}
