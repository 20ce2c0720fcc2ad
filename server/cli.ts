/**
 * The command line: `deno run -A server/cli.ts --help`.
 *
 * @module
 */
import { becomeForkable } from "../ffi/forking/become_forkable.ts";
import { HANDLED_SIGNALS } from "./prefork/signals.ts";

// Up to here all runs twice, so as little as possible is loaded. Deno would read what an
// import names even before the program starts: hence the variable.
if (Deno.args[0] === "serve") becomeForkable({ signals: HANDLED_SIGNALS });

const rest = "./cli/main.ts";
const { main } = await import(rest);
Deno.exit(await main(Deno.args));
