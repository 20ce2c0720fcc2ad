/**
 * Looks at the processes of some sessions, many times a second at little cost. A process whose main
 * thread has not run since the last look has the same descriptors and is in the same system call:
 * of it, only one file is read.
 */
import type {
  ClientView,
  DescriptorView,
  ProcessState,
  ProcessView,
  Snapshot,
  SocketView,
} from "../lesson.ts";
import {
  type DescriptorTable,
  readDescriptors,
  type SocketKinds,
  viewDescriptors,
} from "./descriptors.ts";
import { ProcFile, readProc } from "./proc_file.ts";
import { argumentsOf, parseStatus, pids, statOf } from "./processes.ts";
import { type SocketEntry, SocketTable } from "./sockets.ts";
import { functionsIn, lineCalling } from "./source_lines.ts";
import { polledDescriptor, type SystemCall, systemCallOf } from "./system_calls.ts";

/** What a session runs. */
export interface SessionInfo {
  /** The program's path from the root, or a command's name. */
  readonly program: string;
  readonly role: ProcessView["role"];
}

/** A process that is looked at. */
interface Observed {
  readonly pid: number;
  readonly session: number;
  readonly status: ProcFile;
  /** What the file said at the last look. */
  text: string;
  ppid: number;
  state: ProcessState;
  switches: string;
  signals: ProcessView["signals"];
  name: string;
  cpu: number;
  stack: string;
  /** The file of the repository that it runs, from the root. */
  program: string | undefined;
  table: DescriptorTable;
  call: SystemCall | undefined;
  polled: number | undefined;
  /** What is shown of it, until something changes: the same object for the same content. */
  view: ProcessView | undefined;
}

const PIDS_LAST = 200; // milliseconds

const NOTHING: ProcessView["signals"] = { pending: [], blocked: [], caught: [] };

/** Looks at all processes of the sessions that it was told, and at their sockets. */
export class Observer implements Disposable {
  readonly #sessions = new Map<number, SessionInfo>();
  readonly #observed = new Map<number, Observed>();
  readonly #others = new Set<number>();
  readonly #table = new SocketTable();
  readonly #begin = performance.now();
  /** The ports that a process of the sessions listens or listened on. */
  readonly #ports = new Set<number>();
  readonly #root: string;
  #looked = 0;
  #lastPid = "";
  #unix = new Map<number, SocketEntry>();
  #ownDescriptors = new Map<string, number>();

  /** @param root The folder of the repository, with a slash at its end. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Looks at a session from now on. */
  watch(session: number, info: SessionInfo): void {
    this.#sessions.set(session, info);
    this.#observe(session);
  }

  /** Milliseconds since this object was made: the time of snapshots. */
  now(): number {
    return Math.round(performance.now() - this.#begin);
  }

  /** The pids of a session's processes, with zombies. */
  pidsOf(session: number): number[] {
    this.#findProcesses();
    return [...this.#observed.values()].filter((one) => one.session === session)
      .map(({ pid }) => pid);
  }

  /**
   * Looks at everything now. A process of which nothing has changed is the same object as in the
   * last snapshot.
   */
  look(clients: readonly ClientView[] = []): Snapshot {
    this.#findProcesses();
    const at = this.now();
    for (const one of this.#observed.values()) this.#refresh(one);
    const entries = this.#table.tcp(this.#ports);
    const processes = this.#views(entries);
    const holders = new Map<number, { pid: number; fd: number }[]>();
    for (const { pid, descriptors } of processes) {
      for (const { fd, kind, inode } of descriptors) {
        if (inode === undefined || kind === "runtime") continue;
        const all = holders.get(inode);
        if (all === undefined) holders.set(inode, [{ pid, fd }]);
        else all.push({ pid, fd });
      }
    }
    return { at, processes, sockets: this.#sockets(entries, holders, processes), clients };
  }

  /** What is shown of each process. */
  #views(entries: readonly SocketEntry[]): ProcessView[] {
    const all = [...this.#observed.values()];
    const isSame = all.every(({ view }) => view !== undefined);
    if (!isSame) {
      const tcp = new Map(entries.filter(({ inode }) => inode !== 0).map((it) => [it.inode, it]));
      const kinds = this.#socketKinds(tcp, this.#ownersOf());
      for (const one of all) {
        // Whether a UNIX socket is Deno's own depends on who else has it.
        if (one.view?.descriptors.some(({ kind }) => kind === "unix") === false) continue;
        one.view = this.#view(one, viewDescriptors(one.table, kinds), tcp);
      }
    }
    return inTreeOrder(all).map(({ view }) => view!);
  }

  /** Adds processes that have begun since the last look. */
  #findProcesses(): void {
    // A pid that belonged to another session may belong to a child by now, once all have been given
    // away: not within this time.
    const now = performance.now();
    if (now - this.#looked > PIDS_LAST) {
      this.#others.clear();
      this.#lastPid = "";
    }
    this.#looked = now;
    // The last field is the pid that was given away last.
    const lastPid = readProc("/proc/loadavg")?.split(" ").at(-1) ?? "";
    if (lastPid === this.#lastPid && lastPid !== "") return;
    this.#lastPid = lastPid;
    const all = new Set(pids());
    for (const pid of this.#others) if (!all.has(pid)) this.#others.delete(pid);
    for (const pid of all) {
      if (this.#others.has(pid) || this.#observed.has(pid)) continue;
      const stat = statOf(pid);
      if (stat === undefined) continue;
      if (this.#sessions.has(stat.session) || this.#observed.has(stat.ppid)) this.#observe(pid);
      else this.#others.add(pid);
    }
  }

  #observe(pid: number): void {
    const stat = statOf(pid);
    const status = ProcFile.open(`/proc/${pid}/status`);
    if (stat === undefined || status === undefined) return status?.[Symbol.dispose]();
    this.#others.delete(pid);
    const parent = this.#observed.get(stat.ppid);
    // A zombie has no command line any more.
    const program = this.#programOf(pid) ??
      (stat.name === parent?.name ? parent.program : undefined);
    // Of a process that leads a session of its own, its parent's session is told.
    const session = this.#sessions.has(stat.session) ? stat.session : parent?.session ?? pid;
    this.#observed.set(pid, {
      ...stat,
      session,
      status,
      text: "",
      switches: "",
      signals: NOTHING,
      program,
      table: [],
      call: undefined,
      polled: undefined,
      view: undefined,
    });
  }

  #refresh(one: Observed): void {
    const text = one.status.read();
    if (text === one.text && one.state !== "running") return;
    const status = text === undefined ? undefined : parseStatus(text);
    if (status === undefined) { // reaped
      one.status[Symbol.dispose]();
      this.#observed.delete(one.pid);
      this.#lastPid = ""; // the pid may already be another child's
      return;
    }
    const ran = one.switches !== status.switches || status.state === "running" ||
      one.state !== status.state;
    one.text = text!;
    one.ppid = status.ppid;
    one.state = status.state;
    one.switches = status.switches;
    one.signals = status.signals;
    one.view = undefined;
    if (!ran) return;
    const stat = statOf(one.pid);
    const isAlive = status.state !== "zombie";
    if (isAlive && stat !== undefined && stat.stack !== one.stack) {
      one.stack = stat.stack;
      one.program = this.#programOf(one.pid);
    }
    one.cpu = stat?.cpu ?? one.cpu;
    one.name = stat?.name ?? one.name;
    one.table = isAlive ? readDescriptors(one.pid) : [];
    one.call = isAlive ? systemCallOf(one.pid) : undefined;
    one.polled = one.call && polledDescriptor(one.pid, one.call);
  }

  /** The file of the repository that a process runs, by its command line. */
  #programOf(pid: number): string | undefined {
    const file = argumentsOf(pid).slice(1).find((arg) => /^[^-].*\.[cm]?[jt]s$/.test(arg));
    if (file === undefined) return this.#programOfZombie(pid);
    return file.startsWith(this.#root) ? file.slice(this.#root.length) : file;
  }

  /** A zombie has no command line any more: its parent's program, unless it ran another one. */
  #programOfZombie(pid: number): string | undefined {
    const stat = statOf(pid);
    const parent = this.#observed.get(stat?.ppid ?? 0);
    return stat?.state === "zombie" && parent?.name === stat.name ? parent.program : undefined;
  }

  /** The processes that have each socket, by what `/proc/PID/fd` says: one, or several. */
  #ownersOf(): Map<string, number | "several"> {
    const owners = new Map<string, number | "several">();
    for (const { pid, table } of this.#observed.values()) {
      for (const [, target] of table) {
        if (!target.startsWith("socket:")) continue;
        const owner = owners.get(target);
        if (owner === undefined) owners.set(target, pid);
        else if (owner !== pid) owners.set(target, "several");
      }
    }
    return owners;
  }

  #socketKinds(
    tcp: ReadonlyMap<number, SocketEntry>,
    owners: ReadonlyMap<string, number | "several">,
  ): SocketKinds {
    let isRead = false;
    const unix = (inode: number) => {
      if (!this.#unix.has(inode) && !isRead) {
        isRead = true;
        this.#unix = new Map(this.#table.unix().map((entry) => [entry.inode, entry]));
      }
      return this.#unix.get(inode);
    };
    return {
      kindOf: (inode) => tcp.has(inode) ? "tcp" : unix(inode) === undefined ? undefined : "unix",
      isNamed: (inode) => (unix(inode)?.local ?? "") !== "",
      isAlone: (inode) => {
        const owner = owners.get(`socket:[${inode}]`);
        const peer = unix(inode)?.peer;
        return owner !== "several" &&
          (peer === undefined || owners.get(`socket:[${peer}]`) === owner);
      },
    };
  }

  #view(
    one: Observed,
    descriptors: DescriptorView[],
    tcp: ReadonlyMap<number, SocketEntry>,
  ): ProcessView {
    const session = this.#sessions.get(one.session);
    const isLeader = one.pid === one.session;
    const program = one.program ?? (isLeader ? session?.program : undefined) ?? one.name;
    const line = one.program === undefined
      ? undefined
      : this.#line(one, this.#root + one.program, descriptors, tcp);
    return {
      pid: one.pid,
      ppid: one.ppid,
      session: one.session,
      role: isLeader ? session?.role ?? "other" : "child",
      program,
      state: one.state,
      ...one.call !== undefined && { call: one.call.name },
      ...line !== undefined && { line: { file: program, ...line } },
      descriptors,
      signals: one.signals,
      cpu: one.cpu,
    };
  }

  #line(
    { call, polled }: Observed,
    path: string,
    descriptors: readonly DescriptorView[],
    tcp: ReadonlyMap<number, SocketEntry>,
  ): { line: number; text: string } | undefined {
    if (call === undefined) return undefined;
    // Of several descriptors, it is not known which one the program waits for.
    if (call.name === "ppoll" && polled === undefined && call.args[1] !== 0n) return undefined;
    const descriptor = descriptors.find(({ fd }) => fd === polled);
    const isListening = tcp.get(descriptor?.inode ?? 0)?.state === "LISTEN";
    const functions = functionsIn(call.name, descriptor, isListening);
    return functions === undefined ? undefined : lineCalling(path, functions);
  }

  #sockets(
    entries: readonly SocketEntry[],
    holders: ReadonlyMap<number, readonly { pid: number; fd: number }[]>,
    processes: readonly ProcessView[],
  ): SocketView[] {
    for (const { inode, state, localPort } of entries) {
      if (state === "LISTEN" && holders.has(inode)) this.#ports.add(localPort);
    }
    const isTheirs = ({ inode, localPort, remotePort }: SocketEntry) =>
      holders.has(inode) || this.#ports.has(localPort) || this.#ports.has(remotePort);
    const tcp = entries.filter(isTheirs).map((entry) => this.#socketView(entry, holders));
    const others: SocketView[] = [];
    const seen = new Set<number>();
    const descriptors = processes.flatMap((process) => process.descriptors);
    for (const { kind, inode = 0, target } of descriptors) {
      if ((kind !== "unix" && kind !== "pipe") || seen.has(inode)) continue;
      seen.add(inode);
      // The pipes on which this process reads a program's output are not the program's.
      if (kind === "pipe" && this.#own(inode, target).length > 0) continue;
      const entry = this.#unix.get(inode);
      others.push(
        kind === "unix" && entry !== undefined ? this.#socketView(entry, holders) : {
          inode,
          kind,
          state: "OPEN",
          local: target,
          remote: "",
          queue: 0,
          holders: holders.get(inode) ?? [],
        },
      );
    }
    return [...tcp, ...others];
  }

  #socketView(
    { localPort: _, remotePort: __, peer: ___, ...view }: SocketEntry,
    holders: ReadonlyMap<number, readonly { pid: number; fd: number }[]>,
  ): SocketView {
    return {
      ...view,
      holders: holders.get(view.inode) ?? this.#own(view.inode, `socket:[${view.inode}]`),
    };
  }

  /** The descriptor of this process, whose clients' sockets are on the stage too. */
  #own(inode: number, target: string): { pid: number; fd: number }[] {
    if (inode === 0) return [];
    if (!this.#ownDescriptors.has(target)) {
      this.#ownDescriptors = new Map(readDescriptors(Deno.pid).map(([fd, to]) => [to, fd]));
      // Somebody else's: not looked for again.
      if (!this.#ownDescriptors.has(target)) this.#ownDescriptors.set(target, -1);
    }
    const fd = this.#ownDescriptors.get(target)!;
    return fd === -1 ? [] : [{ pid: Deno.pid, fd }];
  }

  [Symbol.dispose](): void {
    for (const { status } of this.#observed.values()) status[Symbol.dispose]();
    this.#observed.clear();
    this.#table[Symbol.dispose]();
  }
}

/** Parents before their children, who follow them; siblings by age. */
function inTreeOrder(processes: readonly Observed[]): Observed[] {
  const byParent = Map.groupBy(processes, ({ ppid }) => ppid);
  const known = new Set(processes.map(({ pid }) => pid));
  const order: Observed[] = [];
  const walk = (one: Observed) => {
    order.push(one);
    for (const child of byParent.get(one.pid) ?? []) walk(child);
  };
  for (const one of processes) if (!known.has(one.ppid)) walk(one);
  return order;
}
