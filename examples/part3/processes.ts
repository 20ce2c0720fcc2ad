// Processes
//
// Every process has a number (PID) and a parent (PPID): this one the shell that started it, the
// child that it forks this one. They stay for a while, for a look at them with ps.
import { _exit, becomeForkable, fork, getpid, getppid, sleep, waitpid } from "../../mod.ts";

becomeForkable();

const SECONDS = Number(Deno.args[0] ?? 60);
if (!(SECONDS >= 0)) throw new RangeError(`Cannot sleep for ${Deno.args[0]} seconds`);

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
