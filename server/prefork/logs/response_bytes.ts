import { innerBody, wholeBody } from "../../../ffi/runtime/http_internals.ts";

type Body = ReturnType<typeof wholeBody>;

const encoder = new TextEncoder();

/** Strings up to this length are counted here; longer ones are encoded, in parts. */
const SHORT_TEXT = 32;
const part = new Uint8Array(16 * 1024);
/** The beginning from which the size of a long string is estimated. It takes up to 2 µs to encode. */
const beginning = new Uint8Array(2048);

/**
 * Returns the size of a response's body if it is known before the body is sent: that of a string,
 * of bytes or of a Blob, or the value of `content-length`.
 *
 * Reading `response.body` would turn the body into a stream, which is slow to send.
 *
 * @param response The response. Its body is not read.
 * @param body What {@linkcode wholeBody} returns for it, if that is known.
 * @returns The number of bytes; `null` for a stream.
 */
export function responseBytes(response: Response, body: Body = wholeBody(response)): number | null {
  return bytesOf(response, body, utf8Length);
}

/**
 * Returns nearly the same as {@linkcode responseBytes}, but never takes long: the size of a string
 * of more than 2 KiB is estimated.
 *
 * @param response The response. Its body is not read.
 * @param body What {@linkcode wholeBody} returns for it, if that is known.
 * @returns The number of bytes; `null` for a stream.
 */
export function estimateBytes(response: Response, body: Body = wholeBody(response)): number | null {
  return bytesOf(response, body, estimatedLength);
}

/** Whether no body is sent, whatever the response has: RFC 9110 section 6.4.1. */
export function sendsNoBody(method: string, status: number): boolean {
  return method === "HEAD" || status === 204 || status === 304 || status < 200;
}

function bytesOf(
  response: Response,
  body: Body,
  lengthOf: (text: string) => number,
): number | null {
  if (body === null) return 0;
  if (typeof body === "string") return lengthOf(body);
  if (body !== undefined) return body.byteLength;
  const length = response.headers.get("content-length") ?? innerBody(response)?.length;
  return length === null || length === undefined ? null : Number(length);
}

/** Assumes that the rest of a long text has as many bytes for each character as its beginning. */
function estimatedLength(text: string): number {
  if (text.length <= SHORT_TEXT) return utf8Length(text);
  const { read, written } = encoder.encodeInto(text, beginning);
  return read === text.length ? written : Math.round(text.length * written / read);
}

function utf8Length(text: string): number {
  if (text.length > SHORT_TEXT) return encodedLength(text);
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Half of a surrogate pair: the pair is two units, and four bytes.
    if (unit >= 0xd800 && unit <= 0xdfff) return encodedLength(text);
    if (unit > 0x7f) bytes += unit > 0x7ff ? 2 : 1;
  }
  return bytes;
}

/** Encodes a text into the same memory again and again, which nobody reads. */
function encodedLength(text: string): number {
  let bytes = 0;
  for (let rest = text;;) {
    const { read, written } = encoder.encodeInto(rest, part);
    bytes += written;
    if (read === rest.length) return bytes;
    rest = rest.slice(read);
  }
}
