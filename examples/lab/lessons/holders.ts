/** Which processes of a server have its clients' connections. */
import type { Client, Stage, Started } from "../lesson.ts";
import { holdersOf } from "./family.ts";

/**
 * Waits until a child serves each client and their parent waits for another client: it has closed
 * its own copies by then, if it does.
 *
 * @param stage Where the server runs.
 * @param server The server.
 * @param clients Its clients.
 * @returns For each client, the processes that have its connection.
 */
export async function holdersOfEach(
  stage: Stage,
  server: Started,
  clients: readonly Client[],
): Promise<number[][]> {
  let waited = false;
  return await stage.until("a child for each client", () => {
    const snapshot = stage.snapshot();
    const holders = clients.map((client) => holdersOf(client, snapshot));
    const parent = snapshot.processes.find(({ pid }) => pid === server.pid);
    const waits = parent?.state === "sleeping" && /^(accept4?|ppoll)$/.test(parent.call ?? "") &&
      holders.every((pids) => pids.some((pid) => pid !== server.pid));
    // A look takes time: only what the next one sees is certainly after the parent has come back.
    const hasWaited = waited;
    waited = waits;
    return hasWaited && waits && holders;
  });
}
