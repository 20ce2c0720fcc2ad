/**
 * How a running server gets new code without dropping a connection: a canary, which
 * is a process of its own, tries to load it; then the master executes itself anew in
 * place. Its pid stays, and with it its children and its listening sockets. What
 * the new program must know of them it finds in the environment.
 */
import { close, F_SETFD, fcntl, FD_CLOEXEC } from "../../../ffi/descriptor.ts";
import { getenv, setenv, unsetenv } from "../../../ffi/environment.ts";
import { execve } from "../../../ffi/execve.ts";
import { commandLine, executable, runAgain } from "../../../ffi/forking/become_forkable.ts";
import { forkChild } from "../../../ffi/forking/fork_child.ts";
import { getpid } from "../../../ffi/process.ts";
import { programSignals } from "../../../ffi/signal_mask.ts";
import { Socket } from "../../../ffi/socket.ts";
import type { Elder, Reign } from "./loop.ts";
import { createScoreboard, inheritScoreboard, type Scoreboard } from "../scoreboard.ts";
import { HANDLED_SIGNALS } from "../signals.ts";

const CANARY = "TINE_CANARY";
const LEGACY = "TINE_LEGACY";

/** What a canary ends with where it would begin to serve: an app may end itself with 0. */
export const LOADED = 86;

/** What a master leaves to the program that it executes: descriptors, and its workers. */
interface Legacy {
  readonly pid: number;
  readonly listeners: readonly number[];
  readonly admin: number | undefined;
  readonly isActivated: boolean;
  readonly scoreboard: number;
  readonly workers: readonly (
    & { slot: number; channel: number }
    & Pick<Elder, "pid" | "number" | "ready" | "dismissed" | "timeLeft">
  )[];
}

/** What a master hands on to itself when it is executed anew. */
export interface Inheritance {
  /** The listening sockets, which the workers share. */
  readonly listeners: readonly Socket[];
  /** The listening socket of the admin process, if there is to be one. */
  readonly admin: Socket | undefined;
  /** Whether the listening sockets are the service manager's. */
  readonly isActivated: boolean;
  readonly scoreboard: Scoreboard;
  readonly scoreboardFd: number;
  /** Workers forked before the master was executed anew. */
  readonly elders: readonly Elder[];
}

/**
 * Starts the program a second time, to see whether its code can be loaded: then it
 * ends with {@linkcode LOADED}.
 *
 * @returns The pid.
 * @throws {SyscallError} When there is nothing to fork with.
 */
export function startCanary(): number {
  return forkChild(() => {
    setenv(CANARY, String(getpid()));
    execve(executable(), commandLine());
  });
}

/** Whether this process is there only to load the code. */
export function isCanary(): boolean {
  return getenv(CANARY) === String(getpid());
}

/**
 * Executes this process's program anew, in its place.
 *
 * @returns Why it could not; then nothing has changed.
 */
export function executeAnew(reign: Reign, workers: readonly Elder[]): Error {
  const legacy: Legacy = {
    pid: getpid(),
    listeners: reign.listeners.map((socket) => socket.fileno()),
    admin: reign.admin?.fileno(),
    isActivated: reign.isActivated,
    scoreboard: reign.scoreboardFd,
    workers: workers.map(({ pid, number, slot, channel, ready, dismissed, timeLeft }) => ({
      pid,
      number,
      slot: slot.index,
      channel: channel.fileno(),
      ready,
      dismissed,
      timeLeft,
    })),
  };
  try {
    setCloseOnExec(legacy, false);
    setenv(LEGACY, JSON.stringify(legacy));
    runAgain(new Set(HANDLED_SIGNALS), programSignals());
  } catch (error) {
    setCloseOnExec(legacy, true);
    unsetenv(LEGACY);
    return error as Error;
  }
}

/** Takes what a master has left that executed this program in its place; nothing if none has. */
export function inherit(): Inheritance | undefined {
  const text = getenv(LEGACY);
  if (text === undefined) return undefined;
  unsetenv(LEGACY);
  const legacy: Legacy = JSON.parse(text);
  if (legacy.pid !== getpid()) return undefined;
  setCloseOnExec(legacy, true);
  const { scoreboard, fd } = findScoreboard(legacy);
  return {
    listeners: legacy.listeners.map((fd) => Socket.fromDescriptor(fd)),
    admin: legacy.admin === undefined ? undefined : Socket.fromDescriptor(legacy.admin),
    isActivated: legacy.isActivated,
    scoreboard,
    scoreboardFd: fd,
    elders: legacy.workers.map(({ slot, channel, ...worker }) => ({
      ...worker,
      slot: scoreboard.slots[slot]!,
      channel: Socket.fromDescriptor(channel),
    })),
  };
}

function findScoreboard({ scoreboard: fd, workers }: Legacy): {
  scoreboard: Scoreboard;
  fd: number;
} {
  try {
    return { scoreboard: inheritScoreboard(fd), fd };
  } catch {
    // The new code is of another version of tine. Its elders write to the old one.
    close(fd);
    const fresh = createScoreboard();
    for (const { pid, number, slot } of workers) {
      Object.assign(fresh.scoreboard.slots[slot]!, { pid, number, state: "ready" });
    }
    return fresh;
  }
}

function setCloseOnExec({ listeners, admin, scoreboard, workers }: Legacy, yes: boolean): void {
  const channels = workers.map(({ channel }) => channel);
  const fds = [...listeners, ...channels, scoreboard, ...admin === undefined ? [] : [admin]];
  for (const fd of fds) fcntl(fd, F_SETFD, yes ? FD_CLOEXEC : 0);
}
