/**
 * `fetch` keeps connections open for later requests. A child's copy of that list
 * names connections that are the parent's, so it needs a list of its own.
 */

const parentFetch = globalThis.fetch;

/** Has `fetch` make connections of its own, in a child whose parent had some open. */
export function renewFetch(): void {
  let client: Deno.HttpClient | undefined;
  globalThis.fetch = function fetch(input, init): Promise<Response> {
    client ??= Deno.createHttpClient({});
    return parentFetch(input, { client, ...init } as RequestInit);
  };
}
