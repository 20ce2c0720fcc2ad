// Forks a child with an event loop of its own, which waits for one event and exits, and reaps it:
// microseconds per round trip.
import { _exit, becomeForkable, fork, waitpid } from "@tine/tine";

becomeForkable();

const WARM_UP = 20;

const count = Number(Deno.args[0]);
const data = new Uint8Array(1);

async function roundTrips(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const pid = fork({ runtime: true });
    if (pid === 0) {
      await crypto.subtle.digest("SHA-256", data); // which a thread of the pool works out
      _exit(0);
    }
    waitpid(pid);
  }
}

await roundTrips(WARM_UP);
const start = performance.now();
await roundTrips(count);
console.log((performance.now() - start) * 1000 / count);
