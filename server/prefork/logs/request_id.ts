/** The id of a request, by which its lines in the logs of several programs can be found. */

/** The field of a request's header that contains its id, unless an option names another one. */
export const REQUEST_ID = "x-request-id";

/**
 * An id that is used as it comes: it can stand in a line without quotes, and needs no escapes.
 */
const SANE = /^[!#-[\]-~]{1,128}$/;

/**
 * Returns the function that tells the id of a request. Call it in the worker: what it makes ids of
 * must not be another worker's too.
 *
 * @returns A function that takes the field of the request's header that contains the id. It returns
 *   that or, if there is none or it would have to be escaped, a new id. These are unique, and can be
 *   guessed.
 */
export function requestIdMaker(): (field: string | null) => string {
  const prefix = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => hex(byte, 2)).join(
    "",
  );
  let made = 0;
  return (field) => field !== null && SANE.test(field) ? field : prefix + hex(++made, 8);
}

function hex(number: number, digits: number): string {
  return number.toString(16).padStart(digits, "0");
}
