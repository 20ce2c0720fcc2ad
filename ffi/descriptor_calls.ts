/**
 * Calls on a descriptor by its number, whoever owns it: a standard stream, an inherited
 * one, or one of Deno's. {@linkcode Descriptor} makes them on its own.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/** `fcntl()`: duplicate to a number at least as high as the argument. */
export const F_DUPFD = 0;
/** `fcntl()`: read `FD_CLOEXEC`. */
export const F_GETFD = 1;
/** `fcntl()`: set `FD_CLOEXEC`. */
export const F_SETFD = 2;
/** `fcntl()`: read the file's flags. */
export const F_GETFL = 3;
/** `fcntl()`: set the file's flags. */
export const F_SETFL = 4;
/** `fcntl()`: as `F_DUPFD`, and close at execve(2). */
export const F_DUPFD_CLOEXEC = 1030;
/** The descriptor is closed at execve(2). */
export const FD_CLOEXEC = 1;

/** `flock()`: a lock that many may hold. */
export const LOCK_SH = 1;
/** `flock()`: a lock that one may hold. */
export const LOCK_EX = 2;
/** `flock()`: fail with `EAGAIN` instead of waiting. */
export const LOCK_NB = 4;
/** `flock()`: give the lock back. */
export const LOCK_UN = 8;

/** `lseek()`: from the start. */
export const SEEK_SET = 0;
/** `lseek()`: from here. */
export const SEEK_CUR = 1;
/** `lseek()`: from the end. */
export const SEEK_END = 2;

/**
 * Reads some bytes, waiting for the first. Not an interruption point.
 *
 * @param fd The descriptor.
 * @param size The most bytes to take.
 * @returns The bytes; none at the end.
 * @throws {RangeError} When the size is not a whole number from 1.
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
 * Writes some of the bytes: as many as the kernel takes.
 *
 * @param fd The descriptor; 1 is standard output.
 * @param data The bytes.
 * @returns How many bytes were taken.
 * @throws {SyscallError} `EBADF`, `EPIPE`, `ENOSPC`, ...
 *
 * @example Write to descriptor 1, as the article does
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
  const count = libc().write(fd, data, BigInt(data.byteLength));
  return check(Number(count), "write", `descriptor ${fd}`);
}

/**
 * Closes a descriptor.
 *
 * @param fd The descriptor.
 * @throws {SyscallError} `EBADF` when it is not open.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/close.2.html close(2)}
 */
export function close(fd: number): void {
  checkDescriptor("close", fd);
  check(libc().close(fd), "close", `descriptor ${fd}`);
}

/**
 * Makes one descriptor a duplicate of another, closing what it was.
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
 * Asks or changes something about a descriptor.
 *
 * @param fd The descriptor.
 * @param command `F_GETFL`, ...
 * @param argument The command's argument, a number.
 * @returns What the command returns; a duplicate's number for `F_DUPFD`, which
 *   `new Descriptor()` takes over.
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
 * The lock belongs to the open file, not to the process: a forked child shares
 * its parent's lock, and the last descriptor that is closed gives it back.
 *
 * @param fd The descriptor.
 * @param operation `LOCK_SH`, `LOCK_EX` or `LOCK_UN`, with `LOCK_NB` not to wait.
 * @throws {SyscallError} `EAGAIN` with `LOCK_NB` when another holds it, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/flock.2.html flock(2)}
 */
export function flock(fd: number, operation: number): void {
  checkDescriptor("flock", fd);
  check(libc().flock(fd, operation), "flock", `descriptor ${fd}`);
}

/**
 * Moves the place where the next read or write happens.
 *
 * @param fd The descriptor.
 * @param offset Bytes; may be negative.
 * @param whence `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
 * @returns The new place, in bytes from the start.
 * @throws {SyscallError} `ESPIPE` on a pipe or socket, `EINVAL` before the start.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/lseek.2.html lseek(2)}
 */
export function lseek(fd: number, offset: number, whence: number): number {
  checkDescriptor("lseek", fd);
  const place = Number(libc().lseek(fd, BigInt(offset), whence));
  return check(place, "lseek", `descriptor ${fd}`);
}

/**
 * Cuts or extends a file to a length.
 *
 * @param fd The descriptor, open for writing.
 * @param length Bytes.
 * @throws {SyscallError} `EINVAL` when it is no file open for writing.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/ftruncate.2.html ftruncate(2)}
 */
export function ftruncate(fd: number, length: number): void {
  checkDescriptor("ftruncate", fd);
  check(libc().ftruncate(fd, BigInt(length)), "ftruncate", `descriptor ${fd}`);
}

/**
 * Whether a descriptor is a terminal.
 *
 * @param fd The descriptor.
 * @returns `false` too when it is not open.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/isatty.3.html isatty(3)}
 */
export function isatty(fd: number): boolean {
  checkDescriptor("isatty", fd);
  return libc().isatty(fd) === 1;
}

/** @throws {RangeError} When a number is no descriptor's. */
export function checkDescriptor(syscall: string, fd: number): void {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fff_ffff) {
    throw new RangeError(
      `Cannot ${syscall} descriptor ${fd}: expected a whole number of at least 0`,
    );
  }
}
