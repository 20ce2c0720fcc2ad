/** The state a master starts with, and the state it passes to itself across a re-execution. */
import type { Descriptor } from "../../../ffi/descriptor.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { Log } from "../../log.ts";
import type { Notify } from "../host/notify.ts";
import type { LentSocket, SocketRequest } from "../listen_request.ts";
import type { Config } from "../options.ts";
import type { Scoreboard, Slot } from "../scoreboard.ts";

/** What a forked child knows about itself. */
export interface ChildContext {
  /** The child's number; 0 for the admin process. */
  readonly number: number;
  /** The child's slot in the scoreboard. */
  readonly slot: Slot;
  /** The child's end of the socket pair it shares with the master; in the master, the other end. */
  readonly channel: Socket;
}

/** A worker that was forked before the master re-executed itself. */
export interface InheritedWorker extends ChildContext {
  readonly pid: number;
  readonly ready: boolean;
  /** Whether the worker has been told to stop. */
  readonly stopping: boolean;
  /** The number of milliseconds until the worker is killed; `null` if it is not to be killed. */
  readonly timeLeft: number | null;
  /** Why the worker has been killed, if its end has not been seen yet. */
  readonly killedFor?: string | undefined;
}

/** The sockets a server listens on, and what it shares with its workers. */
export interface Place {
  /** The listening sockets, which the workers share. */
  readonly listeners: readonly Socket[];
  /**
   * The address that the program asked for, for each of them, or the name of a socket of its default
   * export; empty for one of the service manager's that has not been used.
   */
  readonly requested: readonly string[];
  /** The listening socket of the admin process; `undefined` if there is no admin process. */
  readonly admin: Socket | undefined;
  /** Whether the service manager opened the listening sockets. */
  readonly isActivated: boolean;
  readonly scoreboard: Scoreboard;
  readonly scoreboardFile: Descriptor;
}

/** What a master knows and the program that replaces it must know. */
export interface Knowledge {
  /** Its workers. */
  readonly workers: readonly InheritedWorker[];
  /** The configured number of workers (`from`), and the number after SIGTTIN and SIGTTOU (`to`). */
  readonly resized: { readonly from: number; readonly to: number };
  /** The number of consecutive failed attempts to load new code. */
  readonly failedRestarts: number;
  /** Its options. Certificates are not passed on: others may read the environment. */
  readonly config: Config;
  /** The process that sends SIGHUP when a file changes; `undefined` if there is none. */
  readonly watcher: number | undefined;
  /** The subprocesses that the apps of the programs before have started. */
  readonly oldSubprocesses: readonly number[];
}

/** What a master passes to itself when it re-executes itself. */
export type Inheritance = Place & Knowledge;

/** The environment of a master. Only its certificates change while the program runs. */
export interface Context extends Inheritance {
  /**
   * Whether an app is loaded to fork workers from; false if new code failed to load after a
   * restart.
   */
  readonly hasApp: boolean;
  /** The subprocesses that the app has started. */
  readonly subprocesses: readonly number[];
  /** The directory in which the server was started. New code is loaded from it. */
  readonly startDirectory: string;
  /** What the program needs in its environment when it is executed again. */
  readonly variables: Readonly<Record<string, string>>;
  readonly log: Log;
  /** Returns a listening socket for a worker that asks for it. */
  lend(request: SocketRequest): LentSocket;
  /** Returns the sockets on which the servers listen, and their URLs. */
  served(): readonly { readonly socket: Socket; readonly url: string }[];
  /** Returns the URLs of the servers, in one line. */
  urls(): string;
  /** Closes the sockets of the old program that the new one has not asked for. */
  closeUnused(): void;
  /** Reads the files of the certificates again, for the workers to come. */
  renewCertificates(): void;
  /** Reopens the master's own logs after they were moved. Returns whether they are open. */
  reopenLogs(): boolean;
  /** Tells the service manager what the master is doing. */
  readonly notify: Notify;
}
