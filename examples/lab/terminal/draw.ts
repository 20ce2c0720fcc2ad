/** Draws a snapshot: processes as a tree, sockets with their references, clients. */
import type { ProcessView, Snapshot, SocketView } from "../lesson.ts";
import { colors, cut, pad } from "./text.ts";

const ALONE = 6; // that many alike are drawn one by one; more are counted
const KINDS = { pipe: "pipe", unix: "UNIX socket" };
const BAR = 10; // cells of a queue's bar at most

/** Draws a snapshot in lines of at most some columns. */
export function draw(snapshot: Snapshot, width: number): string[] {
  const lines = [
    ...drawProcesses(snapshot),
    ...drawSockets(snapshot),
    ...drawClients(snapshot),
  ];
  return lines.map((line) => cut(`  ${line}`, width));
}

const STATE_STYLES: Record<ProcessView["state"], (text: string) => string> = {
  running: colors.green,
  sleeping: (text) => text,
  disk: colors.yellow,
  stopped: colors.yellow,
  zombie: colors.red,
};

/** The program's name without its path. */
function nameOf(program: string): string {
  return program.replace(/^.*\//, "").replace(/\.ts$/, "");
}

function drawProcesses({ processes, sockets }: Snapshot): string[] {
  const known = new Set(processes.map(({ pid }) => pid));
  const children = Map.groupBy(processes, ({ ppid }) => ppid);
  const lines: string[] = [];
  const walk = (process: ProcessView, first: string, rest: string) => {
    lines.push(first + drawProcess(process, sockets));
    const below = group(children.get(process.pid) ?? [], alikeProcesses);
    below.forEach((alike, i) => {
      const isLast = i === below.length - 1;
      const [branch, stem] = isLast ? ["└─ ", "   "] : ["├─ ", "│  "];
      if (alike.length === 1) walk(alike[0]!, rest + branch, rest + stem);
      else lines.push(rest + branch + drawAlike(alike));
    });
  };
  for (const process of processes) if (!known.has(process.ppid)) walk(process, "", "");
  return lines;
}

function drawProcess(process: ProcessView, sockets: readonly SocketView[]): string {
  const { pid, program, state, line, signals } = process;
  const doing = state === "sleeping" || state === "disk" ? whereItStands(process) : "";
  const pending = signals.pending.length === 0
    ? ""
    : colors.magenta(`  pending: ${signals.pending.join(" ")}`);
  const shared = new Set(sockets.map(({ inode }) => inode));
  const fds = process.descriptors
    .filter(({ kind, inode }) =>
      // A socket that is not bound yet is in no table of sockets.
      kind === "tcp" || (kind !== "runtime" && inode !== undefined && shared.has(inode))
    )
    .map(({ fd }) => fd);
  const holds = fds.length === 0 ? "" : `  fd ${shorten(fds.map(String))}`;
  const at = line === undefined ? "" : colors.dim(`, line ${line.line}: ${line.text}`);
  return `${colors.bold(`${pid}`)} ${nameOf(program)}  ${
    STATE_STYLES[state](state)
  }${holds}${pending}${doing}${at}`;
}

function whereItStands({ call }: ProcessView): string {
  return call === undefined ? "" : `  in ${call}()`;
}

function drawAlike(alike: readonly ProcessView[]): string {
  const [{ state, program }] = alike as [ProcessView];
  const pids = shorten(alike.map(({ pid }) => `${pid}`));
  const standing = state === "zombie" ? "" : whereItStands(alike[0]!);
  return `${colors.bold(`${alike.length} ×`)} ${nameOf(program)}  ${
    STATE_STYLES[state](state)
  }${standing}  ${colors.dim(pids)}`;
}

function alikeProcesses({ state, call, program, signals }: ProcessView): string {
  return `${state} ${state === "zombie" ? "" : call} ${program} ${signals.pending.join()}`;
}

/** Puts what is alike together, if it is too much to be told one by one. */
function group<T>(items: readonly T[], key: (item: T) => string): T[][] {
  if (items.length <= ALONE) return items.map((item) => [item]);
  return [...Map.groupBy(items, key).values()].flatMap((alike) =>
    alike.length <= 2 ? alike.map((one) => [one]) : [alike]
  );
}

function shorten(words: readonly string[]): string {
  return words.length <= 5 ? words.join(" ") : `${words.slice(0, 4).join(" ")} …`;
}

function drawSockets({ sockets, processes, clients }: Snapshot): string[] {
  const staged = new Set(processes.map(({ pid }) => pid));
  const byLocal = new Map(clients.map(({ local, number }) => [local, number]));
  const listeners = sockets.filter(({ state }) => state === "LISTEN");
  // A client's own end is told by the client's state. What is closed and was no client's is of no
  // interest: Deno's HTTP server makes such connections.
  const others = sockets.filter(({ state, local, remote, holders, inode }) =>
    state !== "LISTEN" && !byLocal.has(local) &&
    (state !== "TIME_WAIT" || byLocal.has(remote)) &&
    (inode === 0 || holders.length === 0 || holders.some(({ pid }) => staged.has(pid)))
  );
  others.sort((a, b) => (byLocal.get(a.remote) ?? 1e9) - (byLocal.get(b.remote) ?? 1e9));
  const labels = group(others, alikeSockets).map((alike): [string, SocketView, number] => {
    const [first] = alike as [SocketView];
    const client = byLocal.get(first.remote);
    const label = alike.length > 1
      ? `${alike.length} × ${first.kind === "tcp" ? "connection" : KINDS[first.kind]}`
      : client !== undefined
      ? `connection of client ${client}`
      : first.kind !== "tcp"
      ? first.local || KINDS[first.kind]
      : `${short(first.local)} – ${short(first.remote)}`;
    return [label, first, alike.length];
  });
  const column = Math.max(22, ...labels.map(([label]) => Math.min(44, label.length)));
  return [
    ...listeners.map((socket) =>
      `${pad(`listener ${short(socket.local)}`, column)}  ${drawQueue(socket)}  ${
        references(socket)
      }`
    ),
    ...labels.map(([label, socket, count]) =>
      `${pad(label, column)}  ${pad(stateOf(socket), 11)}  ${references(socket, count)}${
        bytes(socket)
      }`
    ),
  ];
}

/** An address without what is the same for all. */
function short(address: string): string {
  return address.replace(/^(0\.0\.0\.0|127\.0\.0\.1|\[::\]):/, ":") || "unnamed";
}

function alikeSockets({ kind, state, holders, local }: SocketView): string {
  return `${kind} ${state} ${holders.length} ${local}`;
}

function stateOf({ state }: SocketView): string {
  return /WAIT|SYN_RECV|LAST_ACK/.test(state) ? colors.yellow(state) : state;
}

function bytes({ queue, inode }: SocketView): string {
  return queue === 0 || inode === 0 ? "" : colors.dim(`  ${queue} bytes unread`);
}

/** How many descriptors refer to a socket, and which. */
function references({ holders, inode, state }: SocketView, count = 1): string {
  if (holders.length === 0) {
    const why = inode === 0 && state !== "TIME_WAIT" ? "waits for accept()" : "no process";
    return colors.yellow(`0 references${count > 1 ? " each" : ""}: ${why}`);
  }
  const who = count > 1
    ? " each"
    : `: ${shorten(holders.map(({ pid, fd }) => `${pid}/${fd < 0 ? "?" : fd}`))}`;
  const text = `${holders.length} reference${holders.length === 1 ? "" : "s"}`;
  return (holders.length > 1 ? colors.cyan(text) : text) + colors.dim(who);
}

/** A bar with a cell for each connection that may wait; the kernel lets one more wait. */
function drawQueue({ queue, limit }: SocketView): string {
  if (limit === undefined) return `queue ${queue}`;
  const places = limit + 1;
  const cells = Math.min(places, BAR);
  const full = Math.ceil((Math.min(queue, places) / places) * cells);
  const bar = "■".repeat(full) + "□".repeat(cells - full);
  const style = queue >= places ? colors.red : queue > 0 ? colors.yellow : colors.dim;
  return `queue ${style(bar)} ${queue}, backlog ${limit}`;
}

function drawClients({ clients }: Snapshot): string[] {
  if (clients.length === 0) return [];
  const states = [...Map.groupBy(clients, ({ state }) => state)].map(([state, alike]) => {
    const numbers = alike.length === clients.length && alike.length > ALONE
      ? ""
      : alike.length <= ALONE
      ? ` ${alike.map(({ number }) => number).join(" ")}`
      : "";
    const style = /hung|refused|reset/.test(state) ? colors.red : (text: string) => text;
    return numbers === ""
      ? `${style(state)}: ${alike.length}`
      : `${style(state)}:${colors.dim(numbers)}`;
  });
  return [`clients  ${states.join("  ")}`];
}
