// Two children of tine's fork() that draw random numbers
//
// The same as bare_fork.ts, which shows what fork() has to cure.
//
//   deno run -A random_numbers.ts [folder]
import { _exit, becomeForkable, fork, waitpid } from "../../../mod.ts";

becomeForkable();

const [folder = "."] = Deno.args;

function draw(): Uint8Array<ArrayBuffer> {
  const number = new Uint8Array(new Float64Array([Math.random()]).buffer);
  return new Uint8Array([...number, ...crypto.getRandomValues(new Uint8Array(16))]);
}

draw(); // as every program has done before

for (const child of ["1", "2"]) {
  const pid = fork();
  if (pid === 0) { // child
    Deno.writeFileSync(`${folder}/${child}`, draw());
    _exit(0);
  }
  waitpid(pid);
}
