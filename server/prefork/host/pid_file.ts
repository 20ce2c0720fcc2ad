/**
 * The pid file: who stops or reloads the server reads in it whom to signal. Written
 * by the master; needs `--allow-read` and `--allow-write`.
 */
import { O_CLOEXEC, O_CREAT, O_EXCL, O_WRONLY, open } from "../../../ffi/descriptor.ts";
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import { readText } from "../../../ffi/proc.ts";
import { getpid, kill } from "../../../ffi/process.ts";
import { removeIfThere } from "../../remove_file.ts";

/** The pid file cannot be used. The message is one plain line, for the operator. */
export class PidFileError extends Error {
  /** The class's name. */
  override readonly name: string = "PidFileError";
}

/**
 * Writes this process's pid to a file, whole at once: nobody reads half of it. A file
 * that a process has left which is gone is replaced, and so is one of its own, as after
 * a restart in place.
 *
 * @param path The file.
 * @throws {PidFileError} When a process that runs has the file, or it cannot be read or replaced.
 * @throws {SyscallError} `ENOENT` when there is no such folder, `EACCES`, `ENOSPC`, ...
 */
export function writePidFile(path: string): void {
  const pid = getpid();
  const fresh = `${path}.${pid}`;
  try {
    fill(fresh, path, `${pid}\n`);
    if (claim(fresh, path)) return;
    const owner = ownerOf(path);
    if (owner !== undefined && owner !== pid && isAlive(owner)) {
      throw new PidFileError(
        `Cannot write pid file ${path}: process ${owner} has it and is running. Stop that one, ` +
          "or name another file",
      );
    }
    replace(fresh, path);
  } finally {
    removeIfThere(fresh);
  }
}

/**
 * Removes a pid file, unless it is another process's by now.
 *
 * @param path The file.
 */
export function removePidFile(path: string): void {
  try {
    if (ownerOf(path) === getpid()) Deno.removeSync(path);
  } catch {
    // It names a process that is about to end: the next one replaces it.
  }
}

function fill(fresh: string, path: string, text: string): void {
  removeIfThere(fresh); // left by a process of the same number
  try {
    using file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
    file.write(new TextEncoder().encode(text));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    throw new SyscallError("write", error.errno, `pid file ${path}`);
  }
}

/** Gives a file its name, if no other has it: of two that start at once, one does. */
function claim(fresh: string, path: string): boolean {
  try {
    Deno.linkSync(fresh, path);
    return true;
  } catch {
    return false; // it exists, or the file system has no hard links
  }
}

function replace(fresh: string, path: string): void {
  try {
    Deno.renameSync(fresh, path);
  } catch (error) {
    throw new PidFileError(`Cannot replace pid file ${path}: ${(error as Error).message}`);
  }
}

/** Whose pid file it is; `undefined` when it is nobody's. */
function ownerOf(path: string): number | undefined {
  try {
    const pid = Number(Deno.readTextFileSync(path));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new PidFileError(`Cannot read pid file ${path}: ${(error as Error).message}`);
  }
}

function isAlive(pid: number): boolean {
  try {
    kill(pid, 0);
    // A zombie has ended: only its parent has not noticed.
    return !/^State:\s+Z/m.test(readText(`/proc/${pid}/status`));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    return error.code === "EPERM"; // another user's
  }
}
