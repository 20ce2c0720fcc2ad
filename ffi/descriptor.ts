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
import { check, EBADF, SyscallError } from "./errno.ts";
import { libc } from "./libc.ts";
import { architecture } from "./platform.ts";

/** Open for reading. */
export const O_RDONLY = 0;
/** Open for writing. */
export const O_WRONLY = 1;
/** Open for both. */
export const O_RDWR = 2;
/** Make the file if there is none. */
export const O_CREAT = 0o100;
/** With `O_CREAT`: fail if there is one. */
export const O_EXCL = 0o200;
/** Empty the file. */
export const O_TRUNC = 0o1000;
/** Every write goes to the end. */
export const O_APPEND = 0o2000;
/** Fail with `EAGAIN` instead of waiting. */
export const O_NONBLOCK = 0o4000;
/** Close at execve(2). */
export const O_CLOEXEC = 0o2000000;

/**
 * An open file that is this object's to close: `close()` twice is harmless, and a closed
 * one fails with `EBADF` before the kernel sees a number that another file may have
 * taken since. One that is forgotten stays open until the process ends.
 *
 * A forked child has a copy, with a descriptor of its own: each process closes its own.
 *
 * @example Both ends of a pipe
 * ```ts
 * import { O_CLOEXEC, pipe } from "@tine/tine";
 *
 * const [readEnd, writeEnd] = pipe(O_CLOEXEC);
 * {
 *   using _ = writeEnd; // closed where the block ends
 *   writeEnd.write(new TextEncoder().encode("hello"));
 * }
 * console.log(new TextDecoder().decode(readEnd.read(100))); // hello
 * console.log(readEnd.read(100).length); // 0: no write end is left
 * readEnd.close();
 * ```
 */
export class Descriptor implements Disposable {
  #fd: number;

  /**
   * Takes over a descriptor that is open: an inherited one, or the duplicate that
   * `fcntl()` has made. Nothing asks the kernel.
   *
   * @param fd Its number; from now on this object's to close, and nobody else's.
   * @throws {RangeError} When it is no descriptor's number.
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

  /** What errors call it. */
  protected get kind(): string {
    return "descriptor";
  }

  /**
   * The number, for a call.
   *
   * @param syscall The call.
   * @throws {SyscallError} `EBADF` when this object is closed.
   */
  protected numberFor(syscall: string): number {
    if (this.#fd === -1) throw new SyscallError(syscall, EBADF, `on a closed ${this.kind}`);
    return this.#fd;
  }

  /** The descriptor's number, or -1 when it is closed. */
  fileno(): number {
    return this.#fd;
  }

  /**
   * Reads some bytes, waiting for the first. Not an interruption point.
   *
   * @param size The most bytes to take.
   * @returns The bytes; none at the end.
   * @throws {RangeError} When the size is not a whole number from 1.
   * @throws {SyscallError} `EBADF`, `EAGAIN` with `O_NONBLOCK`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/read.2.html read(2)}
   */
  read(size: number): Uint8Array<ArrayBuffer> {
    return read(this.numberFor("read"), size);
  }

  /**
   * Writes some of the bytes: as many as the kernel takes.
   *
   * @param data The bytes.
   * @returns How many bytes were taken.
   * @throws {SyscallError} `EBADF`, `EPIPE`, `ENOSPC`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/write.2.html write(2)}
   */
  write(data: Uint8Array<ArrayBuffer>): number {
    return write(this.numberFor("write"), data);
  }

  /**
   * Makes a descriptor of another number a duplicate of this one, closing what it was.
   *
   * @param newFd The number of the duplicate, which stays its owner's to close; 0, 1 and 2
   *   are the standard streams.
   * @returns `newFd`.
   * @throws {SyscallError} `EBADF`, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/dup2.2.html dup2(2)}
   */
  dup2(newFd: number): number {
    return dup2(this.numberFor("dup2"), newFd);
  }

  /**
   * Asks or changes something about the descriptor.
   *
   * @param command `F_GETFL`, ...
   * @param argument The command's argument, a number.
   * @returns What the command returns; a duplicate's number for `F_DUPFD`, which
   *   `new Descriptor()` takes over.
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
   * The lock belongs to the open file, not to the process: a forked child shares
   * its parent's lock, and the last descriptor that is closed gives it back.
   *
   * @param operation `LOCK_SH`, `LOCK_EX` or `LOCK_UN`, with `LOCK_NB` not to wait.
   * @throws {SyscallError} `EAGAIN` with `LOCK_NB` when another holds it, ...
   *
   * @see {@link https://man7.org/linux/man-pages/man2/flock.2.html flock(2)}
   */
  flock(operation: number): void {
    flock(this.numberFor("flock"), operation);
  }

  /**
   * Moves the place where the next read or write happens.
   *
   * @param offset Bytes; may be negative.
   * @param whence `SEEK_SET`, `SEEK_CUR` or `SEEK_END`.
   * @returns The new place, in bytes from the start.
   * @throws {SyscallError} `ESPIPE` on a pipe or socket, `EINVAL` before the start.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/lseek.2.html lseek(2)}
   */
  lseek(offset: number, whence: number): number {
    return lseek(this.numberFor("lseek"), offset, whence);
  }

  /**
   * Cuts or extends the file to a length.
   *
   * @param length Bytes.
   * @throws {SyscallError} `EINVAL` when it is no file open for writing.
   *
   * @see {@link https://man7.org/linux/man-pages/man2/ftruncate.2.html ftruncate(2)}
   */
  ftruncate(length: number): void {
    ftruncate(this.numberFor("ftruncate"), length);
  }

  /**
   * Whether it is a terminal.
   *
   * @throws {SyscallError} `EBADF` when this object is closed.
   *
   * @see {@link https://man7.org/linux/man-pages/man3/isatty.3.html isatty(3)}
   */
  isatty(): boolean {
    return isatty(this.numberFor("isatty"));
  }

  /**
   * Closes this process's descriptor. What it stands for ends with the last
   * descriptor of it, in whatever process. Closing twice is harmless.
   *
   * @throws {SyscallError} When the kernel reports an error; the descriptor is closed all the
   *   same.
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

/** The `O_DIRECTORY` of this architecture. */
export function directoryFlag(): number {
  return O_DIRECTORY[architecture()];
}

/**
 * Opens a file.
 *
 * @param path The file.
 * @param flags `O_RDONLY`, `O_WRONLY` or `O_RDWR`, or-ed with others. Without `O_CLOEXEC`,
 *   programs started later inherit the descriptor.
 * @param mode The permissions of a file that is made, less the umask.
 * @returns The descriptor.
 * @throws {SyscallError} `ENOENT`, `EACCES`, `EMFILE`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/open.2.html open(2)}
 */
export function open(path: string, flags: number, mode = 0o666): Descriptor {
  return new Descriptor(check(libc().open(cString(path), flags, mode), "open", path));
}

/**
 * Makes a pipe.
 *
 * @param flags `O_CLOEXEC`, `O_NONBLOCK`, or-ed together.
 * @returns The end to read from and the end to write to.
 * @throws {SyscallError} `EMFILE` when no descriptor is left.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/pipe.2.html pipe(2)}
 */
export function pipe(flags = 0): [readEnd: Descriptor, writeEnd: Descriptor] {
  const ends = new Int32Array(2);
  check(libc().pipe2(ends, flags), "pipe");
  return [new Descriptor(ends[0]!), new Descriptor(ends[1]!)];
}
