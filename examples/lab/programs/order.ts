// The order of parent and child
//
// Both go on after fork(), at the same time, and the kernel's scheduler decides which of them runs
// first. Each writes one letter to the same descriptor, P for the parent and C for the child: the
// order of the letters is the order of the two calls of write(2).
//
//   deno run --allow-ffi order.ts [forks]
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
    write(1, letter("P"));
    wait();
  }
  write(1, letter(" "));
}
write(1, letter("\n"));
