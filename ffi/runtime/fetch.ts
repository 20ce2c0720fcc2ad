/**
 * `fetch` keeps connections open for later requests. A child's copy of that list
 * names connections that are the parent's, so it needs a list of its own.
 *
 * A program may put something around `fetch` at any time, and a child inherits that. So what is
 * to change in a child lies below: it is put in place when tine is loaded.
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

/** Has `fetch` make connections of its own, in a child whose parent had some open. */
export function renewFetch(): void {
  isRenewed = true;
  client = undefined;
}
