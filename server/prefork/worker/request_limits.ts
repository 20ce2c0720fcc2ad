/**
 * Limits on requests: how much one may bring, and how slowly. Deno's own limits are 64 KiB for a
 * header, which it answers with 400, and none for a body.
 *
 * A refusal says `connection: close`, but Deno goes on reading what the client
 * sends: the callback that is told of it ends the connection.
 */
import { after, nextTurn } from "../../../ffi/runtime/timers.ts";
import {
  innerRequest,
  interceptBody,
  LOSES_READS,
  receivedBody,
  type RequestBody,
} from "../../../ffi/runtime/http_internals.ts";

/** What a request may bring at most. Sizes in bytes, times in seconds. */
export interface LimitOptions {
  /**
   * The largest header, from the request line to the empty line; `undefined` for Deno's own
   * limit. What of it Deno does not show does not count: white space around a value, the scheme
   * and the host where the request line has a whole URL, further Cookie fields' names; and of
   * HTTP/2, whose header counts as if it were HTTP/1.1's, the host.
   */
  readonly maxHeaderBytes: number | undefined;
  /** The largest body; `Infinity` for no limit. */
  readonly maxBodyBytes: number;
  /**
   * How long a client may pause within a body that the app is reading; 0 for ever. Where the
   * client's silence is not known (UNIX sockets), only of a body that is read as a stream.
   */
  readonly bodyTimeout: number;
  /** Says for how many milliseconds a client has sent nothing; nothing if that is not known. */
  readonly silence: (info: Deno.ServeHandlerInfo) => number | undefined;
  /** Hears of a request that is about to be refused, while its client may go on sending. */
  readonly onRefused: (info: Deno.ServeHandlerInfo) => void;
  /** Hears of one whose response has begun, so that only the end of the connection can tell. */
  readonly onBroken: (info: Deno.ServeHandlerInfo) => void;
}

/** What an app reads of a body that is over a limit. */
export class BodyError extends Error {
  /** The class's name. */
  override readonly name: string = "BodyError";
  /** The status that the client gets if there is no response yet: 408 or 413. */
  readonly status: number;

  /** Describes the limit. */
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const encoder = new TextEncoder();

/** Methods with which no request is made that has a body. */
const BODILESS = /^(get|head|connect|trace|track)$/i;

/** How long a refused client's body is still taken, in milliseconds. */
const LINGER = 1000;

/** A read that waits for the client. */
interface Read {
  readonly since: number;
  readonly info: Deno.ServeHandlerInfo | undefined;
  readonly fail: (error: BodyError) => void;
}

/**
 * Puts limits before an app.
 *
 * A request that can have no body reaches it as it is, in the same turn.
 *
 * @param fetch Answers one request.
 * @param options The limits.
 * @returns The same, for requests within the limits; `fetch` itself where there are none.
 */
export function limitRequests(
  fetch: (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>,
  options: LimitOptions,
): (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response> {
  const { maxHeaderBytes, maxBodyBytes, bodyTimeout, silence, onRefused, onBroken } = options;
  if (maxBodyBytes === Infinity && bodyTimeout === 0) {
    return maxHeaderBytes === undefined ? fetch : limitHeader(fetch);
  }
  const within = watchReads(bodyTimeout, silence);
  return maxHeaderBytes === undefined ? limitBody : limitHeader(limitBody);

  function limitHeader(next: typeof fetch): typeof fetch {
    return (request, info) => {
      if (headerBytes(request) <= maxHeaderBytes!) return next(request, info);
      onRefused(info);
      return refusal(431, "The request's header is too large\n");
    };
  }

  function limitBody(
    request: Request,
    info: Deno.ServeHandlerInfo,
  ): Response | Promise<Response> {
    if (request.method === "GET" || BODILESS.test(request.method)) return fetch(request, info);
    const header = request.headers.get("content-length");
    if (header === "0") return fetch(request, info);
    const received = receivedBody(request);
    const length = header === null ? received?.byteLength : Number(header);
    if (length !== undefined && length > maxBodyBytes) {
      onRefused(info);
      const reader = request.body?.getReader();
      if (reader !== undefined) discard(reader, LINGER);
      return refusal(413, "The request's body is too large\n");
    }
    // A body does not get longer than was said, and one that is there does not keep waiting.
    if (received !== undefined || (length !== undefined && bodyTimeout === 0)) {
      return fetch(request, info);
    }

    let begun = false;
    let refuse: ((response: Response) => void) | undefined;
    const stream = (body: RequestBody | null) => limited(body, fails, () => begun);
    const whole = <T>(read: Promise<T>) =>
      within(read, info).catch((error) =>
        // A client that cannot be told any more is cut off, and Deno sees that itself.
        isOver(error) && !fails(error) ? read : Promise.reject(error)
      );
    const reads = length === undefined ? { stream } : { stream, whole };
    const isIntercepted = interceptBody(request, reads);
    const result = fetch(isIntercepted ? request : withBody(request, stream(request.body)), info);
    if (!(result instanceof Promise)) {
      begun = true;
      return result;
    }
    return new Promise((resolve, reject) => {
      refuse = resolve;
      result.then((response) => {
        // Only the first counts.
        if (refuse === undefined) response.body?.cancel().catch(() => {});
        begun = true;
        resolve(response);
      }, reject);
    });

    /** A limit was passed. Says whether the client hears of it. */
    function fails(error: BodyError): boolean {
      if (begun) {
        onBroken(info);
        return false;
      }
      onRefused(info);
      refuse?.(refusal(error.status, `${error.message}\n`));
      refuse = undefined;
      return true;
    }
  }

  /**
   * A request's body, within the limits.
   *
   * @param onFailure Hears of the first limit that is passed; says whether the client hears of it.
   */
  function limited(
    body: RequestBody | null,
    onFailure: (error: BodyError) => boolean,
    hasBegun: () => boolean,
  ): RequestBody {
    let reader: Reader | undefined;
    let received = 0;

    /** What comes next and is not empty; nothing at the end. */
    async function next(reader: Reader): Promise<Uint8Array<ArrayBuffer> | undefined> {
      for (;;) {
        // Not before Deno has written what the app gave it.
        if (LOSES_READS && (received === 0 || hasBegun())) await nextTurn();
        const { done, value } = await within(reader.read());
        if (done) return undefined;
        received += value.byteLength;
        if (received > maxBodyBytes) throw new BodyError(413, "The request's body is too large");
        if (value.byteLength > 0) return value;
      }
    }

    return new ReadableStream({
      type: "bytes",
      async pull(controller): Promise<void> {
        reader ??= body?.getReader();
        try {
          const chunk = reader && await next(reader);
          if (chunk !== undefined) return controller.enqueue(chunk);
          controller.close();
          controller.byobRequest?.respond(0);
        } catch (error) {
          if (isOver(error)) {
            if (onFailure(error)) discard(reader!, LINGER);
            // Deno never closes a connection whose response fails while its request body is being read.
            else await discard(reader!, Infinity);
          }
          throw error;
        }
      },
      async cancel(reason): Promise<void> {
        await (reader ?? body)?.cancel(reason);
      },
    }, { highWaterMark: 0 });
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

/**
 * Reads on for nobody, until the end or for some milliseconds. A client that is cut off
 * while it sends may not read the answer; one of HTTP/2 even loses it.
 */
async function discard(reader: Reader, milliseconds: number): Promise<void> {
  const end = performance.now() + milliseconds;
  try {
    while (!(await reader.read()).done) {
      if (performance.now() >= end) return await reader.cancel();
    }
  } catch {
    // The connection has ended.
  }
}

/** The same request with another body. */
function withBody(request: Request, body: RequestBody): Request {
  const { url, method, headers } = request;
  const copy = new Request(url, { method, headers, body });
  // Deno warns of a signal's use, and new Request(request) already is one.
  Object.defineProperty(copy, "signal", { get: () => request.signal, configurable: true });
  return copy;
}

/** Makes a read fail that lasts too long; with `info`, only if the client sends nothing. */
type Within = <T>(read: Promise<T>, info?: Deno.ServeHandlerInfo) => Promise<T>;

/** Watches reads, with one timer for all of them. */
function watchReads(seconds: number, silence: LimitOptions["silence"]): Within {
  if (seconds === 0) return (read) => read;
  const limit = seconds * 1000;
  const waiting = new Set<Read>();
  let running = false;

  function check(): void {
    const now = performance.now();
    for (const read of waiting) {
      if (now - read.since < limit) continue;
      if (read.info !== undefined && !((silence(read.info) ?? 0) >= limit)) continue;
      waiting.delete(read);
      read.fail(new BodyError(408, `The request's body did not come on for ${seconds} seconds`));
    }
    running = waiting.size > 0;
    if (running) after(limit / 4, check);
  }

  return <T>(read: Promise<T>, info?: Deno.ServeHandlerInfo): Promise<T> =>
    new Promise((resolve, reject) => {
      const one = { since: performance.now(), info, fail: reject };
      waiting.add(one);
      if (!running) {
        running = true;
        after(limit / 4, check);
      }
      read.then((value) => {
        waiting.delete(one);
        resolve(value);
      }, (error) => {
        waiting.delete(one);
        reject(error);
      });
    });
}

function isOver(error: unknown): error is BodyError {
  return error instanceof BodyError;
}

/** How many bytes a client of HTTP/1.1 has sent for a request's header. */
function headerBytes(request: Request): number {
  const target = encoder.encode(targetOf(request.url)).length;
  let bytes = `${request.method}  HTTP/1.1\r\n\r\n`.length + target;
  // What the public way gives has the values of equal names in one field.
  for (const [name, value] of innerRequest(request)?.headerList ?? request.headers) {
    bytes += name.length + value.length + ": \r\n".length;
  }
  return bytes;
}

/** What the request line names: mostly a path; the authority of a CONNECT. */
function targetOf(url: string): string {
  const host = url.indexOf("//") + 2;
  const path = url.indexOf("/", host);
  return url.slice(path === -1 ? host : path);
}

function refusal(status: number, text: string): Response {
  return new Response(text, { status, headers: { connection: "close" } });
}
