/**
 * The command line as one whole: Deno loads everything that literals name before the first line,
 * which takes no permission, and `deno bundle` includes it.
 */
import { start } from "./start.ts";

await start(() => import("./main.ts"));
