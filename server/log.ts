import { type Address, formatAddress } from "../ffi/address.ts";
import { signalName } from "../ffi/signals.ts";
import type { WaitStatus } from "../ffi/wait.ts";

/** Takes one line of a server's log, without its newline. */
export type Log = (line: string) => void;

/** The usual log: lines to standard error. */
export function logToStandardError(line: string): void {
  console.error(line);
}

/** The client of a connection, as logs show it; UNIX clients mostly have no name. */
export function formatClient(address: Address): string {
  return formatAddress(address) || "unix";
}

/** How long something took, in seconds with three digits. */
export function formatSince(start: number): string {
  return `${((performance.now() - start) / 1000).toFixed(3)}s`;
}

/** What became of a child, in three words at most. */
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
