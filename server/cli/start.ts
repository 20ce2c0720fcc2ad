import { checkDeno } from "../../ffi/platform.ts";
import { becomeMaster } from "../prefork/become_master.ts";
import { isFreshWorker } from "../prefork/fresh_worker.ts";

/**
 * Runs the command line, and ends the process. Without V8's flags, everything up to
 * `becomeMaster()` runs twice, so as little as possible is loaded for it.
 *
 * @param load Loads the rest.
 */
export async function start(load: () => Promise<typeof import("./main.ts")>): Promise<never> {
  try {
    checkDeno();
    if (Deno.args[0] === "serve" && !isFreshWorker()) becomeMaster();
  } catch (error) {
    const { report } = await load();
    Deno.exit(report(error));
  }
  const { main } = await load();
  Deno.exit(await main(Deno.args));
}
