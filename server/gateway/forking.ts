/**
 * The complete form of the article's webserver3h: a server that forks a child with an event loop
 * for each connection, in which Deno's HTTP server serves it.
 */
import { fork } from "../../ffi/forking/fork.ts";
import { awaitModuleWatcher } from "../../ffi/runtime/file_watcher.ts";
import { every, nextTurn } from "../../ffi/runtime/timers.ts";
import { _exit, getpid, getppid } from "../../ffi/process.ts";
import { MAP_ANONYMOUS, MAP_SHARED, mmap } from "../../ffi/memory.ts";
import type { Socket } from "../../ffi/socket.ts";
import { alarm } from "../../ffi/time.ts";
import type { App } from "../app/load_app.ts";
import {
  type ChildTask,
  type ForkingOptions,
  forkPerConnection,
  takeChildSignals,
} from "../forking.ts";
import { type GatewayOptions, serveConnection, warmUp } from "./connection.ts";
import { addrOf } from "../app/request_host.ts";
import { checkSeconds, timeLimit } from "../options.ts";

/** Options of a forking server of an app. */
export interface FetchForkingOptions
  extends Omit<ForkingOptions, "timeout">, Pick<GatewayOptions, "cert" | "key" | "idleTimeout"> {
  /**
   * How long a child's event loop may be blocked, in seconds, rounded up to whole seconds. After
   * that, SIGALRM ends the child. The default is 30; 0 or `Infinity` means no limit.
   */
  readonly timeout?: number;
}

/** The interval at which a child checks whether the server is stopping, in milliseconds. */
const INTERVAL = 200;

/**
 * Serves an app, each connection in a child of its own. This is the complete form of the article's
 * webserver3h, with all the robustness of {@linkcode serveForking}.
 *
 * The app is loaded once; a child starts with everything that it has in memory. Its hooks
 * `onWorkerStart` and `onWorkerStop` run in each child.
 *
 * The parent's event loop does not run: timers and requests that the app started before continue
 * neither in the parent nor in a child.
 *
 * @param listenSocket A listening socket. It is closed when the server stops.
 * @param app The app.
 * @param options Options of the server.
 * @returns A promise that resolves when the server has stopped; never in a child.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If only one of `cert` and `key` is given.
 * @throws {Deno.errors.InvalidData} If one of them is not a valid certificate or key.
 * @throws {UnsupportedRuntimeError} If Deno works differently inside from what tine relies on.
 * @throws {Error} If the process is not forkable.
 * @throws {SyscallError} If the socket does not listen.
 *
 * @example
 * ```ts ignore
 * import {
 *   AF_INET, becomeForkable, SIGCHLD, SIGINT, SIGTERM, SOCK_STREAM, Socket,
 * } from "@tine/tine";
 * import { serveFetchForking } from "@tine/tine/server";
 *
 * becomeForkable({ signals: [SIGCHLD, SIGTERM, SIGINT] });
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 8000]);
 * listenSocket.listen(1024);
 * await serveFetchForking(listenSocket, { fetch: () => new Response("Hello, World!\n") });
 * ```
 */
export async function serveFetchForking(
  listenSocket: Socket,
  app: App,
  options: FetchForkingOptions = {},
): Promise<void> {
  const timeout = timeLimit("timeout", options.timeout ?? 30);
  checkSeconds("idleTimeout", options.idleTimeout ?? 75);
  const address = listenSocket.getsockname();
  const parent = getpid();
  const stopped = new Uint8Array(mmap(1, MAP_SHARED | MAP_ANONYMOUS));

  await warmUp(options);
  app.onListen?.(addrOf(address));
  // Jobs that are pending here would run in each child too.
  await awaitModuleWatcher();
  await nextTurn();
  const task = forkPerConnection(listenSocket, {
    hasRuntime: true,
    start: () => fork({ runtime: true }),
    stop: () => stopped[0] = 1,
  }, options);
  if (task === undefined) return; // parent

  let code = 1; // child
  try {
    listenSocket.close(); // its copy
    takeChildSignals();
    await serve(task);
    code = 0;
  } catch (error) {
    console.error("error: Uncaught", error);
  } finally {
    _exit(code);
  }

  async function serve({ connection, number }: ChildTask): Promise<void> {
    const stop = new AbortController();
    watch();
    every(INTERVAL, watch);
    const worker = { pid: getpid(), number };
    await app.onWorkerStart?.(worker);
    await serveConnection(connection, app, { ...options, address, signal: stop.signal });
    await app.onWorkerStop?.(worker);

    /** Resets the alarm, which expires only if the event loop is blocked. */
    function watch(): void {
      if (timeout > 0) alarm(Math.ceil(timeout));
      if (stopped[0] === 1 || getppid() !== parent) stop.abort();
    }
  }
}
