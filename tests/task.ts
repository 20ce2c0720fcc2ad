/** What the tasks print that try or measure tine. */

/** Prints a text, and returns the exit code. */
export function print(text: string): number {
  console.log(text);
  return 0;
}

/** Ends the program with a message about its arguments. */
export function fail(message: string): never {
  console.error(`error: ${message}`);
  Deno.exit(2);
}
