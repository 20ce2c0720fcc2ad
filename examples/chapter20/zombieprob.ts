// The zombie problem
//
// What is left of a child that has ended is its exit status, kept by the kernel until the parent
// asks for it. This parent never does: from the child's end to its own, ps lists the child as
// <defunct>, in state Z.
import { _exit, becomeForkable, fork, getpid, sleep } from "../../mod.ts";

becomeForkable();

const CHILD_SECONDS = Number(Deno.args[0] ?? 5);
if (!(CHILD_SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[0]} seconds`);
const PARENT_SECONDS = Number(Deno.args[1] ?? 10);
if (!(PARENT_SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[1]} seconds`);

console.log(`Before the fork, my PID is ${getpid()}`);

const pid = fork();
if (pid !== 0) { // parent
  console.log(`Hello from the parent. The child will be PID ${pid}`);
  console.log(`Sleeping ${PARENT_SECONDS} seconds...`);
  sleep(PARENT_SECONDS);
  console.log("Sleep done.");
} else { // child
  console.log(`Child sleeping ${CHILD_SECONDS} seconds...`);
  sleep(CHILD_SECONDS);
  _exit(0);
}
