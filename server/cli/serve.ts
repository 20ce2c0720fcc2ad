/** The serve command, and check: has Deno run the app as its main module, with `inside.ts` before it. */
import { denosArguments } from "../../ffi/runtime/v8_flags.ts";
import { execute } from "./command.ts";
import { readCommandLine } from "./command_line.ts";
import { OPTIONS } from "./options.ts";

const COLUMN = 30;

const CHECK_HELP = `\
Loads an app as serve does, up to the fork, and tells what would be served, where, with
which options, and what the app holds open that its workers could not use. No address is
bound, and nothing is left behind.

Usage: tine check [options] APP [-- ARGUMENT...]

  --json   as JSON
  --help   this text

The other options are those of serve: tine serve --help. For each is shown where it comes
from: the command line, the environment, the configuration file or its default.

Exit code: 0 if the app can be served, 1 if not, 2 if an option is invalid.`;

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
  // The last of its group, before an empty line.
  lines.splice(
    lines.findIndex((line) => line === "Operation:") - 1,
    0,
    "  --proxy-protocol".padEnd(COLUMN) + "each connection begins with the PROXY protocol",
  );
  insert("  --watch", "like HUP whenever a file of the app changes", "  --access-log FILE");
  return [
    "Serves a module with forked workers. The module is the same as for deno serve:",
    "export default { fetch(request, info) { ... } }",
    "",
    "Usage: tine serve [options] APP [-- ARGUMENT...]",
    ...lines,
    "",
    "What follows -- are the app's own arguments. Its folder's configuration of Deno applies.",
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
 * Runs the `serve` or the `check` command.
 *
 * @param args The arguments, without the command's name.
 * @param inside Returns the URL of the module that Deno loads before the app.
 * @param command The command's name.
 * @returns The exit code, if there is nothing to serve.
 * @throws {UsageError} If the arguments are invalid.
 * @throws {AppError} If there is no such app.
 */
export async function serve(
  args: readonly string[],
  inside: () => string | Promise<string>,
  command: "serve" | "check",
): Promise<number> {
  const request = readCommandLine(args, command === "check");
  if (request === undefined) {
    console.log(command === "check" ? CHECK_HELP : help());
    return 0;
  }
  const { line, rest } = request;
  const preload = `--preload=${(await inside()).replaceAll(",", "%2C")}`; // it may be a list
  return execute(line, line.app, [...denosFlags(), preload], rest);
}

/**
 * Returns the arguments with which Deno was started, up to the program's name, but without a
 * configuration: the app's is the one that counts.
 */
function denosFlags(): string[] {
  return denosArguments().slice(0, -1).filter((arg) => arg !== "--no-config");
}
