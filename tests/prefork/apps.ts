/** The two kinds of apps that are put under load: both answer `/pid` with their worker's. */
import { ROOT, type ServerOptions } from "../support.ts";

/** How they are started. */
export const APPS: Readonly<Record<string, ServerOptions>> = {
  "a fetch app": {},
  "an app of Express's": { app: new URL("tests/prefork/express.js", ROOT).pathname },
};
