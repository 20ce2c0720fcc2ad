/**
 * The environment that the app was given. A program that is executed again gets the same: what the
 * app has set in it (from a `.env` file, for example) was for its old code.
 */
import { environment, restoreEnvironment, setenv } from "../../../ffi/environment.ts";

let given: ReadonlyMap<string, string> | undefined;

/** Remembers the environment. Called directly before the app is loaded. */
export function rememberEnvironment(): void {
  given = environment();
}

/**
 * Undoes what the app has changed in the environment, for a program that this process executes.
 *
 * @param variables What that program needs in addition.
 */
export function restoreGivenEnvironment(variables: Readonly<Record<string, string>>): void {
  if (given !== undefined) restoreEnvironment(given);
  for (const [name, value] of Object.entries(variables)) setenv(name, value);
}
