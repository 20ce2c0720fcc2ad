/** The command line as one file, made as its users make it. */
import { ROOT } from "./support.ts";

/**
 * Writes the file.
 *
 * @throws {Error} When the task failed; the message is what it said.
 */
export function bundle(file: string): void {
  const { success, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "bundle", file],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
