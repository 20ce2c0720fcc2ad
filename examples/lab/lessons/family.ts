/** What several lessons look for in a snapshot: children, zombies a client's connection, an error's name. */
import type { Client, ProcessView, Snapshot, SocketView, Stage, Started } from "../lesson.ts";

/** The children of a process, living ones and zombies. */
export function childrenOf(pid: number, { processes }: Snapshot): ProcessView[] {
  return processes.filter(({ ppid }) => ppid === pid);
}

/** The children of a process that have ended, but for which it has not waited. */
export function zombiesOf(pid: number, snapshot: Snapshot): ProcessView[] {
  return childrenOf(pid, snapshot).filter(({ state }) => state === "zombie");
}

/** The server's end of a client's connection. */
export function connectionOf(client: Client, { sockets }: Snapshot): SocketView | undefined {
  return sockets.find(({ remote }) => remote.endsWith(`:${client.localPort}`));
}

/** The processes that have a descriptor of the server's end of a client's connection. */
export function holdersOf(client: Client, snapshot: Snapshot): number[] {
  return (connectionOf(client, snapshot)?.holders ?? []).map(({ pid }) => pid);
}

/** Whether a process is there and has not ended. */
export function isAlive(wanted: number, { processes }: Snapshot): boolean {
  return processes.some(({ pid, state }) => pid === wanted && state !== "zombie");
}

/** Notes the line in which a program names an error that ended it. Nothing depends on it. */
export async function noteError(stage: Stage, started: Started, error: string): Promise<void> {
  const line = () => started.output().match(new RegExp(`Cannot .*${error}.*`))?.[0];
  const end = performance.now() + 1000; // what it wrote may still be in the pipe
  const late = () => performance.now() > end && "nothing";
  stage.note("it printed", await stage.until("its last words", () => line() ?? late()));
}
