/**
 * What Deno keeps behind a request and a response, under symbols of its own. To ask
 * there spares what the public way costs: a copy of the whole header, a stream for a
 * body that is none. A Deno that keeps it elsewhere is asked in vain, and the public
 * way is left.
 */
import { ASSUMPTIONS, type Listed } from "./assumptions.ts";
import { replacePrototype } from "./globals.ts";

/** A request as Deno keeps it. One that its server has received knows the client. */
type InnerRequest = Listed<typeof ASSUMPTIONS.requestInside.value.properties, AnyRequest>;

interface AnyRequest {
  /** Name and value of each field of the header, as they came. */
  readonly headerList?: Iterable<readonly [name: string, value: string]>;
  readonly remoteAddr?: Deno.Addr;
  header?(name: string): string | null;
  readonly body?: InnerBody | null;
}

/** A request's body. */
export type RequestBody = ReadableStream<Uint8Array<ArrayBuffer>>;

/** A response as Deno keeps it. */
type InnerResponse = Listed<
  typeof ASSUMPTIONS.responseInside.value.properties,
  { readonly body?: InnerBody | null }
>;

/** A body as Deno keeps it. All ways to read it, or to copy it, begin here. */
type InnerBody = Listed<typeof ASSUMPTIONS.bodyInside.value, AnyBody>;

interface AnyBody {
  /** The stream, or where there is none a text or bytes. */
  streamOrStatic?: RequestBody & { readonly body?: never } | { readonly body?: unknown };
  readonly length?: number | null;
  /** The stream, which is made where there is none. `clone()` copies what is there. */
  readonly stream: RequestBody;
  /** Reads it whole. */
  consume(): Promise<unknown>;
  /** Has another take its place, in `new Request(request)`. */
  createProxy(): InnerBody;
}

/** Whether this Deno loses reads of a request's body while it writes the response. */
export const LOSES_READS: boolean = (ASSUMPTIONS.lostReads.value as readonly string[])
  .includes(Deno.version.deno);

let requestKey: symbol | undefined;
let responseKey: symbol | undefined;
let fastBodyKey: symbol | undefined;

/** What lies behind a request; nothing if it is not found. */
export function innerRequest(request: Request): InnerRequest | undefined {
  requestKey ??= keyOf(request, ASSUMPTIONS.requestInside.value.symbol);
  return requestKey && (request as unknown as Record<symbol, InnerRequest>)[requestKey];
}

/** A request's body, where it has come whole with its header. */
export function receivedBody(request: Request): Uint8Array | undefined {
  const kept = innerRequest(request)?.body?.streamOrStatic?.body;
  return kept instanceof Uint8Array ? kept : undefined;
}

/** What lies between a request's body and its reader. */
export interface BodyReads {
  /** Gives what is read instead, when the body is read piece by piece or copied. */
  stream(body: RequestBody): RequestBody;
  /** Gives the result instead, when Deno reads the body whole; left out, that is read from a stream too. */
  readonly whole?: <T>(read: Promise<T>) => Promise<T>;
}

const READS = Symbol("reads");
const IS_SETTLED = Symbol("is settled");

let interceptedBody: object | undefined;

/**
 * Stands between a request's body and the app, whichever way it is read. It stays Deno's very
 * request: a copy could not be read whole in Deno's own, fast way, and would cost more than
 * all else that a server does.
 *
 * @param request The request, whose body nobody has read.
 * @param reads What is read instead.
 * @returns Whether it could: not where the body is none or has come whole, nor where Deno keeps
 *   it elsewhere.
 */
export function interceptBody(request: Request, reads: BodyReads): boolean {
  const body = innerRequest(request)?.body;
  if (!body || !(body.streamOrStatic instanceof ReadableStream)) return false;
  interceptedBody ??= interceptedPrototype(Object.getPrototypeOf(body));
  replacePrototype(body, interceptedBody);
  (body as InterceptedBody)[READS] = reads;
  return true;
}

interface InterceptedBody extends InnerBody {
  [READS]: BodyReads;
  /** Whether it is decided from what it is read. */
  [IS_SETTLED]: boolean | undefined;
}

function interceptedPrototype(prototype: { readonly constructor: unknown }): object {
  const Body = prototype.constructor as new () => InnerBody;
  return class extends Body implements InterceptedBody {
    declare [READS]: BodyReads;
    declare [IS_SETTLED]: boolean | undefined;

    override get stream(): RequestBody {
      replace(this);
      return super.stream;
    }
    override consume(): Promise<unknown> {
      const { whole } = this[READS];
      if (whole === undefined || this[IS_SETTLED]) return super.consume();
      this[IS_SETTLED] = true;
      return whole(super.consume());
    }
    override createProxy(): InnerBody {
      replace(this);
      return super.createProxy();
    }
  }.prototype;
}

function replace(body: InterceptedBody): void {
  if (body[IS_SETTLED]) return;
  body[IS_SETTLED] = true;
  body.streamOrStatic = body[READS].stream(body.streamOrStatic as RequestBody);
}

/** The body that lies behind a response: `null` for none, nothing if it is not found. */
export function innerBody(response: Response): InnerBody | null | undefined {
  responseKey ??= keyOf(response, ASSUMPTIONS.responseInside.value.symbol);
  const inside = response as unknown as Record<symbol, InnerResponse | undefined>;
  return responseKey && inside[responseKey]?.body;
}

/**
 * A response's body, where Deno has it whole.
 *
 * @returns The text or the bytes; `null` for no body, nothing for a stream or if it is not found.
 */
export function wholeBody(response: Response): string | Uint8Array | null | undefined {
  fastBodyKey ??= keyOf(response, ASSUMPTIONS.fastBody.value);
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
