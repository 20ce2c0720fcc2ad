/**
 * The installed command serves an app without executing Deno twice: its launcher, a shell script,
 * finds the app among the arguments and has Deno run that, with the bundled command line before it.
 */
import { getenv, unsetenv } from "../../ffi/environment.ts";
import { checkDeno } from "../../ffi/platform.ts";
import { checkFile } from "../app/load_app.ts";
import { putCommand } from "./command.ts";
import { readCommandLine } from "./command_line.ts";
import { report } from "./report.ts";

/**
 * The environment variable that contains what `DENO_AUTO_SERVE` was before the launcher set it
 * (nothing, or `=` and its value) and the arguments of `serve`. `SEPARATOR` ends each.
 */
export const LAUNCHED = "TINE_ARGS";
/** What ends each argument there. */
export const SEPARATOR = "\x1f";

/** Reads the arguments that the launcher has passed on. Ends the process if they are invalid. */
export function readLaunched(): void {
  const [before, ...args] = (getenv(LAUNCHED) ?? "").split(SEPARATOR).slice(0, -1);
  unsetenv(LAUNCHED);
  try {
    checkDeno();
    const { line } = readCommandLine(args)!; // the launcher leaves --help to others
    checkFile(line.app!);
    putCommand({ line, app: line.app, autoServe: before ? before.slice(1) : null });
  } catch (error) {
    Deno.exit(report(error));
  }
}
