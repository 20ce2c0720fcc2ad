// The zombie problem, solved with a signal handler
//
// The kernel sends SIGCHLD to the parent when a child ends, and the handler asks for the exit
// status immediately. It also interrupts the parent's sleep, which therefore never lasts its whole
// time.
//
//   deno run --allow-ffi zombiesol.ts [child-seconds [parent-seconds]]
import {
  _exit,
  becomeForkable,
  fork,
  getpid,
  SIGCHLD,
  signal,
  sleep,
  waitpid,
  WNOHANG,
} from "../../mod.ts";

becomeForkable();

const [childSeconds = "5", parentSeconds = "10"] = Deno.args;
for (const seconds of [childSeconds, parentSeconds]) {
  if (/^\d{1,9}(\.\d+)?$/.test(seconds)) continue;
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const CHILD_SECONDS = Number(childSeconds);
const PARENT_SECONDS = Number(parentSeconds);

function chldHandler(): void {
  // Some systems call a handler only once. Linux does not; there, this has no effect.
  signal(SIGCHLD, chldHandler);

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

signal(SIGCHLD, chldHandler);

console.log(`Before the fork, my PID is ${getpid()}`);

const pid = fork();
if (pid !== 0) { // parent
  console.log(`Hello from the parent. The child will be PID ${pid}`);
  console.log(`Sleeping ${PARENT_SECONDS} seconds...`);
  sleep(PARENT_SECONDS); // returns what is left of them once the handler has run
  console.log("Sleep done.");
} else { // child
  console.log(`Child sleeping ${CHILD_SECONDS} seconds...`);
  sleep(CHILD_SECONDS);
  _exit(0);
}
