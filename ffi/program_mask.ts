/** The program's own signal mask in the kernel, for as long as one call takes. */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { getpid, kill } from "./process.ts";
import { isIgnored, SIGACTION_BYTES } from "./signal.ts";
import { heldSignals, programSignals, setKernelMask, sigset, SIGSET_BYTES } from "./signal_mask.ts";
import { signalName } from "./signals.ts";

const SA_SIGINFO = 4;
const SA_RESTART = 0x1000_0000;
/** Where `sa_flags` is in a `struct sigaction`. */
const FLAGS = 8 + SIGSET_BYTES;

let isLent = false;

/**
 * Makes a call during which this thread does not block the held signals, so that a process that the
 * call starts does not either: it inherits the mask.
 *
 * A held signal that arrives meanwhile stays pending. No TypeScript may run where it arrives, so its
 * handler is a function of libc: `siginterrupt()` clears `SA_RESTART` in the action of the signal
 * that it is given, which tells afterwards that the signal has arrived, and it is sent again. That
 * its second argument, the address of a `siginfo_t`, is not 0 means that it clears the flag. A signal
 * that is ignored remains blocked, so that the process that is started ignores it, too.
 *
 * The call should create no thread, which would not block the signals either.
 *
 * @param call The call.
 * @returns What it returns.
 */
export function withProgramMask<T>(call: () => T): T {
  const held = heldSignals();
  if (isLent || held.size === 0) return call();
  const open = [...held.difference(programSignals())].filter((signum) => !isIgnored(signum));
  const recording = recordingAction(open);
  const before = new Uint8Array(SIGSET_BYTES);
  const actions = open.map((signum) => [signum, exchangeAction(signum, recording)] as const);
  isLent = true;
  setKernelMask(sigset(held.union(programSignals()).difference(new Set(open))), before);
  try {
    return call();
  } finally {
    setKernelMask(before);
    isLent = false;
    for (const [signum, action] of actions) {
      const now = exchangeAction(signum, null);
      // The runtime may have set a handler of its own meanwhile.
      if (!isSameHandler(now, recording)) continue;
      exchangeAction(signum, action);
      if ((flagsOf(now) & SA_RESTART) === 0) kill(getpid(), signum);
    }
  }
}

function recordingAction(signals: readonly number[]): Uint8Array<ArrayBuffer> {
  const action = new Uint8Array(SIGACTION_BYTES);
  const view = new DataView(action.buffer);
  view.setBigUint64(0, BigInt(Deno.UnsafePointer.value(libc().siginterrupt)), true);
  action.set(sigset(signals), 8);
  view.setUint32(FLAGS, SA_SIGINFO | SA_RESTART, true);
  return action;
}

/** Sets the action of a signal, if one is given, and returns the one before. */
function exchangeAction(
  signum: number,
  action: Uint8Array<ArrayBuffer> | null,
): Uint8Array<ArrayBuffer> {
  const before = new Uint8Array(SIGACTION_BYTES);
  check(libc().sigaction(signum, action, before), "sigaction", signalName(signum));
  return before;
}

function isSameHandler(one: Uint8Array, other: Uint8Array): boolean {
  return one.subarray(0, 8).every((byte, i) => byte === other[i]);
}

function flagsOf(action: Uint8Array<ArrayBuffer>): number {
  return new DataView(action.buffer).getUint32(FLAGS, true);
}
