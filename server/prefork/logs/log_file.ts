/**
 * The output of a log: a file, or the standard output or error that this process was started with.
 * A line is written whole, in one write(2), or not at all. Lines of several processes therefore
 * never mix, and a full disk leaves no partial line. A reader that does not read costs lines, but
 * does not block the server.
 */
import {
  type Descriptor,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_WRONLY,
  open,
} from "../../../ffi/descriptor.ts";
import { lseek, SEEK_CUR, SEEK_END } from "../../../ffi/descriptor_calls.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { readlink } from "../../../ffi/proc.ts";
import { unlink } from "../../../ffi/unlink.ts";
import { isWritable, trySend, tryWrite } from "../../../ffi/nonblocking_write.ts";

/**
 * The maximum length of a line, in bytes: PIPE_BUF, up to which writes to a pipe are atomic,
 * pipe(7).
 */
export const LONGEST_LINE = 4096;

/** How long to wait for a reader, in milliseconds. It is less than a client would notice. */
const PATIENCE = 50;

const O_NOCTTY = 0o400; // an opened terminal must not become the controlling terminal
// O_NONBLOCK: opening a FIFO without a reader fails immediately.
const FLAGS = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
const EBADF = 9;
const EAGAIN = 11;
const ENOSPC = 28;
const NEWLINE = new Uint8Array([10]);

/** A file that lines are written to. */
export interface LogFile {
  /**
   * Writes one line.
   *
   * @param line The bytes of the line, including the newline.
   * @param byteLength The number of bytes, at most {@linkcode LONGEST_LINE}.
   * @returns 0, or the errno for which the line was dropped.
   */
  write(line: Uint8Array<ArrayBuffer>, byteLength: number): number;
  /**
   * Reopens the file after it was moved. Standard output and error stay open.
   *
   * @throws {SyscallError} If the file cannot be opened. Lines then continue to go to the moved
   *   file.
   */
  reopen(): void;
  /** Closes the file if it was opened here. */
  close(): void;
}

/** An open file, and a function that writes to it without waiting. */
interface Output {
  readonly fd: number;
  /** The descriptor if it was opened here; `undefined` if it is inherited. */
  readonly file?: Descriptor;
  readonly put: (data: Uint8Array<ArrayBuffer>, byteLength: number) => number;
}

const CLOSED: Output = { fd: -1, put: () => -EBADF };

/**
 * Opens the output of a log. Each process opens it for itself, after the fork.
 *
 * @param target The path of a file; or 1 for standard output, 2 for standard error.
 * @throws {SyscallError} If the file cannot be opened.
 */
export function openLogFile(target: string | 1 | 2): LogFile {
  let output = openOutput(target);
  let torn = false;
  let patient = true;

  function put(data: Uint8Array<ArrayBuffer>, byteLength: number): number {
    let count = output.put(data, byteLength);
    if (count === -EAGAIN && patient) {
      const end = performance.now() + PATIENCE;
      do {
        patient = isWritable(output.fd, Math.max(0, end - performance.now()));
        count = output.put(data, byteLength);
        // Another process may have filled the space first.
      } while (count === -EAGAIN && patient);
    }
    if (count > 0) patient = true;
    return count;
  }

  /** Removes the partial line at the end, if no process has written after it. */
  function takeBack(byteLength: number): boolean {
    const { file } = output;
    if (file === undefined) return false;
    try {
      const end = file.lseek(0, SEEK_CUR);
      if (file.lseek(0, SEEK_END) !== end) return false;
      file.ftruncate(end - byteLength);
      return true;
    } catch (error) {
      if (isSyscallError(error)) return false; // the file does not support it
      throw error;
    }
  }

  return {
    write(line, byteLength): number {
      if (torn) {
        const count = put(NEWLINE, 1);
        if (count !== 1) return errorOf(count);
        torn = false;
      }
      const count = put(line, byteLength);
      if (count === byteLength) return 0;
      if (count <= 0) return errorOf(count);
      if (takeBack(count)) return ENOSPC;
      const rest = put(line.subarray(count, byteLength), byteLength - count);
      if (rest === byteLength - count) return 0;
      torn = true;
      return errorOf(rest);
    },
    reopen(): void {
      const old = output;
      output = openOutput(target);
      torn = false;
      old.file?.close();
    },
    close(): void {
      output.file?.close();
      // A late line may arrive after the descriptor number has been reused.
      output = CLOSED;
    },
  };
}

/**
 * Checks whether a file can be opened as a log, so that not every worker fails on it. A file that
 * is not there is removed again: workers may run as another user, who must own the file.
 *
 * @param path The file.
 * @throws {SyscallError} If it cannot be opened.
 */
export function checkLogFile(path: string): void {
  try {
    open(path, FLAGS).close();
  } catch (error) {
    if (!isSyscallError(error, "ENOENT")) throw error;
    create(path);
  }
}

function create(path: string): void {
  try {
    open(path, FLAGS | O_CREAT | O_EXCL, 0o644).close();
    unlink(path);
  } catch (error) {
    if (!isSyscallError(error, "EEXIST")) throw error; // another process has just created it
  }
}

function errorOf(count: number): number {
  return count < 0 ? -count : ENOSPC;
}

function openOutput(target: string | 1 | 2): Output {
  if (typeof target === "number") return openStream(target);
  return opened(open(target, FLAGS | O_CREAT, 0o644));
}

/**
 * Opens a stream that other processes share: making it non-blocking would make it so for all of
 * them. A pipe or a terminal can be opened a second time; a socket takes a flag with each call.
 */
function openStream(fd: number): Output {
  if (isSeekable(fd)) return plain(fd);
  const path = `/proc/self/fd/${fd}`;
  try {
    if (readlink(path).startsWith("socket:")) {
      return { fd, put: (data, byteLength) => trySend(fd, data, byteLength) };
    }
    return opened(open(path, FLAGS));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    // EACCES: it belongs to another user, as the pipes of containers do. ENXIO: it has no reader.
    return { fd, put: (data, byteLength) => writeIfReady(fd, data, byteLength) };
  }
}

function plain(fd: number): Output {
  return { fd, put: (data, byteLength) => tryWrite(fd, data, byteLength) };
}

function opened(file: Descriptor): Output {
  return { ...plain(file.fileno()), file };
}

// Another process may fill the pipe in between. This process then waits for the reader.
function writeIfReady(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  return isWritable(fd, 0) ? tryWrite(fd, data, byteLength) : -EAGAIN;
}

/** Whether a descriptor is a file, as opposed to a pipe, a socket or a terminal. */
function isSeekable(fd: number): boolean {
  try {
    lseek(fd, 0, SEEK_CUR);
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}
