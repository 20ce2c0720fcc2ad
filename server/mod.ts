/**
 * Servers on top of `fork()`: one client at a time, or one child per client.
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
export {
  type ChildExit,
  type ForkingHandler,
  type ForkingOptions,
  serveForking,
} from "./forking.ts";
export { type IterativeHandler, type IterativeOptions, serveIterative } from "./iterative.ts";
export type { Log } from "./log.ts";
