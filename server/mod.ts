/**
 * Servers on top of `fork()`: one client at a time, one child per client, or workers
 * that are forked before the clients come.
 *
 * @example
 * ```ts
 * import { AF_INET, SOCK_STREAM, Socket } from "@tine/tine/ffi";
 * import { serveIterative } from "@tine/tine/server";
 *
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 0]);
 * listenSocket.listen(1);
 * const controller = new AbortController();
 * controller.abort(); // normally by a signal handler
 * serveIterative(listenSocket, () => {}, { signal: controller.signal });
 * ```
 *
 * @module
 */
export { type App, AppError, loadApp, type WorkerInfo } from "./app/load_app.ts";
export { type Diagnosis, doctor, type Finding } from "./doctor.ts";
export { type FetchForkingOptions, serveFetchForking } from "./gateway/forking.ts";
export { type FetchIterativeOptions, serveFetchIterative } from "./gateway/iterative.ts";
export {
  type ChildExit,
  type ForkingHandler,
  type ForkingOptions,
  serveForking,
} from "./forking.ts";
export { type GatewayOptions, serveConnection, warmUp } from "./gateway/connection.ts";
export { type IterativeHandler, type IterativeOptions, serveIterative } from "./iterative.ts";
export type { Log } from "./log.ts";
export { servePrefork } from "./prefork.ts";
export type { ListenOptions } from "./prefork/listen_option.ts";
export type { PreforkOptions } from "./prefork/options.ts";
export { ActivationError } from "./prefork/host/activation.ts";
export { PidFileError } from "./prefork/host/pid_file.ts";
export {
  type ConnectionStates,
  type CurrentStatus,
  type ListenerStatus,
  type LogStatus,
  type MasterStatus,
  type MemoryStatus,
  type ProcessStatus,
  type ReadOptions,
  readStatus,
  type ReloadCounts,
  type ReloadStatus,
  type SlowStatus,
  type StartCount,
  type Status,
  StatusError,
  type WorkerStatus,
} from "./prefork/status/status.ts";
export type { ListenerEntry } from "./prefork/listener_table.ts";
export type { Histogram, ResponseCount } from "./prefork/request_metrics.ts";
export type { Versions } from "./prefork/scoreboard.ts";
export type { StartReason } from "./prefork/start_reason.ts";
