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
import { handledSignals } from "../interruption.ts";
import { libc } from "../libc.ts";
import { SIGACTION_BYTES } from "../signal.ts";
import {
  heldSignals,
  holdSignals,
  kernelMask,
  programSignals,
  setKernelMask,
  sigset,
  SIGSET_BYTES,
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
}

const EVERY_SIGNAL = new Uint8Array(SIGSET_BYTES).fill(0xff);
const DEFAULT_ACTION = new Uint8Array(SIGACTION_BYTES);

let plan: ChildSignals | undefined;
// What the plan was made from: each is replaced when it changes.
let madeFrom: readonly unknown[] = [];

/** What the next child is to do; made anew only where something has changed since the last. */
export function planChildSignals(): ChildSignals {
  const program = programSignals();
  const handled = handledSignals();
  const foreign = foreignSignals(handled);
  const from = [heldSignals(), program, handled, foreign];
  if (plan !== undefined && from.every((part, i) => part === madeFrom[i])) return plan;
  const held = heldSignals().intersection(handled);
  const isParents = foreign === 0 && held.size === heldSignals().size;
  madeFrom = from;
  return plan = {
    held,
    program,
    kernel: isParents ? undefined : sigset([...program, ...held]),
    foreign: LISTENABLE.filter((_, i) => foreign & (1 << i)),
  };
}

let mask: Uint8Array<ArrayBuffer> | undefined;

/** In the parent, before the fork: a signal between it and the child's new action would be lost. */
export function blockForeign({ foreign }: ChildSignals): void {
  if (foreign.length === 0) return;
  mask = kernelMask();
  setKernelMask(EVERY_SIGNAL);
}

/** In the parent, after the fork. */
export function unblockForeign(): void {
  if (mask !== undefined) setKernelMask(mask);
  mask = undefined;
}

/** In the child, first of all. */
export function takeSignals({ held, program, kernel, foreign }: ChildSignals): void {
  if (kernel === undefined) return;
  for (const signum of foreign) check(libc().sigaction(signum, DEFAULT_ACTION, null), "sigaction");
  setKernelMask(kernel);
  holdSignals(held, program);
  mask = undefined;
}

const action = new Uint8Array(new ArrayBuffer(SIGACTION_BYTES));
const handler = new Uint32Array(action.buffer, 0, 2);

/** The signals with a handler that is not ours, as bits that count places in the list. */
function foreignSignals(handled: ReadonlySet<number>): number {
  const { sigaction } = libc();
  let bits = 0;
  for (let i = 0; i < LISTENABLE.length; i++) {
    const signum = LISTENABLE[i]!;
    check(sigaction(signum, null, action), "sigaction");
    // SIG_DFL is 0, SIG_IGN is 1, and all else the address of a function.
    if ((handler[0]! > 1 || handler[1] !== 0) && !handled.has(signum)) bits |= 1 << i;
  }
  return bits;
}
