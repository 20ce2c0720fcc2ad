/**
 * The access log: one line per request. Each worker opens the log for itself, after the fork, and
 * writes whole lines.
 */
import { getenv } from "../../../ffi/environment.ts";
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import { getpid } from "../../../ffi/process.ts";
import { fieldOf } from "../../../ffi/runtime/http_internals.ts";
import { formatCount, type Log } from "../../log.ts";
import { activeSpan } from "../telemetry.ts";
import type { Entry } from "./access_entry.ts";
import { hostnameOf } from "./access_format.ts";
import { compileFormat } from "./access_line.ts";
import { LONGEST_LINE, openLogFile } from "./log_file.ts";
import { REQUEST_ID, requestIdMaker } from "./request_id.ts";
import { sendsNoBody } from "./response_bytes.ts";
import { parseTraceparent } from "./trace_context.ts";

/** The target and the format of an access log. */
export interface AccessLogOptions {
  /** A file, or `"-"` for standard output. */
  readonly target: string;
  /** The format of the lines: `common`, `combined`, `json` or a format string of Apache's. */
  readonly format: string;
  /** The field of a request's header that contains its id. The default is `x-request-id`. */
  readonly requestIdHeader?: string | undefined;
  /** Receives reports of dropped lines. */
  readonly log: Log;
}

/**
 * Writes the line of a request that has been answered.
 *
 * @param status The response's status.
 * @param bytes The size of the response's body; `null` if it is not known.
 * @param response The response, if it has a header.
 */
export type EndEntry = (
  status: number,
  bytes: number | null,
  response?: Response | NodeResponse,
) => void;

/** The relevant part of Node's `IncomingMessage`. */
export interface NodeRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly httpVersion?: string;
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined };
}

/** The relevant part of Node's `ServerResponse`. */
interface NodeResponse {
  getHeader(name: string): unknown;
}

/** The entry of a request that has no response yet. */
interface Open extends Entry {
  /** When it began, in milliseconds of `performance.now()`. */
  readonly start: number;
  host: Entry["host"];
  id: Entry["id"];
  trace: Entry["trace"];
  requestFields: Entry["requestFields"];
  status: Entry["status"];
  bytes: Entry["bytes"];
  duration: Entry["duration"];
  responseFields: Entry["responseFields"];
}

const NONE: readonly never[] = [];

/** An open access log. */
export interface AccessLog {
  /**
   * Records a request that has arrived. Call it first: Deno forgets the request's method, URL,
   * header and client address as soon as it is answered or upgraded.
   *
   * @param request The request.
   * @param info The request's info, with the client's address.
   * @param local The address that the server listens on.
   * @param peer The other end of the connection, if it may be a proxy.
   * @returns A function to call once, when the request ends. Nothing is written before.
   */
  begin(
    request: Request,
    info: Deno.ServeHandlerInfo,
    local?: Deno.Addr,
    peer?: Deno.Addr,
  ): EndEntry;
  /**
   * Records a request that a server of Node's has received.
   *
   * @param request The request.
   * @param client The client's address.
   * @param local The address that the server listens on.
   * @param peer The other end of the connection, which may be a proxy.
   * @returns A function, as {@linkcode begin} returns it.
   */
  beginNode(
    request: NodeRequest,
    client: Deno.Addr,
    local: Deno.Addr,
    peer: Deno.Addr,
  ): EndEntry;
  /** Reopens the file after it was moved. A failure is logged. Returns whether it succeeded. */
  reopen(): boolean;
  /** Closes the access log. */
  close(): void;
}

/** The shortest interval between two reports of dropped lines, in milliseconds. */
const REPORT_INTERVAL = 1000;

/**
 * Opens an access log.
 *
 * @param options The target and the format.
 * @throws {SyscallError} If the file cannot be opened.
 */
export function openAccessLog(options: AccessLogOptions): AccessLog {
  const { target, format, requestIdHeader = REQUEST_ID, log } = options;
  const { uses, line } = compileFormat(format);
  const idOf = uses.id ? requestIdMaker() : undefined;
  const showsRequest = uses.requestFields.length > 0 || uses.id || uses.trace;
  const showsResponse = uses.responseFields.length > 0;
  const file = openLogFile(target === "-" ? 1 : target);
  const name = target === "-" ? "the access log on standard output" : `access log ${target}`;
  const pid = getpid();
  const worker = Number(getenv("TINE_WORKER") ?? NaN) || null;
  const encoder = new TextEncoder();
  const buffer = new Uint8Array(LONGEST_LINE);
  let dropped = 0;
  let reported = 0;

  function write(line: string): void {
    const errno = file.write(buffer, encoder.encodeInto(line, buffer).written);
    if (errno !== 0) {
      if (dropped++ === 0) {
        reported = performance.now();
        const { message } = new SyscallError("write", errno, name);
        log(`${message}. Lines are dropped until it can be written again`);
      }
    } else if (dropped > 0 && performance.now() - reported >= REPORT_INTERVAL) {
      reportDropped();
    }
  }

  function reportDropped(): void {
    const lines = formatCount(dropped, "line");
    log(`${lines} of ${name} ${dropped === 1 ? "was" : "were"} dropped`);
    dropped = 0;
  }

  /** Begins the entry of a request. What is known only at its end is filled in then. */
  function open(
    client: Deno.Addr,
    peer: Deno.Addr,
    local: Deno.Addr | undefined,
    method: string,
    url: string,
    protocol: string,
  ): Open {
    return {
      pid,
      worker,
      time: Date.now(),
      start: performance.now(),
      remote: hostnameOf(client),
      remotePort: "port" in client ? client.port : undefined,
      peer,
      local,
      method,
      url,
      protocol,
      host: null,
      id: undefined,
      trace: undefined,
      requestFields: NONE,
      status: 0,
      bytes: null,
      duration: 0,
      responseFields: NONE,
    };
  }

  /** Fills in what the format shows of a request's header. */
  function readHeader(entry: Open, field: (name: string) => string | null): void {
    entry.requestFields = uses.requestFields.map(field);
    if (idOf !== undefined) entry.id = idOf(field(requestIdHeader));
    if (uses.trace) entry.trace = activeSpan() ?? parseTraceparent(field("traceparent"));
  }

  function endOf(entry: Open): EndEntry {
    return (status, bytes, response) => {
      entry.status = status;
      entry.bytes = sendsNoBody(entry.method, status) ? 0 : bytes;
      entry.duration = performance.now() - entry.start;
      if (showsResponse) {
        entry.responseFields = uses.responseFields.map((name) => responseField(response, name));
      }
      write(line(entry));
    };
  }

  return {
    begin(request, { remoteAddr: client }, local, peer = client): EndEntry {
      const url = request.url;
      const path = startOfPath(url);
      const entry = open(client, peer, local, request.method, url.slice(path), "HTTP/1.1");
      if (uses.host) entry.host = hostOf(url, path);
      if (showsRequest) {
        readHeader(entry, (name) => {
          const field = fieldOf(request, name);
          // In HTTP/2, the host is part of the URL alone.
          return name === "host" && field === null ? hostOf(url, path) : field;
        });
      }
      return endOf(entry);
    },
    beginNode(request, client, local, peer): EndEntry {
      const { method = "", url = "", httpVersion = "1.1", headers } = request;
      const entry = open(client, peer, local, method, url, `HTTP/${httpVersion}`);
      const field = (name: string) => headers[name]?.toString() ?? null;
      if (uses.host) entry.host = field("host");
      if (showsRequest) readHeader(entry, field);
      return endOf(entry);
    },
    reopen(): boolean {
      try {
        file.reopen();
        return true;
      } catch (error) {
        if (!isSyscallError(error)) throw error;
        log(`${error.message}. The access log is still written to the file that was open before`);
        return false;
      }
    },
    close(): void {
      if (dropped > 0) reportDropped();
      file.close();
    },
  };
}

/** Returns one field of a response's header. */
function responseField(response: Response | NodeResponse | undefined, name: string): string | null {
  if (response === undefined) return null;
  if (response instanceof Response) return response.headers.get(name);
  const value = response.getHeader(name);
  return value === undefined ? null : Array.isArray(value) ? value.join(", ") : String(value);
}

function startOfPath(url: string): number {
  return Math.max(url.indexOf("/", url.indexOf("//") + 2), 0);
}

function hostOf(url: string, path: number): string {
  return url.slice(url.indexOf("//") + 2, path);
}
