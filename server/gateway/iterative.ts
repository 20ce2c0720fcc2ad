/**
 * The iterative server of an app: it serves one connection at a time, with Deno's HTTP
 * server, in a single process.
 */
import { socketOf } from "../../ffi/runtime/connection.ts";
import { acceptFrom } from "../../ffi/runtime/acceptor.ts";
import { delay, every, type Timer } from "../../ffi/runtime/timers.ts";
import { getpid } from "../../ffi/process.ts";
import { signal as setAction } from "../../ffi/signal.ts";
import { heldSignals } from "../../ffi/signal_mask.ts";
import { SIGINT, SIGTERM } from "../../ffi/signals.ts";
import type { Socket } from "../../ffi/socket.ts";
import { sleepInterruptibly } from "../sleep_interruptibly.ts";
import type { App } from "../app/load_app.ts";
import { type GatewayOptions, serveConnection, warmUp } from "./connection.ts";
import { addrOf } from "../app/request_host.ts";
import { formatClient, formatSince, type Log, reliable } from "../log.ts";
import { checkSeconds } from "../options.ts";
import { throwAwayAddress } from "../../ffi/runtime/throw_away_address.ts";

/** How an iterative server of an app runs. */
export interface FetchIterativeOptions
  extends Pick<GatewayOptions, "cert" | "key" | "idleTimeout" | "signal"> {
  /** Seconds that the connection at hand may go on after a stop; 10 if left out. */
  readonly grace?: number;
  /** Where log lines go; standard error if left out. */
  readonly log?: Log;
}

/** How often a stop is looked for, in milliseconds. */
const OFTEN = 50;
/** How long a server rests when a connection cannot be accepted, in milliseconds. */
const BACK_OFF = 100;

/**
 * Serves an app to one client at a time, the others wait in the kernel's backlog:
 * {@linkcode serveIterative} with an app. For as long as a client keeps its
 * connection open, up to `idleTimeout`, nobody else is served; within the one
 * connection, all is as it is under `deno serve`.
 *
 * The app's hooks `onWorkerStart` and `onWorkerStop` run here.
 *
 * SIGTERM and SIGINT stop the server after the requests under way if the program named
 * them to `becomeForkable()`; a second one stops it at once. Otherwise they end it on the
 * spot, as any program. Nothing is forked.
 *
 * @param listenSocket A listening socket; it is closed when the server stops.
 * @param app The app.
 * @param options How it runs.
 * @returns When the server has stopped. What the app still has under way keeps the process alive.
 * @throws {RangeError} When an option is out of its range.
 * @throws {TypeError} When one of `cert` and `key` is missing.
 * @throws {Deno.errors.InvalidData} When one of them is no certificate, or no key.
 * @throws {SyscallError} When the socket does not listen.
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
  await warmUp(options);
  const { server: listener, acceptor } = acceptFrom(
    listenSocket.fileno(),
    () => listen(listenSocket.family),
  );
  listenSocket.close();

  const stopping = new AbortController();
  const abandon = new AbortController();
  const close = () => {
    acceptor.close(); // or the socket would be open for as long as this process has it
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

/** A listener of Deno's on a throw-away address, whose place the listening socket takes. */
function listen(family: number): Deno.Listener {
  using place = throwAwayAddress(family);
  const { address } = place;
  // The same call twice, for each kind of address has an overload of its own.
  return address.transport === "unix" ? Deno.listen(address) : Deno.listen(address);
}

/**
 * Looks for reasons to stop.
 *
 * @param stopping Aborted to stop.
 * @param abandon Aborted when the stop takes too long, or is asked for twice.
 * @returns The timer that looks.
 */
function watchStops(
  stopping: AbortController,
  abandon: AbortController,
  grace: number,
  signal: AbortSignal | undefined,
): Timer {
  const held = [SIGTERM, SIGINT].filter((signum) => heldSignals().has(signum));
  let stops = 0;
  let deadline: number | undefined;
  return every(OFTEN, () => {
    // Handlers run in sleepInterruptibly(). Each time anew: Deno, half a second after its start, sets its own.
    for (const signum of held) setAction(signum, () => stops++);
    sleepInterruptibly(0);
    if (deadline === undefined && (stops > 0 || signal?.aborted)) {
      deadline = performance.now() + grace * 1000;
      stopping.abort();
    }
    if (stops > 1 || performance.now() > (deadline ?? Infinity)) abandon.abort();
  });
}
