/**
 * The messages between the master and its workers. Each worker has a socket pair; a message is one
 * line.
 */
import { isSyscallError } from "../../ffi/errno.ts";
import { retryOnEintr } from "../../ffi/interruption.ts";
import type { Socket } from "../../ffi/socket.ts";
import { MSG_DONTWAIT } from "../../ffi/socket_calls.ts";

/**
 * The master's orders. `stop`: the server stops. `leave`: another worker has taken this one's
 * place. `look`: connections are waiting to be accepted. `reopen`: the logs were moved.
 */
export type Order = "stop" | "leave" | "look" | "reopen";
/** A worker's messages. `retire`: the worker asks to be replaced. A reason may follow the word. */
export type Answer = "ready" | "failed" | "retire" | "look";

const LONGEST = 4096;

/** Sends a message to the other end, which may no longer exist. */
export function tell(channel: Socket, word: Order | Answer, reason = ""): void {
  const text = reason === "" ? word : `${word} ${reason}`;
  const message = new TextEncoder().encode(text).slice(0, LONGEST);
  try {
    retryOnEintr(() => channel.send(message, MSG_DONTWAIT));
  } catch (error) {
    if (!isSyscallError(error)) throw error;
  }
}

/** Receives the next message of a worker; `undefined` if there is none, or the worker has ended. */
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
