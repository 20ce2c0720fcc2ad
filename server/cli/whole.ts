/**
 * The command line as one whole: Deno loads everything that literals name before the first line,
 * which takes no permission, and `deno bundle` includes it. It is also what Deno loads before the
 * app.
 */
import { hasCommand } from "./command.ts";
import { readLaunched } from "./launched.ts";
import { start } from "./start.ts";

if (Deno.mainModule === import.meta.url) {
  await start(() => import.meta.url, () => import("./main.ts"));
} else {
  if (!hasCommand()) readLaunched();
  await import("./inside.ts");
}
