// TypeScript does not know it yet.
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/**
 * `JSON.stringify()` that keeps Infinity. JSON has none, but its parser makes one of a number that
 * is too large.
 */
export function stringifyJson(value: unknown): string {
  return JSON.stringify(value, (_, value) => value === Infinity ? rawJSON("1e999") : value);
}
