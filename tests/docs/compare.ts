/** Whether a program has printed what a page says. */

/** The words that placeholders of a section stand for, by their names. */
export type Words = Map<string, string>;

/** Placeholders that stand for numbers. The others stand for any text. */
const NUMBERS = /^(pid|port|number|seconds)\b/;

/** What was found. */
export interface Comparison {
  /** Whether all lines are there. */
  readonly matches: boolean;
  /** The first of the expected lines that is not there, from 0. */
  readonly differs: number;
  /** How much of the text matches. */
  readonly length: number;
}

/**
 * Compares what a program has printed with what a page says.
 *
 * @param expected The page's lines.
 * @param text What was printed.
 * @param words What placeholders stand for; it gets those that are new.
 * @param whole Whether nothing may follow.
 */
export function compare(
  expected: readonly string[],
  text: string,
  words: Words,
  whole: boolean,
): Comparison {
  const found = match(expected, text, words, whole);
  if (found !== null) {
    for (const [name, word] of Object.entries(found.groups ?? {})) {
      words.set(nameOf(name), word);
    }
    return { matches: true, differs: expected.length, length: found[0].length };
  }
  let differs = 0;
  while (
    differs < expected.length && match(expected.slice(0, differs + 1), text, words, false) !== null
  ) differs++;
  return { matches: false, differs, length: 0 };
}

function match(
  expected: readonly string[],
  text: string,
  words: Words,
  whole: boolean,
): RegExpMatchArray | null {
  const named = new Set<string>();
  const lines = expected.map((line) =>
    line.trim() === "..." ? "(?:.*\\n)*?" : `${patternOf(line, words, named)} *\\n`
  );
  return text.match(new RegExp(`^${lines.join("")}${whole ? "\\n*$" : ""}`));
}

/** A pattern for a line, without its end. */
function patternOf(line: string, words: Words, named: Set<string>): string {
  return line.trimEnd().split(/(<(?!defunct>)[a-z][a-z0-9 -]*>)/).map((part, i) => {
    if (i % 2 === 0) {
      const begin = i === 0 ? /^[ \t]*/.exec(part)![0] : "";
      const text = escape(part.slice(begin.length)).replace(/[ \t]{2,}/g, "[ \\t]+");
      return begin === "" ? text : `[ \\t]*${text}`;
    }
    const name = part.slice(1, -1);
    const pattern = NUMBERS.test(name) ? "[ \\t]*\\d[\\d.,]*" : ".+?";
    if (!name.includes(" of ")) return pattern;
    if (words.has(name)) return `[ \\t]*${escape(words.get(name)!)}`;
    if (named.has(name)) return `[ \\t]*\\k<${groupOf(name)}>`;
    named.add(name);
    return `[ \\t]*(?<${groupOf(name)}>${pattern.replace("[ \\t]*", "")})`;
  }).join("");
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** A placeholder's name as that of a group, and back. */
const groupOf = (name: string) => name.replaceAll(" ", "_").replaceAll("-", "$");
const nameOf = (group: string) => group.replaceAll("_", " ").replaceAll("$", "-");
