/** Which test files `deno task ok` runs again, to tell what fails from what is unsteady. */

/** If more files than these have failed tests, something is broken. */
const MOST_FILES = 3;

/**
 * Returns the files of the tests that failed.
 *
 * @param output What `deno test` printed, without colors.
 * @returns The files' paths; none if they are too many, or if something failed that is not a test
 *   in a file.
 */
export function filesToRetry(output: string): string[] {
  // What tests print, and their errors, stand before it.
  const list = output.split("\n FAILURES \n\n").at(-1)!.match(/^([^]+?)\n\nFAILED \| /)?.[1] ?? "";
  const files = new Set(
    list.split("\n").map((line) => line.match(/ => \.\/(.+\.ts):\d+:\d+$/)?.[1]),
  );
  const known = [...files].filter((file) => file !== undefined);
  return known.length === files.size && files.size <= MOST_FILES ? known : [];
}
