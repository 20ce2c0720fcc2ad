/** `/proc/net/tcp`: the connections over IPv4, with what the kernel still has to do for each. */

/** A row of it. */
export interface TcpRow {
  readonly localPort: number;
  readonly remotePort: number;
  /** `SYN_SENT`, `TIME_WAIT`, ... */
  readonly state: string;
  /** Seconds until the kernel sends something again, or forgets the connection; 0 if neither. */
  readonly timer: number;
  /** How often it has sent something again, without an answer so far. */
  readonly retransmits: number;
}

const STATES = ("- ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT " +
  "LAST_ACK LISTEN CLOSING SYN_RECV").split(" ");
const TICKS = 100; // sysconf(_SC_CLK_TCK)

/** Reads the table. */
export function tcpTable(): TcpRow[] {
  return Deno.readTextFileSync("/proc/net/tcp").trim().split("\n").slice(1).map((line) => {
    const [, local, remote, state, , timer, retransmits] = line.trim().split(/\s+/);
    const portOf = (address: string) => parseInt(address.split(":")[1]!, 16);
    return {
      localPort: portOf(local!),
      remotePort: portOf(remote!),
      state: STATES[parseInt(state!, 16)] ?? "unknown",
      timer: parseInt(timer!.split(":")[1]!, 16) / TICKS,
      retransmits: parseInt(retransmits!, 16),
    };
  });
}
