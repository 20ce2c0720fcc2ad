// Deadlock
//
// Two children need the same two locks. If they take them in opposite orders ("opposite"), each
// gets one and waits for the other, forever. If both take them in the same order ("same"), the one
// that is first gets both, and then the other one does.
//
// The exit code is the number of children that did not end with both locks.
//
//   deno run --allow-ffi deadlock.ts file other [opposite|same [seconds]]
import {
  _exit,
  becomeForkable,
  fork,
  LOCK_EX,
  O_CREAT,
  O_RDWR,
  open,
  sleep,
  wait,
} from "../../../mod.ts";

becomeForkable();

const [file, other, order = "opposite", seconds = "1"] = Deno.args;
if (
  file === undefined || other === undefined || !/^(opposite|same)$/.test(order) ||
  !/^\d{1,9}(\.\d+)?$/.test(seconds)
) {
  console.error("Usage: deno run --allow-ffi deadlock.ts file other [opposite|same [seconds]]");
  Deno.exit(2);
}
const SECONDS = Number(seconds);

const needs = order === "opposite"
  ? [[file, other], [other, file]]
  : [[file, other], [file, other]];

for (const [first, second] of needs) {
  const pid = fork();
  if (pid !== 0) continue; // parent
  const one = open(first!, O_RDWR | O_CREAT);
  const two = open(second!, O_RDWR | O_CREAT);
  one.flock(LOCK_EX);
  sleep(SECONDS); // work that needs the first lock only
  two.flock(LOCK_EX);
  _exit(0); // closes both files: the locks are released
}

let failed = 0;
for (const _ of needs) {
  const { status } = wait();
  if (status.kind !== "exited" || status.code !== 0) failed++;
}
Deno.exit(failed);
