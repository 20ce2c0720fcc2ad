/**
 * The iterative server of an app: it serves one connection at a time, with Deno's HTTP
 * server, in a single process.
 */
import { socketOf } from "../../ffi/runtime/connection.ts";
import { acceptFrom } from "../../ffi/runtime/acceptor.ts";
import { delay, every, type Timer } from "../../ffi/runtime/timers.ts";
import { EINVAL, SyscallError } from "../../ffi/errno.ts";
import { getpid } from "../../ffi/process.ts";
import { signal as setAction } from "../../ffi/signal.ts";
import { heldSignals } from "../../ffi/signal_mask.ts";
import { SIGINT, SIGTERM } from "../../ffi/signals.ts";
import type { Socket } from "../../ffi/socket.ts";
import { listens } from "../accept.ts";
import { sleepInterruptibly } from "../sleep_interruptibly.ts";
import { StopRequests } from "../stop_requests.ts";
import type { App } from "../app/load_app.ts";
import { type GatewayOptions, serveConnection, warmUp } from "./connection.ts";
import { addrOf } from "../app/request_host.ts";
import { formatClient, formatSince, type Log, reliable } from "../log.ts";
import { checkSeconds } from "../options.ts";
import { listenAtThrowAwayAddress } from "../../ffi/runtime/throw_away_address.ts";

/** Options of an iterative server of an app. */
export interface FetchIterativeOptions
  extends Pick<GatewayOptions, "cert" | "key" | "idleTimeout" | "signal"> {
  /** How long the current connection may continue after a stop, in seconds. The default is 10. */
  readonly grace?: number;
  /** Receives log lines. The default is standard error. */
  readonly log?: Log;
}

/** The interval between two checks for a stop, in milliseconds. */
const OFTEN = 50;
/** How long a server pauses when a connection cannot be accepted, in milliseconds. */
const BACK_OFF = 100;

/**
 * Serves an app to one client at a time; the others wait in the kernel's backlog. It is {@linkcode
 * serveIterative} with an app. While a client keeps its connection open, up to `idleTimeout`, no
 * other client is served. Within a connection, everything works as under `deno serve`.
 *
 * The app's hooks `onWorkerStart` and `onWorkerStop` run in this process.
 *
 * SIGTERM and SIGINT stop the server after the requests in progress if the program passed them to
 * `becomeForkable()`; a second signal stops it immediately. If the program did not pass them, they
 * end the server immediately, like any program. Nothing is forked.
 *
 * @param listenSocket A listening socket. It is closed when the server stops.
 * @param app The app.
 * @param options Options of the server.
 * @returns A promise that resolves when the server has stopped. Work that the app has in progress
 *   keeps the process alive.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If only one of `cert` and `key` is given.
 * @throws {Deno.errors.InvalidData} If one of them is not a valid certificate or key.
 * @throws {SyscallError} If the socket does not listen.
 *
 * @example
 * ```ts ignore
 * import { AF_INET, SOCK_STREAM, Socket } from "@tine/tine";
 * import { serveFetchIterative } from "@tine/tine/server";
 *
 * const listenSocket = new Socket(AF_INET, SOCK_STREAM);
 * listenSocket.bind(["127.0.0.1", 8000]);
 * listenSocket.listen(128);
 * await serveFetchIterative(listenSocket, { fetch: () => new Response("Hello, World!\n") });
 * ```
 */
export async function serveFetchIterative(
  listenSocket: Socket,
  app: App,
  options: FetchIterativeOptions = {},
): Promise<void> {
  const { idleTimeout = 75, grace = 10 } = options;
  checkSeconds("idleTimeout", idleTimeout);
  checkSeconds("grace", grace);
  const log = reliable(options.log);
  const address = listenSocket.getsockname();
  // Deno's listener would fail again and again.
  if (!listens(listenSocket)) throw new SyscallError("accept", EINVAL);
  await warmUp(options);
  const { server: listener, acceptor } = acceptFrom(
    listenSocket.fileno(),
    () => listenAtThrowAwayAddress(listenSocket.family),
  );
  listenSocket.close();

  const stopping = new AbortController();
  const abandon = new AbortController();
  const close = () => {
    acceptor.close(); // otherwise the socket stays open for as long as this process runs
    listener.close();
  };
  stopping.signal.addEventListener("abort", close);
  const watch = watchStops(stopping, abandon, grace, options.signal);
  const worker = { pid: getpid(), number: 1 };
  try {
    await app.onWorkerStart?.(worker);
    app.onListen?.(addrOf(address));
    while (!stopping.signal.aborted) {
      const connection = await accept();
      if (connection !== undefined) await serve(connection);
    }
    if (!abandon.signal.aborted) await app.onWorkerStop?.(worker);
  } finally {
    watch.cancel();
    if (!stopping.signal.aborted) close();
  }

  async function accept(): Promise<Socket | undefined> {
    try {
      return socketOf(await listener.accept());
    } catch (error) {
      if (stopping.signal.aborted) return undefined;
      log(`${(error as Error).message}. Trying again in ${BACK_OFF} ms`);
      await delay(BACK_OFF);
    }
  }

  async function serve(connection: Socket): Promise<void> {
    const start = performance.now();
    let client = "client";
    let outcome = "ok";
    try {
      client = formatClient(connection.getpeername());
      await serveConnection(connection, app, {
        ...options,
        address,
        signal: stopping.signal,
        abandon: abandon.signal,
      });
    } catch (error) {
      outcome = String(error);
    }
    log(`${client} ${outcome} ${formatSince(start)}`);
  }
}

/**
 * Watches for reasons to stop.
 *
 * @param stopping Aborted to stop.
 * @param abandon Aborted when the stop takes too long, or is requested twice.
 * @returns The timer that watches.
 */
function watchStops(
  stopping: AbortController,
  abandon: AbortController,
  grace: number,
  signal: AbortSignal | undefined,
): Timer {
  const held = [SIGTERM, SIGINT].filter((signum) => heldSignals().has(signum));
  const stops = new StopRequests();
  let deadline: number | undefined;
  return every(OFTEN, () => {
    // Handlers run in sleepInterruptibly(). Set them every time: Deno sets its own half a second
    // after it starts.
    for (const signum of held) setAction(signum, () => void stops.add());
    sleepInterruptibly(0);
    if (deadline === undefined && (stops.count > 0 || signal?.aborted)) {
      deadline = performance.now() + grace * 1000;
      stopping.abort();
    }
    if (stops.count > 1 || performance.now() > (deadline ?? Infinity)) abandon.abort();
  });
}
