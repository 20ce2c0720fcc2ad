/** The scale command changes the number of workers of a running server. */
import { formatCount } from "../../log.ts";
import { SLOTS } from "../../prefork/scoreboard.ts";
import { type Status, StatusError } from "../../prefork/status/status.ts";
import { UsageError } from "../usage.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { follow, type Stage, TIMEOUT } from "./follow.ts";
import { print, reporting } from "./print.ts";

/** The most workers that a server can have: all of them may be replaced at a time. */
const MOST = SLOTS / 2;

/** The options after which a value follows. */
const OPTIONS: readonly string[] = ["--pid-file", "--admin", "--timeout"];

const HELP = `\
Changes the number of workers of a running server, and waits until they are ready, or have
finished their requests and ended. The same as SIGTTIN and SIGTTOU.

Usage: tine scale +N|-N|N [PID | --pid-file FILE | --admin ADDRESS] [options]

  +N, -N           adds or removes so many workers
  N                the number of workers, from 1 to ${MOST}
${SERVER_HELP}
  --timeout S      how long to wait (default ${TIMEOUT})
  --no-wait        does not wait
  --help           this text

The number stays as it is at a reload, until serve --workers is given another one.

Exit code: 0 if so many workers are ready, 1 if it took too long or there is no such server, 2 if
an argument is invalid.
`;

/**
 * Runs the scale command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if the workers are not ready; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function scale(args: readonly string[]): Promise<number> {
  // "-1" would be an option otherwise, and the pid is a number, too.
  const at = [/^[+-]\d+$/, /^[^-]/].map((pattern) =>
    args.findIndex((arg, index) => pattern.test(arg) && !OPTIONS.includes(args[index - 1] ?? ""))
  ).find((index) => index !== -1);
  const given = readArguments(args.filter((_, index) => index !== at), ["timeout"], ["no-wait"]);
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  const amount = at === undefined ? undefined : args[at]!;
  if (amount === undefined) throw new UsageError("missing number: expected +N, -N or N");
  if (!/^[+-]?\d{1,6}$/.test(amount) || Number(amount) === 0) {
    throw new UsageError(`"${amount}" is not a number of workers: expected +N, -N or N`);
  }
  const timeout = seconds(given.values.timeout ?? `${TIMEOUT}`, "wait for --timeout");
  return await reporting(async () => {
    const server = given.find();
    const { workers, draining } = (await server.look()).master;
    if (draining) throw new StatusError(`Cannot scale ${server.name}: it is stopping`);
    const wanted = /^[+-]/.test(amount) ? workers + Number(amount) : Number(amount);
    if (wanted < 1 || wanted > MOST) {
      throw new StatusError(
        `Cannot scale ${server.name} from ${workers} to ${wanted} workers: expected 1 to ${MOST}`,
      );
    }
    await server.scale(wanted);
    if (given.switches.has("no-wait")) return 0;
    return await follow({
      server,
      what: "the change",
      timeout,
      stage: (status) => stageOf(status, /^[+-]/.test(amount) ? undefined : wanted),
      ended: ["failed", "The server has ended"],
    });
  });
}

/** Returns how far it is. Of commands that add or remove workers at the same time, all count. */
function stageOf({ master, workers }: Status, exactly: number | undefined): Stage {
  if (master.draining) return ["failed", "The server has been stopped"];
  const wanted = master.workers;
  if (exactly !== undefined && wanted !== exactly) {
    return ["failed", `Something else has changed the number of workers to ${wanted}`];
  }
  const ready = new Set(
    workers.filter(({ number, state }) => number <= wanted && state === "ready")
      .map(({ number }) => number),
  ).size;
  const surplus = workers.filter(({ number }) => number > wanted).length;
  if (ready < wanted) return ["under way", `${ready} of ${formatCount(wanted, "worker")} ready`];
  if (surplus === 0) return ["done", `${formatCount(wanted, "worker")} ready`];
  const [verb, their] = surplus === 1 ? ["finishes", "its"] : ["finish", "their"];
  return ["under way", `${formatCount(surplus, "worker")} ${verb} ${their} requests`];
}
