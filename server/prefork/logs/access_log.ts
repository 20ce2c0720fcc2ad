/**
 * The access log: one line per request, in one of three formats. Each worker opens the log for
 * itself, after the fork, and writes whole lines.
 */
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import { getpid } from "../../../ffi/process.ts";
import type { Log } from "../../log.ts";
import { type AccessLogFormat, formatEntry } from "./access_line.ts";
import { fieldOf } from "../../../ffi/runtime/http_internals.ts";
import { LONGEST_LINE, openLogFile } from "./log_file.ts";

/** The target and the format of an access log. */
export interface AccessLogOptions {
  /** A file, or `"-"` for standard output. */
  readonly target: string;
  /**
   * The format of the lines: Apache's Common or Combined log format, or one JSON object per line.
   */
  readonly format: AccessLogFormat;
  /** Receives reports of dropped lines. */
  readonly log: Log;
}

/**
 * Writes the line of a request that has been answered.
 *
 * @param status The response's status.
 * @param bytes The size of the response's body; `null` if it is not known.
 */
export type EndEntry = (status: number, bytes: number | null) => void;

/** The relevant part of Node's `IncomingMessage`. */
export interface NodeRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: { readonly referer?: string; readonly "user-agent"?: string };
}

/** An open access log. */
export interface AccessLog {
  /**
   * Records a request that has arrived. Call it first: Deno forgets the request's method, URL,
   * header and client address as soon as it is answered or upgraded.
   *
   * @param request The request.
   * @param info The request's info, with the client's address.
   * @returns A function to call once, when the request ends. Nothing is written before.
   */
  begin(request: Request, info: Deno.ServeHandlerInfo): EndEntry;
  /**
   * Records a request that a server of Node's has received.
   *
   * @param request The request.
   * @param remote The client's address.
   * @returns A function, as {@linkcode begin} returns it.
   */
  beginNode(request: NodeRequest, remote: string | undefined): EndEntry;
  /** Reopens the file after it was moved. A failure is logged. */
  reopen(): void;
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
export function openAccessLog({ target, format, log }: AccessLogOptions): AccessLog {
  const file = openLogFile(target === "-" ? 1 : target);
  const name = target === "-" ? "the access log on standard output" : `access log ${target}`;
  const wantsHeader = format !== "common";
  const pid = getpid();
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
    log(`${dropped} lines of ${name} were dropped`);
    dropped = 0;
  }

  function open(
    method: string,
    url: string,
    remote: string | undefined,
    referer: string | null,
    agent: string | null,
  ): EndEntry {
    const time = Date.now();
    const start = performance.now();
    return (status, bytes) => {
      write(formatEntry(format, {
        pid,
        time,
        remote,
        method,
        url,
        status,
        bytes: method === "HEAD" || hasNoBody(status) ? 0 : bytes,
        duration: performance.now() - start,
        referer,
        agent,
      }));
    };
  }

  return {
    begin(request, info): EndEntry {
      return open(
        request.method,
        pathOf(request.url),
        remoteOf(info),
        wantsHeader ? fieldOf(request, "referer") : null,
        wantsHeader ? fieldOf(request, "user-agent") : null,
      );
    },
    beginNode({ method = "", url = "", headers }, remote): EndEntry {
      return open(method, url, remote, headers.referer ?? null, headers["user-agent"] ?? null);
    },
    reopen(): void {
      try {
        file.reopen();
      } catch (error) {
        if (!isSyscallError(error)) throw error;
        log(`${error.message}. The access log is still written to the file that was open before`);
      }
    },
    close(): void {
      if (dropped > 0) reportDropped();
      file.close();
    },
  };
}

function hasNoBody(status: number): boolean {
  return status === 204 || status === 304 || status < 200;
}

function remoteOf(info: Deno.ServeHandlerInfo): string | undefined {
  const address = info.remoteAddr;
  return "hostname" in address ? address.hostname : undefined;
}

/** Returns the path and the query, as they were in the request. */
function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  return start === -1 ? url : url.slice(start);
}
