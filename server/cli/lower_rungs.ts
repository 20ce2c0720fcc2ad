/** `serve --model iterative` and `serve --model forking`: the same app with the simpler models. */
import { umask } from "../../ffi/credentials.ts";
import { releaseSignals } from "../../ffi/signal_mask.ts";
import { checkThrowAwayAddress } from "../../ffi/runtime/throw_away_address.ts";
import { SIGCHLD, SIGINT, SIGTERM } from "../../ffi/signals.ts";
import { catchServers } from "../app/caught_servers.ts";
import { AppError } from "../app/load_app.ts";
import { loadProgram, watchExit } from "../app/load_program.ts";
import type { MainModule } from "../app/main_module.ts";
import { serveFetchForking } from "../gateway/forking.ts";
import { serveFetchIterative } from "../gateway/iterative.ts";
import {
  bindSocket,
  formatUrl,
  isSecure,
  type ListenAddress,
  removeStaleSocket,
} from "../listen.ts";
import { describeInvalid } from "../prefork/certificates.ts";
import { findSocketAccess } from "../prefork/host/account.ts";
import { takeOpened } from "../prefork/host/opened.ts";
import { bindOnTrial } from "../prefork/master/program_sockets.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { report } from "./report.ts";
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
  "unixMode",
  "unixGroup",
  "user",
  "group",
  "umask",
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
 * @param main The app.
 * @param settings What to serve, and how.
 * @returns The exit code.
 * @throws {UsageError} If an option does not apply to the model.
 */
export async function serveLower(
  model: LowerModel,
  main: MainModule,
  settings: Settings,
): Promise<number> {
  checkApplicable(model, settings);
  const { config, sources } = settings;
  const { backlog, grace, idleTimeout, timeout } = config;
  const [{ address, certificates }] = config.listen as [ListenAddress];
  const [certificate, ...others] = certificates;
  if (others.length > 0) throw new UsageError(`several --cert do not apply to --model ${model}`);
  // These models do not use the other signals, which would stay held and never be handled.
  const used = [SIGCHLD, SIGTERM, SIGINT];
  releaseSignals(HANDLED_SIGNALS.filter((signum) => !used.includes(signum)));
  const opened = takeOpened(); // by root
  if (config.umask !== undefined) umask(parseInt(config.umask, 8));
  const unwatch = watchExit(main.name, report);
  const { app } = await loadProgram(main, catchServers(bindOnTrial)).finally(unwatch);
  if (app === undefined) {
    throw new AppError(
      `Cannot serve ${main.name} with --model ${model}: it listens itself. Only workers can do so`,
    );
  }
  const [first, ...needless] = opened.listeners;
  for (const other of needless) other.close();
  const socket = first ?? bindSocket(address, undefined, findSocketAccess(config));
  try {
    socket.listen(backlog);
    checkThrowAwayAddress(socket.family);
    const common = {
      grace,
      idleTimeout,
      ...certificate,
    };
    for (const line of describeInvalid(config.listen)) console.error(line);
    const url = formatUrl(socket.getsockname(), isSecure(socket, certificates));
    if (model === "iterative") {
      console.error(`Serving ${url} to one client at a time`);
      await serveFetchIterative(socket, app, common);
    } else {
      console.error(`Serving ${url} with one child per connection`);
      await serveFetchForking(socket, app, {
        ...common,
        timeout,
        ...sources.has("maxConnections") && { maxChildren: config.maxConnections },
      });
    }
    return 0;
  } finally {
    socket.close();
    if (typeof address === "string") removeStaleSocket(address);
  }
}

/**
 * Rejects options that do not apply to the model. Those of the environment are meant for any
 * program, and a file that leaves the model open may be used with several.
 *
 * @throws {UsageError} If one does not.
 */
export function checkApplicable(model: LowerModel, { sources, file }: Settings): void {
  const chosenBy = SOURCES.indexOf(sources.get("model")!);
  for (const [name, source] of sources) {
    if (name === "app" || name === "model" || APPLICABLE[model].includes(name)) continue;
    if (source === "environment") continue;
    if (SOURCES.indexOf(source) > chosenBy) continue;
    throw new UsageError(`${nameOf(name, source, file)} does not apply to --model ${model}`);
  }
}
