/**
 * Fact 3, after the fork: signals are held in the parent so that its handlers
 * run only at interruption points. A child holds those that have a handler, and
 * blocks nothing else that the program does not block itself.
 */
import { handlerOf } from "../interruption.ts";
import { heldSignals, holdSignals, programSignals, setKernelMask, sigset } from "../signal_mask.ts";

/** What a child holds and blocks, made by the parent so that the child has no work. */
export interface ChildMask {
  readonly held: ReadonlySet<number>;
  readonly program: ReadonlySet<number>;
  readonly kernel: Uint8Array<ArrayBuffer>;
}

/** What the next child is to hold and block; `undefined` when it is what the parent does. */
export function prepareChildMask(): ChildMask | undefined {
  const held = new Set([...heldSignals()].filter(handlerOf));
  if (held.size === heldSignals().size) return undefined;
  const program = programSignals();
  return { held, program, kernel: sigset([...program, ...held]) };
}

/** In the child: holds and blocks that. */
export function takeMask({ held, program, kernel }: ChildMask): void {
  setKernelMask(kernel);
  holdSignals(held, program);
}
