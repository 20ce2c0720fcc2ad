// The order of parent and child, decided by wait()
//
// The parent waits for its child's end before it writes: the child's letter always comes first. A
// program that needs an order must make it.
//
//   deno run --allow-ffi order_wait.ts [forks]
import { _exit, becomeForkable, fork, wait, write } from "../../../mod.ts";

becomeForkable();

const [forks = "100"] = Deno.args;
if (!/^\d{1,4}$/.test(forks)) {
  console.error(`Cannot fork "${forks}" times: expected a number from 0 to 9999`);
  Deno.exit(2);
}

const letter = (text: string) => new TextEncoder().encode(text);

for (let i = 0; i < Number(forks); i++) {
  const pid = fork();
  if (pid === 0) { // child
    write(1, letter("C"));
    _exit(0);
  } else { // parent
    wait(); // until the child has ended
    write(1, letter("P"));
  }
  write(1, letter(" "));
}
write(1, letter("\n"));
