/** The documentation's pictures: what the kernel said during a lesson, drawn. */
import type { LabEvent, ProcessView, Snapshot, SocketView } from "../../examples/lab/lesson.ts";
import { drawSnapshot } from "../../examples/lab/web/page/drawing.js";
import { ROOT } from "../support.ts";

/** A picture that a lesson makes. */
export interface Picture {
  /** Of its file, without the ending: the lesson's, and from its second picture on a number. */
  readonly name: string;
  readonly caption: string;
  readonly svg: string;
}

/** The pictures that a page shows, by their names. */
export function picturesIn(text: string): string[] {
  return [...text.matchAll(/\]\((?:docs\/)?pictures\/([\w-]+)\.svg\)/g)].map(([, name]) => name!);
}

/** The name of the lesson that makes a picture. */
export function lessonOf(name: string): string {
  return name.replace(/-\d+$/, "");
}

/**
 * Plays lessons, and draws their pictures.
 *
 * @param lessons Their names.
 * @throws {Error} If one has a verdict that differs.
 */
export async function makePictures(lessons: readonly string[]): Promise<Picture[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "learn", "--json", ...lessons],
    cwd: ROOT,
    stdin: "null",
  }).output();
  if (!success) throw new Error(`A lesson failed:\n${new TextDecoder().decode(stderr)}`);
  const pictures: Picture[] = [];
  let lesson = "";
  let count = 0;
  for (const line of new TextDecoder().decode(stdout).trim().split("\n")) {
    const event: LabEvent = JSON.parse(line);
    if (event.type === "lesson") [lesson, count] = [event.name, 0];
    if (event.type !== "picture") continue;
    const name = ++count === 1 ? lesson : `${lesson}-${count}`;
    const { caption, snapshot } = simplify(event.caption, event.snapshot);
    pictures.push({
      name,
      caption,
      svg: crop(drawSnapshot(snapshot, { title: caption }), snapshot),
    });
  }
  return pictures;
}

/** Leaves out the columns on the left that are empty. */
function crop(svg: string, { clients, sockets }: Snapshot): string {
  if (clients.length > 0) return svg;
  const column = sockets.length > 0 ? "Kernel" : "Processes";
  const left = Number(svg.match(new RegExp(`<text x="([\\d.]+)"[^>]*>${column}</text>`))![1]) - 16;
  return svg.replace(
    /viewBox="0 0 (\d+) (\d+)" width="\d+"/,
    (_, width, height) => {
      const rest = Math.round(width - left);
      return `viewBox="${Math.round(left)} 0 ${rest} ${height}" width="${rest}"`;
    },
  );
}

/** The ports that the texts use, by programs. */
const PORTS: [program: RegExp, port: number][] = [
  [/chapter20|limited/, 51423],
  [/from_scratch|server\/cli/, 8000],
  [/./, 8888],
];

/** Deno's own handlers: all of its processes have them. */
const HANDLERS = ["SIGBUS", "SIGSEGV", "SIG33"];

/**
 * Takes out of a snapshot what differs from run to run, and what is Deno's or the lab's own: small
 * numbers as pids, the texts' ports, no sockets of the lab's clients.
 */
function simplify(caption: string, { processes, sockets, clients }: Snapshot): {
  caption: string;
  snapshot: Snapshot;
} {
  const all = processes.map(({ pid }) => pid).sort((a, b) => a - b);
  const pids = new Map(all.map((pid, i) => [pid, 101 + i]));
  const pidOf = (pid: number) => pids.get(pid) ?? 100;
  const ports = new Map<string, number>();
  const listeners = sockets.filter(({ state }) => state === "LISTEN");
  for (const [i, { local }] of listeners.entries()) {
    const program = processes[0]?.program ?? "";
    ports.set(portOf(local), PORTS.find(([pattern]) => pattern.test(program))![1] + i);
  }
  const ends = [
    ...clients.map(({ local }) => local),
    ...sockets.flatMap(({ local, remote }) => [remote, local]),
  ]; // in the order of their numbers
  for (const port of ends.map(portOf)) {
    if (Number(port) > 0 && !ports.has(port)) ports.set(port, 50000 + ports.size);
  }
  const addressOf = (address: string) =>
    address.replace(/:(\d+)$/, (all, port) => ports.has(port) ? `:${ports.get(port)}` : all);
  const own = new Set(clients.map(({ local }) => local));
  const isPreforking = sockets.some(({ local }) => /\/tine-\d+-\d+$/.test(local));
  /** Whether it is a socket over which a preforking server's processes talk. */
  const isInternal = (kind: string) => isPreforking && kind === "unix";
  /** Whether it is neither the client's end of a connection nor what an earlier client has left. */
  const isShown = ({ kind, state, local, remote }: SocketView) =>
    !isInternal(kind) &&
    (state === "LISTEN" || !own.has(local) && (state !== "TIME_WAIT" || own.has(remote)));
  /** Listeners first, then what the first process has, in the order of its descriptors. */
  const placeOf = ({ state, remote, holders: [holder] }: SocketView) => {
    if (state === "LISTEN") return 0;
    if (holder !== undefined) return all.indexOf(holder.pid) * 1000 + holder.fd;
    return 1e6 + (ports.get(portOf(remote)) ?? 0);
  };
  const shown = sockets.filter(isShown).toSorted((a, b) => placeOf(a) - placeOf(b));
  const inodes = new Map([[0, 0]]); // 0: of a connection that no process has
  const inodeOf = (inode: number) => {
    if (!inodes.has(inode)) inodes.set(inode, inodes.size);
    return inodes.get(inode)!;
  };
  for (const { inode } of shown) inodeOf(inode);
  return {
    caption: caption.replace(/\b\d+\b/g, (number) => `${pids.get(Number(number)) ?? number}`),
    snapshot: {
      at: 0,
      processes: processes.map((process) => ({
        ...process,
        pid: pidOf(process.pid),
        ppid: pidOf(process.ppid),
        session: pidOf(process.session),
        cpu: 0,
        descriptors: process.descriptors.map((descriptor) => ({
          ...descriptor,
          ...descriptor.inode !== undefined && { inode: inodeOf(descriptor.inode) },
          target: descriptor.target.replace(/^\/tmp\/tine_\w+/, "/tmp/lab")
            .replace(/(?<=\[)\d+(?=\])/, (inode) => `${inodeOf(Number(inode))}`),
          ...(descriptor.target.startsWith(Deno.execPath()) || isInternal(descriptor.kind)) &&
            { kind: "runtime" as const },
        })),
        signals: isPreforking ? { ...process.signals, caught: [] } : simplifySignals(process),
      })),
      sockets: shown.map((socket) => ({
        ...socket,
        inode: inodeOf(socket.inode),
        local: addressOf(socket.local),
        remote: addressOf(socket.remote),
        holders: socket.holders.map(({ pid, fd }) => ({ pid: pidOf(pid), fd })),
      })),
      clients: clients.map((client) => ({
        ...client,
        local: addressOf(client.local),
        remote: addressOf(client.remote),
        seconds: Math.round(client.seconds),
      })),
    },
  };
}

function simplifySignals({ signals }: ProcessView): ProcessView["signals"] {
  return { ...signals, caught: signals.caught.filter((name) => !HANDLERS.includes(name)) };
}

function portOf(address: string): string {
  return address.split(":").at(-1)!;
}
