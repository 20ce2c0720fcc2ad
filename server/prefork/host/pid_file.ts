/**
 * The pid file. It tells which process to signal to stop or reload the server. The master writes
 * it; it needs `--allow-read` and `--allow-write`.
 */
import {
  noFollowFlag,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_TRUNC,
  O_WRONLY,
  open,
} from "../../../ffi/descriptor.ts";
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
 * Writes this process's pid to a file, atomically: no process reads a partial file. The file of a
 * process that has ended is replaced, and so is this process's own, as after a restart in place.
 *
 * @param path The file.
 * @throws {PidFileError} If the file belongs to a running process, or cannot be read or replaced.
 * @throws {SyscallError} `ENOENT` if the folder does not exist, `EACCES`, `ENOSPC`, ...
 */
export function writePidFile(path: string): void {
  const pid = getpid();
  const fresh = `${path}.${pid}`;
  try {
    fill(fresh, path, `${pid}\n`);
    if (claim(fresh, path)) return;
    checkPidFile(path);
    replace(fresh, path);
  } catch (error) {
    if (!isSyscallError(error, "EACCES") || !overwrite(path, `${pid}\n`)) throw error;
  } finally {
    removeIfThere(fresh);
  }
}

/**
 * Checks that a pid file does not belong to another process, which is running.
 *
 * @param path The file.
 * @throws {PidFileError} If it does, or if it cannot be read.
 */
export function checkPidFile(path: string): void {
  const owner = ownerOf(path);
  if (owner === undefined || owner === getpid() || !isAlive(owner)) return;
  throw new PidFileError(
    `Cannot write pid file ${path}: it belongs to process ${owner}, which is running. Stop ` +
      "that process, or use another file",
  );
}

/**
 * Removes a pid file, unless it belongs to another process. If its folder is another user's, the
 * file remains, and is empty.
 *
 * @param path The file.
 */
export function removePidFile(path: string): void {
  try {
    if (ownerOf(path) !== getpid()) return;
    try {
      Deno.removeSync(path);
    } catch {
      overwrite(path, "");
    }
  } catch {
    // The file names a process that is about to end: the next server replaces it.
  }
}

/** Writes to a file that is there: root has created it in a folder where this user may not. */
function overwrite(path: string, text: string): boolean {
  checkPidFile(path);
  try {
    using file = open(path, O_WRONLY | O_TRUNC | O_NONBLOCK | noFollowFlag() | O_CLOEXEC);
    file.write(new TextEncoder().encode(text));
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}

function fill(fresh: string, path: string, text: string): void {
  removeIfThere(fresh); // left by a process with the same pid
  try {
    using file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
    file.write(new TextEncoder().encode(text));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    throw new SyscallError("write", error.errno, `pid file ${path}`);
  }
}

/**
 * Links a file to its final name if the name is free. If two processes start at once, one succeeds.
 */
function claim(fresh: string, path: string): boolean {
  try {
    Deno.linkSync(fresh, path);
    return true;
  } catch {
    return false; // the name exists, or the file system has no hard links
  }
}

function replace(fresh: string, path: string): void {
  try {
    Deno.renameSync(fresh, path);
  } catch (error) {
    throw new PidFileError(`Cannot replace pid file ${path}: ${(error as Error).message}`);
  }
}

/** Returns the pid in a pid file; `undefined` if there is none. */
function ownerOf(path: string): number | undefined {
  try {
    const { isFile, isDirectory } = Deno.statSync(path);
    // A FIFO would block. Reading a directory fails with an error of its own.
    if (!isFile && !isDirectory) throw new Error("it is not a regular file");
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
    // A zombie has ended, but its parent has not reaped it.
    return !/^State:\s+Z/m.test(readText(`/proc/${pid}/status`));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    return error.code === "EPERM"; // it belongs to another user
  }
}
