/**
 * How a process executes its program again, with a V8 that does not wait for other threads and with
 * signals blocked in every thread. This needs little, so that a program that does nothing else loads
 * quickly.
 */
import { getenv, setenv, unsetenv } from "../environment.ts";
import { SyscallError } from "../errno.ts";
import { execveOrErrno } from "../execve.ts";
import { libc } from "../libc.ts";
import { commandLine, readlink } from "../proc.ts";
import { kernelMask, setKernelMask, signalsIn, sigset } from "../signal_mask.ts";
import { ASSUMPTIONS } from "../runtime/assumptions.ts";
import {
  isWithoutWorkers,
  SINGLE_THREADED,
  V8_FLAGS,
  WITHOUT_WORKERS,
  withoutSingleThreaded,
} from "../runtime/v8_flags.ts";

/**
 * The environment variable that passes data from the first run to the second:
 * `pid:runs:mask:DENO_V8_FLAGS`.
 */
const MARKER = "TINE_REEXECUTED";
const NO_LAZY = ASSUMPTIONS.noLazy.value;
const YOUNG = ASSUMPTIONS.smallNursery.value;

/** Options for {@linkcode runAgain}. */
export interface RunOptions {
  /** The signals that the program itself blocks. The default is what this thread blocks. */
  readonly program?: Iterable<number>;
  /** The command line. The default is this process's own. */
  readonly line?: readonly string[];
  /** Whether V8 must do without worker threads. The default is whether it does now. */
  readonly lacksWorkers?: boolean;
}

let runs = 0;

/** Returns how often this program was run again. */
export function timesRunAgain(): number {
  return runs;
}

/**
 * Runs this process's program again from its start, forkable from the beginning: with the current
 * environment, and the descriptors that are not close-on-exec.
 *
 * @param wanted The signals that the program will handle.
 * @param options What else is to be different.
 * @throws {Error} If the program cannot be run again.
 * @throws {SyscallError} If the kernel refuses.
 */
export function runAgain(
  wanted: ReadonlySet<number>,
  options: RunOptions = {},
): never {
  checkRepeatable();
  const { program = signalsIn(kernelMask()), line = commandLine() } = options;
  const mask = kernelMask();
  const before = [...program];
  const flags = getenv(V8_FLAGS);
  const marker = [
    libc().getpid(),
    runs + 1,
    before.join(","),
    flags === undefined ? "" : `=${flags}`,
  ];
  setenv(MARKER, marker.join(":"));
  // A later flag overrides an earlier one: a program may be given --lazy, or a larger young
  // generation.
  const own = flags && withoutSingleThreaded(flags);
  const last = options.lacksWorkers ?? isWithoutWorkers() ? WITHOUT_WORKERS : SINGLE_THREADED;
  setenv(V8_FLAGS, [NO_LAZY, YOUNG, own, last].filter(Boolean).join(","));
  setKernelMask(sigset([...before, ...wanted]));
  const number = execveOrErrno(executable(), line);
  setKernelMask(mask);
  unsetenv(MARKER);
  restore(flags);
  throw new SyscallError("execve", number, `${executable()} to run the program again`);
}

/** Takes the data that the previous run left, and removes it so that no program inherits it. */
export function takeMarker(): { mask: ReadonlySet<number> } | undefined {
  const marker = getenv(MARKER);
  if (marker === undefined) return undefined;
  const [, pid, count, mask, flags] = marker.match(/^(\d+):(\d+):([\d,]*):(?:=(.*))?$/s) ?? [];
  unsetenv(MARKER);
  if (Number(pid) !== libc().getpid()) return undefined;
  restore(flags);
  runs = Math.max(runs, Number(count));
  return { mask: new Set(mask ? mask.split(",").map(Number) : []) };
}

function restore(flags: string | undefined): void {
  if (flags !== undefined) setenv(V8_FLAGS, flags);
  else unsetenv(V8_FLAGS);
}

// A program that is typed or piped in is consumed by its first run.
function checkRepeatable(): void {
  const name = Deno.mainModule.match(/\/([^/.]+)\.\w+$/)?.[1];
  const typed = Object.entries(ASSUMPTIONS.typedPrograms.value).find(([one]) => one === name);
  if (typed === undefined) return;
  throw new Error(
    `Cannot become forkable: this program was read from ${typed[1]} and cannot be run again. ` +
      "Save it in a file and run that file",
  );
}

/** Returns the running program's file; the link itself if the file has been replaced. */
export function executable(): string {
  const path = readlink("/proc/self/exe");
  return path.endsWith(" (deleted)") ? "/proc/self/exe" : path;
}
