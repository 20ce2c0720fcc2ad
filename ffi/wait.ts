import { check } from "./errno.ts";
import { handlerOf, interruptible, waitInterruptibly } from "./interruption.ts";
import { libc } from "./libc.ts";
import { POLLIN } from "./poll.ts";
import { heldSignals, SIG_BLOCK, SIG_SETMASK, sigprocmask, sigset } from "./signal_mask.ts";
import { SIGCHLD } from "./signals.ts";
import { pollfd } from "./structs.ts";

/** Return immediately, with pid 0, if no child has changed state. */
export const WNOHANG = 1;
/** Also report stopped children. */
export const WUNTRACED = 2;
/** Also report children that have continued after a stop. */
export const WCONTINUED = 8;

/** The wait status of a child: the `W*` macros as a union. `raw` is C's `wstatus`. */
export type WaitStatus =
  | { readonly kind: "exited"; readonly code: number; readonly raw: number }
  | {
    readonly kind: "signaled";
    readonly signal: number;
    readonly coreDumped: boolean;
    readonly raw: number;
  }
  | { readonly kind: "stopped"; readonly signal: number; readonly raw: number }
  | { readonly kind: "continued"; readonly raw: number };

/**
 * Decodes C's `wstatus`.
 *
 * @param raw The number that waitpid(2) stored.
 * @returns The wait status.
 */
export function decodeWaitStatus(raw: number): WaitStatus {
  const signal = raw & 0x7f;
  if (signal === 0) return { kind: "exited", code: (raw >> 8) & 0xff, raw };
  if (raw === 0xffff) return { kind: "continued", raw };
  if (signal === 0x7f) return { kind: "stopped", signal: (raw >> 8) & 0xff, raw };
  return { kind: "signaled", signal, coreDumped: (raw & 0x80) !== 0, raw };
}

/**
 * Waits until a child has ended. An interruption point.
 *
 * @returns The child's pid and wait status.
 * @throws {SyscallError} `ECHILD` if there is no child, `EINTR` after a signal handler has run.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/wait.2.html wait(2)}
 */
export function wait(): { pid: number; status: WaitStatus } {
  const pid = waitForChild("wait", -1, 0);
  return { pid, status: decodeWaitStatus(raw[0]!) };
}

/**
 * Waits until a child has ended, or checks whether one has. An interruption point unless `WNOHANG`
 * is given.
 *
 * @param pid A child's pid; -1 for any child, 0 for any child in this process group, less than -1
 *   for any child in the process group `-pid`.
 * @param options `WNOHANG`, `WUNTRACED`, `WCONTINUED`, OR-ed together.
 * @returns The child's pid and wait status; with `WNOHANG`, pid 0 and no status if no child has
 *   changed state.
 * @throws {SyscallError} `ECHILD` if there is no such child, `EINTR` after a signal handler has
 *   run.
 * @throws {RangeError} If the pid or the options are no whole number.
 *
 * @example Reap all children that have ended
 * ```ts
 * import { SyscallError, waitpid, WNOHANG } from "@tine/tine";
 *
 * try {
 *   for (;;) {
 *     const { pid, status } = waitpid(-1, WNOHANG);
 *     if (pid === 0) break; // there are children, but none has ended
 *     console.log(pid, status);
 *   }
 * } catch (error) {
 *   if (!(error instanceof SyscallError && error.code === "ECHILD")) throw error;
 * }
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/waitpid.2.html waitpid(2)}
 */
export function waitpid(
  pid: number,
  options = 0,
): { pid: number; status: WaitStatus | undefined } {
  if (!Number.isInteger(pid) || pid < -0x7fff_ffff || pid > 0x7fff_ffff) {
    throw new RangeError(`Cannot waitpid ${pid}: expected a pid`);
  }
  if (!Number.isInteger(options)) {
    throw new RangeError(
      `Cannot waitpid with options ${Deno.inspect(options)}: expected WNOHANG, WUNTRACED, ` +
        "WCONTINUED, OR-ed together, or 0",
    );
  }
  const changed = waitForChild("waitpid", pid, options);
  return { pid: changed, status: changed === 0 ? undefined : decodeWaitStatus(raw[0]!) };
}

// One buffer for all calls: in a server that forks, new memory means pages that must be copied. A
// handler that calls waitpid() runs before the interrupted call's status is stored.
const raw = new Int32Array(1);

/**
 * Calls waitpid(2), and lets handlers run while it waits.
 *
 * When a child ends, there are a status and SIGCHLD. As in the kernel, the status takes precedence:
 * SIGCHLD stays blocked while ppoll() waits for it on a signalfd, which shows that the signal is
 * pending without consuming it. Only if it came from another child, it is delivered, and its
 * handler interrupts the call.
 */
function waitForChild(
  syscall: string,
  pid: number,
  options: number,
): number {
  const object = syscall === "wait" ? "" : `for ${pid}`;
  if ((options & WNOHANG) !== 0 || !interruptible() || !heldSignals().has(SIGCHLD)) {
    return check(libc().waitpid(pid, raw, options), syscall, object);
  }
  const pending = pollfd(childSignalDescriptor(), POLLIN);
  for (;;) {
    const changed = check(libc().waitpid(pid, raw, options | WNOHANG), syscall, object);
    if (changed !== 0) return changed;
    const mask = sigprocmask(SIG_BLOCK, [SIGCHLD]);
    try {
      const limit = handlerOf(SIGCHLD) === undefined ? IGNORED_INTERVAL : undefined;
      waitInterruptibly(syscall, object, pending, limit);
    } finally {
      sigprocmask(SIG_SETMASK, mask);
    }
    const now = check(libc().waitpid(pid, raw, options | WNOHANG), syscall, object);
    if (now !== 0) return now;
    discardOrHandle(syscall, object, mask.includes(SIGCHLD));
  }
}

/** Handles another child's SIGCHLD: runs its handler, or discards it if there is no handler. */
function discardOrHandle(syscall: string, object: string, blocked: boolean): void {
  if (handlerOf(SIGCHLD) !== undefined && !blocked) {
    waitInterruptibly(syscall, object, null, 0);
  } else {
    libc().read(childSignalDescriptor(), new Uint8Array(SIGINFO_BYTES), BigInt(SIGINFO_BYTES));
  }
}

/**
 * How often to look for children that have ended, in milliseconds, if there may be no SIGCHLD: the
 * kernel discards one that is ignored.
 */
const IGNORED_INTERVAL = 100;
const SIGINFO_BYTES = 128; // struct signalfd_siginfo
const SFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;

let childSignals = -1;

// It is only polled. It also works in forked children, each of which sees its own signals.
function childSignalDescriptor(): number {
  if (childSignals === -1) {
    const fd = libc().signalfd(-1, sigset([SIGCHLD]), SFD_NONBLOCK_CLOEXEC);
    childSignals = check(fd, "signalfd");
  }
  return childSignals;
}
