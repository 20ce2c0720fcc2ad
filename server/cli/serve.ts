import { isCanary } from "../prefork/master/canary.ts";
import { isInheriting } from "../prefork/master/inheritance.ts";
import { keepServing, serve as servePrefork } from "../prefork/serve.ts";
import { readCommandLine } from "./command_line.ts";
import { OPTIONS } from "./options.ts";
import { readSettings, type Settings } from "./settings.ts";

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
  const noPreload = "  --no-preload".padEnd(COLUMN) +
    "load the app in each worker, not once in the master";
  lines.splice(lines.findIndex((line) => line.startsWith("  --max-requests")), 0, noPreload);
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
  const { app, model, config } = settings;
  if (model === "prefork") return await servePrefork(app, config);
  if (isCanary() || isInheriting()) return await servePrefork(app, config, ["model"]);
  const { serveLower } = await import("./lower_rungs.ts");
  return await serveLower(model, settings);
}
