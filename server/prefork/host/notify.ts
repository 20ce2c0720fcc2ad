/**
 * Notifies the service manager that started this process of its state, with the protocol of
 * sd_notify(3): one datagram to a UNIX socket.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { getenv } from "../../../ffi/environment.ts";
import { retryOnEintr } from "../../../ffi/interruption.ts";
import { clock_gettime, CLOCK_MONOTONIC } from "../../../ffi/time.ts";
import { getpid } from "../../../ffi/process.ts";
import { SOCK_DGRAM, Socket } from "../../../ffi/socket.ts";
import { MSG_DONTWAIT } from "../../../ffi/socket_calls.ts";
import type { Log } from "../../log.ts";

/** The state of a master. `"tick"` is the keep-alive for the watchdog. */
export type MasterState = "ready" | "reloading" | "stopping" | "tick";

/**
 * Notifies the service manager.
 *
 * @param state The state of the master.
 * @param status The state in words: one line, which `systemctl status` shows.
 */
export type Notify = (state: MasterState, status?: string) => void;

/**
 * Reads the environment and returns the function that notifies the service manager. Without
 * `NOTIFY_SOCKET` it does nothing, and it sends ticks only if a watchdog expects them
 * (`WATCHDOG_USEC`).
 *
 * @param log Receives the first failure. A failure has no other effect.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/sd_notify.3.html sd_notify(3)}
 */
export function openNotify(log: Log): Notify {
  const path = getenv("NOTIFY_SOCKET");
  if (!path) return () => {};
  // In an abstract name, @ stands for the NUL byte.
  const address = path.replace(/^@/, "\0");
  const watched = isWatched();
  let failed = false;

  return (state, status) => {
    if (state === "tick" && !watched) return;
    const lines = assignments(state);
    if (status !== undefined) lines.push(`STATUS=${status.replaceAll("\n", " ")}`);
    try {
      send(address, lines.join("\n"));
    } catch (error) {
      if (!failed) log(`Cannot notify the service manager: ${(error as Error).message}`);
      failed = true;
    }
  };
}

function assignments(state: MasterState): string[] {
  switch (state) {
    case "ready":
      // The master may have been started through another program, such as npx.
      return ["READY=1", `MAINPID=${getpid()}`];
    case "reloading":
      return ["RELOADING=1", `MONOTONIC_USEC=${Math.floor(clock_gettime(CLOCK_MONOTONIC) * 1e6)}`];
    case "stopping":
      return ["STOPPING=1"];
    case "tick":
      return ["WATCHDOG=1"];
  }
}

function isWatched(): boolean {
  if (!(Number(getenv("WATCHDOG_USEC")) > 0)) return false;
  const pid = getenv("WATCHDOG_PID");
  return pid === undefined || pid === "" || Number(pid) === getpid();
}

function send(address: string, message: string): void {
  // Open a socket for each message: a restart of the manager may have replaced the socket.
  using socket = new Socket(AF_UNIX, SOCK_DGRAM);
  retryOnEintr(() => socket.connect(address));
  socket.send(new TextEncoder().encode(message), MSG_DONTWAIT);
}
