/**
 * How the command line reaches the process that serves. Deno is executed once more, with the app as
 * its main module and `inside.ts` loaded before it. The arguments are the app's own: the command
 * line goes along in the environment.
 */
import { getenv, setenv, unsetenv } from "../../ffi/environment.ts";
import { runAgain } from "../../ffi/forking/run_again.ts";
import { ASSUMPTIONS } from "../../ffi/runtime/assumptions.ts";
import { programSignals } from "../../ffi/signal_mask.ts";
import { checkFile, specifierOf } from "../app/load_app.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import { withholdTelemetry } from "../prefork/telemetry.ts";
import type { CommandLine } from "./settings.ts";

/** The environment variable that contains the command line, as JSON. */
const COMMAND = "TINE_SERVE";
const { name: AUTO_SERVE, value: YES } = ASSUMPTIONS.autoServe.value;

/** What the process that serves must know. */
export interface Command {
  readonly line: CommandLine;
  /** The app that is the main module; `undefined` if the command line names none. */
  readonly app: string | undefined;
  /** What the variable that has Deno serve the app contained; `null` if it was not set. */
  readonly autoServe: string | null;
}

/** Returns the environment variables with which a process gets the command. */
export function variablesOf(command: Command): Record<string, string> {
  return { [COMMAND]: JSON.stringify(command), [AUTO_SERVE]: YES };
}

/** Puts the command into the environment. */
export function putCommand(command: Command): void {
  for (const [name, value] of Object.entries(variablesOf(command))) setenv(name, value);
}

/**
 * Executes Deno with the app as its main module.
 *
 * @param line What the command line says.
 * @param app The app; `undefined` if it is not known yet.
 * @param flags Deno's name and arguments.
 * @param args The app's own arguments.
 * @throws {AppError} If there is no such app.
 * @throws {SyscallError} If the kernel refuses.
 */
export function execute(
  line: CommandLine,
  app: string | undefined,
  flags: readonly string[],
  args: readonly string[],
): never {
  if (app !== undefined) checkFile(app);
  const main = app === undefined ? "data:," : specifierOf(app);
  putCommand({ line, app, autoServe: getenv(AUTO_SERVE) ?? null });
  withholdTelemetry();
  const own = new Set(HANDLED_SIGNALS);
  runAgain(own, {
    program: programSignals().difference(own),
    line: [...flags, main, ...args],
  });
}

/** Whether this process has been given a command. */
export function hasCommand(): boolean {
  return getenv(COMMAND) !== undefined;
}

/** Takes the command out of the environment: neither the app nor its subprocesses see it. */
export function takeCommand(): Command {
  const command: Command = JSON.parse(getenv(COMMAND)!);
  unsetenv(COMMAND);
  if (command.autoServe === null) unsetenv(AUTO_SERVE);
  else setenv(AUTO_SERVE, command.autoServe);
  return command;
}
