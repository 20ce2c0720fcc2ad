const encoder = new TextEncoder();

/**
 * Encodes a string for C: UTF-8, with a terminating NUL.
 *
 * @throws {TypeError} If the string contains NUL, where it would end in C.
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) {
    throw new TypeError(
      `Cannot pass a string that contains NUL to C: ${JSON.stringify(text)}`,
    );
  }
  return encoder.encode(text + "\0");
}

/** Returns the string to which a `char *` points; the empty string for a null pointer. */
export function textAt(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
}
