/** Finds a port for a program that will listen on it. */

// Below the ports that the kernel gives to clients (/proc/sys/net/ipv4/ip_local_port_range), so that
// none of them takes it in the meantime.
const FIRST = 15_000;
const COUNT = 15_000;

/** A TCP port that nothing listens on or is connected from. */
export function freePort(): number {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    try {
      Deno.listen({ hostname: "0.0.0.0", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
