/** The longest time that a timer can wait, in milliseconds. */
export const LONGEST_TIMER: number = 2 ** 31 - 1;

/**
 * Refuses what is no amount.
 *
 * @throws {RangeError} When the value is negative or not a number.
 */
export function checkAmount(name: string, value: number): void {
  if (!(value >= 0)) {
    throw new RangeError(`Cannot serve with ${name} ${value}: it takes a number from 0`);
  }
}

/**
 * Refuses what is no count of at least one.
 *
 * @throws {RangeError} When the value is neither a whole number from 1 nor `Infinity`.
 */
export function checkCount(name: string, value: number): void {
  if (value !== Infinity && (!Number.isInteger(value) || value < 1)) {
    throw new RangeError(`Cannot serve with ${name} ${value}: it takes a whole number from 1`);
  }
}
