/**
 * What a worker serves: Deno's and Node's HTTP servers on the listening sockets that all workers
 * share, and what these leave to their users. Deno accepts, parses and answers; this module and its
 * parts count, limit and log requests, and shut down gracefully.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { Descriptor } from "../../../ffi/descriptor.ts";
import { F_DUPFD_CLOEXEC, fcntl } from "../../../ffi/descriptor_calls.ts";
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { serveAt, throwAwayAddress } from "../../../ffi/runtime/throw_away_address.ts";
import { after, delay, every, nextTurn } from "../../../ffi/runtime/timers.ts";
import type { Socket } from "../../../ffi/socket.ts";
import type { CaughtFetchServer, CaughtServer } from "../../app/caught_servers.ts";
import type { Program } from "../../app/load_program.ts";
import { type Certificate, isSecure } from "../../listen.ts";
import { tlsOf } from "../certificates.ts";
import type { Log } from "../../log.ts";
import { balance } from "./balance.ts";
import { type ListeningAddress, watchConnections } from "./connection_limits.ts";
import type { Client } from "../../app/request_limits.ts";
import type { Config } from "../options.ts";
import { CURRENT, type Scoreboard, type Slot } from "../scoreboard.ts";
import { type Exchange, Meter } from "./meter.ts";
import { acceptRequests } from "./fetch_server.ts";
import { knownConnections } from "./known_connections.ts";
import { LinkedList } from "./linked_list.ts";
import { loadOptionalModules, type OptionalModules } from "./optional_modules.ts";
import type { Part, Shared } from "./part.ts";
import { rememberWebSockets } from "./web_sockets.ts";

/** A listening socket, and the certificates that are meant for it. */
export interface Listener {
  readonly socket: Socket;
  readonly certificates: readonly Certificate[];
}

/** Options for {@linkcode openService}. */
export interface ServiceOptions {
  readonly config: Config;
  /** The modules that the worker needs. The default is to load them. */
  readonly modules?: OptionalModules | undefined;
  /**
   * The listening sockets: those of the program's own servers, and the others for its default export.
   * The service closes them, because Deno has duplicates.
   */
  readonly listeners: readonly Listener[];
  readonly slot: Slot;
  readonly scoreboard: Scoreboard;
  readonly log: Log;
  /** Called when the worker has served its maximum number of requests. */
  readonly onMaxRequests: () => void;
  /** Called when clients have asked for certificates for many different names. */
  readonly onManyNames: () => void;
}

/** A running service. */
export interface Service {
  /** Checks again whether connections are waiting to be accepted. */
  lookAgain(): void;
  /** Reopens the access log after it was moved. Returns whether it is open. */
  reopenLog(): boolean;
  /** Accepts all waiting connections: once the server has ended, no process will. */
  acceptRest(): Promise<void>;
  /**
   * Stops accepting, finishes the requests in progress, and closes the connections.
   *
   * @param end Returns the time until which open connections may stay silent, in milliseconds of
   *   `performance.now()`. A request may be on its way.
   */
  drain(end: () => number): Promise<void>;
}

/**
 * The status code with which a server that is going away closes a WebSocket, RFC 6455 section
 * 7.4.1.
 */
const GOING_AWAY = 1001;
/** How long to wait after accept(2) has failed, in milliseconds. */
const ACCEPT_RETRY = 100;
/** The number of descriptors that must be free for a retry. */
const SPARE = 8;
/** How long a stopping server accepts waiting connections, in milliseconds. */
const ACCEPT_REST = 1000;
/** The interval between two counts of the connections, in milliseconds. */
const COUNT_INTERVAL = 500;
/**
 * The interval at which a draining service checks whether it is done, in milliseconds: a base value
 * and a value per connection.
 */
const DRAIN_INTERVAL = 20;
const DRAIN_INTERVAL_EACH = 0.2;
/** How long a WebSocket may take to close, in milliseconds. */
const CLOSING = 1000;

/**
 * Starts to serve a program.
 *
 * @throws {SyscallError} If the access log cannot be opened, or no descriptor is left.
 */
export async function openService(program: Program, options: ServiceOptions): Promise<Service> {
  const { config, listeners, slot, scoreboard, log, onMaxRequests, onManyNames } = options;
  const modules = options.modules ?? await loadOptionalModules(config, program.servers);
  const accessLog = config.accessLog === undefined ? undefined : modules.accessLog!.openAccessLog({
    target: config.accessLog,
    format: config.accessLogFormat,
    requestIdHeader: config.requestIdHeader,
    log,
  });
  const meter = new Meter(slot);
  const inFlight = new LinkedList<Exchange>();
  const unread = new LinkedList<Client>();
  const lastRequest = config.maxRequests + Math.floor(Math.random() * config.maxRequests / 10);
  const acceptors: Acceptor[] = [];
  const addresses: ListeningAddress[] = [];
  const parts: Part[] = [];
  // A fresh worker's own servers have sockets that the master has lent it.
  const own = program.servers.flatMap(({ socket }) => socket ?? []);
  const sockets = [...new Set([...listeners.map(({ socket }) => socket), ...own])];
  const tls = (certificates: readonly Certificate[]) => tlsOf(certificates, onManyNames);
  let draining = false;

  const spread = balance(acceptors, slot, scoreboard);
  const known = knownConnections();
  const connections = watchConnections({
    ...config,
    nameOf: known.nameOf,
    addresses,
    inFlight: { values: () => [...[...inFlight].map(({ client }) => client), ...unread] },
    acceptors,
  });
  const webSockets = rememberWebSockets((client) => connections.upgraded(client));
  const shared: Shared = {
    config,
    slot,
    meter,
    accessLog,
    requestIds: config.requestIdHeader === undefined
      ? undefined
      : modules.requestIds!.requestIds(config.requestIdHeader),
    connections,
    spread,
    webSockets,
    proxyView: modules.proxies?.viewThroughProxies(config.trustProxy),
    openGate: modules.proxyGate?.openGate,
    known,
    inFlight,
    unread,
    isDraining: () => draining,
    closesConnections: () => draining || scoreboard.draining,
    count(): void {
      if (++slot.requests === lastRequest) onMaxRequests();
    },
  };

  const { app } = program;
  if (app !== undefined) {
    for (const { socket, certificates } of listeners) {
      if (own.includes(socket)) continue;
      const secure = isSecure(socket, certificates);
      accept(socket, secure, {
        fetch: (request, info) => app.fetch(request, info),
        listen: (handle, family) =>
          serveAt(throwAwayAddress(family), secure ? tls(certificates) : undefined, handle),
      });
    }
  }
  for (const server of program.servers) await start(server);
  // An only server of the program's own listens on all addresses that were given.
  const [only] = program.servers;
  if (app === undefined && only?.kind === "fetch") {
    for (const one of listeners) if (!own.includes(one.socket)) startOn(one, only);
  }
  if (program.catcher !== undefined) {
    program.catcher.onCaught = (server) => {
      sockets.push(server.socket!);
      start(server).catch((error) => log(`Cannot start a server: ${error.stack ?? error}`));
    };
  }
  connections.sweep();
  const counting = every(COUNT_INTERVAL, count);

  /** Starts a server of the program's own. */
  async function start(server: CaughtServer): Promise<void> {
    const { socket, secure } = server;
    if (socket === undefined) return;
    const certificates = config.listen[0]?.certificates ?? [];
    if (server.kind === "fetch") return startOn({ socket, certificates }, server);
    const address: ListeningAddress = { address: socket.getsockname(), secure };
    addresses.push(address);
    // A program may start its first such server when it serves.
    const { acceptNode } = modules.nodeServer ?? await import("./node_server.ts");
    const { part, acceptor } = await acceptNode(server, shared, address);
    acceptors.push(acceptor);
    parts.push(part);
  }

  function startOn({ socket, certificates }: Listener, server: CaughtFetchServer): void {
    const secure = server.hasOwnCertificate || certificates.length > 0;
    const index = accept(socket, secure, {
      fetch: (request, info) => server.fetch(request, info),
      listen: (handle, family) =>
        server.listen(family, socket.family === AF_UNIX ? undefined : tls(certificates), handle),
      onStart: (running) => server.started(socket, running, () => acceptors[index]!.close()),
      onEnd: () => server.ended(),
    });
  }

  function accept(
    socket: Socket,
    secure: boolean,
    server: Parameters<typeof acceptRequests>[0]["server"],
  ): number {
    const index = acceptors.length;
    addresses.push({ address: socket.getsockname(), secure });
    acceptAgain();
    return index;

    function acceptAgain(): void {
      const { acceptor, part } = acceptRequests({ socket, secure, server, shared, onFailure });
      acceptors[index] = acceptor;
      parts.push(part);
    }

    function onFailure(error: Error): void {
      log(`Cannot accept: ${error.message}. Trying again in ${ACCEPT_RETRY} ms`);
      acceptors[index]!.close();
      acceptLater();
    }

    /**
     * Retries when descriptors are free again. Deno's server ends when accept(2) fails, and serves
     * the connections it has.
     */
    function acceptLater(): void {
      after(ACCEPT_RETRY, () => {
        if (draining) return;
        try {
          checkSpareDescriptors();
          acceptAgain();
        } catch {
          acceptLater();
        }
      });
    }
  }

  function count(): void {
    sweep();
    spread.updateSurplus();
    for (const part of parts) part.check?.();
  }

  /** Checks the connections, and shows what happens on them. */
  function sweep(): void {
    slot.connections = connections.sweep();
    const { active, upgraded } = connections.states(webSockets.size());
    slot.active = active;
    slot.upgraded = upgraded;
    meter.show(inFlight.oldest(CURRENT));
  }

  return {
    lookAgain(): void {
      for (const acceptor of acceptors) acceptor.requeue();
    },
    reopenLog(): boolean {
      return accessLog?.reopen() ?? true;
    },
    async acceptRest(): Promise<void> {
      const end = performance.now() + ACCEPT_REST;
      for (const acceptor of acceptors) {
        while (acceptor.isAnyWaiting() && performance.now() < end) {
          acceptor.requeue();
          await nextTurn();
        }
      }
    },
    async drain(end): Promise<void> {
      draining = true;
      // Checking all connections costs more, the more there are.
      const interval = () => DRAIN_INTERVAL + connections.open * DRAIN_INTERVAL_EACH;
      for (const acceptor of acceptors) acceptor.close();
      for (const socket of sockets) socket.close();
      counting.cancel();
      for (const part of parts) part.beginDrain?.();
      await until(() => {
        sweep();
        const isLate = performance.now() >= end();
        if (isLate) { for (const part of parts) part.goAway?.(); }
        const isQuiet = slot.connections <= webSockets.size() &&
          !parts.some((part) => part.isAccepting?.());
        return (isLate || isQuiet) && inFlight.size === 0;
      }, interval);
      webSockets.close(GOING_AWAY, "The server is restarting");
      const closed = performance.now() + CLOSING;
      await until(() => webSockets.size() === 0 || performance.now() >= closed, interval);
      await Promise.allSettled(parts.map((part) => part.end()));
      connections.stop();
      accessLog?.close();
    },
  };
}

async function until(condition: () => boolean, interval: () => number): Promise<void> {
  while (!condition()) await delay(interval());
}

/**
 * Checks that enough descriptors are free.
 *
 * @throws {SyscallError} `EMFILE` if there are not.
 */
function checkSpareDescriptors(): void {
  using spare = new DisposableStack();
  for (let i = 0; i < SPARE; i++) spare.use(new Descriptor(fcntl(2, F_DUPFD_CLOEXEC)));
}
