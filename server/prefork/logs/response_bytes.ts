import { innerBody, wholeBody } from "../../../ffi/runtime/http_internals.ts";

const encoder = new TextEncoder();

/** Strings up to this size are counted here; larger ones are encoded. */
const SHORT_TEXT = 1000;

/**
 * Returns the size of a response's body if it is known before the body is sent: that of a string,
 * of bytes or of a Blob, or the value of `content-length`.
 *
 * Reading `response.body` would turn the body into a stream, which is slow to send.
 *
 * @param response The response. Its body is not read.
 * @returns The number of bytes; `null` for a stream.
 */
export function responseBytes(response: Response): number | null {
  const body = wholeBody(response);
  if (body === null) return 0;
  if (typeof body === "string") return utf8Length(body);
  if (body !== undefined) return body.byteLength;
  const length = response.headers.get("content-length") ?? innerBody(response)?.length;
  return length === null || length === undefined ? null : Number(length);
}

function utf8Length(text: string): number {
  if (text.length > SHORT_TEXT) return encoder.encode(text).length;
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Half of a surrogate pair: the pair is two units, and four bytes.
    if (unit >= 0xd800 && unit <= 0xdfff) return encoder.encode(text).length;
    if (unit > 0x7f) bytes += unit > 0x7ff ? 2 : 1;
  }
  return bytes;
}
