/**
 * Accepts connections that begin with a header of the PROXY protocol, reads the header, and gives
 * them to a Deno server. The server does not know of any of this: it sees each client at an address
 * of its own, and here is whom it means.
 */
import type { Acceptor } from "../../../ffi/runtime/acceptor.ts";
import { acceptFrom } from "../../../ffi/runtime/acceptor.ts";
import { type Placement, standInsFor } from "../../../ffi/runtime/stand_ins.ts";
import { listenAtThrowAwayAddress } from "../../../ffi/runtime/throw_away_address.ts";
import { after } from "../../../ffi/runtime/timers.ts";
import { isSyscallError } from "../../../ffi/errno.ts";
import type { Socket } from "../../../ffi/socket.ts";
import { MSG_DONTWAIT, MSG_PEEK, recv } from "../../../ffi/socket_calls.ts";
import type { ProxyView } from "./behind_proxy.ts";
import type { KnownConnections } from "./known_connections.ts";
import { LARGEST_HEADER, parseProxyHeader, type ProxyHeader } from "./proxy_header.ts";

/** Options for {@linkcode openGate}. */
export interface GateOptions {
  /** The shared socket. */
  readonly socket: Socket;
  /** Tells which proxies may connect. */
  readonly proxyView: ProxyView;
  /** Learns what the connections are called that the server has. */
  readonly known: KnownConnections;
  /** How long a header may take, in seconds; 0 for no limit. */
  readonly headerTimeout: number;
  /** Called when accept(2) has failed. */
  readonly onFailure: (error: Error) => void;
}

/** What is known of a connection. */
export interface Proxied {
  /** The client that the proxy names, or the proxy itself. */
  readonly client: Deno.Addr;
  /** The other end of the connection. */
  readonly proxy: Deno.Addr;
}

/** A gate. */
export interface Gate {
  readonly acceptor: Acceptor;
  /** Whether a connection is on its way to the server. */
  isPassing(): boolean;
  /**
   * Returns what is known of a connection.
   *
   * @param address The client's address, as the server has it.
   * @returns `undefined` if the connection did not come through the gate.
   */
  lookUp(address: Deno.Addr): Proxied | undefined;
  /** Forgets the connections that have ended. Must be called repeatedly. */
  sweep(): void;
  /** Closes the connections that are on their way. The acceptor must have been closed. */
  close(): void;
}

/**
 * Opens a gate.
 *
 * @param server A Deno server at a throw-away TCP address.
 * @throws {SyscallError} If no descriptor is left.
 */
export function openGate(server: { readonly addr: Deno.Addr }, options: GateOptions): Gate {
  const { socket, proxyView, known, headerTimeout, onFailure } = options;
  const standIns = standInsFor(server);
  const listen = () => listenAtThrowAwayAddress(socket.family);
  const { server: listener, acceptor } = acceptFrom(socket.fileno(), listen);
  const passing = new Map<number, { cookie: number; connection: Deno.Conn }>();
  const proxied = new Map<string, Proxied & { readonly placement: Placement }>();
  let isClosed = false;
  accept();

  async function accept(): Promise<void> {
    try {
      for (;;) {
        const connection = await listener.accept();
        pass(connection).catch((error) => {
          // ECONNRESET, EMFILE: the connection is lost, and no other.
          if (!isSyscallError(error)) throw error;
        });
      }
    } catch (error) {
      if (!isClosed) onFailure(error as Error);
    }
  }

  function isPassed(fd: number, cookie: number): boolean {
    return passing.get(fd)?.cookie === cookie || known.nameOf(fd, cookie) !== undefined;
  }

  /** Brings a connection to the server, or ends it. */
  async function pass(connection: Deno.Conn): Promise<void> {
    const proxy = addressOf(connection.remoteAddr, socket);
    const accepted = proxyView.isTrusted(proxy) ? standIns.find(connection, isPassed) : undefined;
    if (accepted === undefined) return connection.close();
    const { fd, cookie } = accepted;
    passing.set(fd, { cookie, connection });
    let taken: Socket | undefined;
    let header: ProxyHeader & { kind: "complete" } | undefined;
    try {
      header = await readHeader(connection, fd, headerTimeout);
      if (header !== undefined) await standIns.whenFewWait();
      if (header !== undefined) taken = accepted.take();
    } finally {
      if (passing.get(fd)?.cookie === cookie) passing.delete(fd);
      if (taken === undefined) closeQuietly(connection);
    }
    if (taken === undefined || header === undefined) return;
    const placement = standIns.place(taken, ({ fd, address }) => known.add(fd!, address));
    const { hostname, port } = placement.address;
    const client = header.client ?? proxy;
    proxied.set(`${hostname}:${port}`, { client, proxy, placement });
  }

  return {
    acceptor: {
      ...acceptor,
      close(): void {
        isClosed = true;
        acceptor.close();
      },
    },
    isPassing: () => passing.size > 0 || standIns.isAnyWaiting(),
    lookUp: (address) =>
      "hostname" in address ? proxied.get(`${address.hostname}:${address.port}`) : undefined,
    sweep(): void {
      for (const [name, { placement }] of proxied) {
        if (placement.isClosed()) proxied.delete(name);
      }
    },
    close(): void {
      isClosed = true;
      closeQuietly(listener);
      for (const { connection } of passing.values()) closeQuietly(connection);
    },
  };
}

/** Returns the other end, in the form in which a request's info has it. */
function addressOf(remote: Deno.Addr, socket: Socket): Deno.Addr {
  if ("hostname" in remote) {
    const { hostname, port } = remote;
    return { transport: "tcp", hostname, port };
  }
  return { transport: "unix", path: socket.getsockname() as string };
}

/**
 * Reads the header, and no byte more.
 *
 * @returns The header; `undefined` if it is invalid, or does not come in time.
 */
async function readHeader(
  connection: Deno.Conn,
  fd: number,
  timeout: number,
): Promise<ProxyHeader & { kind: "complete" } | undefined> {
  const bytes = new Uint8Array(LARGEST_HEADER + 1);
  let length = 0;
  let isLate = false;
  const timer = timeout === 0 ? undefined : after(timeout * 1000, () => {
    isLate = true;
    closeQuietly(connection); // which ends the read
  });
  try {
    for (;;) {
      const arrived = length + peek(fd, bytes.subarray(length));
      const header = parseProxyHeader(bytes.subarray(0, arrived));
      if (header.kind === "invalid") return undefined;
      const end = header.kind === "complete" ? header.size : arrived;
      if (end > length) recv(fd, bytes.subarray(length, end), MSG_DONTWAIT);
      length = end;
      if (header.kind === "complete") return header;
      // Deno waits for the next byte.
      if (await connection.read(bytes.subarray(length, length + 1)) === null) return undefined;
      length++;
    }
  } catch (error) {
    if (
      isLate || isSyscallError(error) || error instanceof Deno.errors.ConnectionReset ||
      error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted
    ) return undefined;
    throw error;
  } finally {
    timer?.cancel();
  }
}

/** Returns how many bytes have arrived, and copies them. */
function peek(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
  try {
    return recv(fd, buffer, MSG_PEEK | MSG_DONTWAIT);
  } catch (error) {
    if (isSyscallError(error, "EAGAIN")) return 0;
    throw error;
  }
}

function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // It is closed.
  }
}
