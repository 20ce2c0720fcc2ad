/**
 * Fact 2: a child does not inherit V8's worker threads, and hangs if it waits for one. With
 * `--single_threaded`, V8 never waits for them: it has none of its own, and the few that Deno's
 * platform starts for it stay idle.
 *
 * The flag is spelled with an underscore. If Deno finds the text `--single-threaded`, it uses
 * another V8 platform, whose tasks it does not run: `FinalizationRegistry` and `Atomics.waitAsync`
 * would not work, in parents and children, and everything that Deno frees through them would leak.
 */
import { libc } from "../libc.ts";
import { commandLine, readText } from "../proc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { isPoolThread, isV8Worker, type Thread } from "./threads.ts";

/** The flag that a process needs from its start. */
export const SINGLE_THREADED = ASSUMPTIONS.singleThreaded.value;

/** The same for a Deno whose worker threads tine does not understand: V8 has none then. */
export const WITHOUT_WORKERS = ASSUMPTIONS.withoutWorkers.value;

/** The variable of the environment with further flags; those of the command line count more. */
export const V8_FLAGS = ASSUMPTIONS.v8FlagsVariable.value;

/**
 * Whether V8 was started so that it never waits for a thread.
 *
 * This is read from the command line and the environment at the start of this process: once V8
 * runs, its flags can be set without effect, and the environment can be changed.
 */
export function isSingleThreaded(): boolean {
  const flags = [...environmentFlags(), ...commandLineFlags()].map(parseFlag);
  const last = (name: string) => flags.findLast((flag) => flag.name === name)?.isOn;
  return last("single-threaded") === true && last("single-threaded-gc") !== false;
}

/** Removes from a list of flags the one that Deno understands differently from V8. */
export function withoutSingleThreaded(flags: string): string {
  return flags.split(",").filter((flag) => parseFlag(flag).name !== "single-threaded").join(",");
}

function environmentFlags(): string[] {
  const variable = readText("/proc/self/environ").split("\0")
    .find((variable) => variable.startsWith(`${V8_FLAGS}=`));
  return variable?.slice(V8_FLAGS.length + 1).split(",") ?? [];
}

function commandLineFlags(): string[] {
  return denosArguments()
    .filter((arg) => arg.startsWith("--v8-flags="))
    .flatMap((arg) => arg.slice("--v8-flags=".length).split(","));
}

/** V8 accepts `--no-name`, `--noname` and `--no_name`, and `_` for `-`. */
function parseFlag(flag: string): { name: string; isOn: boolean } {
  const name = flag.trim().replace(/^--?/, "").replaceAll("_", "-");
  const negated = name.replace(/^no-?/, "");
  return { name: negated, isOn: negated === name };
}

/** Whether the command line has Deno draw the same random numbers each time, in every process. */
export function isSeeded(): boolean {
  return denosArguments().some((arg) => /^--seed(=|$)/.test(arg));
}

/** Returns the arguments of this process before the program's own, with Deno's name first. */
export function denosArguments(): string[] {
  const line = commandLine();
  return line.slice(0, line.length - Deno.args.length);
}

/**
 * Looks for worker threads of V8's under another name: for any thread that is not known, where none
 * of V8's is, although Deno was not told to do without.
 *
 * @param present The threads of this process.
 * @returns What was found; `undefined` if all is as expected.
 */
export function findStrangeThread(present: readonly Thread[]): string | undefined {
  const pid = libc().getpid();
  const strange = present.find((thread) => thread.tid !== pid && !isPoolThread(thread));
  if (strange === undefined || present.some(isV8Worker) || isWithoutWorkers()) return undefined;
  return `it has a thread called "${strange.name}", and none that is known as V8's`;
}

/** Whether V8 was started without worker threads. */
export function isWithoutWorkers(): boolean {
  return [...environmentFlags(), ...commandLineFlags()].includes(WITHOUT_WORKERS);
}
