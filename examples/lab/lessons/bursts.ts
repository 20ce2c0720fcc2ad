/** Two ways to let many children of a server end at almost the same time. */
import type { Client, ProcessView, Snapshot, Stage, Started } from "../lesson.ts";
import { childrenOf, zombiesOf } from "./family.ts";

/** The clients of the article's burst. */
export const CLIENTS = 128;

/**
 * Runs client3 against a server, and waits until a child of the server has ended for each of its
 * connections.
 *
 * @param stage Where the server runs.
 * @param server The server.
 * @returns The number of zombies that are left.
 */
export async function burst(stage: Stage, server: Started): Promise<number> {
  const client = await stage.start({
    program: "examples/part3/client3.ts",
    args: ["--max-clients", `${CLIENTS}`, "--max-conns", "1", "--port", `${server.port}`],
    role: "client",
  });
  const { code } = await client.ended(60);
  stage.expect("exit code of client3", code, (code) => code === 0, `0: ${CLIENTS} were connected`);
  return await allEnded(stage, server);
}

/**
 * Waits until all children of a server have ended, and its handler has run for them.
 *
 * @param stage Where the server runs.
 * @param server The server, which waits in accept().
 * @returns The number of zombies that are left.
 */
export async function allEnded(stage: Stage, server: Started): Promise<number> {
  let before = new Set<number>();
  const { zombies } = await stage.until("the end of all children", () => {
    const snapshot = stage.snapshot();
    const children = childrenOf(server.pid, snapshot);
    // A child may end after its parent was looked at. SIGCHLD is pending when a zombie is seen: of
    // those that were seen before, the handler has left the ones that are still there.
    const isOver = hasHandled(server, snapshot) && children.every(({ pid }) => before.has(pid));
    before = new Set(zombiesOf(server.pid, snapshot).map(({ pid }) => pid));
    return isOver && before.size === children.length && { zombies: before.size };
  }, 30);
  return zombies;
}

/** What {@linkcode endTogether} has seen. */
export interface EndedTogether {
  /** How often SIGCHLD was pending when all children had ended. */
  readonly pending: number;
  /** The children that the server has waited for since then. */
  readonly reaped: number;
}

/**
 * Lets children end while their parent is stopped, so that none of its handlers can run in between.
 *
 * @param stage Where the server runs.
 * @param server The server.
 * @param count The number of children.
 * @returns What the server did about them afterwards.
 */
export async function endTogether(
  stage: Stage,
  server: Started,
  count: number,
): Promise<EndedTogether> {
  const earlier = zombiesOf(server.pid, stage.snapshot()).length;
  const clients: Client[] = stage.clients(server.port!, { count, request: null });
  for (const client of clients) await client.connected();
  await stage.until(`${count} children that wait for a request`, () => {
    const snapshot = stage.snapshot();
    const living = childrenOf(server.pid, snapshot).filter(({ state }) => state === "sleeping");
    return living.length === count && hasHandled(server, snapshot);
  });
  stage.kill(server, "SIGSTOP");
  await stage.until(
    "the server to stop",
    () => stateOf(server, stage.snapshot())?.state === "stopped",
  );
  for (const client of clients) await client.send("GET /hello HTTP/1.1\r\n\r\n");
  const zombies = await stage.until("the end of the children", () => {
    const now = zombiesOf(server.pid, stage.snapshot()).length;
    return now >= earlier + count && now;
  });
  const pending = stateOf(server, stage.snapshot())!.signals.pending.filter(isChild).length;
  stage.draw(`${count} children have ended, and the server is stopped`);

  stage.kill(server, "SIGCONT");
  await stage.until(
    "the server to have handled its signals",
    () => hasHandled(server, stage.snapshot()),
  );
  const left = zombiesOf(server.pid, stage.snapshot()).length;
  return { pending, reaped: zombies - left };
}

function isChild(signal: string): boolean {
  return signal === "SIGCHLD";
}

function stateOf(server: Started, { processes }: Snapshot): ProcessView | undefined {
  return processes.find(({ pid }) => pid === server.pid);
}

/** Whether a server waits in accept(), which lets handlers run in ppoll(2), and none has to. */
function hasHandled(server: Started, snapshot: Snapshot): boolean {
  const state = stateOf(server, snapshot);
  return state?.state === "sleeping" && state.call === "ppoll" &&
    !state.signals.pending.some(isChild);
}
