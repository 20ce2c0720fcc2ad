/**
 * The command line as one whole: Deno loads everything that literals name before the first line,
 * which takes no permission, and `deno bundle` includes it. It is also what Deno loads before the
 * app.
 */
import { hasCommand } from "./command.ts";
import { readLaunched } from "./launched.ts";
import { start } from "./start.ts";

await run();

async function run(): Promise<void> {
  // For an error that is thrown while the top level of a module runs, V8 parses all of the module
  // again, to know where that is: 10 ms for a bundle. From here on, the top level only waits.
  await Promise.resolve();
  if (Deno.mainModule === import.meta.url) {
    return await start(() => import.meta.url, () => import("./main.ts"));
  }
  if (!hasCommand()) readLaunched();
  await import("./inside.ts");
}
