/**
 * What a log's lines are written to: a file, or the standard output or error that
 * this process was started with. A line goes out whole, in one write(2), or not at
 * all; so the lines of several processes never mix, and a full disk leaves no half
 * line behind. A reader that does not read costs lines, and not the server.
 */
import {
  type Descriptor,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_NONBLOCK,
  O_WRONLY,
  open,
} from "../../../ffi/descriptor.ts";
import { lseek, SEEK_CUR, SEEK_END } from "../../../ffi/descriptor_calls.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import { readlink } from "../../../ffi/proc.ts";
import { isWritable, trySend, tryWrite } from "../../../ffi/nonblocking_write.ts";

/** The longest line, in bytes: PIPE_BUF, up to which a pipe takes all or nothing, pipe(7). */
export const LONGEST_LINE = 4096;

/** How long a reader may let a line wait, in milliseconds; less than a client would notice. */
const PATIENCE = 50;

const O_NOCTTY = 0o400; // a terminal that is opened must not become this process's own
const EBADF = 9;
const EAGAIN = 11;
const ENOSPC = 28;
const NEWLINE = new Uint8Array([10]);

/** Where lines are written to. */
export interface LogFile {
  /**
   * Writes one line.
   *
   * @param line Its bytes, the newline at the end included.
   * @param byteLength How many they are, {@linkcode LONGEST_LINE} at most.
   * @returns 0, or the number of the error for which the line was dropped.
   */
  write(line: Uint8Array<ArrayBuffer>, byteLength: number): number;
  /**
   * Opens the file anew, after it has been moved. Standard output and error stay.
   *
   * @throws {SyscallError} When it cannot be opened; lines go on to the moved file then.
   */
  reopen(): void;
  /** Closes what was opened here. */
  close(): void;
}

/** An open file, and how to write to it without waiting. */
interface Output {
  readonly fd: number;
  /** What was opened here; nothing where it is inherited. */
  readonly file?: Descriptor;
  readonly put: (data: Uint8Array<ArrayBuffer>, byteLength: number) => number;
}

const CLOSED: Output = { fd: -1, put: () => -EBADF };

/**
 * Opens what a log's lines are written to. Each process opens it for itself, after
 * the fork.
 *
 * @param target A file's path; or 1 for standard output, 2 for standard error.
 * @throws {SyscallError} When the file cannot be opened.
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
        // Another process may have been quicker.
      } while (count === -EAGAIN && patient);
    }
    if (count > 0) patient = true;
    return count;
  }

  /** Removes the half line at the end, if nobody has written behind it. */
  function takeBack(byteLength: number): boolean {
    const { file } = output;
    if (file === undefined) return false;
    try {
      const end = file.lseek(0, SEEK_CUR);
      if (file.lseek(0, SEEK_END) !== end) return false;
      file.ftruncate(end - byteLength);
      return true;
    } catch (error) {
      if (isSyscallError(error)) return false; // not that kind of file
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
      // The number may be another file's by the time that a late line comes.
      output = CLOSED;
    },
  };
}

/**
 * Looks whether a file could be a log, so that not every worker has to fail with it. It is not
 * created here: workers may be another user's, and so would the file.
 *
 * @param path The file.
 * @throws {SyscallError} When it could not be opened.
 */
export function checkLogFile(path: string): void {
  try {
    open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC).close();
  } catch (error) {
    if (!isSyscallError(error, "ENOENT") || !isFolder(path.slice(0, path.lastIndexOf("/") + 1))) {
      throw error;
    }
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function errorOf(count: number): number {
  return count < 0 ? -count : ENOSPC;
}

function openOutput(target: string | 1 | 2): Output {
  if (typeof target === "number") return openStream(target);
  // Not blocking: a FIFO without a reader is an error at once.
  const flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  return opened(open(target, flags, 0o644));
}

/**
 * A stream that other processes share: making it non-blocking would make it so for all
 * of them. A pipe or a terminal can be opened a second time, a socket asked each time.
 */
function openStream(fd: number): Output {
  if (isSeekable(fd)) return plain(fd);
  const path = `/proc/self/fd/${fd}`;
  try {
    if (readlink(path).startsWith("socket:")) {
      return { fd, put: (data, byteLength) => trySend(fd, data, byteLength) };
    }
    return opened(open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    // EACCES: it belongs to another user, as the pipes of containers do. ENXIO: nobody reads.
    return { fd, put: (data, byteLength) => writeIfReady(fd, data, byteLength) };
  }
}

function plain(fd: number): Output {
  return { fd, put: (data, byteLength) => tryWrite(fd, data, byteLength) };
}

function opened(file: Descriptor): Output {
  return { ...plain(file.fileno()), file };
}

// Another process may fill the pipe in between; this one waits for its reader then.
function writeIfReady(fd: number, data: Uint8Array<ArrayBuffer>, byteLength: number): number {
  return isWritable(fd, 0) ? tryWrite(fd, data, byteLength) : -EAGAIN;
}

/** Whether it is a file, and no pipe, socket or terminal. */
function isSeekable(fd: number): boolean {
  try {
    lseek(fd, 0, SEEK_CUR);
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}
