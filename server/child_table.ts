import type { Address } from "../ffi/address.ts";

/** A child of a forking server. */
export interface Child {
  /** The client that the child serves. */
  readonly address: Address;
  /** The smallest number, from 1, that no other child had when this one was forked. */
  readonly number: number;
  /** When the child was forked, in milliseconds of `performance.now()`. */
  readonly start: number;
}

/**
 * The children of a forking server. The operations needed for each connection cost the same for ten
 * children as for ten thousand.
 */
export class ChildTable {
  readonly #byPid = new Map<number, Child>();
  readonly #perHost = new Map<string, number>();
  /** The unused numbers below the highest one in use: a binary heap, smallest first. */
  readonly #freed: number[] = [];

  /** The number of children. */
  get size(): number {
    return this.#byPid.size;
  }

  /** The pids of the children. A child may be removed during the iteration. */
  get pids(): Iterable<number> {
    return this.#byPid.keys();
  }

  /** The number that the next child gets. */
  get nextNumber(): number {
    return this.#freed[0] ?? this.size + 1;
  }

  /** Returns how many children serve clients of one internet address; 0 for a UNIX socket. */
  countOf(address: Address): number {
    return typeof address === "string" ? 0 : this.#perHost.get(address[0]) ?? 0;
  }

  /** Adds a child that has just been forked, with {@linkcode nextNumber}. */
  add(pid: number, address: Address): void {
    const number = this.nextNumber;
    if (this.#freed.length > 0) removeSmallest(this.#freed);
    this.#byPid.set(pid, { address, number, start: performance.now() });
    if (typeof address !== "string") this.#perHost.set(address[0], this.countOf(address) + 1);
  }

  /** Removes a child that has ended; returns `undefined` if there is no such pid. */
  remove(pid: number): Child | undefined {
    const child = this.#byPid.get(pid);
    if (child === undefined) return undefined;
    const { address, number } = child;
    this.#byPid.delete(pid);
    insert(this.#freed, number);
    if (typeof address !== "string") {
      const count = this.countOf(address) - 1;
      if (count === 0) this.#perHost.delete(address[0]);
      else this.#perHost.set(address[0], count);
    }
    return child;
  }
}

/** Inserts a number into a heap. */
function insert(heap: number[], number: number): void {
  let at = heap.length;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent]! <= number) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = number;
}

/** Removes the smallest number from a heap that is not empty. */
function removeSmallest(heap: number[]): void {
  const last = heap.pop()!;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (last <= heap[child]!) break;
    heap[at] = heap[child]!;
    at = child;
  }
  if (heap.length > 0) heap[at] = last;
}
