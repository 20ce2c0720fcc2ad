/** Load on an HTTP server, from wrk, with one thread: the rest of the machine is for the server. */
import { type CommandLine, here, outputOf } from "./peers.ts";

/** The number of concurrent connections, the same for every server. */
const CONNECTIONS = 32;

/** The counts that wrk reports. */
export interface Load {
  readonly requests: number;
  readonly perSecond: number;
  /** Failed connections, and responses with an error status. */
  readonly errors: number;
}

/** Sends requests over kept connections for some seconds. */
export async function keepAlive(port: number, seconds: number): Promise<Load> {
  return await wrk(port, [`-d${seconds}`]);
}

/** Sends requests to several servers at once, which have the connections between them. */
export async function keepAliveOnEach(ports: readonly number[], seconds: number): Promise<Load> {
  const connections = CONNECTIONS / ports.length;
  const loads = await Promise.all(
    ports.map((port) => wrk(port, [`-d${seconds}`], { connections })),
  );
  return {
    requests: loads.reduce((sum, { requests }) => sum + requests, 0),
    perSecond: loads.reduce((sum, { perSecond }) => sum + perSecond, 0),
    errors: loads.reduce((sum, { errors }) => sum + errors, 0),
  };
}

/** Sends requests over a new connection each for some seconds. */
export async function fresh(port: number, seconds: number): Promise<Load> {
  return await wrk(port, [`-d${seconds}`, "-H", "Connection: close"]);
}

/** Sends a number of requests, for the paths from `/0` on, over kept connections. */
export async function requests(port: number, count: number, paths: number): Promise<Load> {
  const scriptOptions = [`${count}`, `${paths}`];
  return await wrk(port, ["-d60", "-s", here("requests.lua")], { scriptOptions });
}

async function wrk(
  port: number,
  options: string[],
  { connections = CONNECTIONS, scriptOptions = [] as string[] } = {},
): Promise<Load> {
  const line: CommandLine = [
    "wrk",
    ...["-t1", `-c${connections}`, ...options, `http://127.0.0.1:${port}/`, "--"],
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
