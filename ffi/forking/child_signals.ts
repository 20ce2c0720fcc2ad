/**
 * Fact 3, around the fork. A child holds the signals that have a handler, and blocks no others
 * except those that the program itself blocks.
 *
 * The runtime has handlers too: half a second after it first polls its event loop, Deno handles
 * SIGHUP, SIGINT, SIGTERM and SIGUSR1 by writing to a thread. A child inherits the handlers and the
 * socket, but not the thread: the parent's thread would receive the child's signal. The child
 * therefore gets the default action.
 */
import { check } from "../errno.ts";
import { handledSignals } from "../interruption.ts";
import { libc } from "../libc.ts";
import { SIGACTION_BYTES } from "../signal.ts";
import {
  heldSignals,
  holdSignals,
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
  SIGURG,
  SIGUSR1,
  SIGUSR2,
  SIGWINCH,
} from "../signals.ts";

// The signals that a program can listen to. SIGSEGV and the like belong to the runtime in a child
// too.
const LISTENABLE = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGCONT]
  .concat([SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, SIGIO, SIGPWR]);

/** Signals whose delivery has no effect while nothing handles them. */
const IGNORED_BY_DEFAULT: ReadonlySet<number> = new Set([SIGCHLD, SIGCONT, SIGURG, SIGWINCH]);

/** How a child gets its own signal mask and actions. */
export interface ChildSignals {
  /** The signals that the parent holds. */
  readonly parentsHeld: ReadonlySet<number>;
  /** The child's signals; `undefined` if they are the same as the parent's. */
  readonly childs:
    | { readonly held: ReadonlySet<number>; readonly kernel: Uint8Array<ArrayBuffer> }
    | undefined;
  /** The signals that the runtime handles in the parent. */
  readonly foreign: readonly number[];
  /**
   * Whether the child must set its signals itself. Usually the parent sets them for a moment, so
   * that the child starts with them: work in a new child is the most expensive, because of a page
   * fault for each page that it touches.
   */
  readonly childsWork: boolean;
}

const EVERY_SIGNAL = new Uint8Array(SIGSET_BYTES).fill(0xff);
const DEFAULT_ACTION = new Uint8Array(SIGACTION_BYTES);

let plan: ChildSignals | undefined;
// The inputs of the plan. Each is replaced when it changes.
let madeFrom: readonly unknown[] = [];

/** Returns the plan for the next child. It is recomputed only if something has changed. */
export function planChildSignals(): ChildSignals {
  const program = programSignals();
  const handled = handledSignals();
  const foreign = foreignSignals(handled);
  const from = [heldSignals(), program, handled, foreign];
  if (plan !== undefined && from.every((part, i) => part === madeFrom[i])) return plan;
  const parentsHeld = heldSignals();
  const held = parentsHeld.intersection(handled);
  const isParents = foreign === 0 && held.size === parentsHeld.size;
  madeFrom = from;
  return plan = {
    parentsHeld,
    childs: isParents ? undefined : { held, kernel: sigset([...program, ...held]) },
    foreign: LISTENABLE.filter((_, i) => foreign & (1 << i)),
    childsWork: foreign !== 0 || !parentsHeld.difference(held).isSubsetOf(IGNORED_BY_DEFAULT),
  };
}

// The parent's mask during the fork.
const parentsMask = new Uint8Array(SIGSET_BYTES);

/** Sets the child's signals. Called in the parent, before the fork. */
export function lendSignals({ childs, childsWork }: ChildSignals): void {
  if (childs === undefined) return;
  // A signal between the fork and the child's new action would be lost.
  setKernelMask(childsWork ? EVERY_SIGNAL : childs.kernel, parentsMask);
  if (!childsWork) holdSignals(childs.held, programSignals());
}

/** Restores the parent's signals. Called in the parent, after the fork. */
export function regainSignals({ parentsHeld, childs }: ChildSignals): void {
  if (childs === undefined) return;
  setKernelMask(parentsMask);
  holdSignals(parentsHeld, programSignals());
}

/** Sets the child's signals. Called in the child, before anything else. */
export function takeSignals({ childs, foreign }: ChildSignals): void {
  for (const signum of foreign) check(libc().sigaction(signum, DEFAULT_ACTION, null), "sigaction");
  if (childs === undefined) return;
  setKernelMask(childs.kernel);
  holdSignals(childs.held, programSignals());
}

const action = new Uint8Array(new ArrayBuffer(SIGACTION_BYTES));
const handler = new Uint32Array(action.buffer, 0, 2);

/** Returns the signals with a handler that is not tine's, as a bit set of indexes into the list. */
function foreignSignals(handled: ReadonlySet<number>): number {
  const { sigaction } = libc();
  let bits = 0;
  for (let i = 0; i < LISTENABLE.length; i++) {
    const signum = LISTENABLE[i]!;
    check(sigaction(signum, null, action), "sigaction");
    // SIG_DFL is 0, SIG_IGN is 1; any other value is the address of a function.
    if ((handler[0]! > 1 || handler[1] !== 0) && !handled.has(signum)) bits |= 1 << i;
  }
  return bits;
}
