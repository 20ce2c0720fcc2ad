const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A string in shared memory, preceded by its length. A reader may see a partial update. */
export class SharedText {
  readonly #length: Int32Array;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** Creates a view of a part of memory, of which the first 4 bytes contain the length. */
  constructor(memory: ArrayBuffer, at: number, byteLength: number) {
    this.#length = new Int32Array(memory, at, 1);
    this.#bytes = new Uint8Array(memory, at + 4, byteLength - 4);
  }

  /** Returns the string. */
  get(): string {
    const length = Math.min(Math.max(this.#length[0]!, 0), this.#bytes.length);
    return decoder.decode(this.#bytes.subarray(0, length));
  }

  /** Replaces the string; one that is too long is truncated. */
  set(text: string): void {
    this.#length[0] = encoder.encodeInto(text, this.#bytes).written;
  }
}
