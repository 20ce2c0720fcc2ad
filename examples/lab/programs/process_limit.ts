// A server that may start few processes
//
// Lowers RLIMIT_NPROC, the limit that the shell sets with `ulimit -u`, and then becomes
// webserver3d. The limit counts all processes and threads of the user, and does not apply to root:
// with a user id, the program changes its user first. (Its own threads count.)
//
//   deno run --allow-ffi process_limit.ts port limit [uid]
import {
  becomeForkable,
  PR_SET_DUMPABLE,
  prctl,
  RLIMIT_NPROC,
  setgid,
  setgroups,
  setrlimit,
  setuid,
} from "../../../mod.ts";

becomeForkable();

const [, limit = "", uid = ""] = Deno.args;
if (!/^\d{1,6}$/.test(limit) || !/^\d{0,6}$/.test(uid)) {
  console.error("Usage: process_limit.ts port limit [uid]");
  Deno.exit(2);
}
if (uid !== "") {
  setgroups([]);
  setgid(Number(uid));
  setuid(Number(uid));
  prctl(PR_SET_DUMPABLE, 1); // /proc/self belongs to root otherwise
}
setrlimit(RLIMIT_NPROC, { soft: Number(limit), hard: Number(limit) });

await import("../../part3/webserver3d.ts");
