/** JSON with comments and trailing commas, as in deno.json. */

/** The text is no JSON. The message says what is wrong with it and where. */
export class JsoncError extends Error {
  override name = "JsoncError";
}

// A string is matched as a whole, so that nothing within it is taken for a comment.
const STRING_OR_COMMENT = /"(?:\\.|[^"\\])*"|\/\/[^\n]*|\/\*[^]*?\*\//g;
const STRING_OR_TRAILING_COMMA = /"(?:\\.|[^"\\])*"|(?<=[^\s{[,:]\s*),(?=\s*[}\]])/g;

/**
 * Parses JSON with comments and trailing commas.
 *
 * @param text The text.
 * @returns The value.
 * @throws {JsoncError} If the text is invalid.
 */
export function parseJsonc(text: string): unknown {
  const json = blank(blank(text, STRING_OR_COMMENT), STRING_OR_TRAILING_COMMA);
  try {
    return JSON.parse(json);
  } catch (error) {
    const { message } = error as SyntaxError;
    const [, what, place] = message.match(/^(.*?)(?: in JSON)? at position (\d+)/) ?? [];
    if (what !== undefined) throw new JsoncError(`${what} ${position(json, Number(place))}`);
    const token = unexpectedToken(json);
    throw new JsoncError(
      token === undefined
        ? `Unexpected end ${position(json, json.length)}`
        : `Unexpected ${Deno.inspect(json[token])} ${position(json, token)}`,
    );
  }
}

/** Replaces all that is no string by spaces, which keeps the position of everything else. */
function blank(text: string, pattern: RegExp): string {
  return text.replace(
    pattern,
    (match) => match.startsWith('"') ? match : match.replace(/\S/g, " "),
  );
}

/**
 * Returns where the first unexpected token is, which V8 does not tell: the end of the shortest
 * beginning that has one. `undefined` if there is none, so that something is missing at the end.
 */
function unexpectedToken(json: string): number | undefined {
  for (let length = 1; length <= json.length; length++) {
    try {
      JSON.parse(json.slice(0, length));
    } catch (error) {
      if ((error as SyntaxError).message.startsWith("Unexpected token")) return length - 1;
    }
  }
}

function position(text: string, at: number): string {
  const lines = text.slice(0, at).split("\n");
  return `in line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
}
