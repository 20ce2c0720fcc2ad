/**
 * What a master passes on when it re-executes itself: it keeps its pid, and with it its children,
 * its listening sockets and the scoreboard. An environment variable describes them to the new
 * program.
 */
import { Descriptor } from "../../../ffi/descriptor.ts";
import { F_SETFD, fcntl, FD_CLOEXEC } from "../../../ffi/descriptor_calls.ts";
import { environment, getenv, restoreEnvironment, unsetenv } from "../../../ffi/environment.ts";
import { runAgain } from "../../../ffi/forking/run_again.ts";
import { getpid } from "../../../ffi/process.ts";
import { programSignals } from "../../../ffi/signal_mask.ts";
import { Socket } from "../../../ffi/socket.ts";
import { holdPem, passPem } from "../host/pem_files.ts";
import { createScoreboard, inheritScoreboard, type Scoreboard } from "../scoreboard.ts";
import { HANDLED_SIGNALS } from "../signals.ts";
import { stringifyJson } from "../json.ts";
import type { Config } from "../options.ts";
import type { Context, Inheritance, InheritedWorker, Knowledge } from "./context.ts";
import { restoreGivenEnvironment } from "./given_environment.ts";

/** The name of the environment variable. */
const INHERITANCE = "TINE_INHERITANCE";

/**
 * An inheritance as the environment variable holds it: descriptors and slots are given by number.
 */
interface Record extends Omit<Knowledge, "workers"> {
  readonly pid: number;
  readonly listeners: readonly number[];
  readonly requested: readonly string[];
  readonly admin: number | undefined;
  readonly isActivated: boolean;
  readonly scoreboard: number;
  readonly workers: readonly (
    & { slot: number; channel: number }
    & Pick<InheritedWorker, "pid" | "number" | "ready" | "stopping" | "timeLeft" | "killedFor">
  )[];
}

/**
 * Re-executes this process's program, in place, from the directory in which the server was started.
 *
 * @param context The master's context.
 * @param knowledge What else the new program must know.
 * @returns The error if execution failed; nothing has changed then.
 */
export function executeAnew(context: Context, { workers, config, ...knowledge }: Knowledge): Error {
  const record: Record = {
    ...knowledge,
    config: {
      ...config,
      listen: config.listen.map((one) => ({
        ...one,
        certificates: one.certificates.map(({ files }) => ({
          cert: "",
          key: "",
          ...files && { files },
        })),
      })),
    },
    pid: getpid(),
    listeners: context.listeners.map((socket) => socket.fileno()),
    requested: context.requested,
    admin: context.admin?.fileno(),
    isActivated: context.isActivated,
    scoreboard: context.scoreboardFile.fileno(),
    workers: workers.map((
      { pid, number, slot, channel, ready, stopping, timeLeft, killedFor },
    ) => ({
      pid,
      number,
      slot: slot.index,
      channel: channel.fileno(),
      ready,
      stopping,
      timeLeft,
      killedFor,
    })),
  };
  const directory = Deno.cwd();
  const variables = { ...context.variables, ...passPem() };
  const before = environment();
  try {
    Deno.chdir(context.startDirectory);
    setCloseOnExec(record, false);
    restoreGivenEnvironment({ ...variables, [INHERITANCE]: stringifyJson(record) });
    runAgain(new Set(HANDLED_SIGNALS), { program: programSignals() });
  } catch (error) {
    setCloseOnExec(record, true);
    holdPem();
    restoreEnvironment(before);
    Deno.chdir(directory);
    return error as Error;
  }
}

/** Whether the master that executed this program passed something on. */
export function isInheriting(): boolean {
  const text = getenv(INHERITANCE);
  return text !== undefined && (JSON.parse(text) as Record).pid === getpid();
}

/**
 * Takes over what the master that executed this program passed on; `undefined` if there is nothing.
 */
export function inherit(): Inheritance | undefined {
  const text = getenv(INHERITANCE);
  if (text === undefined) return undefined;
  unsetenv(INHERITANCE);
  const record: Record = JSON.parse(text);
  const { pid, resized, failedRestarts, config, watcher, oldSubprocesses } = record;
  if (pid !== getpid()) return undefined;
  setCloseOnExec(record, true);
  const { scoreboard, file } = findScoreboard(record);
  return {
    listeners: record.listeners.map((fd) => Socket.fromDescriptor(fd)),
    requested: record.requested,
    admin: record.admin === undefined ? undefined : Socket.fromDescriptor(record.admin),
    isActivated: record.isActivated,
    scoreboard,
    scoreboardFile: file,
    resized,
    failedRestarts,
    oldSubprocesses: oldSubprocesses ?? [], // an earlier version of tine does not know them
    config: { ...config, listen: config.listen ?? addressesOf(config) },
    watcher,
    workers: record.workers.map(({ slot, channel, ...worker }) => ({
      ...worker,
      slot: scoreboard.slots[slot]!,
      channel: Socket.fromDescriptor(channel),
    })),
  };
}

/** Returns the only address in a record of an earlier version of tine. */
function addressesOf({ path, hostname, port }: Config): Config["listen"] {
  return [{ address: path ?? [hostname, port], certificates: [] }];
}

function findScoreboard({ scoreboard: fd, workers }: Record): {
  scoreboard: Scoreboard;
  file: Descriptor;
} {
  const file = new Descriptor(fd);
  try {
    return { scoreboard: inheritScoreboard(file), file };
  } catch {
    // The new code is of another version of tine. The inherited workers write to the old
    // scoreboard.
    file.close();
    const fresh = createScoreboard();
    for (const { pid, number, slot } of workers) {
      Object.assign(fresh.scoreboard.slots[slot]!, { pid, number, state: "ready" });
    }
    return fresh;
  }
}

function setCloseOnExec({ listeners, admin, scoreboard, workers }: Record, yes: boolean): void {
  const channels = workers.map(({ channel }) => channel);
  const fds = [...listeners, ...channels, scoreboard, ...admin === undefined ? [] : [admin]];
  for (const fd of fds) fcntl(fd, F_SETFD, yes ? FD_CLOEXEC : 0);
}
