/** What the tasks share that try or measure tine. */
import { endStarted } from "./clean_up.ts";

/** Prints a text, and returns the exit code. */
export function print(text: string): number {
  console.log(text);
  return 0;
}

/** Ends the program with a message about its arguments. */
export function fail(message: string): never {
  console.error(`error: ${message}`);
  Deno.exit(2);
}

/**
 * Runs a command, and ends all that the task has started when the command has ended, or takes too
 * long.
 *
 * @param options How it is started. The task must have called `cleaningUp()`.
 * @param patience For how many milliseconds it may run.
 */
export async function runInTime(
  command: string,
  args: string[],
  options: Deno.CommandOptions,
  patience: number,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command(command, {
    args,
    ...options,
    env: { NO_COLOR: "1", ...options.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const late = setTimeout(endStarted, patience);
  const texts = [child.stdout, child.stderr].map((stream) => new Response(stream).text());
  const { code } = await child.status;
  endStarted(); // processes that keep the streams open
  clearTimeout(late);
  const [stdout, stderr] = await Promise.all(texts);
  return { code, stdout: stdout!, stderr: stderr! };
}
