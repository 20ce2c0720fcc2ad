/**
 * The command line: `deno run -A jsr:@tine/tine/cli --help`, or in a checkout
 * `deno run -A server/cli.ts --help`.
 *
 * @module
 */
import { becomeForkable } from "../ffi/forking/become_forkable.ts";
import { checkDeno } from "../ffi/platform.ts";
import { HANDLED_SIGNALS } from "./prefork/signals.ts";

// Without V8's flags, everything up to here runs twice, so as little as possible is loaded.
try {
  checkDeno();
  if (Deno.args[0] === "serve") becomeForkable({ signals: HANDLED_SIGNALS });
} catch (error) {
  const { report } = await import("./cli/report.ts");
  Deno.exit(report(error));
}

const { main } = await import("./cli/main.ts");
Deno.exit(await main(Deno.args));
