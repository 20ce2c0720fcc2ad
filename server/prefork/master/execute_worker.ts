/**
 * How a master starts a worker with `--no-preload`: as a fresh Deno, in which everything works that
 * works under `deno serve`.
 */
import { executable } from "../../../ffi/forking/run_again.ts";
import { setenv } from "../../../ffi/environment.ts";
import { forkProgram } from "../../../ffi/forking/fork_program.ts";
import { memfd_create } from "../../../ffi/memory.ts";
import { commandLine } from "../../../ffi/proc.ts";
import { _exit, getpid, getppid, PR_SET_PDEATHSIG, prctl, setpgid } from "../../../ffi/process.ts";
import { denosArguments } from "../../../ffi/runtime/v8_flags.ts";
import { SIGKILL } from "../../../ffi/signals.ts";
import { passFreshWorker } from "../fresh_worker.ts";
import { stringifyJson } from "../json.ts";
import { restoreTelemetry } from "../telemetry.ts";
import type { ChildContext, Context } from "./context.ts";

/** A flag whose port is already in use by the master. */
const INSPECTOR = /^--inspect(-brk|-wait)?(=|$)/;

/**
 * Forks a worker that executes this process's program, without the flags of V8's and the signal
 * mask that only the master needs.
 *
 * @param context The master's context.
 * @param child What the worker gets.
 * @returns The worker's pid.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, ...
 */
export function executeWorker(context: Context, child: ChildContext): number {
  const master = getpid();
  const { length } = denosArguments();
  const line = commandLine().filter((arg, i) => i >= length || !INSPECTOR.test(arg));
  return forkProgram(executable(), line, () => {
    // Until the worker can notice by itself that the master has ended.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() !== master) _exit(1);
    // Signals that a terminal sends are for the master.
    setpgid(0, 0);
    Deno.chdir(context.startDirectory);
    const config = memfd_create("tine-config");
    config.write(new TextEncoder().encode(stringifyJson(context.config)));
    passFreshWorker({
      number: child.number,
      slot: child.slot.index,
      descriptors: {
        channel: child.channel.fileno(),
        scoreboard: context.scoreboardFile.fileno(),
        config: config.fileno(),
        listeners: context.listeners.map((socket) => socket.fileno()),
      },
    });
    for (const [name, value] of Object.entries(context.variables)) setenv(name, value);
    restoreTelemetry();
  });
}
