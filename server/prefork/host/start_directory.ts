import { getenv } from "../../../ffi/environment.ts";

/**
 * Returns the directory in which the server was started, by the name that the shell has for it. If
 * that is a symbolic link that is moved from one release to the next, a restart loads the code it
 * then points to.
 *
 * @returns `$PWD` if it names the working directory; otherwise the working directory.
 */
export function findStartDirectory(): string {
  const directory = Deno.cwd();
  const name = getenv("PWD");
  return name?.startsWith("/") && isSameFile(name, directory) ? name : directory;
}

function isSameFile(a: string, b: string): boolean {
  try {
    const [one, other] = [Deno.statSync(a), Deno.statSync(b)];
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    return false; // it no longer exists, or access is not permitted
  }
}
