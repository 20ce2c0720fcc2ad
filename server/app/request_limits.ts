/**
 * Limits on requests: their size, and how slowly a client may send them. Deno itself limits a
 * header to 64 KiB, which it answers with 400, and does not limit a body.
 *
 * A refusal says `connection: close`, but Deno keeps reading what the client sends. The callback
 * that is notified of the refusal ends the connection.
 */
import { after, delay, nextTurn } from "../../ffi/runtime/timers.ts";
import {
  innerRequest,
  interceptBody,
  LOSES_READS,
  receivedBody,
  type RequestBody,
  wholeBody,
} from "../../ffi/runtime/http_internals.ts";
import { formatCount } from "../log.ts";

/** The limits. Sizes are in bytes, times in seconds. */
export interface LimitOptions {
  /**
   * The largest header, from the request line to the empty line; `undefined` for Deno's own limit.
   * Parts that Deno does not expose are not counted: white space around a value, the scheme and the
   * host if the request line has an absolute URL, the names of further Cookie fields. A header of
   * HTTP/2 is counted as if it were HTTP/1.1's, without the host.
   */
  readonly maxHeaderBytes: number | undefined;
  /** The largest body; `Infinity` for no limit. */
  readonly maxBodyBytes: number;
  /**
   * How long a client may pause within a body that the app is reading, or has left unread in a
   * request that has its response; 0 for no limit. If the client's silence is not known (UNIX
   * sockets), the limit applies only to a body that is read as a stream.
   */
  readonly bodyTimeout: number;
  /**
   * Returns for how many milliseconds a client has sent nothing; `undefined` if that is not known.
   */
  readonly silence: (client: Client) => number | undefined;
  /**
   * Called with the client of a request that is about to be refused, which may still be sending.
   */
  readonly onRefused: (client: Client) => void;
  /**
   * Called with the client of a request that fails after its response has begun: only the end of
   * the connection can tell the client.
   */
  readonly onBroken: (client: Client) => void;
  /**
   * Called with the client of a request that has its response, and whose body the app has not read:
   * the client may still be sending it.
   *
   * @returns A function that is called when the body has ended.
   */
  readonly onUnread: (client: Client) => () => void;
}

/** The client of a request. */
export type Client = Pick<Deno.ServeHandlerInfo, "remoteAddr">;

/** The error that an app gets when it reads a body that exceeds a limit. */
export class BodyError extends Error {
  /** The class's name. */
  override readonly name: string = "BodyError";
  /** The status that the client gets if the response has not begun: 408 or 413. */
  readonly status: number;

  /** Creates an error that describes the limit. */
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const encoder = new TextEncoder();

/** Methods whose requests cannot have a body. */
const BODILESS = /^(get|head|connect|trace|track)$/i;

/** How long the body of a refused request is still read, in milliseconds. */
const LINGER = 1000;

/** How many times in this time a body is read whose client is cut off. Each gives up to 64 KiB. */
const READS = 64;

/** What Deno says to an app that reads the body of a request that is closed. */
const UNAVAILABLE = "Cannot read request body as underlying resource unavailable";

/** A read that is waiting for the client. */
interface Read {
  readonly since: number;
  readonly client: Client | undefined;
  readonly fail: (error: BodyError) => void;
}

/**
 * Wraps an app's handler with limits.
 *
 * A request that cannot have a body is passed on unchanged, in the same turn.
 *
 * @param fetch The app's handler.
 * @param options The limits.
 * @returns A handler that passes on the requests within the limits; `fetch` itself if there are no
 *   limits. Its third argument is the client of the connection, if `info` names another one.
 */
export function limitRequests(
  fetch: (request: Request, info: Deno.ServeHandlerInfo) => Response | Promise<Response>,
  options: LimitOptions,
): (
  request: Request,
  info: Deno.ServeHandlerInfo,
  connection?: Client,
) => Response | Promise<Response> {
  const { maxHeaderBytes, maxBodyBytes, bodyTimeout, silence, onRefused, onBroken, onUnread } =
    options;
  if (maxBodyBytes === Infinity && bodyTimeout === 0) {
    return maxHeaderBytes === undefined ? fetch : limitHeader(fetch);
  }
  const within = watchReads(bodyTimeout, silence);
  return maxHeaderBytes === undefined ? limitBody : limitHeader(limitBody);

  function limitHeader(next: typeof limitBody): typeof limitBody {
    return (request, info, connection = info) => {
      if (headerBytes(request) <= maxHeaderBytes!) return next(request, info, connection);
      onRefused(connection);
      return refusal(431, "The request's header is too large\n");
    };
  }

  function limitBody(
    request: Request,
    info: Deno.ServeHandlerInfo,
    connection: Client = info,
  ): Response | Promise<Response> {
    if (request.method === "GET" || BODILESS.test(request.method)) return fetch(request, info);
    const header = request.headers.get("content-length");
    if (header === "0") return fetch(request, info);
    const declared = header === null ? undefined : Number(header);
    // A body cannot exceed its declared length.
    if (bodyTimeout === 0 && declared !== undefined && declared <= maxBodyBytes) {
      return fetch(request, info);
    }
    const received = receivedBody(request);
    const length = declared ?? received?.byteLength;
    if (length !== undefined && length > maxBodyBytes) {
      onRefused(connection);
      const reader = request.body?.getReader();
      if (reader !== undefined) discard(reader, LINGER);
      return refusal(413, "The request's body is too large\n");
    }
    // A body that has arrived cannot pause.
    return received === undefined
      ? limitRest(request, info, connection, length !== undefined)
      : fetch(request, info);
  }

  /** Passes on a request whose body has not arrived completely. */
  function limitRest(
    request: Request,
    info: Deno.ServeHandlerInfo,
    connection: Client,
    hasLength: boolean,
  ): Response | Promise<Response> {
    // Deno forgets the client when it closes the request.
    const client: Client = { remoteAddr: connection.remoteAddr };
    let begun = false;
    let refuse: ((response: Response) => void) | undefined;
    let reader: Reader | undefined;
    let received = 0;
    let canceled: RequestBody | undefined;
    let isClosed = false;
    let isLeft = false;
    let isExceeded = false;
    let controller: ReadableByteStreamController;
    let body: RequestBody | null = null;
    let step: Promise<boolean> | undefined;

    const reads = { stream, closing };
    const intercepted = interceptBody(request, hasLength ? { ...reads, whole } : reads);
    const result = fetch(intercepted ? request : withBody(request, stream(request.body)), info);
    if (!(result instanceof Promise)) {
      begun = true;
      readAheadOf(result);
      return result;
    }
    return new Promise((resolve, reject) => {
      refuse = resolve;
      result.then((response) => {
        // Only the first response counts.
        if (refuse === undefined) response.body?.cancel().catch(() => {});
        else readAheadOf(response);
        begun = true;
        resolve(response);
      }, reject);
    });

    /** Reads the next chunk that is not empty; returns `undefined` at the end. */
    async function next(body: RequestBody): Promise<Uint8Array<ArrayBuffer> | undefined> {
      reader ??= body.getReader();
      for (;;) {
        // Wait until Deno has written what the app gave it.
        if (LOSES_READS && (received === 0 || begun)) await nextTurn();
        const { done, value } = await reader.read();
        if (done) return undefined;
        received += value.byteLength;
        if (received > maxBodyBytes) throw new BodyError(413, "The request's body is too large");
        if (value.byteLength > 0) return value;
      }
    }

    /** Passes on a chunk, or the end. Returns whether there is more. */
    function advance(): Promise<boolean> {
      return step ??= (async () => {
        try {
          const chunk = body === null ? undefined : await next(body);
          if (isLeft || canceled !== undefined) return chunk !== undefined;
          if (chunk !== undefined) controller.enqueue(chunk);
          else {
            controller.close();
            controller.byobRequest?.respond(0);
          }
          return chunk !== undefined;
        } finally {
          step = undefined;
        }
      })();
    }

    /**
     * Reads the body before the app does, while Deno writes a response that is a stream: Deno then
     * receives all that the client sends, and keeps it without limit.
     */
    async function readAheadOf(response: Response): Promise<void> {
      const isLimited = hasLength || maxBodyBytes === Infinity;
      if (isLimited || LOSES_READS || !intercepted || wholeBody(response) !== undefined) return;
      void intercepted.stream; // calls stream(), if the app has not done so
      try {
        while (await advance() && !isLeft);
      } catch (error) {
        if (!isOver(error) || isLeft) return; // The connection has ended, or readUnread() knows.
        if (canceled === undefined) controller.error(error);
        exceed(error);
      }
    }

    /** Wraps the body for an app that reads it in parts. */
    function stream(original: RequestBody | null): RequestBody {
      body = original;
      return new ReadableStream({
        type: "bytes",
        start(ofStream): void {
          controller = ofStream;
        },
        async pull(): Promise<void> {
          if (isLeft) throw new Deno.errors.BadResource(UNAVAILABLE);
          try {
            await within(advance());
          } catch (error) {
            if (isOver(error)) await exceed(error);
            throw error;
          }
        },
        async cancel(reason): Promise<void> {
          // Deno would discard the rest without limit.
          if (!intercepted) await (reader ?? body)?.cancel(reason);
          else if (isClosed) readUnread(body!);
          else canceled = body!;
        },
      }, { highWaterMark: 0 });
    }

    /** Watches Deno, which reads the whole body. */
    function whole<T>(read: Promise<T>): Promise<T> {
      return within(read, client).catch((error) =>
        // A client that can no longer be told is cut off, and Deno notices that itself.
        isOver(error) && !fails(error) ? read : Promise.reject(error)
      );
    }

    /** Handles the end of the response. */
    function closing(unread: RequestBody | undefined): void {
      isClosed = true;
      const left = unread ?? canceled;
      if (left !== undefined) readUnread(left);
    }

    /**
     * Reads and discards a body that the app has not read, so that the client gets as far as
     * reading the response. Deno itself would do so without limit.
     */
    async function readUnread(body: RequestBody): Promise<void> {
      isLeft = true;
      reader ??= body.getReader();
      const end = onUnread(client);
      try {
        // Deno says in the response that the connection ends, if the body has not ended by then.
        await nextTurn();
        if (step !== undefined) await within(step);
        while (await within(next(body)) !== undefined);
      } catch (error) {
        // The connection has ended; or Deno discards the rest in any case, without limit.
        if (isOver(error) || LOSES_READS) onRefused(client);
        if (isOver(error)) outlast(reader);
      } finally {
        end();
      }
    }

    /** Handles the first exceeded limit of a body that is read in parts. */
    async function exceed(error: BodyError): Promise<void> {
      if (isExceeded) return;
      isExceeded = true;
      if (fails(error)) discard(reader!, LINGER);
      else await outlast(reader!);
    }

    /** Handles an exceeded limit. Returns whether the client is told. */
    function fails(error: BodyError): boolean {
      if (begun) {
        onBroken(client);
        return false;
      }
      onRefused(client);
      refuse?.(refusal(error.status, `${error.message}\n`));
      refuse = undefined;
      return true;
    }
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

/**
 * Reads and discards the rest, until the end or for some milliseconds. A client that is cut off
 * while it sends may not read the answer; an HTTP/2 client even loses it.
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

/**
 * Waits for the end of a connection that is about to be cut off. Deno notices the end only when it
 * has read all that arrived before; a client that goes on sending is read slowly.
 */
async function outlast(reader: Reader): Promise<void> {
  try {
    for (;;) {
      await delay(LINGER);
      for (let i = 0; i < READS; i++) if ((await reader.read()).done) return;
    }
  } catch {
    // The connection has ended.
  }
}

/** Copies a request, with another body, where a request's own body cannot be intercepted. */
function withBody(request: Request, body: RequestBody): Request {
  const { method, headers } = request;
  // The original's URL may be none: Deno passes on what the client sends.
  const copy = new Request("http://localhost/", { method, headers, body });
  // Deno warns when a signal is used, and new Request(request) already uses it.
  for (const name of ["url", "method", "headers", "signal"] as const) {
    Object.defineProperty(copy, name, { get: () => request[name], configurable: true });
  }
  return copy;
}

/** Makes a read fail if it takes too long; with `client`, only if the client sends nothing. */
type Within = <T>(read: Promise<T>, client?: Client) => Promise<T>;

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
      if (read.client !== undefined && !((silence(read.client) ?? 0) >= limit)) continue;
      waiting.delete(read);
      const pause = formatCount(seconds, "second");
      read.fail(new BodyError(408, `No part of the request's body arrived for ${pause}`));
    }
    running = waiting.size > 0;
    if (running) after(limit / 4, check);
  }

  return <T>(read: Promise<T>, client?: Client): Promise<T> =>
    new Promise((resolve, reject) => {
      const one = { since: performance.now(), client, fail: reject };
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

/** Returns how many bytes an HTTP/1.1 client sent for a request's header. */
function headerBytes(request: Request): number {
  const target = encoder.encode(targetOf(request.url)).length;
  let bytes = `${request.method}  HTTP/1.1\r\n\r\n`.length + target;
  // The public `headers` joins the values of equal names in one field.
  for (const [name, value] of innerRequest(request)?.headerList ?? request.headers) {
    bytes += name.length + value.length + ": \r\n".length;
  }
  return bytes;
}

/** Returns the target in the request line: usually a path; the authority for CONNECT. */
function targetOf(url: string): string {
  const host = url.indexOf("//") + 2;
  const path = url.indexOf("/", host);
  return url.slice(path === -1 ? host : path);
}

function refusal(status: number, text: string): Response {
  return new Response(text, { status, headers: { connection: "close" } });
}
