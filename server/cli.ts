/**
 * The command line: `deno run -A jsr:@tine/tine/cli --help`, or in a checkout
 * `deno run -A server/cli.ts --help`.
 *
 * @module
 */
import { becomeForkable } from "../ffi/forking/become_forkable.ts";
import { HANDLED_SIGNALS } from "./prefork/signals.ts";

// Without V8's flags, everything up to here runs twice, so as little as possible is loaded.
if (Deno.args[0] === "serve") becomeForkable({ signals: HANDLED_SIGNALS });

const { main } = await import("./cli/main.ts");
Deno.exit(await main(Deno.args));
