/**
 * Tells the service manager that started this process what it does now: the protocol
 * of sd_notify(3), one datagram to a UNIX socket.
 */
import { AF_UNIX } from "../../../ffi/address.ts";
import { getenv } from "../../../ffi/environment.ts";
import { retryOnEintr } from "../../../ffi/interruption.ts";
import { clock_gettime, CLOCK_MONOTONIC } from "../../../ffi/time.ts";
import { getpid } from "../../../ffi/process.ts";
import { SOCK_DGRAM, Socket } from "../../../ffi/socket.ts";
import { MSG_DONTWAIT } from "../../../ffi/socket_calls.ts";
import type { Log } from "../../log.ts";

/** What a master does now; a tick tells that it does anything at all. */
export type MasterState = "ready" | "reloading" | "stopping" | "tick";

/**
 * Tells the service manager.
 *
 * @param state What the master does now.
 * @param status The same for people: one line, which `systemctl status` shows.
 */
export type Notify = (state: MasterState, status?: string) => void;

/**
 * Finds out whom to tell. Without `NOTIFY_SOCKET` in the environment nobody is told,
 * and ticks go out only where a watchdog waits for them (`WATCHDOG_USEC`).
 *
 * @param log Hears of the first failure; there is no other consequence.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/sd_notify.3.html sd_notify(3)}
 */
export function openNotify(log: Log): Notify {
  const path = getenv("NOTIFY_SOCKET");
  if (!path) return () => {};
  // An abstract name is written with an @ for its NUL.
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
      if (!failed) log(`Cannot tell the service manager: ${(error as Error).message}`);
      failed = true;
    }
  };
}

function assignments(state: MasterState): string[] {
  switch (state) {
    case "ready":
      // It may have been started through another program, such as npx.
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
  // A socket for each message: it may be another one after a restart of the manager.
  using socket = new Socket(AF_UNIX, SOCK_DGRAM);
  retryOnEintr(() => socket.connect(address));
  socket.send(new TextEncoder().encode(message), MSG_DONTWAIT);
}
