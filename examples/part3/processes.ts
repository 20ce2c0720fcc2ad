// Processes
//
// Every process has a number (PID) and a parent (PPID). The parent of this process is the shell
// that started it; the parent of the child that it forks is this process. Both sleep for a while,
// so that ps can show them.
//
//   deno run --allow-ffi processes.ts [seconds]
import { _exit, becomeForkable, fork, getpid, getppid, sleep, waitpid } from "../../mod.ts";

becomeForkable();

const [seconds = "60"] = Deno.args;
if (!/^\d{1,9}(\.\d+)?$/.test(seconds)) {
  console.error(`Cannot sleep for "${seconds}" seconds: expected a number such as 60 or 0.5`);
  Deno.exit(2);
}
const SECONDS = Number(seconds);

console.log(`PID: ${getpid()}. Parent PID ${getppid()}`);

const pid = fork();
if (pid === 0) { // child
  console.log(`Child PID: ${getpid()}. Parent PID ${getppid()}`);
  sleep(SECONDS);
  _exit(0);
} else { // parent
  console.log(`ps -o pid,ppid,args -p ${getppid()},${getpid()},${pid}`);
  waitpid(pid);
}
