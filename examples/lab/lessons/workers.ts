import { readStatus, StatusError } from "../../../mod.ts";
import type { Client, Stage, Started } from "../lesson.ts";

/** A request after whose answer the server closes the connection. */
export function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
}

/**
 * Waits until a preforking server has workers that serve.
 *
 * @param stage The stage.
 * @param server The master.
 * @param count How many.
 * @param isWanted Whether one of them counts.
 * @returns Their pids.
 */
export async function workersOf(
  stage: Stage,
  server: Started,
  count: number,
  isWanted: (pid: number) => boolean = () => true,
): Promise<number[]> {
  return await stage.until(`${count} workers that serve`, () => {
    try {
      const pids = readStatus(server.pid).workers
        .filter(({ state, pid }) => state === "ready" && isWanted(pid))
        .map(({ pid }) => pid);
      return pids.length === count && pids;
    } catch (error) {
      // The master executes itself, or a worker has just ended.
      if (error instanceof StatusError) return undefined;
      throw error;
    }
  });
}

/**
 * Waits until clients' connections have been accepted.
 *
 * @returns The pid of the process that holds the connection, for each client.
 */
export async function holdersOf(
  stage: Stage,
  clients: readonly Client[],
): Promise<Map<Client, number>> {
  return await stage.until(`${clients.length} accepted connections`, () => {
    const { sockets } = stage.snapshot();
    const holders = clients.flatMap((client) => {
      const socket = sockets.find(({ remote }) => remote.endsWith(`:${client.localPort}`));
      const holder = socket?.holders[0];
      return holder === undefined ? [] : [[client, holder.pid] as const];
    });
    return holders.length === clients.length && new Map(holders);
  });
}

/** Whether a reply is the whole answer of an app. */
export function isAnswer(reply: string, text: string): boolean {
  return reply.startsWith("HTTP/1.1 200 OK\r\n") && reply.endsWith(`\r\n\r\n${text}`);
}
