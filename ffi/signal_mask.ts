/**
 * The signal mask, twice: the one that the program sees and the one that the
 * kernel has.
 *
 * Signals with a TypeScript handler are **held**: blocked in every thread since
 * the process was executed, and let in only by {@linkcode letSignalsIn}'s mask.
 * The program's own mask says which of them it would let in there.
 */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { checkSignal, SIGNAL_MAX } from "./signals.ts";

/** `sigprocmask()` adds the signals to the mask. */
export const SIG_BLOCK = 0;
/** `sigprocmask()` takes the signals out of the mask. */
export const SIG_UNBLOCK = 1;
/** `sigprocmask()` makes the signals the mask. */
export const SIG_SETMASK = 2;

/** The bytes of a `sigset_t`. */
export const SIGSET_BYTES = 128;

/** A set of signal numbers as a `sigset_t`. */
export function sigset(signals: Iterable<number>): Uint8Array<ArrayBuffer> {
  const set = new Uint8Array(SIGSET_BYTES);
  for (const signum of signals) {
    checkSignal(signum);
    set[(signum - 1) >> 3]! |= 1 << ((signum - 1) & 7);
  }
  return set;
}

/** The signal numbers in a `sigset_t`, ascending. */
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

/** The signals that every thread blocks, so that a handler may be installed. */
export function heldSignals(): ReadonlySet<number> {
  return held;
}

/**
 * Declares which signals every thread of this process blocks, and what the
 * program's own mask was before that.
 */
export function holdSignals(
  signals: ReadonlySet<number>,
  programMask: ReadonlySet<number>,
): void {
  held = signals;
  if (programMask !== program) programSet = undefined;
  program = programMask;
}

/** The program's own mask as a `sigset_t`: what a waiting call lets through. */
export function programMask(): Uint8Array<ArrayBuffer> {
  return programSet ??= sigset(programSignals());
}

/** The signals that the program itself blocks. */
export function programSignals(): ReadonlySet<number> {
  return program ??= new Set(signalsIn(kernelMask()));
}

/** The mask that the kernel has for the calling thread. */
export function kernelMask(): Uint8Array<ArrayBuffer> {
  const set = new Uint8Array(SIGSET_BYTES);
  check(libc().pthread_sigmask(SIG_BLOCK, null, set), "sigprocmask");
  return set;
}

/**
 * Gives the calling thread this mask in the kernel.
 *
 * @param set The mask.
 * @param before Where the mask before it is written to.
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
 * A blocked signal stays pending. Handlers run only at interruption points in
 * any case; there, those of blocked signals wait.
 *
 * @param how {@linkcode SIG_BLOCK}, {@linkcode SIG_UNBLOCK} or {@linkcode SIG_SETMASK}.
 * @param signals The signals' numbers. With none, `SIG_BLOCK` only reads the mask.
 * @returns The signals that were blocked before, ascending.
 * @throws {RangeError} When `how` or a signal is not valid.
 * @throws {SyscallError} When the kernel refuses.
 *
 * @example Keep SIGUSR1 out for a while
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
  program = after;
  programSet = undefined;
  return [...before].sort((a, b) => a - b);
}

/** Another name of {@linkcode sigprocmask}: the mask belongs to the thread. */
export const pthread_sigmask: typeof sigprocmask = sigprocmask;

/**
 * Gives up holding signals that have no handler: they reach this thread again at
 * any time. For a forked child, whose only thread this is.
 */
export function releaseSignals(signals: readonly number[]): void {
  const rest = held.difference(new Set(signals));
  setKernelMask(sigset([...programSignals(), ...rest]));
  held = rest;
}
