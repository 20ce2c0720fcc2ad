/** The stop command ends a running server. */
import type { Status } from "../../prefork/status/status.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { follow, type Stage, TIMEOUT } from "./follow.ts";
import { print, reporting } from "./print.ts";

const HELP = `\
Stops a running server, and waits until it has ended. Requests in progress are finished, for as
long as its --grace allows. The same as SIGTERM.

Usage: tine stop [PID | --pid-file FILE | --admin ADDRESS] [options]

${SERVER_HELP}
  --now            ends it at once, also if it is stopping already: SIGQUIT
  --timeout S      how long to wait (default ${TIMEOUT})
  --no-wait        does not wait
  --help           this text

A server that is stopping already is not told again, which would end it at once. Control-C ends
the waiting, not the stop.

Exit code: 0 if the server has ended, 1 if it took too long or there is no such server, 2 if an
argument is invalid.
`;

/**
 * Runs the stop command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if the server has not ended; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function stop(args: readonly string[]): Promise<number> {
  const given = readArguments(args, ["timeout"], ["now", "no-wait"]);
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  const timeout = seconds(given.values.timeout ?? `${TIMEOUT}`, "wait for --timeout");
  return await reporting(async () => {
    const server = given.find();
    const { draining } = (await server.look()).master;
    if (given.switches.has("now")) await server.tell("stop now");
    else if (!draining) await server.tell("stop");
    if (given.switches.has("no-wait")) return 0;
    return await follow({
      server,
      what: "the stop",
      timeout,
      stage: stageOf,
      ended: ["done", "Stopped"],
    });
  });
}

function stageOf({ master, workers }: Status): Stage {
  if (!master.draining) return ["under way", "The master has not reacted yet"];
  const inFlight = workers.reduce((sum, worker) => sum + worker.inFlight, 0);
  const left = `${workers.length} ${workers.length === 1 ? "worker is" : "workers are"} left`;
  const requests = inFlight === 1 ? "1 request" : `${inFlight} requests`;
  return ["under way", `${left}, ${requests} in flight`];
}
