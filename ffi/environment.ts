/**
 * The environment, accessed through libc: Deno's own functions require more permissions than
 * `--allow-ffi`. Deno sees the changes made here, because both use libc's table.
 */
import { cString, textAt } from "./c_string.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Reads an environment variable.
 *
 * @param name The variable's name.
 * @returns Its value; `undefined` if it is not set.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/getenv.3.html getenv(3)}
 */
export function getenv(name: string): string | undefined {
  const value = libc().getenv(cString(name));
  return value === null ? undefined : textAt(value);
}

/**
 * Sets an environment variable, which programs started later inherit.
 *
 * @param name The variable's name.
 * @param value Its value.
 * @throws {SyscallError} `EINVAL` if the name is empty or contains `=`.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/setenv.3.html setenv(3)}
 */
export function setenv(name: string, value: string): void {
  check(libc().setenv(cString(name), cString(value), 1), "setenv", name);
}

/**
 * Removes an environment variable.
 *
 * @param name The variable's name.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/setenv.3.html unsetenv(3)}
 */
export function unsetenv(name: string): void {
  check(libc().unsetenv(cString(name)), "unsetenv", name);
}
