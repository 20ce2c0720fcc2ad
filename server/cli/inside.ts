/**
 * The process that serves. Deno loads this module before the app, which is the main module, so that
 * the app's own configuration applies. It would apply to a package that is imported here, too:
 * nothing here may depend on one.
 *
 * @module
 */
import { denosArguments } from "../../ffi/runtime/v8_flags.ts";
import { isUrl } from "../app/load_app.ts";
import { type MainModule, mainModule } from "../app/main_module.ts";
import { becomeMaster } from "../prefork/become_master.ts";
import { isFreshWorker } from "../prefork/fresh_worker.ts";
import { isCanary, reportFailure } from "../prefork/master/canary.ts";
import { isInheriting } from "../prefork/master/inheritance.ts";
import { keepServing, serve } from "../prefork/serve.ts";
import { type Command, execute, takeCommand, variablesOf } from "./command.ts";
import { report } from "./report.ts";
import { nameOf, readSettings, type Settings } from "./settings.ts";
import { UsageError } from "./usage.ts";

try {
  const since = Date.now();
  if (!isFreshWorker()) becomeMaster();
  const command = takeCommand();
  const { promise: isWanted, resolve: want } = Promise.withResolvers<void>();
  const end = run(command, (name) => mainModule(name, want), since);
  end.then((code) => Deno.exit(code), fail);
  // Deno loads the app when this module has been evaluated.
  await Promise.race([isWanted, end]);
} catch (error) {
  fail(error);
}

/**
 * Serves the app.
 *
 * @param since When this process began, in milliseconds since 1970.
 * @returns The exit code.
 */
async function run(
  command: Command,
  load: (name: string) => MainModule,
  since: number,
): Promise<number> {
  const { line } = command;
  if (isFreshWorker()) {
    const { runFreshWorker } = await import("../prefork/worker/fresh.ts");
    return await runFreshWorker(load(command.app!));
  }
  const variables = variablesOf(command);
  let settings: Settings;
  let isOtherUser = false;
  try {
    settings = readSettings(line);
    const { user, unixGroup } = settings.config;
    if (user !== undefined || unixGroup !== undefined) {
      isOtherUser = await becomeUser(settings, line.check === null);
    }
  } catch (error) {
    if (line.check === "json") return (await import("./check.ts")).printError(error);
    return await keepServing(error, variables);
  }
  const { app, model, config, file } = settings;
  if (isOtherUser || app !== command.app) {
    execute(line, app, denosArguments().slice(0, -1), Deno.args);
  }
  const main = load(app);
  if (line.check !== null) {
    return await (await import("./check.ts")).check(line.check, settings, main);
  }
  const isRestart = isCanary() || isInheriting();
  if (model === "prefork" || isRestart) {
    const refused = model === "prefork" ? [] : ["model"];
    const watcher = line.watch ? await import("./watch.ts") : undefined;
    const startWatcher = watcher && (() => watcher.startWatching(app, file, since));
    return await serve(main, config, variables, refused, startWatcher);
  }
  if (line.watch) throw new UsageError(`--watch does not apply to --model ${model}`);
  const { serveLower } = await import("./lower_rungs.ts");
  return await serveLower(model, main, settings);
}

/** Becomes the user whom the settings name. Returns whether that has changed anything. */
async function becomeUser(settings: Settings, opens: boolean): Promise<boolean> {
  const host = await import("../prefork/host/become_user.ts");
  const { app, config, sources, file } = settings;
  const own = new URL(import.meta.url);
  const files = [...own.protocol === "file:" ? [decodeURIComponent(own.pathname)] : []]
    .concat(isUrl(app) ? [] : [app]);
  try {
    return host.becomeUser(config, {
      nameOf: (option) => nameOf(option, sources.get(option), file),
      files,
      opens,
    });
  } catch (error) {
    // Of names that this system does not know.
    throw error instanceof RangeError ? new UsageError(error.message) : error;
  }
}

function fail(error: unknown): never {
  reportFailure(error);
  Deno.exit(report(error));
}
