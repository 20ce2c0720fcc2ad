/**
 * Fact 2: a child does not inherit V8's worker threads, and hangs if it waits for one. With
 * `--single-threaded`, V8 has none.
 *
 * Spelled `--single_threaded`, it does not do. Deno then keeps a platform with worker threads, on
 * which `FinalizationRegistry` and `Atomics.waitAsync` work. But each collection wakes such a
 * thread: a child waits for a lock that one held at the fork, or wakes one that is not there,
 * through a record on a stack that glibc has given to another thread, and aborts.
 */
import { readText } from "../proc.ts";
import { ASSUMPTIONS } from "./assumptions.ts";

/** The flag that a process needs from its start. */
export const SINGLE_THREADED = ASSUMPTIONS.singleThreaded.value;

/** The variable of the environment with further flags; those of the command line count more. */
export const V8_FLAGS = ASSUMPTIONS.v8FlagsVariable.value;

/**
 * Whether the command line takes the flag back. Running the program again does not help then: V8
 * would have worker threads on a platform that has none, and crash.
 */
export function isOverruled(): boolean {
  const line = readText("/proc/self/cmdline").split("\0").slice(0, -1);
  return line.slice(0, line.length - Deno.args.length)
    .filter((arg) => arg.startsWith("--v8-flags="))
    .flatMap((arg) => arg.slice("--v8-flags=".length).split(","))
    // V8 accepts --no-name, --noname and --no_name, and _ for -.
    .some((flag) => /^--?no-?single-threaded(-gc)?$/.test(flag.trim().replaceAll("_", "-")));
}
