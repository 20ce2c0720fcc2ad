/** Finds a port for a program that will listen on it. */
import { AF_INET, isSyscallError, SOCK_STREAM, Socket } from "../../../mod.ts";

// Below the ports that the kernel gives to clients (/proc/sys/net/ipv4/ip_local_port_range), so that
// none of them takes it in the meantime.
const FIRST = 15_000;
const COUNT = 15_000;

/**
 * A TCP port that no socket has, not even one in TIME_WAIT: another reader's burst on the same port
 * would be seen as ours. Without SO_REUSEADDR, bind() takes no such port.
 */
export function freePort(): number {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    try {
      using socket = new Socket(AF_INET, SOCK_STREAM);
      socket.bind(["", port]);
      return port;
    } catch (error) {
      if (!isSyscallError(error, "EADDRINUSE")) throw error;
    }
  }
}
