/** A process's descriptor table: `/proc/PID/fd`. */
import type { DescriptorView } from "../lesson.ts";

/** What the sockets of a process are. */
export interface SocketKinds {
  /** The kind of a socket by its inode; `undefined` if it is neither connected nor bound. */
  kindOf(inode: number): "tcp" | "unix" | undefined;
  /** Whether a UNIX socket has a path. */
  isNamed(inode: number): boolean;
  /** Whether only one process has a UNIX socket, and no other process has its other end. */
  isAlone(inode: number): boolean;
}

/** What `/proc/PID/fd` says, by number. */
export type DescriptorTable = readonly (readonly [fd: number, target: string])[];

/** Reads a descriptor table; empty if the process is gone, or must not be read. */
export function readDescriptors(pid: number): DescriptorTable {
  const table: [number, string][] = [];
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
      try {
        table.push([Number(name), Deno.readLinkSync(`/proc/${pid}/fd/${name}`)]);
      } catch {
        // closed in the meantime
      }
    }
  } catch {
    return [];
  }
  return table.sort(([a], [b]) => a - b);
}

// What this process has inherited, its children inherit too.
const inherited = new Map(readDescriptors(Deno.pid).filter(([fd]) => fd > 2));

/** Tells the kind of each descriptor. */
export function viewDescriptors(table: DescriptorTable, sockets: SocketKinds): DescriptorView[] {
  const standard = new Set(table.filter(([fd]) => fd < 3).map(([, target]) => target));
  const parking = parkingPipes(table);
  return table.map(([fd, target]): DescriptorView => {
    const inode = inodeOf(target);
    if (fd < 3 || inherited.get(fd) !== target) {
      if (inode === undefined) return { fd, kind: kindOfFile(fd, target, standard), target };
      const kind = target.startsWith("pipe:")
        ? parking.has(inode) || (fd > 2 && standard.has(target)) ? "runtime" : "pipe"
        : sockets.kindOf(inode) ?? "tcp"; // a socket that is not bound yet
      // Deno makes a pair for itself before the program begins, and a child with a runtime more.
      const isOwn = kind === "unix" && !sockets.isNamed(inode) &&
        (fd < 10 || sockets.isAlone(inode));
      return { fd, kind: isOwn ? "runtime" : kind, target, inode };
    }
    return { fd, kind: "runtime", target };
  });
}

/** The number in `socket:[123]` and `pipe:[123]`. */
function inodeOf(target: string): number | undefined {
  const match = /^(?:socket|pipe):\[(\d+)\]$/.exec(target);
  return match === null ? undefined : Number(match[1]);
}

const CACHES = /\/(\w+_cache_v\d+|check_cache_\w+|npm|remote|gen)(-wal|-shm|-journal|\/.*)?$/;

function kindOfFile(fd: number, target: string, standard: ReadonlySet<string>) {
  if (/^\/dev\/(pts\/|tty|console)/.test(target)) return fd < 3 ? "terminal" : "runtime";
  // Deno keeps duplicates of its standard streams, and becomeForkable() pipes.
  if (/^(anon_inode:|\/memfd:)/.test(target) || (fd > 2 && standard.has(target))) return "runtime";
  return CACHES.test(target) ? "runtime" : "file";
}

/**
 * The pipes on which `becomeForkable()` has the threads of Deno's pool wait: of those whose two
 * ends a process has, the first two.
 */
function parkingPipes(table: DescriptorTable): Set<number> {
  const seen = new Set<string>();
  const both = new Set<number>();
  for (const [fd, target] of table) {
    if (fd < 3 || !target.startsWith("pipe:")) continue;
    if (seen.has(target) && both.size < 2) both.add(inodeOf(target)!);
    seen.add(target);
  }
  return both;
}
