/**
 * The command line as its users install it: one file, and a process that is forkable from its
 * start.
 */
import { ROOT } from "./support.ts";

/** The flags with which V8 is as `becomeForkable()` would start it again, so that it need not. */
export const FORKABLE = "--v8-flags=--single_threaded,--no-lazy,--max-semi-space-size=4";

/**
 * Writes the file.
 *
 * @param file Where it goes.
 * @param root The checkout whose command line it is.
 * @throws {Error} When the task failed; the message is what it said.
 */
export function bundle(file: string, root: string | URL = ROOT): void {
  const { success, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "bundle", file],
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
