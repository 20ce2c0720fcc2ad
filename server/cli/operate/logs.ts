/** The logs command has a running server open its logs again. */
import { formatCount } from "../../log.ts";
import type { Status } from "../../prefork/status/status.ts";
import { UsageError } from "../usage.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { follow, type Stage } from "./follow.ts";
import { print, reporting } from "./print.ts";

/** Shorter than for the other commands: only a worker whose event loop is blocked takes long. */
const TIMEOUT = 30;

const HELP = `\
Has a running server open its logs again after they were moved, and waits until the master and
all workers have done so: then nobody writes to the old files any more. The same as SIGUSR1.

Usage: tine logs reopen [PID | --pid-file FILE | --admin ADDRESS] [options]

${SERVER_HELP}
  --timeout S      how long to wait (default ${TIMEOUT})
  --no-wait        does not wait
  --help           this text

Exit code: 0 if all have opened them, 1 if not or there is no such server, 2 if an argument is
invalid.
`;

/**
 * Runs the logs command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if a log is not open; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function logs(args: readonly string[]): Promise<number> {
  const [action, ...rest] = args;
  const given = readArguments(action === "reopen" ? rest : args, ["timeout"], ["no-wait"]);
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  if (action !== "reopen") throw new UsageError("expected tine logs reopen");
  const timeout = seconds(given.values.timeout ?? `${TIMEOUT}`, "wait for --timeout");
  return await reporting(async () => {
    const server = given.find();
    const { reopened } = (await server.look()).master.logs;
    await server.tell("reopen logs");
    if (given.switches.has("no-wait")) return 0;
    return await follow({
      server,
      what: "the reopening",
      timeout,
      stage: (status) => stageOf(status, reopened),
      ended: ["failed", "The server has ended"],
    });
  });
}

function stageOf({ master: { logs } }: Status, before: number): Stage {
  if (logs.reopened === before) return ["under way", "The master has not reacted yet"];
  if (logs.pending > 0) {
    return [
      "under way",
      `${formatCount(logs.pending, "worker")} ${logs.pending === 1 ? "has" : "have"} not opened`,
    ];
  }
  if (logs.failed === 0) return ["done", "The logs are open again"];
  const who = logs.failed === 1 ? "One process" : `${logs.failed} processes`;
  return ["failed", `${who} could not open a log and write to the old one. The error log says why`];
}
