/** Compares fork(), and the article's last server, with Python and C. */
import { type Contest, contestant } from "./contest.ts";
import {
  type CommandLine,
  compile,
  figureOf,
  figureOfServer,
  here,
  isThere,
  tine,
} from "./peers.ts";

const ROUND_TRIPS = 400;
const CONNECTIONS = 400;
const CONCURRENCY = 4;

/** Returns the C compiler, or reports that there is none. */
function compiler(): string | undefined {
  const found = ["gcc", "cc"].find(isThere);
  if (found === undefined) console.error("Skipped: the programs in C, for there is no gcc or cc");
  return found;
}

/** A child that is forked, exits immediately, and is reaped. */
export function forks(python: string, folder: string): Contest[] {
  const cc = compiler();
  const one = (label: string, [command, ...args]: CommandLine, ...more: string[]) =>
    contestant(label, () => figureOf([command, ...args, `${ROUND_TRIPS}`, ...more]));
  const inC: CommandLine[] = cc ? [[compile(cc, "fork_roundtrip.c", folder)]] : [];
  return [{
    title: "fork, exit, wait",
    unit: "microseconds per round trip",
    better: "less",
    contestants: [
      one("Python", [python, here("fork_roundtrip.py")]),
      one("tine", tine("fork_roundtrip.ts")),
      ...inC.flatMap((program) => [
        one("C", program),
        one("C, 11 MB scattered", program, "scattered"),
        one("C, 11 MB in one piece", program, "contiguous"),
      ]),
    ],
  }];
}

/** Connections to a server that forks a child for each. */
export function forkingServers(python: string, folder: string): Contest[] {
  const cc = compiler();
  const client = clientFor(python, folder);
  const one = (label: string, server: CommandLine) =>
    contestant(label, () => figureOfServer(server, client, CONNECTIONS));
  const inC: CommandLine[] = cc ? [[compile(cc, "webserver3g.c", folder)]] : [];
  return [{
    title: "webserver3g",
    unit: "connections per second",
    better: "more",
    contestants: [
      one("Python", [python, here("webserver3g.py")]),
      one("tine", tine("../../examples/part3/webserver3g.ts")),
      ...inC.map((program) => one("C", program)),
    ],
  }];
}

/** The client that opens the connections, in C if there is a compiler. */
export function clientFor(
  python: string,
  folder: string,
): (port: number, count: number) => CommandLine {
  const cc = ["gcc", "cc"].find(isThere);
  const [client, ...args]: CommandLine = cc
    ? [compile(cc, "client.c", folder)]
    : [python, here("client.py")];
  return (port, count) => [client, ...args, `${port}`, `${count}`, `${CONCURRENCY}`];
}
