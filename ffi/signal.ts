import { check } from "./errno.ts";
import { handlerEntry, handlerOf, setHandler, type SignalHandler } from "./interruption.ts";
import { libc } from "./libc.ts";
import { heldSignals, sigset, SIGSET_BYTES } from "./signal_mask.ts";
import { checkSignal, SIGCHLD, SIGKILL, signalName, SIGSTOP } from "./signals.ts";

/** Perform the signal's default action, signal(7). */
export const SIG_DFL: unique symbol = Symbol("SIG_DFL");
/** Ignore the signal. */
export const SIG_IGN: unique symbol = Symbol("SIG_IGN");

/** An action for {@linkcode signal}: a function, {@linkcode SIG_IGN} or {@linkcode SIG_DFL}. */
export type SignalAction = SignalHandler | typeof SIG_IGN | typeof SIG_DFL;

/** `struct sigaction`: handler (8), sa_mask (128), sa_flags (4 + 4), sa_restorer (8). */
export const SIGACTION_BYTES = 8 + SIGSET_BYTES + 16;

/**
 * Sets what happens when a signal arrives.
 *
 * A function runs only at interruption points (`accept poll pause sleep nanosleep wait waitpid recv
 * connect`), which then fail with `EINTR`. It never interrupts other code or another handler, and
 * an exception that it throws is thrown by the interruption point. If several signals are pending,
 * the handler of each runs, once. A signal that arrives at another time stays pending, once.
 *
 * A forked child inherits the handlers. It no longer blocks other signals: to handle one of them, it
 * calls {@linkcode becomeForkable} again, with the signal, which runs nothing again there.
 *
 * @param signum The signal's number.
 * @param action A function that is called with the number, {@linkcode SIG_IGN} or
 *   {@linkcode SIG_DFL}.
 * @returns The previous action; {@linkcode SIG_DFL} if the runtime handled the signal.
 * @throws {Error} If a function is given for a signal that the runtime's threads do not block,
 *   because it was not passed to `becomeForkable()`, or not in this child.
 * @throws {RangeError} If there is no such signal.
 * @throws {TypeError} If the action is none of the three.
 * @throws {SyscallError} `EINVAL` for SIGKILL and SIGSTOP.
 *
 * @example Reap every child, as webserver3g does
 * ```ts ignore
 * import { becomeForkable, SIGCHLD, signal, waitpid, WNOHANG } from "@tine/tine";
 *
 * becomeForkable();
 * signal(SIGCHLD, () => {
 *   while (waitpid(-1, WNOHANG).pid !== 0);
 * });
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/signal.2.html signal(2)}
 */
export function signal(signum: number, action: SignalAction): SignalAction {
  checkSignal(signum);
  const name = signalName(signum);
  if (typeof action !== "function" && action !== SIG_IGN && action !== SIG_DFL) {
    throw new TypeError(
      `Cannot handle ${name} with ${Deno.inspect(action)}: expected a function, SIG_IGN or SIG_DFL`,
    );
  }
  const isHandleable = signum !== SIGKILL && signum !== SIGSTOP; // the kernel will say so
  if (typeof action === "function" && isHandleable && !heldSignals().has(signum)) {
    throw new Error(
      `Cannot handle ${name}: a thread of the runtime could receive it. Name it in the first ` +
        `line of the program, and of a child that is to handle it: becomeForkable({ signals: [${
          [...new Set([SIGCHLD, ...heldSignals(), signum])].map(signalName).join(", ")
        }] })`,
    );
  }
  const before = new Uint8Array(SIGACTION_BYTES);
  check(libc().sigaction(signum, sigaction(action), before), "signal", name);
  const handler = handlerOf(signum);
  setHandler(signum, typeof action === "function" ? action : undefined);
  if (handler !== undefined) return handler;
  return isIgnoring(before) ? SIG_IGN : SIG_DFL;
}

/** Whether a signal is ignored, because of this program or of the one that started it. */
export function isIgnored(signum: number): boolean {
  const action = new Uint8Array(SIGACTION_BYTES);
  check(libc().sigaction(signum, null, action), "sigaction", signalName(signum));
  return isIgnoring(action);
}

function isIgnoring(action: Uint8Array<ArrayBuffer>): boolean {
  return new DataView(action.buffer).getBigUint64(0, true) === 1n;
}

function sigaction(action: SignalAction): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SIGACTION_BYTES);
  const handler = action === SIG_DFL
    ? 0n
    : action === SIG_IGN
    ? 1n
    : BigInt(Deno.UnsafePointer.value(handlerEntry()));
  new DataView(bytes.buffer).setBigUint64(0, handler, true);
  // A handler is not interrupted by another held signal. No SA_RESTART: the article's lesson is the
  // call that fails with EINTR.
  bytes.set(sigset(heldSignals()), 8);
  return bytes;
}
