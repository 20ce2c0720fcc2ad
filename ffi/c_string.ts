const encoder = new TextEncoder();

/**
 * A string as C reads it: UTF-8, ended by a NUL.
 *
 * @throws {TypeError} When the text holds a NUL, where C would cut it off.
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) {
    throw new TypeError(
      `Cannot pass a string that contains NUL to C: ${JSON.stringify(text)}`,
    );
  }
  return encoder.encode(text + "\0");
}

/** The text that a `char *` points to; the empty text for a null pointer. */
export function textAt(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
}
