/** `serve --model iterative` and `serve --model forking`: the same app on the ladder's lower rungs. */
import { releaseSignals } from "../../ffi/signal_mask.ts";
import { SIGCHLD, SIGINT, SIGTERM } from "../../ffi/signals.ts";
import { loadApp } from "../app/load_app.ts";
import { serveFetchForking } from "../gateway/forking.ts";
import { serveFetchIterative } from "../gateway/iterative.ts";
import { formatUrl, openListener } from "../listen.ts";
import type { PreforkOptions } from "../prefork/options.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { removeIfThere } from "../remove_file.ts";
import { UsageError } from "./usage.ts";

/** The rungs below prefork. */
export type LowerModel = "iterative" | "forking";

type Option = keyof PreforkOptions;

const COMMON = ["port", "hostname", "path", "cert", "key", "backlog", "grace", "idleTimeout"];
const APPLICABLE: Record<LowerModel, readonly string[]> = {
  iterative: COMMON,
  forking: [...COMMON, "timeout", "maxConnections"],
};

/**
 * Serves an app with another model than prefork, until a signal ends the server.
 *
 * @param model The model.
 * @param app The app's module.
 * @param options The options of the command line.
 * @param flagOf An option's name on the command line.
 * @returns The exit code.
 * @throws {UsageError} When one of the options has no meaning for the model.
 */
export async function serveLower(
  model: LowerModel,
  app: string,
  options: PreforkOptions,
  flagOf: (option: Option) => string,
): Promise<number> {
  for (const option of Object.keys(options) as Option[]) {
    if (!APPLICABLE[model].includes(option)) {
      throw new UsageError(`${flagOf(option)} has no meaning for --model ${model}`);
    }
  }
  const { port = 8000, hostname = "0.0.0.0", path, backlog = 1024, grace = 30 } = options;
  const { cert, key, idleTimeout, timeout, maxConnections } = options;
  // These models have no use for the others, which would be held and never handled.
  const used = [SIGCHLD, SIGTERM, SIGINT];
  releaseSignals(HANDLED_SIGNALS.filter((signum) => !used.includes(signum)));
  const socket = openListener(path ?? [hostname, port], backlog);
  try {
    const loaded = await loadApp(app);
    const common = {
      grace,
      ...cert !== undefined && key !== undefined && { cert, key },
      ...idleTimeout !== undefined && { idleTimeout },
    };
    const url = formatUrl(socket.getsockname(), cert !== undefined);
    if (model === "iterative") {
      console.error(`Serving ${url} to one client at a time`);
      await serveFetchIterative(socket, loaded, common);
    } else {
      console.error(`Serving ${url} with one child per connection`);
      await serveFetchForking(socket, loaded, {
        ...common,
        ...timeout !== undefined && { timeout },
        ...maxConnections !== undefined && { maxChildren: maxConnections },
      });
    }
    return 0;
  } finally {
    socket.close();
    if (path !== undefined) removeIfThere(path);
  }
}
