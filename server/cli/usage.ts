/** The command line is invalid. The message says what is wrong with it. */
export class UsageError extends Error {
  override name = "UsageError";
}
