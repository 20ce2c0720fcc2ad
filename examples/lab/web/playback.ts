/**
 * Hands over what happens, at once or step by step. A program does not stop while a reader thinks:
 * its sleep goes on, and what is to be seen is soon over. So a lesson is not stopped, but what
 * happens in it is kept, and handed over at the pace at which it happened, up to the sentence after
 * which the reader wants to think.
 */

/** Something that happened. */
interface Entry<Item> {
  readonly item: Item;
  /** When, in milliseconds. */
  readonly time: number;
}

/** A queue between what happens and who looks. */
export class Playback<Item> {
  readonly #hand: (item: Item) => void;
  readonly #isStep: (item: Item) => boolean;
  readonly #waiting: () => void;
  #queue: Entry<Item>[] = [];
  #steps = false;
  #isWaiting = false;
  /** How long after it happened something is handed over, in milliseconds. */
  #lag = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drained: (() => void)[] = [];

  /**
   * @param hand Receives what happens.
   * @param isStep Whether a step ends with it.
   * @param waiting Is called when the next step is waited for.
   */
  constructor(
    hand: (item: Item) => void,
    isStep: (item: Item) => boolean,
    waiting: () => void,
  ) {
    this.#hand = hand;
    this.#isStep = isStep;
    this.#waiting = waiting;
  }

  /** Whether it waits for the next step. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Sets whether to wait after each step. */
  set steps(steps: boolean) {
    this.#steps = steps;
    if (!steps) this.next();
  }

  /** Something has happened. */
  add(item: Item): void {
    this.#queue.push({ item, time: performance.now() });
    this.#handOver();
  }

  /** Goes on with the next step. */
  next(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    const first = this.#queue[0];
    this.#lag = first === undefined ? 0 : performance.now() - first.time;
    this.#handOver();
  }

  /** Waits until all that has happened is handed over. */
  async drained(): Promise<void> {
    if (this.#queue.length === 0 && !this.#isWaiting) return;
    await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  /** Forgets what has not been handed over. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#queue = [];
    this.#isWaiting = false;
    this.#lag = 0;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  #handOver(): void {
    if (this.#timer !== undefined) return;
    for (let entry; !this.#isWaiting && (entry = this.#queue[0]) !== undefined;) {
      const left = entry.time + this.#lag - performance.now();
      if (left > 0) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined;
          this.#handOver();
        }, left);
        return;
      }
      this.#queue.shift();
      this.#hand(entry.item);
      if (this.#steps && this.#isStep(entry.item)) {
        this.#isWaiting = true;
        this.#waiting();
      }
    }
    if (this.#isWaiting) return;
    this.#lag = 0;
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}
