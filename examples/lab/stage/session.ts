/** Ends what runs in sessions: a command's process and all its descendants. */
import { processesOf } from "../observe/processes.ts";

const PATIENCE = 10_000; // milliseconds; a process in an uninterruptible call ends when it returns
const PAUSE = 5;

/** Kills the processes of some sessions, and waits until none is left but zombies. */
export async function endSessions(sessions: ReadonlySet<number>): Promise<void> {
  const end = performance.now() + PATIENCE;
  while (killAll(sessions) > 0 && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

/** Kills the processes of some sessions that are alive now, and returns how many there were. */
export function killAll(sessions: ReadonlySet<number>): number {
  if (sessions.size === 0) return 0;
  const alive = processesOf(sessions).filter(({ state }) => state !== "zombie");
  for (const { pid } of alive) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // it has just ended
    }
  }
  return alive.length;
}
