// The zombie problem
//
// After a child has ended, the kernel keeps its exit status until the parent asks for it. This
// parent never does: until the parent ends too, ps lists the child as <defunct>, in state Z.
//
//   deno run --allow-ffi zombieprob.ts [child-seconds [parent-seconds]]
import { _exit, becomeForkable, fork, getpid, sleep } from "../../mod.ts";

becomeForkable();

const [childSeconds = "5", parentSeconds = "10"] = Deno.args;
for (const seconds of [childSeconds, parentSeconds]) {
  if (/^\d{1,9}(\.\d+)?$/.test(seconds)) continue;
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const CHILD_SECONDS = Number(childSeconds);
const PARENT_SECONDS = Number(parentSeconds);

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
