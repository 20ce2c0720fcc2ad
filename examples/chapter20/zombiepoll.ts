// The zombie problem, solved by polling
//
// Without a handler, nothing interrupts the parent, and it reaps ended children when it chooses. A
// child that ends during the first sleep is a zombie until that sleep is over. During the second
// sleep, ps does not show it.
//
//   deno run --allow-ffi zombiepoll.ts [child-seconds [parent-seconds]]
import { _exit, becomeForkable, fork, getpid, sleep, waitpid, WNOHANG } from "../../mod.ts";

becomeForkable();

const [childSeconds = "5", parentSeconds = "60"] = Deno.args;
for (const seconds of [childSeconds, parentSeconds]) {
  if (/^\d{1,9}(\.\d+)?$/.test(seconds)) continue;
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const CHILD_SECONDS = Number(childSeconds);
const PARENT_SECONDS = Number(parentSeconds);

function reap(): void {
  for (;;) {
    let pid: number;
    try {
      ({ pid } = waitpid(-1, WNOHANG)); // any child, without waiting
    } catch {
      return; // ECHILD: no more children
    }
    if (pid === 0) return; // no more zombies
    console.log(`Reaped child process ${pid}`);
  }
}

console.log(`Before the fork, my PID is ${getpid()}`);

const pid = fork();
if (pid !== 0) { // parent
  console.log(`Hello from the parent. The child will be PID ${pid}`);
  console.log(`Parent sleeping ${PARENT_SECONDS} seconds...`);
  sleep(PARENT_SECONDS);
  console.log("Parent sleep done.");
  reap();
  console.log(`Parent sleeping ${PARENT_SECONDS} seconds...`);
  sleep(PARENT_SECONDS);
  console.log("Parent sleep done.");
} else { // child
  console.log(`Child sleeping ${CHILD_SECONDS} seconds...`);
  sleep(CHILD_SECONDS);
  console.log("Child terminating.");
  _exit(0);
}
