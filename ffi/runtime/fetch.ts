/**
 * `fetch` keeps connections open for later requests, and so does each client of the program's own.
 * A child's copy of such a list refers to the parent's connections, so the child needs lists of its
 * own.
 *
 * A program may wrap `fetch` at any time, and a child inherits the wrapper. The part that must
 * change in a child therefore lies below: it is installed when tine is loaded.
 */
import { replaceGlobal } from "./globals.ts";

type Options = Parameters<typeof Deno.createHttpClient>[0];

/** A client of the program's. */
interface Created {
  readonly options: Options;
  /** The {@linkcode generation} of `current`. */
  generation: number;
  /** The client itself, or what is used instead. */
  current: Deno.HttpClient;
}

/** How many times this process and its ancestors have been children that need new connections. */
let generation = 0;
let client: Deno.HttpClient | undefined;
const clients = new WeakMap<Deno.HttpClient, Created>();

replaceGlobal(
  "Deno.createHttpClient",
  (original) =>
    function createHttpClient(options): Deno.HttpClient {
      const current = original(options);
      clients.set(current, { options: { ...options }, generation, current });
      return current;
    },
);

replaceGlobal("globalThis.fetch", (original) =>
  function fetch(...args): Promise<Response> {
    if (generation === 0) return original(...args);
    const [input, init] = args as [typeof args[0], { client?: Deno.HttpClient }?];
    const own = init?.client && renewed(init.client);
    client ??= Deno.createHttpClient({});
    return original(input, { client, ...init, ...own && { client: own } } as RequestInit);
  });

/** Returns the client to use for one that the program names. */
function renewed(client: Deno.HttpClient): Deno.HttpClient {
  const created = clients.get(client);
  if (created === undefined) return client;
  if (created.generation !== generation) {
    created.current = Deno.createHttpClient(created.options);
    created.generation = generation;
  }
  return created.current;
}

/**
 * Makes `fetch` and the program's clients create their own connections, in a child whose parent had
 * some open.
 */
export function renewFetch(): void {
  generation++;
  client = undefined;
}
