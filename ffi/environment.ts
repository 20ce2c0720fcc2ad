/**
 * The environment through libc: Deno's own functions would ask for more than
 * `--allow-ffi`. Deno sees what is changed here, for both look into libc's table.
 */
import { cString, textAt } from "./c_string.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Reads a variable of the environment.
 *
 * @param name The variable's name.
 * @returns Its value, or nothing if there is none.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/getenv.3.html getenv(3)}
 */
export function getenv(name: string): string | undefined {
  const value = libc().getenv(cString(name));
  return value === null ? undefined : textAt(value);
}

/**
 * Sets a variable of the environment, which programs started later inherit.
 *
 * @param name The variable's name.
 * @param value Its value.
 * @throws {SyscallError} `EINVAL` when the name is empty or holds `=`.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/setenv.3.html setenv(3)}
 */
export function setenv(name: string, value: string): void {
  check(libc().setenv(cString(name), cString(value), 1), "setenv", name);
}

/**
 * Removes a variable from the environment.
 *
 * @param name The variable's name.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/setenv.3.html unsetenv(3)}
 */
export function unsetenv(name: string): void {
  check(libc().unsetenv(cString(name)), "unsetenv", name);
}
