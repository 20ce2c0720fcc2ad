/** The listening sockets of a server in shared memory, as the master sees them. */
import { SharedText } from "./shared_text.ts";

/** A listening socket. */
export interface ListenerEntry {
  /** Where clients connect. */
  readonly url: string;
  /** The number of connections that wait to be accepted; `null` if it is not known. */
  readonly queue: number | null;
  /** The maximum of these connections; `null` if it is not known. */
  readonly backlog: number | null;
}

const ENTRIES = 16;
const ENTRY_BYTES = 256;
const TEXT_AT = 16;
/** What stands for a number that is not known. */
const UNKNOWN = -1;

/** The size of the table, in bytes. */
export const LISTENER_TABLE_BYTES: number = ENTRIES * ENTRY_BYTES;

/** The listening sockets: those for which there is space. */
export class ListenerTable {
  readonly #rows: readonly { readonly integers: Int32Array; readonly url: SharedText }[];

  /** Creates a view of a part of memory, which must begin at a multiple of 4. */
  constructor(memory: ArrayBuffer, start: number) {
    this.#rows = Array.from({ length: ENTRIES }, (_, i) => {
      const at = start + i * ENTRY_BYTES;
      return {
        integers: new Int32Array(memory, at, 3),
        url: new SharedText(memory, at + TEXT_AT, ENTRY_BYTES - TEXT_AT),
      };
    });
  }

  /** Returns the listening sockets. */
  get(): ListenerEntry[] {
    const known = (value: number) => value === UNKNOWN ? null : value;
    return this.#rows.filter(({ integers }) => integers[0] === 1).map(({ integers, url }) => ({
      url: url.get(),
      queue: known(integers[1]!),
      backlog: known(integers[2]!),
    }));
  }

  /** Replaces all. */
  set(entries: readonly ListenerEntry[]): void {
    this.#rows.forEach(({ integers, url }, i) => {
      const entry = entries[i];
      if (entry === undefined) return integers[0] = 0;
      url.set(entry.url);
      integers.set([1, entry.queue ?? UNKNOWN, entry.backlog ?? UNKNOWN]);
    });
  }
}
