/**
 * Deno's internal state of a request and a response, under symbols of its own. Reading it avoids
 * the cost of the public interface: a copy of the whole header, a stream for a body that is not
 * one. If a version of Deno keeps it elsewhere, it is not found, and the public interface is used.
 */
import { ASSUMPTIONS, type Listed } from "./assumptions.ts";
import { replacePrototype } from "./globals.ts";

/** A request as Deno keeps it. One that its server has received knows the client. */
type InnerRequest = Listed<typeof ASSUMPTIONS.requestInside.value.properties, AnyRequest>;

interface AnyRequest {
  /** Name and value of each field of the header, as they came. */
  readonly headerList?: Iterable<readonly [name: string, value: string]>;
  /** Returns the URL. */
  url?(): string;
  readonly remoteAddr?: Deno.Addr;
  /** Called by Deno when the response is complete, before it is sent if it is no stream. */
  close?(success?: boolean): void;
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
  /** The stream, which is created if there is none. `clone()` copies what is there. */
  readonly stream: RequestBody;
  /** Reads the whole body. */
  consume(): Promise<unknown>;
  /** Whether it has been read, or is being read. */
  unusable(): boolean;
  /** Replaces it with another one, in `new Request(request)`. */
  createProxy(): InnerBody;
}

/** Whether this Deno loses reads of a request's body while it writes the response. */
export const LOSES_READS: boolean = (ASSUMPTIONS.lostReads.value as readonly string[])
  .includes(Deno.version.deno);

let requestKey: symbol | undefined;
let responseKey: symbol | undefined;
let fastBodyKey: symbol | undefined;

/** Returns the internal request; `undefined` if it is not found. */
export function innerRequest(request: Request): InnerRequest | undefined {
  requestKey ??= keyOf(request, ASSUMPTIONS.requestInside.value.symbol);
  return requestKey && (request as unknown as Record<symbol, InnerRequest>)[requestKey];
}

/**
 * Returns a request's URL. Unlike `request.url`, it does not keep the request from another URL.
 */
export function urlOf(request: Request): string {
  return innerRequest(request)?.url?.() ?? request.url;
}

/**
 * Gives a request another URL, before anything but {@linkcode urlOf} has read it. Its copies have
 * the same one.
 */
export function replaceUrl(request: Request, url: string): void {
  const inner = innerRequest(request);
  if (inner?.url !== undefined) inner.url = () => url;
  else Object.defineProperty(request, "url", { value: url, enumerable: true });
}

/** Gives a request another client, in what its handler is told about it. */
export function replaceClient(info: Deno.ServeHandlerInfo, client: Deno.Addr): void {
  Object.defineProperty(info, "remoteAddr", {
    value: client,
    enumerable: true,
    configurable: true,
  });
}

/** Returns one field of a request's header: all its values, joined by commas. */
export function fieldOf(request: Request, name: string): string | null {
  const inner = innerRequest(request);
  return inner?.header === undefined ? request.headers.get(name) : inner.header(name);
}

/**
 * Whether a request has no Host field, as HTTP/2's: an HTTP/1.1 request must have one, RFC 9112
 * section 3.2.
 */
export function lacksHost(request: Request): boolean {
  return fieldOf(request, "host") === null;
}

/**
 * Gives a request's header a field, in place of what it has under that name, before the app has
 * seen it. Deno lets nobody change it later.
 *
 * @param name The name, in lower case.
 */
export function replaceField(request: Request, name: string, value: string): void {
  const inner = innerRequest(request);
  if (inner?.headerList !== undefined) {
    const prototype = Object.getPrototypeOf(inner);
    Object.defineProperty(inner, "headerList", {
      get(): [string, string][] {
        const list: Iterable<[string, string]> = Reflect.get(prototype, "headerList", inner);
        return [...[...list].filter(([other]) => other.toLowerCase() !== name), [name, value]];
      },
    });
  }
  const header = inner?.header;
  if (header === undefined) {
    // To find out what it has, the public interface has been used, which remembers it.
    const headers = new Headers(request.headers);
    headers.set(name, value);
    Object.defineProperty(request, "headers", { value: headers, enumerable: true });
  } else {
    inner!.header = (other) => other.toLowerCase() === name ? value : header.call(inner, other);
  }
}

/** Returns a request's body if it arrived completely with its header. */
export function receivedBody(request: Request): Uint8Array | undefined {
  const kept = innerRequest(request)?.body?.streamOrStatic?.body;
  return kept instanceof Uint8Array ? kept : undefined;
}

/** The interceptors between a request's body and its reader. */
export interface BodyReads {
  /** Returns the body to read instead, if the body is read in parts or copied. */
  stream(body: RequestBody): RequestBody;
  /**
   * Returns the result instead, if Deno reads the whole body. If omitted, the whole body is read
   * from a stream too.
   */
  readonly whole?: <T>(read: Promise<T>) => Promise<T>;
  /**
   * Called when Deno closes the request, because the response is complete.
   *
   * @param unread The body, if nobody has begun to read it. Deno keeps it open only if it is being
   *   read after the call, and else discards all that the client still sends of it.
   */
  closing?(unread: RequestBody | undefined): void;
}

const READS = Symbol("reads");
const IS_SETTLED = Symbol("is settled");

let interceptedBody: object | undefined;

/**
 * Intercepts all reads of a request's body by the app. It remains Deno's own request: a copy could
 * not be read in Deno's fast way, and would cost more than everything else that a server does.
 *
 * @param request The request. Its body must not have been read.
 * @param reads The interceptors.
 * @returns The body. `undefined` if the request has no body, if the body has arrived completely, or
 *   if Deno keeps it elsewhere.
 */
export function interceptBody(
  request: Request,
  reads: BodyReads,
): Pick<InnerBody, "stream"> | undefined {
  const inner = innerRequest(request);
  const body = inner?.body;
  if (!body || !(body.streamOrStatic instanceof ReadableStream)) return undefined;
  const stream: RequestBody = body.streamOrStatic;
  interceptedBody ??= interceptedPrototype(Object.getPrototypeOf(body));
  replacePrototype(body, interceptedBody);
  (body as InterceptedBody)[READS] = reads;
  const { close } = inner;
  if (close === undefined) return body;
  inner.close = (success) => {
    // It is called again if Deno cannot send the response.
    inner.close = close;
    const isUnread = !body.unusable();
    reads.closing?.(isUnread ? stream : undefined);
    // What the app has instead has not been read either, and is no longer to be.
    if (isUnread) body.streamOrStatic = stream;
    close.call(inner, success);
  };
  return body;
}

interface InterceptedBody extends InnerBody {
  [READS]: BodyReads;
  /** Whether the source of the reads has been decided. */
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

/** Returns the internal body of a response: `null` for no body, `undefined` if it is not found. */
export function innerBody(response: Response): InnerBody | null | undefined {
  responseKey ??= keyOf(response, ASSUMPTIONS.responseInside.value.symbol);
  const inside = response as unknown as Record<symbol, InnerResponse | undefined>;
  return responseKey && inside[responseKey]?.body;
}

/**
 * Returns a response's body if Deno has all of it.
 *
 * @returns The string or the bytes; `null` for no body, `undefined` for a stream or if it is not
 *   found.
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
