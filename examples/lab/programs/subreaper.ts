// Adopts orphans
//
// When a process ends, its children get another parent: process 1, which waits for those that have
// ended, so that nobody sees them. Below this process, they get this one, which waits for none of
// them: a child for which its own parent has not waited stays a zombie.
//
//   deno run --allow-ffi --allow-run subreaper.ts program.ts [arguments]
import { PR_SET_CHILD_SUBREAPER, prctl, sleep } from "../../../mod.ts";

if (Deno.args.length === 0) {
  console.error("Usage: deno run --allow-ffi --allow-run subreaper.ts program.ts [arguments]");
  Deno.exit(2);
}

prctl(PR_SET_CHILD_SUBREAPER, 1);
const program = new Deno.Command(Deno.execPath(), { args: ["run", "--allow-ffi", ...Deno.args] });
await program.spawn().status; // waits for this child only
for (;;) sleep(3600);
