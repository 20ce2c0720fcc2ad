import { getenv } from "../../../ffi/environment.ts";

/**
 * Finds the directory in which the server is started, by the name that the shell
 * has for it. Where that is a symbolic link that moves from one release to the
 * next, a restart loads what it points to then.
 *
 * @returns `$PWD`, where it names the working directory; else the working directory.
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
    return false; // it is not there any more, or may not be looked at
  }
}
