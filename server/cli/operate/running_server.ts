import type { Status } from "../../prefork/status/status.ts";

/** What a running server can be told to do. */
export type Command = "reload" | "stop" | "stop now" | "reopen logs";

/** A running server, as the commands for operators see it. */
export interface RunningServer {
  /** What it is called in messages. */
  readonly name: string;
  /**
   * Reads its status.
   *
   * @throws {StatusError} If there is no such server, or it cannot be asked.
   */
  status(): Promise<Status>;
  /** Reads its status without the memory of its processes, which takes longest to find out. */
  look(): Promise<Status>;
  /**
   * Tells it to do something. The outcome is in its status.
   *
   * @throws {StatusError} If it refuses, or cannot be told.
   */
  tell(command: Command): Promise<void>;
  /**
   * Changes the number of its workers.
   *
   * @param workers The number, which must be possible.
   * @throws {StatusError} If it refuses, or cannot be told.
   */
  scale(workers: number): Promise<void>;
  /** Returns whether it has ended. */
  hasEnded(): Promise<boolean>;
}
