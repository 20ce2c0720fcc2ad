/**
 * A child without a runtime must not return to the event loop: the loop is the
 * parent's, and so is the code that waits in it.
 */
import { _exit, getpid } from "../process.ts";
import { rebuildEventLoop, surveyEventLoop } from "../runtime/event_loop.ts";
import { abandonTimers, after } from "../runtime/timers.ts";

// The state at the last fork, which the child inherits as it was.
let parent = 0;
let poolAtRest = false;
let queued = false;

/**
 * Ends a child with an error should its code ever return to the event loop.
 * Called in the parent, before the fork: it costs the child nothing.
 *
 * Only on its way to the loop does the child get one of its own, which leaves the
 * parent's alone, tells of an uncaught exception, and otherwise has this to do.
 *
 * @param poolIsAtRest Whether the child's copy of the runtime's pool can be used.
 */
export function leaveNoWayBack(poolIsAtRest: boolean): void {
  parent = getpid();
  poolAtRest = poolIsAtRest;
  // One promise job is enough for all children until the parent itself comes by.
  if (!queued) queueMicrotask(guard);
  queued = true;
}

/** In a child that has a runtime: it may return. */
export function allowWayBack(): void {
  parent = getpid();
}

function guard(): void {
  queued = false;
  if (getpid() === parent) return;
  // Deno tells of an exception only after its pool has shut down.
  if (!poolAtRest) endChild();
  rebuildEventLoop(surveyEventLoop());
  abandonTimers();
  // One turn later, for an exception is reported between two turns of the loop.
  after(0, () => after(0, endChild));
}

function endChild(): never {
  console.error(
    `error: forked child ${getpid()} returned to the event loop, where it has no place: ` +
      "end it with _exit(), or fork({ runtime: true }) to give it an event loop of its own",
  );
  _exit(1);
}
