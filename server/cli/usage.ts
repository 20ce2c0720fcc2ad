/** The command line is invalid. The message says what is wrong with it. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The configuration file is invalid. The message is one line that names it. */
export class ConfigFileError extends Error {
  override name = "ConfigFileError";
}
