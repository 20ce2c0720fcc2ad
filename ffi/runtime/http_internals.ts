/**
 * What Deno keeps behind a request and a response, under symbols of its own. To ask
 * there spares what the public way costs: a copy of the whole header, a stream for a
 * body that is none. A Deno that keeps it elsewhere is asked in vain, and the public
 * way is left.
 */

/** A request as Deno keeps it. One that its server has received knows the client. */
interface InnerRequest {
  /** Name and value of each field of the header, as they came. */
  readonly headerList?: Iterable<readonly [name: string, value: string]>;
  readonly remoteAddr?: Deno.Addr;
  header?(name: string): string | null;
  readonly body?: InnerBody | null;
}

/** A body as Deno keeps it. */
interface InnerBody {
  readonly streamOrStatic?: { readonly body?: unknown };
  readonly length?: number | null;
}

/**
 * Whether a read of a request's body never ends on this Deno when it has begun before Deno writes
 * a part of the response: https://github.com/denoland/deno/issues/36624.
 */
export const LOSES_READS: boolean = /^2\.(8\.3|9\.[0-5])$/.test(Deno.version.deno);

let requestKey: symbol | undefined;
let responseKey: symbol | undefined;
let fastBodyKey: symbol | undefined;

/** What lies behind a request; nothing if it is not found. */
export function innerRequest(request: Request): InnerRequest | undefined {
  requestKey ??= keyOf(request, "request");
  return requestKey && (request as unknown as Record<symbol, InnerRequest>)[requestKey];
}

/** The body that lies behind a response: `null` for none, nothing if it is not found. */
export function innerBody(response: Response): InnerBody | null | undefined {
  responseKey ??= keyOf(response, "response");
  const inside = response as unknown as Record<symbol, { body?: InnerBody | null } | undefined>;
  return responseKey && inside[responseKey]?.body;
}

/**
 * A response's body, where Deno has it whole.
 *
 * @returns The text or the bytes; `null` for no body, nothing for a stream or if it is not found.
 */
export function wholeBody(response: Response): string | Uint8Array | null | undefined {
  fastBodyKey ??= keyOf(response, "serve fast body");
  const fast = fastBodyKey && (response as unknown as Record<symbol, unknown>)[fastBodyKey];
  if (isWhole(fast)) return fast;
  const body = innerBody(response);
  if (body === null) return null;
  const kept = body?.streamOrStatic?.body;
  return isWhole(kept) ? kept : undefined;
}

function isWhole(body: unknown): body is string | Uint8Array {
  return typeof body === "string" || body instanceof Uint8Array;
}

function keyOf(owner: Request | Response, description: string): symbol | undefined {
  return Object.getOwnPropertySymbols(owner).find((one) => one.description === description);
}
