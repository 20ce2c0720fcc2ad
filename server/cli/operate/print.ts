import { StatusError } from "../../prefork/status/status.ts";

/** Writes a text to standard output, at once. */
export function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/**
 * Runs a command, and reports why it failed.
 *
 * @param command The command. It returns its exit code.
 * @returns The exit code.
 */
export async function reporting(command: () => Promise<number>): Promise<number> {
  try {
    return await command();
  } catch (error) {
    if (error instanceof StatusError) {
      console.error(`error: ${error.message}`);
      return 1;
    }
    // The reader, such as head(1), has closed the pipe.
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    throw error;
  }
}
