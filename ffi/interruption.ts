/**
 * Interruption points: the only places where a signal handler written in
 * TypeScript may run.
 *
 * Held signals (see `signal_mask.ts`) are blocked in every thread, so none can
 * arrive while JavaScript runs. A call that waits gives the kernel the
 * program's own mask for just that time, in one atomic step: `ppoll()`.
 */
import { isSyscallError, SyscallError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { programMask } from "./signal_mask.ts";
import { POLLFD_BYTES, timespec } from "./structs.ts";

/** Called with the number of the signal that arrived. */
export type SignalHandler = (signum: number) => void;

const handlers = new Map<number, SignalHandler>();
let handled: ReadonlySet<number> | undefined;
let running = false;
let thrown: { error: unknown } | undefined;

// One callback for all signals, made once and kept: the kernel holds its
// address, which a garbage collection must not free.
let entry: Deno.PointerValue = null;

/** The function that the kernel calls for every signal with a handler. */
export function handlerEntry(): Deno.PointerValue {
  entry ??= new Deno.UnsafeCallback(
    { parameters: ["i32"], result: "void" } as const,
    runHandler,
  ).pointer;
  return entry;
}

function runHandler(signum: number): void {
  running = true;
  try {
    handlers.get(signum)?.(signum);
  } catch (error) {
    // C cannot carry an exception: the interruption point throws it.
    thrown ??= { error };
  } finally {
    running = false;
  }
}

/** The handler of a signal, if it has one. */
export function handlerOf(signum: number): SignalHandler | undefined {
  return handlers.get(signum);
}

/** The signals that have a handler: another set each time that they change. */
export function handledSignals(): ReadonlySet<number> {
  return handled ??= new Set(handlers.keys());
}

/** Registers or removes what {@linkcode handlerEntry} runs for a signal. */
export function setHandler(signum: number, handler: SignalHandler | undefined): void {
  handled = undefined;
  if (handler === undefined) handlers.delete(signum);
  else handlers.set(signum, handler);
}

/** Whether a waiting call has to let handlers in: not inside one, they never nest. */
export function interruptible(): boolean {
  return handlers.size > 0 && !running;
}

/**
 * ppoll(2) with the program's own signal mask.
 *
 * @param syscall The call on whose behalf it waits, for the error.
 * @param object What that call is applied to, for the error.
 * @param fds An array of `struct pollfd`, or `null`.
 * @param milliseconds How long at most; `undefined` for ever.
 * @returns How many descriptors are ready; 0 when the time is over.
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws What the handler has thrown.
 */
export function waitInterruptibly(
  syscall: string,
  object: string,
  fds: Int32Array<ArrayBuffer> | null,
  milliseconds: number | undefined,
): number {
  const ready = libc().ppoll(
    fds,
    BigInt(fds === null ? 0 : fds.byteLength / POLLFD_BYTES),
    milliseconds === undefined ? null : timespec(milliseconds / 1000),
    running ? null : programMask(),
  );
  if (ready !== -1) return ready;
  const number = errno();
  if (thrown !== undefined) {
    const { error } = thrown;
    thrown = undefined;
    throw error;
  }
  throw new SyscallError(syscall, number, object);
}

/**
 * Runs the handler of a signal that is already pending.
 *
 * Needed before any call that may succeed at once: `ppoll()` prefers a ready
 * descriptor to a pending signal, so a busy server would never hear SIGCHLD.
 *
 * @throws {SyscallError} `EINTR` after a handler has run.
 * @throws What the handler has thrown.
 */
export function letSignalsIn(syscall: string, object = ""): void {
  if (interruptible()) waitInterruptibly(syscall, object, null, 0);
}

/**
 * Makes a call again for as long as it fails with `EINTR`, for code that has
 * nothing to do between two signals.
 *
 * @param call The call: an interruption point, whose handlers run as always.
 * @returns What it returns in the end.
 * @throws {SyscallError} Any other error of the call.
 *
 * @example Wait for a child, whatever else the signals announce
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

/** Lets other threads run for a tenth of a millisecond. No handler runs: not an interruption point. */
export function pauseBriefly(): void {
  libc().ppoll(null, 0n, timespec(0.0001), null);
}
