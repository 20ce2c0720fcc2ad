/**
 * Fact 3, around the fork. A child holds the signals that have a handler, and
 * blocks nothing else that the program does not block itself.
 *
 * The runtime has handlers too: half a second after it first polls its event
 * loop, Deno handles SIGHUP, SIGINT, SIGTERM and SIGUSR1, by writing to a thread. A
 * child inherits the handlers and the socket, but not the thread: it would not
 * hear the signal, and the parent's thread would. So it gets the default action.
 */
import { check } from "../errno.ts";
import { handlerOf } from "../interruption.ts";
import { libc } from "../libc.ts";
import { isIgnoredOrDefault, SIGACTION_BYTES } from "../signal.ts";
import {
  heldSignals,
  holdSignals,
  kernelMask,
  programSignals,
  setKernelMask,
  sigset,
} from "../signal_mask.ts";
import {
  SIGALRM,
  SIGCHLD,
  SIGCONT,
  SIGHUP,
  SIGINT,
  SIGIO,
  SIGPWR,
  SIGQUIT,
  SIGTERM,
  SIGTSTP,
  SIGTTIN,
  SIGTTOU,
  SIGUSR1,
  SIGUSR2,
  SIGWINCH,
} from "../signals.ts";

// Those that a program can listen to. SIGSEGV and its like are the runtime's in a child too.
const LISTENABLE = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGCONT]
  .concat([SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, SIGIO, SIGPWR]);

/** What a child does about signals, worked out by the parent so that the child has no work. */
export interface ChildSignals {
  readonly held: ReadonlySet<number>;
  readonly program: ReadonlySet<number>;
  /** The child's mask in the kernel; nothing if it is the parent's. */
  readonly kernel: Uint8Array<ArrayBuffer> | undefined;
  /** The signals that the runtime handles in the parent. */
  readonly foreign: readonly number[];
  /** The parent's mask, when everything is blocked for the time of the fork. */
  readonly before: Uint8Array<ArrayBuffer> | undefined;
}

const EVERY_SIGNAL = new Uint8Array(128).fill(0xff);
const DEFAULT_ACTION = new Uint8Array(SIGACTION_BYTES);
const action = new Uint8Array(SIGACTION_BYTES);

/** In the parent, right before the fork. */
export function prepareChildSignals(): ChildSignals {
  const held = new Set([...heldSignals()].filter(handlerOf));
  const program = programSignals();
  const foreign = LISTENABLE.filter((signum) =>
    handlerOf(signum) === undefined && isForeign(signum)
  );
  // A signal between the fork and the new action would be lost.
  const before = foreign.length > 0 ? kernelMask() : undefined;
  if (before !== undefined) setKernelMask(EVERY_SIGNAL);
  const same = before === undefined && held.size === heldSignals().size;
  return {
    held,
    program,
    kernel: same ? undefined : sigset([...program, ...held]),
    foreign,
    before,
  };
}

/** In the parent, after the fork. */
export function restoreSignals({ before }: ChildSignals): void {
  if (before !== undefined) setKernelMask(before);
}

/** In the child, first of all. */
export function takeSignals({ held, program, kernel, foreign }: ChildSignals): void {
  if (kernel === undefined) return;
  for (const signum of foreign) check(libc().sigaction(signum, DEFAULT_ACTION, null), "sigaction");
  setKernelMask(kernel);
  holdSignals(held, program);
}

function isForeign(signum: number): boolean {
  check(libc().sigaction(signum, null, action), "sigaction");
  return !isIgnoredOrDefault(action);
}
