import { fchown, umask } from "../../../ffi/credentials.ts";
import { O_CLOEXEC, O_RDONLY, open } from "../../../ffi/descriptor.ts";
import { getenv, setenv } from "../../../ffi/environment.ts";
import type { Account } from "./account.ts";

/** Where the folders of users are that have none in their home directory. */
const FOLDERS = "/var/cache/tine";

/**
 * Gives a user a folder for what Deno caches: packages, and translated TypeScript. Deno's own choice
 * is in the home directory, and the user of a service often has none, or one that is root's. Without
 * a folder Deno serves as well, but has no packages.
 *
 * @param account The user.
 * @param actAsUser Runs a function that accesses files as the user.
 */
export function giveDenoFolder(
  { name, uid, gid, home }: Account,
  actAsUser: (access: () => void) => void,
): void {
  if (getenv("DENO_DIR") || getenv("XDG_CACHE_HOME")) return;
  try {
    return actAsUser(() => Deno.mkdirSync(`${home}/.cache/deno`, { recursive: true }));
  } catch {
    // Root creates one.
  }
  const before = umask(0o022); // the user must be able to search the folder of folders
  try {
    Deno.mkdirSync(FOLDERS, { recursive: true, mode: 0o755 });
    const folder = `${FOLDERS}/${name}`;
    Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
    using file = open(folder, O_RDONLY | O_CLOEXEC);
    fchown(file.fileno(), uid, gid, folder);
    setenv("DENO_DIR", folder);
  } catch {
    // The file system is read-only.
  } finally {
    umask(before);
  }
}
