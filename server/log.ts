import { type Address, formatAddress } from "../ffi/address.ts";
import { signalName } from "../ffi/signals.ts";
import type { WaitStatus } from "../ffi/wait.ts";

/** Receives one line of a server's log, without its newline. */
export type Log = (line: string) => void;

/**
 * Wraps a log so that a write failure, such as a full disk or a closed terminal, loses the line but
 * does not stop the server.
 *
 * @param log Receives the lines. The default is standard error.
 */
export function reliable(log: Log = (line) => console.error(line)): Log {
  return (line) => {
    try {
      log(line);
    } catch {
      // There is nowhere left to report it.
    }
  };
}

/**
 * Returns the client of a connection as logs show it. Clients of UNIX sockets usually have no name.
 */
export function formatClient(address: Address): string {
  return formatAddress(address) || "unix";
}

/** Formats the time since `start`, in seconds with three decimals. */
export function formatSince(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(3)}s`;
}

/**
 * Formats a number of things.
 *
 * @param number How many they are.
 * @param one What one of them is called.
 * @param many What several are called. The default is what one is called, with an s.
 */
export function formatCount(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

/** Formats an exit status, in at most three words. */
export function formatStatus(status: WaitStatus): string {
  switch (status.kind) {
    case "exited":
      return `exit ${status.code}`;
    case "signaled":
      return `killed by ${signalName(status.signal)}${status.coreDumped ? ", core dumped" : ""}`;
    default:
      return status.kind;
  }
}
