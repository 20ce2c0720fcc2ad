import type { App } from "./app/load_app.ts";
import { type PreforkOptions, resolveOptions } from "./prefork/options.ts";
import { becomeMaster, runAsMaster } from "./prefork/become_master.ts";
import { isFreshWorker } from "./prefork/fresh_worker.ts";

/**
 * Serves a `fetch` app with forked workers, until a signal ends the server. The program is run once
 * more from its start, and again at each restart, so call this function first. With `user`, what
 * precedes the call runs as root the first time, and as the user from then on.
 *
 * @param app The app's module, which is loaded in the master unless `preload` is `false`; or the
 *   app itself.
 * @param options Options of the server.
 * @returns The exit code, in the master: 0 if a signal ended the server, 1 if it gave up.
 * @throws {AppError} If the app cannot be loaded, or the certificate cannot be used.
 * @throws {ActivationError} If the sockets of the service manager cannot be served on.
 * @throws {PidFileError} If the pid file belongs to a running process.
 * @throws {SyscallError} If the server cannot listen: `EADDRINUSE`, `EACCES`, ...
 * @throws {RangeError} If an option is out of range, or there is no such user or group.
 * @throws {TypeError} If not each certificate has a key, or `listen` or `path` is given together with
 *   another address.
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
  if (!isFreshWorker()) {
    if (config.user !== undefined || config.unixGroup !== undefined) {
      const { becomeUser } = await import("./prefork/host/become_user.ts");
      if (becomeUser(config, {})) runAsMaster();
    }
    becomeMaster();
  }
  // Loaded here, so that programs that do not use it do not hold it in memory, which every child
  // would copy.
  const { serve } = await import("./prefork/serve.ts");
  try {
    return await serve(app, config);
  } catch (error) {
    const { reportFailure } = await import("./prefork/master/canary.ts");
    reportFailure(error);
    throw error;
  }
}
