/** What a master works with: what it was started with, and what it hands on to itself. */
import type { Descriptor } from "../../../ffi/descriptor.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { Log } from "../../log.ts";
import type { Notify } from "../host/notify.ts";
import type { Config } from "../options.ts";
import type { Scoreboard, Slot } from "../scoreboard.ts";

/** What a forked child is told of itself. */
export interface ChildContext {
  /** Its number; 0 for the admin process. */
  readonly number: number;
  /** Its part of the scoreboard. */
  readonly slot: Slot;
  /** Its end of the socket pair that it shares with the master; in the master, the other end. */
  readonly channel: Socket;
}

/** A worker that was forked before the master executed itself anew. */
export interface InheritedWorker extends ChildContext {
  readonly pid: number;
  readonly ready: boolean;
  /** Whether it was told to stop. */
  readonly stopping: boolean;
  /** In how many milliseconds it is to be killed; `null` for never. */
  readonly timeLeft: number | null;
}

/** Where a server listens, and what it shares with its workers. */
export interface Place {
  /** The listening sockets, which the workers share. */
  readonly listeners: readonly Socket[];
  /** The listening socket of the admin process, if there is to be one. */
  readonly admin: Socket | undefined;
  /** Whether the service manager has opened the listening sockets. */
  readonly isActivated: boolean;
  readonly scoreboard: Scoreboard;
  readonly scoreboardFile: Descriptor;
}

/** What a master knows that the program is to know that is executed in its place. */
export interface Knowledge {
  /** Its workers. */
  readonly workers: readonly InheritedWorker[];
  /** How many workers it was told to have (`from`), and how many signals have made of that (`to`). */
  readonly resized: { readonly from: number; readonly to: number };
  /** How many attempts in a row to load new code have failed. */
  readonly failedRestarts: number;
}

/** What a master hands on to itself when it executes itself anew. */
export type Inheritance = Place & Knowledge;

/** All that a master works with. It stays the same for as long as the program runs. */
export interface Context extends Inheritance {
  readonly config: Config;
  /** Whether there is an app to fork with: not when new code failed to load after a restart. */
  readonly hasApp: boolean;
  /** Where the server was started: new code is loaded from there. */
  readonly startDirectory: string;
  readonly log: Log;
  /** Opens the master's own logs anew, after they were moved. */
  reopenLogs(): void;
  /** Tells the service manager what the master is doing. */
  readonly notify: Notify;
}
