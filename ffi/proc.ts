/**
 * `/proc`, accessed through libc: Deno's own file functions require more permissions than
 * `--allow-ffi`. Functions that are not named after a system call make several.
 */
import { cString } from "./c_string.ts";
import { directoryFlag, O_CLOEXEC, O_RDONLY } from "./descriptor.ts";
import { check, ENOENT, isSyscallError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { architecture, SYSTEM_CALLS, UnsupportedPlatformError } from "./platform.ts";

const PATH_MAX = 4096;

// One for all calls. fork() copies the pages of a buffer until it is garbage-collected, and a decoder
// that is given a text in parts is an object of the runtime's, which a child would free.
let buffer = new Uint8Array(PATH_MAX);
const decoder = new TextDecoder();

// These functions use descriptor numbers. A fork with a runtime reads dozens of files, and if a
// parent calls open() and close() so often that V8 inlines them, each child would have to compile
// them again.

/** Reads a small text file: open(2), read(2) to its end, close(2). */
export function readText(path: string): string {
  return readAll(check(openText(path), "open", path), path);
}

/** Reads a small text file; `undefined` if there is none, which costs less than an error. */
export function readTextIfThere(path: string): string | undefined {
  const fd = openText(path);
  return fd === -1 && errno() === ENOENT ? undefined : readAll(check(fd, "open", path), path);
}

function openText(path: string): number {
  return libc().open(cString(path), O_RDONLY | O_CLOEXEC, 0);
}

function readAll(fd: number, path: string): string {
  try {
    for (let length = 0;;) {
      const free = buffer.subarray(length);
      const count = check(Number(libc().read(fd, free, BigInt(free.length))), "read", path);
      if (count === 0) return decoder.decode(buffer.subarray(0, length));
      length += count;
      if (length === buffer.length) enlargeBuffer();
    }
  } finally {
    libc().close(fd);
  }
}

function enlargeBuffer(): void {
  const smaller = buffer;
  buffer = new Uint8Array(2 * smaller.length);
  buffer.set(smaller);
}

/** Reads the names in a folder that are numbers (threads, descriptors), with getdents64(2). */
export function readNumbers(path: string): number[] {
  const flags = O_RDONLY | O_CLOEXEC | directoryFlag();
  const isOwn = path.startsWith("/proc/self/"); // the folder itself may be one of the descriptors
  const fd = libc().open(cString(path), flags, 0);
  try {
    check(fd, "open", path);
  } catch (error) {
    throw isOwn ? explained(error) : error;
  }
  try {
    const { getdents64 } = libc();
    const number = SYSTEM_CALLS[architecture()].getdents64;
    const numbers: number[] = [];
    const view = new DataView(buffer.buffer);
    for (;;) {
      const filled = Number(getdents64(number, fd, buffer, BigInt(buffer.length)));
      if (check(filled, "getdents64", path) === 0) return numbers;
      // struct linux_dirent64: d_ino (8), d_off (8), d_reclen (2), d_type (1), d_name.
      for (let at = 0; at < filled; at += view.getUint16(at + 16, true)) {
        const number = numberAt(at + 19);
        if (!Number.isNaN(number) && !(number === fd && isOwn)) numbers.push(number);
      }
    }
  } finally {
    libc().close(fd);
  }
}

/** Returns the error to report where something of this process's own in `/proc` is missing. */
function explained(error: unknown): unknown {
  const isMissing = isSyscallError(error, "ENOENT");
  return isMissing ? new UnsupportedPlatformError("/proc is not mounted") : error;
}

/** Returns the number whose digits are in the buffer, before a NUL; NaN if it is none. */
function numberAt(start: number): number {
  let number = 0;
  for (let at = start; buffer[at] !== 0; at++) {
    const digit = buffer[at]! - 48;
    number = digit >= 0 && digit <= 9 ? 10 * number + digit : NaN;
  }
  return number;
}

/**
 * Reads the target of a symbolic link.
 *
 * @param path The link.
 * @returns The target, at most 4096 bytes of it.
 * @throws {SyscallError} `ENOENT`, `EINVAL` if it is not a symbolic link, ...
 *
 * @example Show what a descriptor refers to
 * ```ts
 * import { readlink } from "@tine/tine";
 *
 * console.log(readlink("/proc/self/fd/1")); // /dev/pts/0, pipe:[4711], ...
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/readlink.2.html readlink(2)}
 */
export function readlink(path: string): string {
  const length = Number(libc().readlink(cString(path), buffer, BigInt(PATH_MAX)));
  return decoder.decode(buffer.subarray(0, check(length, "readlink", path)));
}

let line: readonly string[] | undefined;

/**
 * Returns this process's arguments, with the program's name first: those of the first call. A
 * program that sets `process.title` overwrites what `/proc` shows.
 *
 * @throws {UnsupportedPlatformError} If `/proc` is not mounted.
 */
export function commandLine(): string[] {
  try {
    return [...line ??= readText("/proc/self/cmdline").split("\0").slice(0, -1)];
  } catch (error) {
    throw explained(error);
  }
}
