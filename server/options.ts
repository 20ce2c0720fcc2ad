/** The longest delay of a timer, in milliseconds. */
export const LONGEST_TIMER: number = 2 ** 31 - 1;

/** The longest finite time that an option accepts, in seconds: 24 days. */
const MOST_SECONDS = Math.floor(LONGEST_TIMER / 1000);

/**
 * Rejects a value that is not a time in seconds.
 *
 * @throws {RangeError} If the value is negative, not a number, or longer than the longest delay of
 *   a timer but not `Infinity`.
 * @throws {TypeError} If it has another type.
 */
export function checkSeconds(name: string, value: unknown): asserts value is number {
  checkNumber(name, value);
  if (!(value >= 0)) throw new RangeError(`${cannot(name, value)} a number of at least 0`);
  if (value > MOST_SECONDS && value !== Infinity) {
    throw new RangeError(
      `${cannot(name, value)} at most ${MOST_SECONDS} seconds, which is 24 days`,
    );
  }
}

/**
 * Returns a time limit, with 0 for no limit.
 *
 * @param value The limit in seconds; 0 or `Infinity` for no limit.
 * @throws As `checkSeconds()` does.
 */
export function timeLimit(name: string, value: number): number {
  checkSeconds(name, value);
  return value === Infinity ? 0 : value;
}

/**
 * Rejects a value that is not a count of at least one.
 *
 * @throws {RangeError} If the value is neither a whole number from 1 nor `Infinity`.
 * @throws {TypeError} If it has another type.
 */
export function checkCount(name: string, value: unknown): asserts value is number {
  checkNumber(name, value);
  if (value !== Infinity && (!Number.isInteger(value) || value < 1)) {
    throw new RangeError(`${cannot(name, value)} a whole number of at least 1`);
  }
}

/**
 * Rejects a value that is not a number.
 *
 * @throws {TypeError} If the value has another type.
 */
export function checkNumber(name: string, value: unknown): asserts value is number {
  if (typeof value !== "number") throw new TypeError(`${cannot(name, value)} a number`);
}

/** Returns the beginning of the error message for an invalid value of an option. */
export function cannot(name: string, value: unknown): string {
  return `Cannot serve with ${name} ${Deno.inspect(value)}: expected`;
}
