/**
 * The two signal masks: the program's own mask, and the kernel's.
 *
 * Signals that the program may handle are **held**: every thread has blocked them since the process
 * was executed, and they are delivered only at interruption points. There, the program's own mask
 * applies, which may block some of them too.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { checkSignal, SIGNAL_MAX } from "./signals.ts";

/** `sigprocmask()`: add the signals to the mask. */
export const SIG_BLOCK = 0;
/** `sigprocmask()`: remove the signals from the mask. */
export const SIG_UNBLOCK = 1;
/** `sigprocmask()`: make the signals the mask. */
export const SIG_SETMASK = 2;

/** The size of a `sigset_t`, in bytes. */
export const SIGSET_BYTES = 128;

/** Encodes a set of signal numbers as a `sigset_t`. */
export function sigset(signals: Iterable<number>): Uint8Array<ArrayBuffer> {
  const set = new Uint8Array(SIGSET_BYTES);
  for (const signum of signals) {
    checkSignal(signum);
    set[(signum - 1) >> 3]! |= 1 << ((signum - 1) & 7);
  }
  return set;
}

/** Returns the signal numbers in a `sigset_t`, in ascending order. */
export function signalsIn(set: Uint8Array): number[] {
  const signals: number[] = [];
  for (let signum = 1; signum <= SIGNAL_MAX; signum++) {
    if (set[(signum - 1) >> 3]! & (1 << ((signum - 1) & 7))) signals.push(signum);
  }
  return signals;
}

let held: ReadonlySet<number> = new Set();
let program: ReadonlySet<number> | undefined;
let programSet: Uint8Array<ArrayBuffer> | undefined;

/** Returns the signals that every thread blocks, so that a handler may be set. */
export function heldSignals(): ReadonlySet<number> {
  return held;
}

/**
 * Records which signals every thread of this process blocks, and the program's own mask before
 * that.
 */
export function holdSignals(
  signals: ReadonlySet<number>,
  programMask: ReadonlySet<number>,
): void {
  held = signals;
  if (programMask !== program) programSet = undefined;
  program = programMask;
}

/** Returns the program's own mask as a `sigset_t`, which applies while a call waits. */
export function programMask(): Uint8Array<ArrayBuffer> {
  return programSet ??= sigset(programSignals());
}

/** Returns the signals that the program itself blocks. */
export function programSignals(): ReadonlySet<number> {
  return program ??= new Set(signalsIn(kernelMask()));
}

/** Returns the kernel's mask of the calling thread. */
export function kernelMask(): Uint8Array<ArrayBuffer> {
  const set = new Uint8Array(SIGSET_BYTES);
  check(libc().pthread_sigmask(SIG_BLOCK, null, set), "sigprocmask");
  return set;
}

/**
 * Sets the kernel's mask of the calling thread.
 *
 * @param set The mask.
 * @param before Receives the previous mask.
 */
export function setKernelMask(
  set: Uint8Array<ArrayBuffer>,
  before: Uint8Array<ArrayBuffer> | null = null,
): void {
  check(libc().pthread_sigmask(SIG_SETMASK, set, before), "sigprocmask");
}

/**
 * Changes which signals the calling thread blocks.
 *
 * A blocked signal stays pending. Handlers run only at interruption points in any case; there, the
 * handlers of blocked signals do not run.
 *
 * @param how {@linkcode SIG_BLOCK}, {@linkcode SIG_UNBLOCK} or {@linkcode SIG_SETMASK}.
 * @param signals The signals' numbers. With none, `SIG_BLOCK` only reads the mask.
 * @returns The signals that were blocked before, in ascending order.
 * @throws {RangeError} If `how` or a signal is invalid.
 * @throws {SyscallError} If the kernel refuses.
 *
 * @example Block SIGUSR1 temporarily
 * ```ts
 * import { SIG_BLOCK, SIG_SETMASK, sigprocmask, SIGUSR1 } from "@tine/tine";
 *
 * const before = sigprocmask(SIG_BLOCK, [SIGUSR1]);
 * sigprocmask(SIG_SETMASK, before);
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/sigprocmask.2.html sigprocmask(2)}
 */
export function sigprocmask(how: number, signals: readonly number[] = []): number[] {
  for (const signum of signals) checkSignal(signum);
  const before = programSignals();
  const after = new Set(how === SIG_SETMASK ? [] : before);
  switch (how) {
    case SIG_BLOCK:
    case SIG_SETMASK:
      for (const signum of signals) after.add(signum);
      break;
    case SIG_UNBLOCK:
      for (const signum of signals) after.delete(signum);
      break;
    default:
      throw new RangeError(
        `Cannot change the signal mask with ${how}: expected SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK`,
      );
  }
  setKernelMask(sigset([...after, ...held]));
  // Some cannot be blocked, such as SIGKILL: that is no error.
  program = after.intersection(new Set(signalsIn(kernelMask())));
  programSet = undefined;
  return [...before].sort((a, b) => a - b);
}

/** Another name of {@linkcode sigprocmask}: the mask belongs to the thread. */
export const pthread_sigmask: typeof sigprocmask = sigprocmask;

/**
 * Stops holding signals that have no handler: this thread can receive them at any time again. For a
 * forked child, whose only thread this is.
 */
export function releaseSignals(signals: readonly number[]): void {
  const rest = held.difference(new Set(signals));
  setKernelMask(sigset([...programSignals(), ...rest]));
  held = rest;
}
