/**
 * How a worker gets a listening socket that it has not inherited: it asks the master, which opens
 * each socket once for all workers. The worker waits for the answer, because `Deno.serve()` returns
 * its address at once.
 */
import { receiveDescriptor, sendDescriptor } from "../../ffi/descriptor_passing.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { retryOnEintr } from "../../ffi/interruption.ts";
import { SOCK_SEQPACKET, Socket, socketpair } from "../../ffi/socket.ts";
import { SO_RCVTIMEO, SOL_SOCKET } from "../../ffi/socket_calls.ts";
import type { ListenRequest } from "../app/caught_servers.ts";

/** What a worker asks for: a socket for one of its own servers, or the program's default export. */
export type SocketRequest = ListenRequest | {
  /** Which of the sockets of the default export, from 0. */
  readonly app: number;
};

/** A listening socket. */
export interface LentSocket {
  readonly socket: Socket;
  /** To which element of `Config.listen` it belongs, if it is one of the default export. */
  readonly listen: number;
}

/** The master's answer. With no error, the socket comes with it. */
interface Answer {
  /** {@linkcode LentSocket.listen} */
  readonly listen?: number;
  readonly error?: {
    readonly message: string;
    /** Of a system call that failed. */
    readonly call?: { readonly syscall: string; readonly errno: number; readonly object: string };
  };
}

/** With what the master's name of a socket begins that a worker has asked for. */
export const LENT = "lent ";

/** With what its name of a socket of the default export begins. */
const APP = "app";

/**
 * Returns the master's name of a socket of the default export.
 *
 * @param listen To which element of `Config.listen` it belongs.
 */
export function nameForApp(listen: number): string {
  return `${APP}:${listen}`;
}

/**
 * Returns to which element of `Config.listen` a socket of the default export belongs; `undefined`
 * for another one.
 *
 * @param name The master's name of it. There was just one element in earlier versions of tine.
 */
export function listenOf(name: string): number | undefined {
  const [isApp, listen = "0"] = name.match(/^(?:lent )?app(?::(\d+))?$/) ?? [];
  return isApp === undefined ? undefined : Number(listen);
}

const LONGEST = 4096;
/** How long a worker waits for its master, in seconds. */
const PATIENCE = 30;

/**
 * Asks the master for a listening socket.
 *
 * @param channel The worker's end of the socket pair shared with the master.
 * @param request What to listen on.
 * @returns The socket, which listens.
 * @throws {SyscallError} What the master's calls threw: `EADDRINUSE`, ...; or `EAGAIN` if it does not
 *   answer.
 */
export function askToListen(channel: Socket, request: ListenRequest): Socket {
  return ask(channel, request).socket;
}

function ask(channel: Socket, request: SocketRequest): LentSocket {
  // A pair of its own: another thread of this process waits for orders on the channel.
  const [ours, theirs] = socketpair(SOCK_SEQPACKET);
  using _ = ours;
  try {
    const message = new TextEncoder().encode(`listen ${JSON.stringify(request)}`);
    retryOnEintr(() => sendDescriptor(channel.fileno(), message, theirs.fileno()));
  } finally {
    theirs.close();
  }
  ours.setsockopt(SOL_SOCKET, SO_RCVTIMEO, PATIENCE);
  const { data, descriptor } = retryOnEintr(() => receiveDescriptor(ours.fileno(), LONGEST));
  if (data.length === 0) throw new Error("Cannot listen: the master has ended");
  const { error, listen = 0 }: Answer = JSON.parse(new TextDecoder().decode(data));
  if (descriptor !== undefined) return { socket: Socket.fromDescriptor(descriptor), listen };
  throw error?.call === undefined
    ? new Error(error?.message)
    : new SyscallError(error.call.syscall, error.call.errno, error.call.object);
}

/**
 * Asks the master for the sockets of the program's default export.
 *
 * @param channel The worker's end of the socket pair shared with the master.
 * @throws As {@linkcode askToListen} does.
 */
export function askForApp(channel: Socket): LentSocket[] {
  const sockets = [ask(channel, { app: 0 })];
  for (;;) {
    try {
      sockets.push(ask(channel, { app: sockets.length }));
    } catch (error) {
      if (error instanceof SyscallError) throw error;
      return sockets; // there are no more
    }
  }
}

/**
 * Answers a worker's request, in the master.
 *
 * @param request The text of the request.
 * @param descriptor The end of the socket pair on which the worker waits.
 * @param open Returns the socket. It stays the master's.
 * @returns The error that the worker got, if any.
 */
export function answerListen(
  request: string,
  descriptor: number,
  open: (request: SocketRequest) => LentSocket,
): Error | undefined {
  using end = Socket.fromDescriptor(descriptor);
  try {
    const { socket, listen } = open(JSON.parse(request));
    const answer: Answer = { listen };
    const message = new TextEncoder().encode(JSON.stringify(answer));
    retryOnEintr(() => sendDescriptor(end.fileno(), message, socket.fileno()));
    return undefined;
  } catch (error) {
    const { message } = error as Error;
    const call = error instanceof SyscallError
      ? { syscall: error.syscall, errno: error.errno, object: objectOf(error) }
      : undefined;
    const answer: Answer = { error: { message, ...call === undefined ? {} : { call } } };
    try {
      end.send(new TextEncoder().encode(JSON.stringify(answer)).slice(0, LONGEST));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error; // EPIPE: the worker has ended
    }
    return error as Error;
  }
}

/** Returns what a failed call was applied to, from its message. */
function objectOf({ message, syscall }: SyscallError): string {
  return message.match(/^Cannot \S+ (.*): \w+ \(/)?.[1] ?? syscall;
}
