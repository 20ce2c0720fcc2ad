/** What an access log knows of a request that has been answered. */
import type { TraceContext } from "./trace_context.ts";

/** The contents of a line. */
export interface Entry {
  /** The worker's pid. */
  readonly pid: number;
  /** The worker's number; `null` if this process is none. */
  readonly worker: number | null;
  /** When the request arrived, in milliseconds since 1970. */
  readonly time: number;
  /** The client's address; `undefined` for a client of a UNIX socket. */
  readonly remote: string | undefined;
  /** The client's port. */
  readonly remotePort: number | undefined;
  /** The other end of the connection, which may be a proxy. */
  readonly peer: Deno.Addr | undefined;
  /** The address that the server listens on. */
  readonly local: Deno.Addr | undefined;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** The protocol and its version, as far as they are known. */
  readonly protocol: string;
  /** The server's name as the client used it, perhaps with a port, if the format shows it. */
  readonly host: string | null;
  readonly status: number;
  /** The size of the response's body; `null` if it is not known. */
  readonly bytes: number | null;
  /** The time from the request to the end of the response, in milliseconds. */
  readonly duration: number;
  /** The request's id, if the format shows it. */
  readonly id: string | undefined;
  /** The trace that the request belongs to, if the format shows it and there is one. */
  readonly trace: TraceContext | undefined;
  /** The values of the {@linkcode Uses.requestFields}. */
  readonly requestFields: readonly (string | null)[];
  /** The values of the {@linkcode Uses.responseFields}. */
  readonly responseFields: readonly (string | null)[];
}

/** What a format shows of a request. Only this is read. */
export interface Uses {
  /** Names of fields of the request's header, in lower case. */
  readonly requestFields: string[];
  /** Names of fields of the response's header, in lower case. */
  readonly responseFields: string[];
  /** Whether it shows the server's name as the client used it. */
  host: boolean;
  /** Whether it shows the request's id. */
  id: boolean;
  /** Whether it shows the trace that the request belongs to. */
  trace: boolean;
}
