/** The difference of two texts, line by line. */

/** A line of either text or of both. */
export interface DifferenceLine {
  /** Where it is: in both texts, only in the first, or only in the second. */
  readonly kind: " " | "-" | "+";
  /** Its number in the first text, from 1. */
  readonly from?: number;
  /** Its number in the second text, from 1. */
  readonly to?: number;
  readonly text: string;
}

/**
 * Compares two texts: a longest common subsequence of their lines, found as diff(1) finds it, but
 * in a table, which is enough for programs of some hundred lines.
 *
 * @param first The first text.
 * @param second The second text.
 * @returns All lines of both. Of a change, the lines of the first text come before the others.
 */
export function difference(first: string, second: string): DifferenceLine[] {
  const from = linesOf(first);
  const to = linesOf(second);
  // common[i][j] is the length of the longest common subsequence of from[i..] and to[j..].
  const common = Array.from({ length: from.length + 1 }, () => new Uint32Array(to.length + 1));
  for (let i = from.length - 1; i >= 0; i--) {
    for (let j = to.length - 1; j >= 0; j--) {
      common[i]![j] = from[i] === to[j]
        ? common[i + 1]![j + 1]! + 1
        : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const lines: DifferenceLine[] = [];
  let [i, j] = [0, 0];
  while (i < from.length || j < to.length) {
    if (i < from.length && from[i] === to[j]) {
      lines.push({ kind: " ", from: ++i, to: ++j, text: from[i - 1]! });
    } else if (j === to.length || (i < from.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      lines.push({ kind: "-", from: ++i, text: from[i - 1]! });
    } else {
      lines.push({ kind: "+", to: ++j, text: to[j - 1]! });
    }
  }
  return lines;
}

function linesOf(text: string): string[] {
  return text.replace(/\n$/, "").split("\n");
}
