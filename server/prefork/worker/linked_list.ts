/**
 * A list for what comes and goes with every request.
 *
 * A `Map` or `Set` would make garbage collection expensive: V8 moves one that has changed often
 * enough into a new table, in the old generation if the table before is there. What was in the table
 * that nobody uses any more stays alive until the next full collection. So nearly every request
 * would be moved twice, and freed late.
 */
export class LinkedList<T> implements Iterable<T> {
  /** The number of entries. */
  size = 0;
  #first: Entry<T> | undefined;
  #last: Entry<T> | undefined;

  /**
   * Adds an entry.
   *
   * @param value The value.
   * @returns The entry, to be given to {@linkcode remove}.
   */
  add(value: T): Entry<T> {
    const next = this.#first;
    const entry: Entry<T> = { value, previous: undefined, next };
    if (next !== undefined) next.previous = entry;
    else this.#last = entry;
    this.#first = entry;
    this.size++;
    return entry;
  }

  /**
   * Removes an entry of this list, which must be in it.
   *
   * @param entry The entry.
   */
  remove(entry: Entry<T>): void {
    const { previous, next } = entry;
    if (next !== undefined) next.previous = previous;
    else this.#last = previous;
    if (previous !== undefined) previous.next = next;
    else this.#first = next;
    // It may be in the old generation, and would keep alive what it refers to.
    entry.previous = entry.next = undefined;
    this.size--;
  }

  /** Returns the values that were added first. */
  oldest(count: number): T[] {
    const values: T[] = [];
    for (let entry = this.#last; entry && values.length < count; entry = entry.previous) {
      values.push(entry.value);
    }
    return values;
  }

  /** Returns the values at this moment, the latest first. */
  [Symbol.iterator](): IterableIterator<T> {
    const values: T[] = [];
    for (let entry = this.#first; entry !== undefined; entry = entry.next) values.push(entry.value);
    return values.values();
  }
}

/** An entry of a list, which only the list changes. */
export interface Entry<T> {
  /** What was added. */
  readonly value: T;
  /** The entry that was added next. */
  previous: Entry<T> | undefined;
  /** The entry that was added before. */
  next: Entry<T> | undefined;
}
