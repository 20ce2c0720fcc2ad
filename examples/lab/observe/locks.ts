/** Locks by flock(2), and who waits for them: `/proc/locks` and `/proc/PID/fdinfo`. */

/** A process that waits in flock(2) for another one. */
export interface LockWait {
  /** Who waits. */
  readonly pid: number;
  /** Who has called flock(2) for the lock that is there. */
  readonly holder: number;
}

/**
 * Lists the processes that wait for a lock.
 *
 * @param pids The processes that may wait.
 * @returns The waiting ones, each with the process that has the lock.
 *
 * @see {@link https://man7.org/linux/man-pages/man5/proc_locks.5.html proc_locks(5)}
 */
export function lockWaits(pids: readonly number[]): LockWait[] {
  // The kernel gives the table in parts. While others take locks, a line may come twice, or not.
  let before = readWaits(pids);
  for (let attempts = 0; attempts < 10; attempts++) {
    const waits = readWaits(pids);
    if (JSON.stringify(waits) === JSON.stringify(before)) break;
    before = waits;
  }
  return before;
}

function readWaits(pids: readonly number[]): LockWait[] {
  const waits = new Map<number, LockWait>();
  let holder = 0;
  // A lock, and below it those that wait for it, with an arrow:
  // 1: FLOCK  ADVISORY  WRITE 4056 fe:00:2146331 0 EOF
  // 1: -> FLOCK  ADVISORY  WRITE 4057 fe:00:2146331 0 EOF
  for (const line of Deno.readTextFileSync("/proc/locks").split("\n")) {
    const [, arrow, pid] = line.match(/^\d+: *(-> )?FLOCK +\w+ +\w+ +(-?\d+) /) ?? [];
    if (pid === undefined) continue;
    if (arrow === undefined) holder = Number(pid);
    else if (pids.includes(Number(pid))) waits.set(Number(pid), { pid: Number(pid), holder });
  }
  return [...waits.values()].toSorted((a, b) => a.pid - b.pid);
}

/**
 * Tells whether a process has a descriptor of an open file that is locked by flock(2).
 *
 * @param pid The process.
 * @returns Whether it has one, whoever has called flock(2).
 *
 * @see {@link https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html proc_pid_fdinfo(5)}
 */
export function hasLockedFile(pid: number): boolean {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/fdinfo`)].some(({ name }) => {
      try {
        return /^lock:.* FLOCK /m.test(Deno.readTextFileSync(`/proc/${pid}/fdinfo/${name}`));
      } catch {
        return false; // closed in the meantime
      }
    });
  } catch {
    return false; // the process has ended
  }
}
