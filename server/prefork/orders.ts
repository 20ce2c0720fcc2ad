/** What master and workers say to each other: one message, one line, over a socket pair of each. */
import { isSyscallError } from "../../ffi/errno.ts";
import { retryOnEintr } from "../../ffi/interruption.ts";
import type { Socket } from "../../ffi/socket.ts";
import { MSG_DONTWAIT } from "../../ffi/socket_calls.ts";

/**
 * The master's words. `stop`: the server ends. `leave`: another worker has taken the place.
 * `look`: connections wait to be accepted. `reopen`: the logs have been moved.
 */
export type Order = "stop" | "leave" | "look" | "reopen";
/** A worker's words. `retire`: it wants to be replaced. Behind them stands why. */
export type Answer = "ready" | "failed" | "retire" | "look";

const LONGEST = 4096;

/** Says something to the other end, which may be gone. */
export function tell(channel: Socket, word: Order | Answer, reason = ""): void {
  const text = reason === "" ? word : `${word} ${reason}`;
  const message = new TextEncoder().encode(text).slice(0, LONGEST);
  try {
    retryOnEintr(() => channel.send(message, MSG_DONTWAIT));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
  }
}

/** What a worker has said since the last time; `undefined` for nothing, or when it is gone. */
export function hear(channel: Socket): { word: Answer; reason: string } | undefined {
  try {
    const text = new TextDecoder().decode(
      retryOnEintr(() => channel.recv(LONGEST, MSG_DONTWAIT)),
    );
    if (text === "") return undefined;
    const [, word, reason] = text.match(/^(\w+) ?(.*)$/s) ?? [];
    return { word: word as Answer, reason: reason ?? "" };
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}
