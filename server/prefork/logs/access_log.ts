/**
 * The access log: one line for each request, in one of three formats. Each worker
 * opens it for itself, after the fork, and writes its lines whole.
 */
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import { getpid } from "../../../ffi/process.ts";
import type { Log } from "../../log.ts";
import { type AccessLogFormat, formatEntry } from "./access_line.ts";
import { innerRequest } from "../../../ffi/runtime/http_internals.ts";
import { LONGEST_LINE, openLogFile } from "./log_file.ts";

/** Where an access log goes, and how it looks. */
export interface AccessLogOptions {
  /** `"-"` for standard output, or a file. */
  readonly target: string;
  /** How its lines look: Apache's Common or Combined log format, or an object of JSON each. */
  readonly format: AccessLogFormat;
  /** Where it is said that lines were dropped. */
  readonly log: Log;
}

/**
 * Writes the line of a request that has been answered.
 *
 * @param status The response's status.
 * @param bytes The size of its body; `null` when it is not known.
 */
export type EndEntry = (status: number, bytes: number | null) => void;

/** An open access log. */
export interface AccessLog {
  /**
   * Takes down a request that has come. Deno forgets its method, its URL, its header and
   * the client's address as soon as it is answered or upgraded: so call it first.
   *
   * @param request The request.
   * @param info Who sent it.
   * @returns To be called once, at its end; nothing is written before.
   */
  begin(request: Request, info: Deno.ServeHandlerInfo): EndEntry;
  /** Opens the file anew, after it has been moved; if it cannot, the log says so. */
  reopen(): void;
  /** Closes it. */
  close(): void;
}

/** How long to wait between two reports about dropped lines, in milliseconds. */
const REPORT_INTERVAL = 1000;

/**
 * Opens an access log.
 *
 * @param options Where it goes, and how it looks.
 * @throws {SyscallError} When the file cannot be opened.
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
        log(`${message}. Its lines are dropped until it can be written again`);
      }
    } else if (dropped > 0 && performance.now() - reported >= REPORT_INTERVAL) {
      reportDropped();
    }
  }

  function reportDropped(): void {
    log(`${dropped} lines of ${name} were dropped`);
    dropped = 0;
  }

  return {
    begin(request, info): EndEntry {
      const time = Date.now();
      const start = performance.now();
      const { method } = request;
      const url = pathOf(request.url);
      const remote = remoteOf(info);
      const referer = wantsHeader ? fieldOf(request, "referer") : null;
      const agent = wantsHeader ? fieldOf(request, "user-agent") : null;
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
    },
    reopen(): void {
      try {
        file.reopen();
      } catch (error) {
        if (!isSyscallError(error)) throw error;
        log(`${error.message}. The access log goes on to the file that was open`);
      }
    },
    close(): void {
      if (dropped > 0) reportDropped();
      file.close();
    },
  };
}

/** One field of a request's header. */
function fieldOf(request: Request, name: string): string | null {
  const inner = innerRequest(request);
  return inner?.header === undefined ? request.headers.get(name) : inner.header(name);
}

function hasNoBody(status: number): boolean {
  return status === 204 || status === 304 || status < 200;
}

function remoteOf(info: Deno.ServeHandlerInfo): string | undefined {
  const address = info.remoteAddr;
  return "hostname" in address ? address.hostname : undefined;
}

/** Path and query, as they stood in the request. */
function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  return start === -1 ? url : url.slice(start);
}
