// A limit for the processes of this user
//
// A module for programs to import first. It lowers RLIMIT_NPROC, which the shell sets with
// `ulimit -u`, to what the user has now and room for a few processes more. The limit counts all
// processes and threads of the user, and does not apply to root: with a user id, the process becomes
// that user before. (What root may read, the program and its imports, is loaded by then.)
//
// Arguments: port room [uid]
import {
  becomeForkable,
  getuid,
  PR_SET_DUMPABLE,
  prctl,
  RLIMIT_NPROC,
  setgid,
  setgroups,
  setrlimit,
  setuid,
} from "../../../mod.ts";

becomeForkable();

const [, room = "", uid = ""] = Deno.args;
if (!/^\d{1,6}$/.test(room) || !/^\d{0,6}$/.test(uid)) {
  console.error("Expected the arguments: port room [uid]");
  Deno.exit(2);
}
if (uid !== "") {
  setgroups([]);
  setgid(Number(uid));
  setuid(Number(uid));
  prctl(PR_SET_DUMPABLE, 1); // /proc/self belongs to root otherwise
}

let limit = Number(room);
for (const { name } of Deno.readDirSync("/proc")) {
  if (!/^\d+$/.test(name)) continue;
  try {
    if (Deno.statSync(`/proc/${name}`).uid !== getuid()) continue;
    limit += [...Deno.readDirSync(`/proc/${name}/task`)].length;
  } catch {
    // it has ended in the meantime
  }
}
setrlimit(RLIMIT_NPROC, { soft: limit, hard: limit });
