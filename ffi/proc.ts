/**
 * `/proc` through libc: Deno's own file functions would ask for more than
 * `--allow-ffi`. What is not named as a system call makes several.
 */
import { cString } from "./c_string.ts";
import { directoryFlag, O_CLOEXEC, O_RDONLY } from "./descriptor.ts";
import { read } from "./descriptor_calls.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { architecture, SYSTEM_CALLS } from "./platform.ts";

// Small, for a buffer is garbage for a while, and every fork() copies its pages.
const CHUNK = 4096;

// By number: a fork with a runtime reads dozens of these, and what a parent calls so often that V8
// compiles it as a part of its callers (open() and close(), say) each child would compile again.

/** The text of a small file: open(2), read(2) to its end, close(2). */
export function readText(path: string): string {
  const fd = check(libc().open(cString(path), O_RDONLY | O_CLOEXEC, 0), "open", path);
  try {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const bytes = read(fd, CHUNK);
      if (bytes.length === 0) return text + decoder.decode();
      text += decoder.decode(bytes, { stream: true });
    }
  } finally {
    libc().close(fd);
  }
}

/** The names in a folder whose names are numbers: threads, descriptors; by getdents64(2). */
export function readNumbers(path: string): number[] {
  const flags = O_RDONLY | O_CLOEXEC | directoryFlag();
  const fd = check(libc().open(cString(path), flags, 0), "open", path);
  const isOwn = path.startsWith("/proc/self/"); // then the folder itself is among the descriptors
  try {
    const { getdents64 } = libc();
    const decoder = new TextDecoder();
    const number = SYSTEM_CALLS[architecture()].getdents64;
    const numbers: number[] = [];
    const buffer = new Uint8Array(CHUNK);
    const view = new DataView(buffer.buffer);
    for (;;) {
      const filled = Number(getdents64(number, fd, buffer, BigInt(buffer.length)));
      if (check(filled, "getdents64", path) === 0) return numbers;
      // struct linux_dirent64: d_ino (8), d_off (8), d_reclen (2), d_type (1), d_name.
      for (let at = 0; at < filled; at += view.getUint16(at + 16, true)) {
        const name = buffer.subarray(at + 19, buffer.indexOf(0, at + 19));
        const number = Number(decoder.decode(name));
        if (Number.isInteger(number) && !(number === fd && isOwn)) numbers.push(number);
      }
    }
  } finally {
    libc().close(fd);
  }
}

/**
 * Reads where a symbolic link points.
 *
 * @param path The link.
 * @returns The text of the link, at most 4096 bytes of it.
 * @throws {SyscallError} `ENOENT`, `EINVAL` when it is no link, ...
 *
 * @example What a descriptor is
 * ```ts
 * import { readlink } from "@tine/tine";
 *
 * console.log(readlink("/proc/self/fd/1")); // /dev/pts/0, pipe:[4711], ...
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/readlink.2.html readlink(2)}
 */
export function readlink(path: string): string {
  const buffer = new Uint8Array(4096);
  const length = Number(libc().readlink(cString(path), buffer, BigInt(buffer.length)));
  return new TextDecoder().decode(buffer.subarray(0, check(length, "readlink", path)));
}
