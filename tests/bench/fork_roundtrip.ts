// Forks a child that exits immediately, and reaps it: microseconds per round trip.
// fork_roundtrip.py and fork_roundtrip.c do the same.
import { _exit, becomeForkable, fork, waitpid } from "@tine/tine";

becomeForkable();

const WARM_UP = 100;

const count = Number(Deno.args[0]);

function roundTrips(count: number): void {
  for (let i = 0; i < count; i++) {
    const pid = fork();
    if (pid === 0) _exit(0);
    waitpid(pid);
  }
}

roundTrips(WARM_UP);
const start = performance.now();
roundTrips(count);
console.log((performance.now() - start) * 1000 / count);
