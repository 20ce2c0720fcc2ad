/**
 * Snapshots as they go to the page: whole, or what differs from the one before. The parts of a
 * snapshot are kept as the JSON that is sent, which is shared by all frames in which they are equal:
 * to compare two frames costs little, and many can be kept.
 */
import type { ClientView, ProcessView, Snapshot, SocketView } from "../lesson.ts";

/** A snapshot: the JSON of each of its parts, by key. */
export interface Frame {
  /** Milliseconds since the stage began. */
  readonly at: number;
  readonly processes: ReadonlyMap<number, string>;
  readonly sockets: ReadonlyMap<string, string>;
  readonly clients: ReadonlyMap<number, string>;
}

/** The frame of a stage with nothing on it. */
export const EMPTY: Frame = {
  at: 0,
  processes: new Map(),
  sockets: new Map(),
  clients: new Map(),
};

const PARTS = ["processes", "sockets", "clients"] as const;

/**
 * Returns the frame of a snapshot.
 *
 * @param snapshot The snapshot.
 * @param before The frame before it, or {@linkcode EMPTY}.
 * @returns The frame; `before` itself if nothing differs but times.
 */
export function frameOf({ at, processes, sockets, clients }: Snapshot, before: Frame): Frame {
  const frame = {
    at,
    processes: parts(processes, ({ pid }) => pid, before.processes),
    sockets: parts(sockets, keyOf, before.sockets),
    clients: parts(clients, ({ number }) => number, before.clients, isSameClient),
  };
  return PARTS.every((part) => frame[part] === before[part]) ? before : frame;
}

/** The JSON of a frame as a whole. */
export function wholeText(frame: Frame): string {
  const lists = PARTS.map((part) => `"${part}":[${[...frame[part].values()].join(",")}]`);
  return `{"type":"snapshot","snapshot":{"at":${frame.at},${lists.join(",")}}}`;
}

/** About how long the JSON of a frame is. */
export function sizeOf(frame: Frame): number {
  let size = 80;
  for (const part of PARTS) for (const text of frame[part].values()) size += text.length + 1;
  return size;
}

/** The JSON of what differs between two frames. */
export function deltaText(before: Frame, after: Frame): string {
  const fields = [`"type":"delta"`, `"at":${after.at}`];
  const gone: string[] = [];
  for (const part of PARTS) {
    const old: ReadonlyMap<unknown, string> = before[part];
    const now: ReadonlyMap<unknown, string> = after[part];
    if (old === now) continue;
    const changed = [...now].filter(([key, text]) => old.get(key) !== text);
    if (changed.length > 0) fields.push(`"${part}":[${changed.map(([, text]) => text).join(",")}]`);
    const lost = [...old.keys()].filter((key) => !now.has(key));
    if (lost.length > 0) gone.push(`"${part}":${JSON.stringify(lost)}`);
  }
  if (gone.length > 0) fields.push(`"gone":{${gone.join(",")}}`);
  return `{${fields.join(",")}}`;
}

/** Several sockets that no process holds have no inode. */
function keyOf({ kind, inode, local, remote }: SocketView): string {
  return inode === 0 ? `${kind}:${local}>${remote}` : `${kind}:${inode}`;
}

/** The parts of a snapshot; the very same map as before if all are equal. */
function parts<Key, Part extends ProcessView | SocketView | ClientView>(
  list: readonly Part[],
  keyOf: (part: Part) => Key,
  before: ReadonlyMap<Key, string>,
  isSame: (text: string, before: string) => boolean = () => false,
): ReadonlyMap<Key, string> {
  let differs = list.length !== before.size;
  const map = new Map<Key, string>();
  for (const part of list) {
    const key = keyOf(part);
    const text = JSON.stringify(part);
    const old = before.get(key);
    if (old !== undefined && (old === text || isSame(text, old))) map.set(key, old);
    else {
      map.set(key, text);
      differs = true;
    }
  }
  return differs || map.size !== before.size ? map : before;
}

const SECONDS = /"seconds":[\d.]+/;

/** Whether no more than time has passed. */
function isSameClient(text: string, before: string): boolean {
  return text.replace(SECONDS, "") === before.replace(SECONDS, "");
}
