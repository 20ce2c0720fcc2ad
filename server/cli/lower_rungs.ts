/** `serve --model iterative` and `serve --model forking`: the same app with the simpler models. */
import { releaseSignals } from "../../ffi/signal_mask.ts";
import { checkThrowAwayAddress } from "../../ffi/runtime/throw_away_address.ts";
import { SIGCHLD, SIGINT, SIGTERM } from "../../ffi/signals.ts";
import { loadApp } from "../app/load_app.ts";
import { serveFetchForking } from "../gateway/forking.ts";
import { serveFetchIterative } from "../gateway/iterative.ts";
import { formatUrl, openListener, removeStaleSocket } from "../listen.ts";
import type { Config, PreforkOptions } from "../prefork/options.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { UsageError } from "./usage.ts";

/** The models other than prefork. */
export type LowerModel = "iterative" | "forking";

type Option = keyof PreforkOptions;

const COMMON = ["port", "hostname", "path", "cert", "key", "backlog", "grace", "idleTimeout"];
const APPLICABLE: Record<LowerModel, readonly string[]> = {
  iterative: COMMON,
  forking: [...COMMON, "timeout", "maxConnections"],
};

/**
 * Serves an app with a model other than prefork, until a signal ends the server.
 *
 * @param model The model.
 * @param app The app's module.
 * @param config All options.
 * @param given The options that the command line contains.
 * @param flagOf Returns an option's name on the command line.
 * @returns The exit code.
 * @throws {UsageError} If an option does not apply to the model.
 */
export async function serveLower(
  model: LowerModel,
  app: string,
  config: Config,
  given: readonly Option[],
  flagOf: (option: Option) => string,
): Promise<number> {
  for (const option of given) {
    if (!APPLICABLE[model].includes(option)) {
      throw new UsageError(`${flagOf(option)} does not apply to --model ${model}`);
    }
  }
  const { port, hostname, path, backlog, grace, cert, key, idleTimeout, timeout } = config;
  // These models do not use the other signals, which would stay held and never be handled.
  const used = [SIGCHLD, SIGTERM, SIGINT];
  releaseSignals(HANDLED_SIGNALS.filter((signum) => !used.includes(signum)));
  const socket = openListener(path ?? [hostname, port], backlog);
  try {
    checkThrowAwayAddress(socket.family);
    const loaded = await loadApp(app);
    const common = {
      grace,
      idleTimeout,
      ...cert !== undefined && key !== undefined && { cert, key },
    };
    const url = formatUrl(socket.getsockname(), cert !== undefined);
    if (model === "iterative") {
      console.error(`Serving ${url} to one client at a time`);
      await serveFetchIterative(socket, loaded, common);
    } else {
      console.error(`Serving ${url} with one child per connection`);
      await serveFetchForking(socket, loaded, {
        ...common,
        timeout,
        ...given.includes("maxConnections") && { maxChildren: config.maxConnections },
      });
    }
    return 0;
  } finally {
    socket.close();
    if (path !== undefined) removeStaleSocket(path);
  }
}
