/**
 * Text from clients in a line of the access log, escaped: printable ASCII without quotes, so that no
 * client can forge a line or a terminal control sequence.
 */
import { LONGEST_LINE } from "./log_file.ts";

const encoder = new TextEncoder();
const UNSAFE = /[^ !#-[\]-~]/;
const EACH_UNSAFE = /[^ !#-[\]-~]/g;
const NAMED: Record<string, string> = {
  "\b": "\\b",
  "\t": "\\t",
  "\n": "\\n",
  "\v": "\\v",
  "\r": "\\r",
  '"': '\\"',
  "\\": "\\\\",
};

/** Escapes text as Apache does, byte by byte of its UTF-8 encoding. */
export function escapeText(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return escapeBytes(toBytes(text));
}

/** Escapes a header field, in which each character is a byte, as Apache does. */
export function escapeBytes(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return text.slice(0, LONGEST_LINE).replace(
    EACH_UNSAFE,
    (byte) => NAMED[byte] ?? `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Decodes a path, whose bytes may be written as `%2F`, and escapes it as Apache does. */
export function escapePath(path: string): string {
  if (!path.includes("%")) return escapeText(path);
  return escapeBytes(
    toBytes(path).replace(
      /%([\da-f]{2})/gi,
      (_, digits) => String.fromCharCode(parseInt(digits, 16)),
    ),
  );
}

/** Returns the contents of a JSON string, without its quotes, in ASCII. */
export function escapeJson(text: string): string {
  if (!UNSAFE.test(text)) return text;
  return JSON.stringify(text.slice(0, LONGEST_LINE)).slice(1, -1).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Returns as much of a text as fits into a line, with a character for each byte of its UTF-8. */
function toBytes(text: string): string {
  return String.fromCharCode(...encoder.encode(text.slice(0, LONGEST_LINE)));
}
