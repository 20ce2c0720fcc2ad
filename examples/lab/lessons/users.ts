/** Users of the system, for limits that do not apply to root. */

/**
 * How many processes and threads a user has.
 *
 * @param uid The user's id.
 * @returns What RLIMIT_NPROC limits: zombies count as well.
 */
export function tasksOf(uid: number): number {
  let tasks = 0;
  for (const { name } of Deno.readDirSync("/proc")) {
    try {
      if (Number(name) > 0 && Deno.statSync(`/proc/${name}`).uid === uid) {
        tasks += [...Deno.readDirSync(`/proc/${name}/task`)].length;
      }
    } catch {
      // it has ended in the meantime
    }
  }
  return tasks;
}

/**
 * Finds a user that nobody is.
 *
 * @returns The id of a user that has no name and no process. It differs between labs that run at
 *   the same time.
 */
export function freeUid(): number {
  const users = Deno.readTextFileSync("/etc/passwd");
  for (let uid = 61184 + Deno.pid % 4000;; uid++) { // no id of a distribution, and below 65534
    if (!new RegExp(`^[^:]*:[^:]*:${uid}:`, "m").test(users) && tasksOf(uid) === 0) return uid;
  }
}
