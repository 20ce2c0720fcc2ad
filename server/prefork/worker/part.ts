import type { Client } from "../../app/request_limits.ts";
import type { AccessLog } from "../logs/access_log.ts";
import type { Config } from "../options.ts";
import type { Slot } from "../scoreboard.ts";
import type { ProxyView } from "./behind_proxy.ts";
import type { Balance } from "./balance.ts";
import type { Connections } from "./connection_limits.ts";
import type { KnownConnections } from "./known_connections.ts";
import type { Exchange, Meter } from "./meter.ts";
import type { LinkedList } from "./linked_list.ts";
import type { openGate } from "./proxy_gate.ts";
import type { RequestIds } from "./request_ids.ts";
import type { WebSockets } from "./web_sockets.ts";

/** One of the servers that a worker runs. */
export interface Part {
  /** Called repeatedly, after the connections were checked. */
  check?(): void;
  /** Whether a connection has been accepted that the server does not have yet. */
  isAccepting?(): boolean;
  /** Called when the worker has stopped accepting. */
  beginDrain?(): void;
  /**
   * Closes idle connections, and lets each of the others end with the requests that it has. HTTP/2
   * clients learn only by this that they should open another. May be called again and again.
   */
  goAway?(): unknown;
  /** Closes the connections that are left. */
  end(): Promise<void>;
}

/** What all servers of a worker share. */
export interface Shared {
  readonly config: Config;
  readonly slot: Slot;
  readonly meter: Meter;
  readonly accessLog: AccessLog | undefined;
  /** Where requests get an id that the app and the client see, if they do. */
  readonly requestIds: RequestIds | undefined;
  readonly connections: Connections;
  readonly spread: Balance;
  readonly webSockets: WebSockets;
  /** Shows the clients behind proxies; `undefined` if no proxy is trusted. */
  readonly proxyView: ProxyView | undefined;
  /** Accepts connections that begin with the PROXY protocol; `undefined` if they do not. */
  readonly openGate: typeof openGate | undefined;
  /** The connections that Deno knows by another address than their other end's. */
  readonly known: KnownConnections;
  /** Requests whose handler is pending. Most are answered in the turn in which they arrive. */
  readonly inFlight: LinkedList<Exchange>;
  /** Clients that have their response and are still sending their request. */
  readonly unread: LinkedList<Client>;
  /** Whether the worker is about to end. */
  isDraining(): boolean;
  /** Whether clients should open another connection: the worker is about to end, or the server. */
  closesConnections(): boolean;
  /** Counts a request. */
  count(): void;
}
