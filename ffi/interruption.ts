/**
 * Interruption points: the only places where a signal handler written in TypeScript may run.
 *
 * Held signals (see `signal_mask.ts`) are blocked in every thread, so that none arrives while
 * JavaScript runs. Only while a call waits does the kernel use the program's own mask: `ppoll()`
 * changes the mask and waits in one atomic step.
 */
import { isSyscallError, SyscallError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { programMask, programSignals, sigset } from "./signal_mask.ts";
import { POLLFD_BYTES, timespec } from "./structs.ts";

/** Called with the number of the signal that arrived. */
export type SignalHandler = (signum: number) => void;

const handlers = new Map<number, SignalHandler>();
let handled: ReadonlySet<number> | undefined;
let running = false;
let thrown: { error: unknown } | undefined;
/** The signals whose handlers have run at this interruption point. */
let ran: number[] = [];

// One callback for all signals, created once and kept: the kernel has its address, so it must not
// be garbage-collected.
let entry: Deno.PointerValue = null;

/** Returns the address of the function that the kernel calls for each signal with a handler. */
export function handlerEntry(): Deno.PointerValue {
  entry ??= new Deno.UnsafeCallback(
    { parameters: ["i32"], result: "void" } as const,
    runHandler,
  ).pointer;
  return entry;
}

function runHandler(signum: number): void {
  running = true;
  ran.push(signum);
  try {
    handlers.get(signum)?.(signum);
  } catch (error) {
    // An exception cannot pass through C: the interruption point throws it.
    thrown ??= { error };
  } finally {
    running = false;
  }
}

/** Returns the handler of a signal; `undefined` if it has none. */
export function handlerOf(signum: number): SignalHandler | undefined {
  return handlers.get(signum);
}

/** Returns the signals that have a handler. It is a new set whenever they change. */
export function handledSignals(): ReadonlySet<number> {
  return handled ??= new Set(handlers.keys());
}

/** Sets or removes the handler that {@linkcode handlerEntry} runs for a signal. */
export function setHandler(signum: number, handler: SignalHandler | undefined): void {
  handled = undefined;
  if (handler === undefined) handlers.delete(signum);
  else handlers.set(signum, handler);
}

/** Whether a waiting call must let handlers run. Not inside a handler: they never nest. */
export function interruptible(): boolean {
  return handlers.size > 0 && !running;
}

/**
 * Calls ppoll(2) with the program's own signal mask. If a handler has run, those of all other
 * pending signals run as well: of several, the kernel delivers the lowest, and one that arrives again
 * and again would keep the others from being handled.
 *
 * @param syscall The system call that waits, for the error message.
 * @param object What that call is applied to, for the error message.
 * @param fds An array of `struct pollfd`, or `null`.
 * @param milliseconds The time limit; `undefined` for none.
 * @returns The number of descriptors that are ready; 0 if the time limit expired.
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws The exception of the handler, if it threw one.
 */
export function waitInterruptibly(
  syscall: string,
  object: string,
  fds: Int32Array<ArrayBuffer> | null,
  milliseconds: number | undefined,
): number {
  const isOutermost = !running;
  if (isOutermost && ran.length > 0) ran = [];
  const ready = libc().ppoll(
    fds,
    BigInt(fds === null ? 0 : fds.byteLength / POLLFD_BYTES),
    milliseconds === undefined ? null : timespec(milliseconds / 1000),
    running ? null : programMask(),
  );
  if (ready !== -1) return ready;
  const number = errno();
  if (isOutermost) runOthers();
  if (thrown !== undefined) {
    const { error } = thrown;
    thrown = undefined;
    throw error;
  }
  throw new SyscallError(syscall, number, object);
}

/** Runs the handlers of the signals that are still pending, each once. */
function runOthers(): void {
  while (thrown === undefined && ran.length > 0 && ran.length < handlers.size) {
    const before = ran.length;
    libc().ppoll(null, 0n, timespec(0), sigset([...programSignals(), ...ran]));
    if (ran.length === before) return;
  }
}

/**
 * Runs the handler of a signal that is already pending.
 *
 * Required before any call that may succeed immediately: `ppoll()` prefers a ready descriptor to a
 * pending signal, so that a busy server would never handle SIGCHLD.
 *
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws The exception of the handler, if it threw one.
 */
export function letSignalsIn(syscall: string, object = ""): void {
  if (interruptible()) waitInterruptibly(syscall, object, null, 0);
}

/**
 * Repeats a call while it fails with `EINTR`, for code that has nothing to do after a signal.
 *
 * @param call The call, which is an interruption point. Its handlers run as usual.
 * @returns The result of the first call that does not fail with `EINTR`.
 * @throws {SyscallError} Any other error of the call.
 *
 * @example Wait for a child, even if other signals arrive
 * ```ts
 * import { retryOnEintr, SyscallError, wait } from "@tine/tine";
 *
 * try {
 *   console.log(retryOnEintr(() => wait()));
 * } catch (error) {
 *   if (!(error instanceof SyscallError && error.code === "ECHILD")) throw error;
 * }
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man7/signal.7.html signal(7)}, "Interruption of
 *   system calls"
 */
export function retryOnEintr<T>(call: () => T): T {
  for (;;) {
    try {
      return call();
    } catch (error) {
      if (!isSyscallError(error, "EINTR")) throw error;
    }
  }
}

/** Lets other threads run for a tenth of a millisecond. Not an interruption point. */
export function pauseBriefly(): void {
  libc().ppoll(null, 0n, timespec(0.0001), null);
}
