/** The header of the PROXY protocol before what a client sends to a server of Node's. */
import { after } from "../../../ffi/runtime/timers.ts";
import { LARGEST_HEADER, parseProxyHeader, type ProxyHeader } from "./proxy_header.ts";

/** The relevant part of Node's `net.Socket`. */
export interface ReadableSocket {
  read(): Uint8Array | null;
  unshift(bytes: Uint8Array): void;
  on(event: "readable" | "end" | "close" | "error", listener: () => void): void;
  off(event: "readable" | "end" | "close" | "error", listener: () => void): void;
  destroy(): void;
}

/**
 * Reads the header. What follows it can still be read.
 *
 * @param socket The connection. It is destroyed if the header is invalid, or late.
 * @param timeout How long the header may take, in seconds; 0 for no limit.
 * @param onHeader Called with the header.
 */
export function readNodeHeader(
  socket: ReadableSocket,
  timeout: number,
  onHeader: (header: ProxyHeader & { kind: "complete" }) => void,
): void {
  const bytes = new Uint8Array(LARGEST_HEADER);
  let length = 0;
  const timer = timeout === 0 ? undefined : after(timeout * 1000, fail);
  socket.on("readable", read);
  for (const event of ["end", "close", "error"] as const) socket.on(event, fail);

  function read(): void {
    for (let chunk; (chunk = socket.read()) !== null;) {
      const taken = chunk.subarray(0, bytes.length - length);
      bytes.set(taken, length);
      const header = parseProxyHeader(bytes.subarray(0, length + taken.length));
      if (header.kind === "invalid") return fail();
      if (header.kind === "complete") {
        stop();
        const rest = chunk.subarray(header.size - length);
        if (rest.length > 0) socket.unshift(rest);
        return onHeader(header);
      }
      length += taken.length;
    }
  }

  function fail(): void {
    stop();
    socket.destroy();
  }

  function stop(): void {
    timer?.cancel();
    socket.off("readable", read);
    for (const event of ["end", "close", "error"] as const) socket.off(event, fail);
  }
}
