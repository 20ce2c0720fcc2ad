/** The reload command has a running server load new code. */
import { formatCount } from "../../log.ts";
import { type Status, StatusError } from "../../prefork/status/status.ts";
import { readArguments, seconds, SERVER_HELP } from "./arguments.ts";
import { follow, type Stage, TIMEOUT } from "./follow.ts";
import { print, reporting } from "./print.ts";

const HELP = `\
Has a running server load new code, and waits for the outcome. No connection is dropped: if the
code cannot be loaded, the old code stays in use. The same as SIGHUP.

Usage: tine reload [PID | --pid-file FILE | --admin ADDRESS] [options]

${SERVER_HELP}
  --timeout S      how long to wait (default ${TIMEOUT})
  --no-wait        does not wait
  --help           this text

Without --no-wait it ends when all new workers are ready; the old ones may still be finishing
their requests. Control-C ends the waiting, not the reload.

Exit code: 0 if the new code is in use, 1 if it failed to load or took too long, or there is no
such server, 2 if an argument is invalid.
`;

/**
 * Runs the reload command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code: 0, or 1 if the new code is not in use; the reason has been printed.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function reload(args: readonly string[]): Promise<number> {
  const given = readArguments(args, ["timeout"], ["no-wait"]);
  if (given === undefined) {
    print(HELP);
    return 0;
  }
  const timeout = seconds(given.values.timeout ?? `${TIMEOUT}`, "wait for --timeout");
  return await reporting(async () => {
    const server = given.find();
    const before = await server.look();
    if (before.master.draining) {
      throw new StatusError(`Cannot reload ${server.name}: it is stopping`);
    }
    await server.tell("reload");
    if (given.switches.has("no-wait")) return 0;
    let request: number | undefined;
    return await follow({
      server,
      what: "the reload",
      timeout,
      stage: (status) => {
        const { requested } = status.master.reloads;
        // Whoever asked first in the meantime: the code is tried from now on.
        if (requested > before.master.reloads.requested) request ??= requested;
        return stageOf(status, request, before);
      },
      ended: ["failed", "The server has ended during the reload"],
    });
  });
}

function stageOf({ master, workers }: Status, request: number | undefined, before: Status): Stage {
  if (request !== undefined && master.reloads.answered >= request) {
    const { success, reason } = master.lastReload!;
    if (!success) {
      const rest = master.generation > before.master.generation
        ? "The old workers keep serving, and the server tries again"
        : "The old code stays in use";
      return ["failed", `The reload failed: ${reason}. ${rest}`];
    }
    const old = workers.filter(({ generation }) => generation < master.generation);
    // A worker that has not read its order accepts connections, unless its event loop is blocked.
    if (old.some(({ state, stalled }) => state !== "stopping" && stalled === 0)) {
      return ["under way", "The old workers stop accepting connections"];
    }
    const busy = old.filter(({ inFlight }) => inFlight > 0).length;
    const verb = master.workers === 1 ? "serves" : "serve";
    const finishing = busy === 0
      ? ""
      : `; ${formatCount(busy, "worker")} with the old code still ${
        busy === 1 ? "finishes its requests" : "finish their requests"
      }`;
    return [
      "done",
      `Reloaded: ${formatCount(master.workers, "worker")} ${verb} the new code${finishing}`,
    ];
  }
  if (master.draining) return ["failed", "The server has been stopped during the reload"];
  if (request === undefined) return ["under way", "The master has not reacted yet"];
  if (master.generation === before.master.generation) {
    return ["under way", "Trying the new code"];
  }
  const ready = workers.filter(({ generation, state }) =>
    generation === master.generation && state === "ready"
  );
  return ["under way", `${ready.length} of ${formatCount(master.workers, "worker")} replaced`];
}
