/** Processes: who there is, whose child, in which session, in what state. */
import type { ProcessState, ProcessView } from "../lesson.ts";
import { readProc } from "./proc_file.ts";
import { signalsIn } from "./signals.ts";

/** The fields of `/proc/PID/stat` that the lab uses. */
export interface ProcessStat {
  readonly pid: number;
  /** The name of its executable, at most 15 bytes. */
  readonly name: string;
  readonly ppid: number;
  readonly session: number;
  readonly state: ProcessState;
  /** Seconds of processor time. */
  readonly cpu: number;
  /** Where its stack begins: another place after each execve(2). */
  readonly stack: string;
}

const STATES: Record<string, ProcessState> = {
  R: "running",
  S: "sleeping",
  I: "sleeping",
  D: "disk",
  T: "stopped",
  t: "stopped",
  Z: "zombie",
  X: "zombie",
};
const TICKS = 100; // sysconf(_SC_CLK_TCK), on all Linux that Deno runs on

/** Reads `/proc/PID/stat`; `undefined` if there is no such process. */
export function statOf(pid: number): ProcessStat | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === undefined || text === "") return undefined;
  // The name is in parentheses and may contain anything.
  const end = text.lastIndexOf(")");
  const fields = text.slice(end + 2).split(" ");
  return {
    pid,
    name: text.slice(text.indexOf("(") + 1, end),
    state: STATES[fields[0]!] ?? "sleeping",
    ppid: Number(fields[1]),
    session: Number(fields[3]),
    cpu: (Number(fields[11]) + Number(fields[12])) / TICKS,
    stack: fields[25]!,
  };
}

/** What `/proc/PID/status` says. */
export interface ProcessStatus {
  readonly ppid: number;
  readonly state: ProcessState;
  readonly signals: ProcessView["signals"];
  /** How often its main thread gave up the processor: if it is the same, it has not run. */
  readonly switches: string;
}

const STATUS =
  /^State:\s+(\w)[^]*?^PPid:\s+(\d+)[^]*?^SigPnd:\s+(\w+)\nShdPnd:\s+(\w+)\nSigBlk:\s+(\w+)\nSigIgn:.*\nSigCgt:\s+(\w+)[^]*?^(voluntary[^]*)/m;
const NO_SIGNALS = "0000000000000000";

/** Parses `/proc/PID/status`. */
export function parseStatus(text: string): ProcessStatus | undefined {
  const match = STATUS.exec(text);
  if (match === null) return undefined;
  const [, state, ppid, ofThread, shared, blocked, caught, switches] = match;
  const pending = shared === NO_SIGNALS
    ? ofThread!
    : ofThread === NO_SIGNALS
    ? shared!
    : (BigInt(`0x${ofThread}`) | BigInt(`0x${shared}`)).toString(16);
  return {
    ppid: Number(ppid),
    state: STATES[state!] ?? "sleeping",
    signals: {
      pending: signalsIn(pending),
      blocked: signalsIn(blocked!),
      caught: signalsIn(caught!),
    },
    switches: switches!,
  };
}

/** All pids of this machine, as far as this process may see them. */
export function pids(): number[] {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    const first = name.charCodeAt(0);
    if (first >= 48 && first <= 57) found.push(Number(name));
  }
  return found;
}

/** A process's command line: empty for zombies. */
export function argumentsOf(pid: number): string[] {
  return readProc(`/proc/${pid}/cmdline`)?.split("\0").slice(0, -1) ?? [];
}

/** The processes of some sessions. */
export function processesOf(sessions: ReadonlySet<number>): ProcessStat[] {
  return pids().map(statOf).filter((stat) => stat !== undefined && sessions.has(stat.session))
    .map((stat) => stat!);
}
