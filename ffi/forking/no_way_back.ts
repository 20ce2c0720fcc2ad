/**
 * A child without a runtime must not return to the event loop: the loop and the code that is
 * pending in it belong to the parent.
 */
import { isSyscallError } from "../errno.ts";
import { _exit, getpid } from "../process.ts";
import { findStrangeLoop, rebuildEventLoop, surveyEventLoop } from "../runtime/event_loop.ts";
import { abandonTimers, after } from "../runtime/timers.ts";

// The state at the last fork, which the child inherits unchanged.
/** The process to which the event loop belongs; 0 before the first fork. */
let owner = 0;
let poolAtRest = false;
let queued = false;

/**
 * Ends a child with an error if its code ever returns to the event loop. Called in the parent,
 * before the fork, so that it costs the child nothing.
 *
 * Only when it returns to the loop does the child get a loop of its own, which does not affect the
 * parent's, reports an uncaught exception, and otherwise runs this check.
 *
 * @param poolIsAtRest Whether the child's copy of the runtime's pool can be used.
 */
export function leaveNoWayBack(poolIsAtRest: boolean): void {
  // A child that forks does not get the loop by that, nor a pool at rest if it was copied without.
  const isOwner = owner === 0 || owner === getpid();
  if (isOwner) owner = getpid();
  poolAtRest = poolIsAtRest && (isOwner || poolAtRest);
  // One promise job is enough for all children until the parent itself runs it.
  if (!queued) queueMicrotask(guard);
  queued = true;
}

/** Allows the return to the event loop. Called in a child that has a runtime. */
export function allowWayBack(): void {
  owner = getpid();
}

function guard(): void {
  queued = false;
  if (getpid() === owner) return;
  // Deno reports an exception only after its pool has shut down.
  if (!poolAtRest || !leaveParentsLoop()) endChild();
  abandonTimers();
  // Wait one turn more, because an exception is reported between two turns of the loop.
  after(0, () => after(0, endChild));
}

/** Gives the child an event loop of its own. Returns false if the parent's cannot be told. */
function leaveParentsLoop(): boolean {
  try {
    const survey = surveyEventLoop();
    if (findStrangeLoop(survey) !== undefined) return false;
    rebuildEventLoop(survey);
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}

function endChild(): never {
  console.error(
    `error: forked child ${getpid()} returned to the event loop, which only its parent can run: ` +
      "end it with _exit(), or call fork({ runtime: true }) to give it an event loop of its own",
  );
  _exit(1);
}
