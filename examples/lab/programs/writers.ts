// Two writers of one file
//
// Two children add records to a file. For each record, a child reads the whole file, as
// lockingserver does, and writes it again with the record at its end. A record that the other child
// has written in the meantime is lost, unless a lock makes the children wait for each other.
//
// A lock by flock() belongs to the open file. It is of use if each child opens the file itself
// ("own"). It is of none if the children inherit the descriptor ("inherited"): both own the lock
// then, and neither waits.
//
//   deno run --allow-ffi writers.ts file [records [none|own|inherited]]
import {
  _exit,
  becomeForkable,
  type Descriptor,
  fork,
  LOCK_EX,
  LOCK_UN,
  O_CREAT,
  O_RDWR,
  O_TRUNC,
  open,
  SEEK_SET,
  sleep,
  wait,
} from "../../../mod.ts";

becomeForkable();

const [file, records = "100", lock = "none"] = Deno.args;
if (file === undefined || !/^\d{1,6}$/.test(records) || !/^(none|own|inherited)$/.test(lock)) {
  console.error("Usage: deno run --allow-ffi writers.ts file [records [none|own|inherited]]");
  Deno.exit(2);
}
const RECORDS = Number(records);

/** Reads all records, and writes them again with one more. */
function addRecord(fd: Descriptor, record: string): void {
  fd.lseek(0, SEEK_SET);
  let text = "";
  for (;;) {
    const data = fd.read(4096);
    if (data.length === 0) break;
    text += new TextDecoder().decode(data);
  }
  sleep(0.001); // a change that takes its time
  let data = new TextEncoder().encode(`${text}${record}\n`);
  fd.lseek(0, SEEK_SET);
  fd.ftruncate(data.length);
  while (data.length > 0) data = data.subarray(fd.write(data));
}

const inherited = open(file, O_RDWR | O_CREAT | O_TRUNC); // starts empty

for (const writer of ["first", "second"]) {
  const pid = fork();
  if (pid !== 0) continue; // parent
  const own = open(file, O_RDWR); // an open file of its own
  const locked = lock === "inherited" ? inherited : own;
  for (let i = 1; i <= RECORDS; i++) {
    if (lock !== "none") locked.flock(LOCK_EX);
    addRecord(own, `${writer} ${i}`);
    if (lock !== "none") locked.flock(LOCK_UN);
  }
  _exit(0);
}

wait();
wait();
