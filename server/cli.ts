/**
 * The command line: `deno run -A jsr:@tine/tine/cli --help`, or in a checkout
 * `deno run -A server/cli.ts --help`.
 *
 * @module
 */
import { start } from "./cli/start.ts";

// A literal in `import()` would have Deno load that module, and all that it imports, before the
// first line. `deno cache` finds the module in a type of `start()`.
const MAIN: string = "./cli/main.ts";

// To load files that no literal names takes permission.
const root = new URL("../", import.meta.url);
if (
  Deno.args[0] !== "serve" && root.protocol === "file:" &&
  Deno.permissions.querySync({ name: "read", path: root }).state !== "granted"
) {
  try {
    const { runInstead } = await import("./cli/run_instead.ts");
    runInstead(import.meta.url, import.meta.resolve("./cli/whole.ts"));
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    Deno.exit(1);
  }
}
const inside = import.meta.resolve("./cli/inside.ts");
await start(
  async () => {
    if (root.protocol === "file:") return inside;
    const { localCopy } = await import("./cli/local_copy.ts");
    return localCopy(inside, root.href);
  },
  () => import(MAIN),
);
