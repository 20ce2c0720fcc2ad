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

/**
 * Returns the addresses of this process's variables, and a null pointer: `extern char **environ`.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/environ.7.html environ(7)}
 */
export function environ(): BigUint64Array<ArrayBuffer> {
  const variable = libc().environ;
  const list = variable && new Deno.UnsafePointerView(variable).getPointer();
  if (!list) return new BigUint64Array(1);
  const view = new Deno.UnsafePointerView(list);
  const addresses: bigint[] = [];
  do addresses.push(view.getBigUint64(8 * addresses.length)); while (addresses.at(-1) !== 0n);
  return new BigUint64Array(addresses);
}

/** Returns all variables of the environment, by name. */
export function environment(): Map<string, string> {
  const variables = new Map<string, string>();
  for (const address of environ().subarray(0, -1)) {
    const text = textAt(Deno.UnsafePointer.create(address)!);
    const end = text.indexOf("=");
    if (end > 0) variables.set(text.slice(0, end), text.slice(end + 1));
  }
  return variables;
}

/**
 * Sets and removes variables until the environment is as it was.
 *
 * @param before What {@linkcode environment} returned.
 */
export function restoreEnvironment(before: ReadonlyMap<string, string>): void {
  const now = environment();
  for (const [name, value] of before) if (now.get(name) !== value) setenv(name, value);
  for (const name of now.keys()) if (!before.has(name)) unsetenv(name);
}
