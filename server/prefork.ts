import { becomeForkable } from "../ffi/forking/become_forkable.ts";
import type { App } from "./app/load_app.ts";
import { type PreforkOptions, resolveOptions } from "./prefork/options.ts";
import { HANDLED_SIGNALS } from "./prefork/signals.ts";

/**
 * Serves a `fetch` app with forked workers, until a signal ends the server. The
 * program is run from its start once more, and again at each restart, so this should be
 * the first thing that it does.
 *
 * @param app The app's module, which is loaded in the master unless `preload` is `false`; or
 *   the app itself.
 * @param options How it is served.
 * @returns The exit code, in the master: 0 when a signal has ended it, 1 when it gave up.
 * @throws {AppError} When the app cannot be loaded, or the certificate not be used.
 * @throws {ActivationError} When the sockets of the service manager cannot be served on.
 * @throws {PidFileError} When a process that runs has the pid file.
 * @throws {SyscallError} When it cannot listen: `EADDRINUSE`, `EACCES`, ...
 * @throws {RangeError} When an option is out of its range.
 * @throws {TypeError} When one of `cert` and `key` is missing.
 *
 * @example
 * ```ts ignore
 * import { servePrefork } from "@tine/tine";
 *
 * const app = new URL("./app.ts", import.meta.url);
 * Deno.exit(await servePrefork(app, { port: 8000, workers: 4 }));
 * ```
 */
export async function servePrefork(
  app: App | string | URL,
  options: PreforkOptions = {},
): Promise<number> {
  const config = resolveOptions(options);
  becomeForkable({ signals: HANDLED_SIGNALS });
  // Programs that fork without it need not hold it in memory, which every child would copy.
  const { serve } = await import("./prefork/serve.ts");
  return await serve(app, config);
}
