/**
 * Removes characters that would move a terminal's cursor: a reason or a URL may contain anything.
 *
 * @param text A line.
 * @returns The line, with a space for each run of such characters.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ");
}
