/**
 * System calls on a descriptor number, whoever owns the descriptor: a standard stream, an inherited
 * one, or one of Deno's. {@linkcode Descriptor} makes the same calls on the descriptor it owns.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/** `fcntl()`: duplicate, with the lowest free number that is at least the argument. */
export const F_DUPFD = 0;
/** `fcntl()`: read `FD_CLOEXEC`. */
export const F_GETFD = 1;
/** `fcntl()`: set `FD_CLOEXEC`. */
export const F_SETFD = 2;
/** `fcntl()`: read the file's flags. */
export const F_GETFL = 3;
/** `fcntl()`: set the file's flags. */
export const F_SETFL = 4;
/** `fcntl()`: like `F_DUPFD`, with `FD_CLOEXEC`. */
export const F_DUPFD_CLOEXEC = 1030;
/** The descriptor is closed on execve(2). */
export const FD_CLOEXEC = 1;

/** `flock()`: a shared lock, which several may hold. */
export const LOCK_SH = 1;
/** `flock()`: an exclusive lock. */
export const LOCK_EX = 2;
/** `flock()`: fail with `EAGAIN` instead of waiting. */
export const LOCK_NB = 4;
/** `flock()`: release the lock. */
export const LOCK_UN = 8;

/** `lseek()`: from the start. */
export const SEEK_SET = 0;
/** `lseek()`: from the current position. */
export const SEEK_CUR = 1;
/** `lseek()`: from the end. */
export const SEEK_END = 2;

/**
 * Reads bytes, waiting until at least one is available. Not an interruption point.
 *
 * @param fd The descriptor.
 * @param size The maximum number of bytes.
 * @returns The bytes; empty at the end of the file.
 * @throws {RangeError} If the size is not a whole number of at least 1.
 * @throws {SyscallError} `EBADF`, `EAGAIN` with `O_NONBLOCK`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/read.2.html read(2)}
 */
export function read(fd: number, size: number): Uint8Array<ArrayBuffer> {
  checkDescriptor("read", fd);
  if (!Number.isInteger(size) || size < 1 || size > 0x7fff_f000) {
    throw new RangeError(`Cannot read ${size} bytes: expected a whole number of at least 1`);
  }
  const buffer = new Uint8Array(size);
  const count = check(Number(libc().read(fd, buffer, BigInt(size))), "read", `descriptor ${fd}`);
  return buffer.subarray(0, count);
}

/**
 * Writes as many of the bytes as the kernel accepts.
 *
 * @param fd The descriptor; 1 is standard output.
 * @param data The bytes.
 * @returns The number of bytes accepted.
 * @throws {SyscallError} `EBADF`, `EPIPE`, `ENOSPC`, ...
 *
 * @example Write to standard output, as the article does
 * ```ts
 * import { write } from "@tine/tine";
 *
 * write(1, new TextEncoder().encode("hello\n"));
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/write.2.html write(2)}
 */
export function write(fd: number, data: Uint8Array<ArrayBuffer>): number {
  checkDescriptor("write", fd);
  checkData("write", data);
  const count = libc().write(fd, data, BigInt(data.byteLength));
  return check(Number(count), "write", `descriptor ${fd}`);
}

/**
 * Closes a descriptor.
 *
 * @param fd The descriptor.
 * @throws {SyscallError} `EBADF` if it is not open.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/close.2.html close(2)}
 */
export function close(fd: number): void {
  checkDescriptor("close", fd);
  check(libc().close(fd), "close", `descriptor ${fd}`);
}

/**
 * Makes one descriptor a duplicate of another. If it was open, it is closed first.
 *
 * @param fd The descriptor to duplicate.
 * @param newFd The number of the duplicate.
 * @returns `newFd`.
 * @throws {SyscallError} `EBADF`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/dup2.2.html dup2(2)}
 */
export function dup2(fd: number, newFd: number): number {
  checkDescriptor("dup2", fd);
  checkDescriptor("dup2", newFd);
  return check(libc().dup2(fd, newFd), "dup2", `descriptor ${fd} to ${newFd}`);
}

/**
 * Reads or changes properties of a descriptor.
 *
 * @param fd The descriptor.
 * @param command `F_GETFL`, ...
 * @param argument The command's argument.
 * @returns The command's result. For `F_DUPFD`, the duplicate's number, which `new Descriptor()`
 *   can own.
 * @throws {SyscallError} `EBADF`, `EINVAL`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/fcntl.2.html fcntl(2)}
 */
export function fcntl(fd: number, command: number, argument = 0): number {
  checkDescriptor("fcntl", fd);
  return check(libc().fcntl(fd, command, BigInt(argument)), "fcntl", `descriptor ${fd}`);
}

/**
 * Locks or unlocks an open file, waiting for the lock. Not an interruption point.
 *
 * The lock belongs to the open file, not to the process: a forked child shares its parent's lock,
 * and closing the last descriptor releases it.
 *
 * @param fd The descriptor.
 * @param operation `LOCK_SH`, `LOCK_EX` or `LOCK_UN`; with `LOCK_NB` it does not wait.
 * @throws {SyscallError} `EAGAIN` with `LOCK_NB` if another process holds the lock, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/flock.2.html flock(2)}
 */
export function flock(fd: number, operation: number): void {
  checkDescriptor("flock", fd);
  check(libc().flock(fd, operation), "flock", `descriptor ${fd}`);
}

/**
 * Moves the position of the next read or write.
 *
 * @param fd The descriptor.
 * @param offset The offset in bytes; it may be negative.
 * @param whence `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
 * @returns The new position, in bytes from the start.
 * @throws {SyscallError} `ESPIPE` for a pipe or socket, `EINVAL` for a position before the start.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/lseek.2.html lseek(2)}
 */
export function lseek(fd: number, offset: number, whence: number): number {
  checkDescriptor("lseek", fd);
  const place = Number(libc().lseek(fd, BigInt(offset), whence));
  return check(place, "lseek", `descriptor ${fd}`);
}

/**
 * Truncates or extends a file to a length.
 *
 * @param fd The descriptor, open for writing.
 * @param length The length in bytes.
 * @throws {SyscallError} `EINVAL` if it is not a file open for writing.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/ftruncate.2.html ftruncate(2)}
 */
export function ftruncate(fd: number, length: number): void {
  checkDescriptor("ftruncate", fd);
  check(libc().ftruncate(fd, BigInt(length)), "ftruncate", `descriptor ${fd}`);
}

/**
 * Whether a descriptor refers to a terminal.
 *
 * @param fd The descriptor.
 * @returns Whether it does; `false` also if it is not open.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/isatty.3.html isatty(3)}
 */
export function isatty(fd: number): boolean {
  checkDescriptor("isatty", fd);
  return libc().isatty(fd) === 1;
}

/** @throws {RangeError} If a number is not a valid descriptor number. */
export function checkDescriptor(syscall: string, fd: number): void {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fff_ffff) {
    throw new RangeError(
      `Cannot ${syscall} descriptor ${fd}: expected a whole number of at least 0`,
    );
  }
}

/** @throws {TypeError} If data is text, which has to be encoded. */
export function checkData(syscall: string, data: unknown): void {
  if (typeof data === "string") {
    throw new TypeError(
      `Cannot ${syscall} a string: expected bytes, such as new TextEncoder().encode(text)`,
    );
  }
}
