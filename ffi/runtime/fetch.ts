/**
 * `fetch` keeps connections open for later requests. A child's copy of that list refers to the
 * parent's connections, so the child needs a list of its own.
 *
 * A program may wrap `fetch` at any time, and a child inherits the wrapper. The part that must
 * change in a child therefore lies below: it is installed when tine is loaded.
 */
import { replaceGlobal } from "./globals.ts";

let isRenewed = false;
let client: Deno.HttpClient | undefined;

replaceGlobal("globalThis.fetch", (original) =>
  function fetch(...args): Promise<Response> {
    if (!isRenewed) return original(...args);
    client ??= Deno.createHttpClient({});
    const [input, init] = args;
    return original(input, { client, ...init } as RequestInit);
  });

/** Makes `fetch` create its own connections, in a child whose parent had some open. */
export function renewFetch(): void {
  isRenewed = true;
  client = undefined;
}
