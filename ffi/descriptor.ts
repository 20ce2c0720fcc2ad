import { cString } from "./c_string.ts";
import {
  checkDescriptor,
  close,
  dup2,
  fcntl,
  flock,
  ftruncate,
  isatty,
  lseek,
  read,
  write,
} from "./descriptor_calls.ts";
import { check, EBADF, ENOTDIR, SyscallError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { architecture } from "./platform.ts";

/** Open for reading. */
export const O_RDONLY = 0;
/** Open for writing. */
export const O_WRONLY = 1;
/** Open for reading and writing. */
export const O_RDWR = 2;
/** Create the file if it does not exist. */
export const O_CREAT = 0o100;
/** With `O_CREAT`: fail if the file exists. */
export const O_EXCL = 0o200;
/** Truncate the file. */
export const O_TRUNC = 0o1000;
/** Append each write to the end of the file. */
export const O_APPEND = 0o2000;
/** Only find the file: neither read nor write it. */
export const O_PATH = 0o10000000;
/** Fail with `EAGAIN` instead of waiting. */
export const O_NONBLOCK = 0o4000;
/** Close the descriptor on execve(2). */
export const O_CLOEXEC = 0o2000000;

/**
 * An open file that this object owns. Calling `close()` twice is harmless. After that, the methods
 * fail with `EBADF` without a call to the kernel, since the number may belong to another file. A
 * descriptor that is never closed stays open until the process ends.
 *
 * A forked child has a copy of the object and of the descriptor: each process closes its own.
 *
 * @example Both ends of a pipe
 * ```ts
 * import { O_CLOEXEC, pipe } from "@tine/tine";
 *
 * const [readEnd, writeEnd] = pipe(O_CLOEXEC);
 * {
 *   using _ = writeEnd; // closed at the end of the block
 *   writeEnd.write(new TextEncoder().encode("hello"));
 * }
 * console.log(new TextDecoder().decode(readEnd.read(100))); // hello
 * console.log(readEnd.read(100).length); // 0: no write end is open
 * readEnd.close();
 * ```
 */
export class Descriptor implements Disposable {
  #fd: number;

  /**
   * Takes ownership of an open descriptor: an inherited one, or a duplicate that `fcntl()` created.
   * Whether it is open is not checked.
   *
   * @param fd The descriptor. From now on, only this object may close it.
   * @throws {RangeError} If it is not a valid descriptor number.
   *
   * @example A duplicate of standard output
   * ```ts
   * import { Descriptor, F_DUPFD_CLOEXEC, fcntl } from "@tine/tine";
   *
   * using copy = new Descriptor(fcntl(1, F_DUPFD_CLOEXEC));
   * copy.write(new TextEncoder().encode("hello\n"));
   * ```
   */
  constructor(fd: number) {
    checkDescriptor("own", fd);
    this.#fd = fd;
  }

  /** The word for the object in error messages. */
  protected get kind(): string {
    return "descriptor";
  }

  /**
   * Returns the descriptor, for a system call.
   *
   * @param syscall The system call.
   * @throws {SyscallError} `EBADF` if this object is closed.
   */
  protected numberFor(syscall: string): number {
    if (this.#fd === -1) throw new SyscallError(syscall, EBADF, `on a closed ${this.kind}`);
    return this.#fd;
  }

  /** Returns the descriptor's number; -1 if it is closed. */
  fileno(): number {
    return this.#fd;
  }

  /**
   * Reads bytes, waiting until at least one is available. Not an interruption point.
   *
   * @param size The maximum number of bytes.
   * @returns The bytes; empty at the end of the file.
   * @throws {RangeError} If the size is not a whole number of at least 1.
   * @throws {SyscallError} `EBADF`, `EAGAIN` with `O_NONBLOCK`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/read.2.html read(2)}
   */
  read(size: number): Uint8Array<ArrayBuffer> {
    return read(this.numberFor("read"), size);
  }

  /**
   * Writes as many of the bytes as the kernel accepts.
   *
   * @param data The bytes.
   * @returns The number of bytes accepted.
   * @throws {SyscallError} `EBADF`, `EPIPE`, `ENOSPC`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/write.2.html write(2)}
   */
  write(data: Uint8Array<ArrayBuffer>): number {
    return write(this.numberFor("write"), data);
  }

  /**
   * Makes another descriptor number a duplicate of this one. If it was open, it is closed first.
   *
   * @param newFd The number of the duplicate. Its owner remains responsible for closing it; 0, 1
   *   and 2 are the standard streams.
   * @returns `newFd`.
   * @throws {SyscallError} `EBADF`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/dup2.2.html dup2(2)}
   */
  dup2(newFd: number): number {
    return dup2(this.numberFor("dup2"), newFd);
  }

  /**
   * Reads or changes properties of the descriptor.
   *
   * @param command `F_GETFL`, ...
   * @param argument The command's argument.
   * @returns The command's result. For `F_DUPFD`, the duplicate's number, which `new Descriptor()`
   *   can own.
   * @throws {SyscallError} `EBADF`, `EINVAL`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/fcntl.2.html fcntl(2)}
   */
  fcntl(command: number, argument = 0): number {
    return fcntl(this.numberFor("fcntl"), command, argument);
  }

  /**
   * Locks or unlocks the open file, waiting for the lock. Not an interruption point.
   *
   * The lock belongs to the open file, not to the process: a forked child shares its parent's lock,
   * and closing the last descriptor releases it.
   *
   * @param operation `LOCK_SH`, `LOCK_EX` or `LOCK_UN`; with `LOCK_NB` it does not wait.
   * @throws {SyscallError} `EAGAIN` with `LOCK_NB` if another process holds the lock, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/flock.2.html flock(2)}
   */
  flock(operation: number): void {
    flock(this.numberFor("flock"), operation);
  }

  /**
   * Moves the position of the next read or write.
   *
   * @param offset The offset in bytes; it may be negative.
   * @param whence `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
   * @returns The new position, in bytes from the start.
   * @throws {SyscallError} `ESPIPE` for a pipe or socket, `EINVAL` for a position before the start.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/lseek.2.html lseek(2)}
   */
  lseek(offset: number, whence: number): number {
    return lseek(this.numberFor("lseek"), offset, whence);
  }

  /**
   * Truncates or extends the file to a length.
   *
   * @param length The length in bytes.
   * @throws {SyscallError} `EINVAL` if it is not a file open for writing.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/ftruncate.2.html ftruncate(2)}
   */
  ftruncate(length: number): void {
    ftruncate(this.numberFor("ftruncate"), length);
  }

  /**
   * Whether the descriptor refers to a terminal.
   *
   * @throws {SyscallError} `EBADF` when this object is closed.
   *
   * @see {@link https://man7.org/linux/man-pages/man3/isatty.3.html isatty(3)}
   */
  isatty(): boolean {
    return isatty(this.numberFor("isatty"));
  }

  /**
   * Closes this process's descriptor. The open file is released when its last descriptor, in any
   * process, is closed. Closing twice is harmless.
   *
   * @throws {SyscallError} If the kernel reports an error. The descriptor is closed nevertheless.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/close.2.html close(2)}
   */
  close(): void {
    const fd = this.#fd;
    if (fd === -1) return;
    this.#fd = -1;
    close(fd);
  }

  /** {@linkcode Descriptor.close}, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const O_DIRECTORY = { x86_64: 0o200000, aarch64: 0o40000 } as const;
const O_NOFOLLOW = { x86_64: 0o400000, aarch64: 0o100000 } as const;

/** Returns the value of `O_DIRECTORY` on this architecture. */
export function directoryFlag(): number {
  return O_DIRECTORY[architecture()];
}

/** Returns the value of `O_NOFOLLOW` on this architecture: do not open a symbolic link's target. */
export function noFollowFlag(): number {
  return O_NOFOLLOW[architecture()];
}

/**
 * Opens a file.
 *
 * @param path The file.
 * @param flags `O_RDONLY`, `O_WRONLY` or `O_RDWR`, OR-ed with others. Without `O_CLOEXEC`, programs
 *   started later inherit the descriptor.
 * @param mode The permissions of a file that is created, restricted by the umask.
 * @returns The descriptor.
 * @throws {SyscallError} `ENOENT`, `EACCES`, `EMFILE`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/open.2.html open(2)}
 */
export function open(path: string, flags: number, mode = 0o666): Descriptor {
  return new Descriptor(check(libc().open(cString(path), flags, mode), "open", path));
}

/**
 * Whether a path leads to a directory: open(2) with `O_DIRECTORY`.
 *
 * @throws {SyscallError} `ENOENT`, `EACCES`, ...
 */
export function isDirectory(path: string): boolean {
  const fd = libc().open(cString(path), O_PATH | O_CLOEXEC | directoryFlag(), 0);
  if (fd === -1 && errno() === ENOTDIR) return false;
  close(check(fd, "open", path));
  return true;
}

/**
 * Creates a pipe.
 *
 * @param flags `O_CLOEXEC` and `O_NONBLOCK`, OR-ed together.
 * @returns The read end and the write end.
 * @throws {SyscallError} `EMFILE` if no descriptor is left.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/pipe.2.html pipe(2)}
 */
export function pipe(flags = 0): [readEnd: Descriptor, writeEnd: Descriptor] {
  const ends = new Int32Array(2);
  check(libc().pipe2(ends, flags), "pipe");
  return [new Descriptor(ends[0]!), new Descriptor(ends[1]!)];
}
