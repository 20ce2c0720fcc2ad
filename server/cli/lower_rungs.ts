/** `serve --model iterative` and `serve --model forking`: the same app with the simpler models. */
import { releaseSignals } from "../../ffi/signal_mask.ts";
import { checkThrowAwayAddress } from "../../ffi/runtime/throw_away_address.ts";
import { SIGCHLD, SIGINT, SIGTERM } from "../../ffi/signals.ts";
import { loadApp } from "../app/load_app.ts";
import { serveFetchForking } from "../gateway/forking.ts";
import { serveFetchIterative } from "../gateway/iterative.ts";
import { formatUrl, openListener, removeStaleSocket } from "../listen.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { nameOf, type Settings, SOURCES } from "./settings.ts";
import { UsageError } from "./usage.ts";

/** The models other than prefork. */
export type LowerModel = "iterative" | "forking";

const COMMON = [
  "app",
  "model",
  "port",
  "hostname",
  "path",
  "cert",
  "key",
  "backlog",
  "grace",
  "idleTimeout",
];
const APPLICABLE: Record<LowerModel, readonly string[]> = {
  iterative: COMMON,
  forking: [...COMMON, "timeout", "maxConnections"],
};

/**
 * Serves an app with a model other than prefork, until a signal ends the server.
 *
 * @param model The model.
 * @param settings What to serve, and how.
 * @returns The exit code.
 * @throws {UsageError} If an option does not apply to the model.
 */
export async function serveLower(model: LowerModel, settings: Settings): Promise<number> {
  checkApplicable(model, settings);
  const { app, config, sources } = settings;
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
        ...sources.has("maxConnections") && { maxChildren: config.maxConnections },
      });
    }
    return 0;
  } finally {
    socket.close();
    if (path !== undefined) removeStaleSocket(path);
  }
}

/**
 * Rejects options that do not apply to the model. Those of the environment are meant for any
 * program, and a file that leaves the model open may be used with several.
 */
function checkApplicable(model: LowerModel, { sources, file }: Settings): void {
  const chosenBy = SOURCES.indexOf(sources.get("model")!);
  for (const [name, source] of sources) {
    if (name === "app" || name === "model" || APPLICABLE[model].includes(name)) continue;
    if (source === "environment") continue;
    if (SOURCES.indexOf(source) > chosenBy) continue;
    throw new UsageError(`${nameOf(name, source, file)} does not apply to --model ${model}`);
  }
}
