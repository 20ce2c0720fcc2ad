import { checkDeno } from "../../ffi/platform.ts";
import { report } from "./report.ts";
import { serve } from "./serve.ts";

/** What the process that serves loads. `deno cache` finds the module in this type. */
export type Inside = typeof import("./inside.ts");

/**
 * Runs the command line, and ends the process. `serve` and `check` execute Deno once more,
 * so as little as possible is loaded for that.
 *
 * @param inside Returns the URL of the module that Deno then loads before the app.
 * @param load Loads the other commands.
 */
export async function start(
  inside: () => string | Promise<string>,
  load: () => Promise<typeof import("./main.ts")>,
): Promise<never> {
  const [command, ...args] = Deno.args;
  try {
    checkDeno();
    if (command === "serve" || command === "check") {
      Deno.exit(await serve(args, inside, command));
    }
  } catch (error) {
    Deno.exit(report(error));
  }
  const { main } = await load();
  Deno.exit(await main(Deno.args));
}
