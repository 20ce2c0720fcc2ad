/**
 * The messages between the master and its workers. Each worker has a socket pair; a message is one
 * line.
 */
import { receiveDescriptor } from "../../ffi/descriptor_passing.ts";
import { isSyscallError } from "../../ffi/errno.ts";
import { retryOnEintr } from "../../ffi/interruption.ts";
import type { Socket } from "../../ffi/socket.ts";
import { MSG_DONTWAIT } from "../../ffi/socket_calls.ts";

/**
 * The master's orders. `stop`: the server stops. `leave`: another worker has taken this one's
 * place. `look`: connections are waiting to be accepted. `reopen`: the logs were moved.
 */
export type Order = "stop" | "leave" | "look" | "reopen";
/**
 * A worker's messages. `retire`: the worker asks to be replaced. `listen`: it asks for a listening
 * socket (`listen_request.ts`). `command`: somebody commands the master through the admin socket
 * (`master/admin_command.ts`). A reason may follow the word.
 */
export type Answer = "ready" | "failed" | "retire" | "look" | "listen" | "command";

/** A worker's message. */
export interface Said {
  readonly word: Answer;
  readonly reason: string;
  /** The descriptor that came with it, which the receiver must close. */
  readonly descriptor: number | undefined;
}

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
export function hear(channel: Socket): Said | undefined {
  try {
    const { data, descriptor } = retryOnEintr(() =>
      receiveDescriptor(channel.fileno(), LONGEST, MSG_DONTWAIT)
    );
    if (data.length === 0) return undefined;
    const [, word, reason] = new TextDecoder().decode(data).match(/^(\w+) ?(.*)$/s) ?? [];
    return { word: word as Answer, reason: reason ?? "", descriptor };
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}
