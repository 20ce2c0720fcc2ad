import { isCanary } from "../prefork/master/canary.ts";
import { isInheriting } from "../prefork/master/inheritance.ts";
import { keepServing, serve as servePrefork } from "../prefork/serve.ts";
import { readCommandLine } from "./command_line.ts";
import { OPTIONS } from "./options.ts";
import { readSettings, type Settings } from "./settings.ts";
import { UsageError } from "./usage.ts";

const COLUMN = 30;

/** Returns the help text. It is built from the table, so that both list the same options. */
function help(): string {
  const lines = Object.entries(OPTIONS).flatMap(([flag, option]) => {
    if (typeof option === "string") return ["", `${option}:`];
    const [first, ...more] = option.help.split("\n");
    return [
      `  --${flag} ${option.takes}`.padEnd(COLUMN) + first,
      ...more.map((line) => " ".repeat(COLUMN) + line),
    ];
  });
  const insert = (flag: string, text: string, before: string) =>
    lines.splice(lines.findIndex((line) => line.startsWith(before)), 0, flag.padEnd(COLUMN) + text);
  insert(
    "  --no-preload",
    "each worker is a fresh Deno, which loads the app itself",
    "  --max-req",
  );
  insert("  --strict", "do not start if something open does not survive the fork", "  --max-req");
  insert("  --watch", "like HUP whenever a file of the app changes", "  --access-log FILE");
  return [
    "Serves a module with forked workers. The module is the same as for deno serve:",
    "export default { fetch(request, info) { ... } }",
    "",
    "Usage: tine serve [options] APP",
    ...lines,
    "",
    "The configuration file has the app and these options by the names of PreforkOptions;",
    "server/tine.schema.json describes it. Command line and environment override it.",
    "",
    "Signals to the master: TERM and INT stop gracefully, or immediately if sent again;",
    "QUIT stops immediately; HUP restarts with new code and drops no connection; USR2",
    "replaces the workers one by one; TTIN and TTOU add and remove one; USR1 reopens logs.",
    "",
    "Exit code: 0 if stopped by a signal, 1 if it failed, 2 if an option is invalid.",
  ].join("\n");
}

/**
 * Runs the `serve` command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code.
 * @throws {UsageError} If the arguments are invalid.
 * @throws {ConfigFileError} If the configuration file is.
 */
export async function serve(args: readonly string[]): Promise<number> {
  const since = Date.now();
  const line = readCommandLine(args);
  if (line === undefined) {
    console.log(help());
    return 0;
  }
  let settings: Settings;
  try {
    settings = readSettings(line);
  } catch (error) {
    return await keepServing(error);
  }
  const { app, model, config, file } = settings;
  const isRestart = isCanary() || isInheriting();
  if (model === "prefork" || isRestart) {
    const refused = model === "prefork" ? [] : ["model"];
    const watcher = line.watch ? await import("./watch.ts") : undefined;
    const startWatcher = watcher && (() => watcher.startWatching(app, file, since));
    return await servePrefork(app, config, refused, startWatcher);
  }
  if (line.watch) throw new UsageError(`--watch does not apply to --model ${model}`);
  const { serveLower } = await import("./lower_rungs.ts");
  return await serveLower(model, settings);
}
