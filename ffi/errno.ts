import { textAt } from "./c_string.ts";
import { errno, libc } from "./libc.ts";

// errno(3), from asm-generic/errno-base.h and errno.h, the same on x86-64 and aarch64. The index is
// the number; 41 and 58 are unused.
const NAMES = ("- EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM " +
  "EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE " +
  "EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK " +
  "ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT " +
  "EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - " +
  "EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM " +
  "EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD " +
  "ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ " +
  "EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP " +
  "EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET " +
  "ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT " +
  "ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM " +
  "ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED " +
  "EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON").split(" ");

export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ERANGE = 34;
export const EINPROGRESS = 115;

/**
 * A system call failed.
 *
 * `code` is the symbolic name (`"EINTR"`), which is what programs compare.
 *
 * @example Bind to a port that is in use
 * ```ts
 * import { AF_INET, SOCK_STREAM, Socket, SyscallError } from "@tine/tine";
 *
 * using first = new Socket(AF_INET, SOCK_STREAM);
 * first.bind(["127.0.0.1", 0]);
 * first.listen(1);
 * using second = new Socket(AF_INET, SOCK_STREAM);
 * try {
 *   second.bind(first.getsockname());
 * } catch (error) {
 *   if (!(error instanceof SyscallError)) throw error;
 *   console.log(error.syscall, error.errno, error.code); // bind 98 EADDRINUSE
 * }
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man3/errno.3.html errno(3)}
 */
export class SyscallError extends Error {
  /** The class's name. */
  override readonly name: string = "SyscallError";
  /** The call that failed, such as `"accept"`. */
  readonly syscall: string;
  /** The error number, such as 4. */
  readonly errno: number;
  /** The error number's name, such as `"EINTR"`. */
  readonly code: string;

  /**
   * Describes a failed call.
   *
   * @param syscall The call that failed.
   * @param errno Its error number.
   * @param object What it was applied to: the words that follow the call's name in the message.
   */
  constructor(syscall: string, errno: number, object = "") {
    const code = NAMES[errno] ?? `errno ${errno}`;
    const subject = object === "" ? syscall : `${syscall} ${object}`;
    const message = `Cannot ${subject}: ${code} (${textAt(libc().strerror(errno))})`;
    // To show a stack trace, Deno opens source files, and aborts if it cannot.
    const traced = code !== "EMFILE" && code !== "ENFILE";
    const { stackTraceLimit } = Error;
    if (!traced) Error.stackTraceLimit = 0;
    super(message);
    if (!traced) Error.stackTraceLimit = stackTraceLimit;
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}

/**
 * Returns the result of a call that reports failure with -1.
 *
 * @throws {SyscallError} If the result is -1.
 */
export function check(result: number, syscall: string, object?: string): number {
  return result === -1 ? fail(syscall, object) : result;
}

/** Throws the {@linkcode SyscallError} of the call that has just failed. */
export function fail(syscall: string, object?: string): never {
  // Read first: creating the error makes other calls.
  const number = errno();
  throw new SyscallError(syscall, number, object);
}

/**
 * Whether a caught value is a {@linkcode SyscallError} with one of the given codes.
 *
 * @param error The caught value.
 * @param codes The codes, such as `"EINTR"`. If omitted, any code matches.
 * @returns Whether it is one of them.
 *
 * @example Take a lock if it is free
 * ```ts
 * import { isSyscallError, LOCK_EX, LOCK_NB, O_RDONLY, open } from "@tine/tine";
 *
 * using file = open("/", O_RDONLY);
 * try {
 *   file.flock(LOCK_EX | LOCK_NB);
 * } catch (error) {
 *   if (!isSyscallError(error, "EAGAIN")) throw error;
 *   console.log("another process holds the lock");
 * }
 * ```
 */
export function isSyscallError(error: unknown, ...codes: readonly string[]): error is SyscallError {
  return error instanceof SyscallError && (codes.length === 0 || codes.includes(error.code));
}
