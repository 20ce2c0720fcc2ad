// Two children that lock one file
//
// Each child locks the file exclusively, and sleeps with the lock. If each has opened the file
// itself ("own"), the second waits for the first. If both have inherited the descriptor, and with
// it the open file ("inherited"), both have the lock at the same time.
//
//   deno run --allow-ffi holders.ts file [own|inherited [seconds]]
import {
  _exit,
  becomeForkable,
  fork,
  LOCK_EX,
  O_CREAT,
  O_RDWR,
  open,
  sleep,
  wait,
} from "../../../mod.ts";

becomeForkable();

const [file, whose = "own", seconds = "60"] = Deno.args;
if (
  file === undefined || !/^(own|inherited)$/.test(whose) || !/^\d{1,9}(\.\d+)?$/.test(seconds)
) {
  console.error("Usage: deno run --allow-ffi holders.ts file [own|inherited [seconds]]");
  Deno.exit(2);
}
const SECONDS = Number(seconds);

const inherited = open(file, O_RDWR | O_CREAT);

for (let i = 1; i <= 2; i++) {
  const pid = fork();
  if (pid !== 0) continue; // parent
  const locked = whose === "own" ? open(file, O_RDWR) : inherited;
  locked.flock(LOCK_EX);
  sleep(SECONDS);
  _exit(0);
}

wait();
wait();
