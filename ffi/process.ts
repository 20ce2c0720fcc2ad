import { cString } from "./c_string.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { signalName } from "./signals.ts";

/** `getrlimit()`: processor time, in seconds. */
export const RLIMIT_CPU = 0;
/** `getrlimit()`: size of a file that the process writes, in bytes. */
export const RLIMIT_FSIZE = 1;
/** `getrlimit()`: size of a core dump, in bytes. */
export const RLIMIT_CORE = 4;
/** `getrlimit()`: number of processes and threads of this user. */
export const RLIMIT_NPROC = 6;
/** `getrlimit()`: the highest descriptor number, plus one. */
export const RLIMIT_NOFILE = 7;
/** `getrlimit()`: size of the address space, in bytes. */
export const RLIMIT_AS = 9;
/** No limit. */
export const RLIM_INFINITY: number = Infinity;

/** `prctl()`: the signal that this process receives when its parent ends. */
export const PR_SET_PDEATHSIG = 1;
/** `prctl()`: whether the process can be traced and can dump core. */
export const PR_SET_DUMPABLE = 4;
/** `prctl()`: whether this process becomes the parent of orphaned descendants. */
export const PR_SET_CHILD_SUBREAPER = 36;
/** `prctl()`: programs started later cannot gain privileges. */
export const PR_SET_NO_NEW_PRIVS = 38;

/**
 * Ends this process immediately, without exit handlers, events or Deno's cleanup. Forked children
 * end this way.
 *
 * @param status The exit status, 0 to 255.
 * @throws {RangeError} If it is not an exit status.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/_exit.2.html _exit(2)}
 */
export function _exit(status: number): never {
  if (!Number.isInteger(status) || status < 0 || status > 255) {
    throw new RangeError(`Cannot _exit with ${status}: expected a whole number from 0 to 255`);
  }
  libc()._exit(status);
  throw new Error("_exit() returned");
}

/**
 * Returns the pid of this process.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getpid.2.html getpid(2)}
 */
export function getpid(): number {
  return libc().getpid();
}

/**
 * Returns the pid of the parent process; 1, or that of a subreaper, after the parent has ended.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getppid.2.html getppid(2)}
 */
export function getppid(): number {
  return libc().getppid();
}

/**
 * Sends a signal.
 *
 * @param pid A process; 0 for this process group, -1 for all processes, less than -1 for the
 *   process group `-pid`.
 * @param signum The signal's number; 0 only checks whether the process exists.
 * @throws {RangeError} If the pid or the signal is not a valid number.
 * @throws {SyscallError} `ESRCH` if there is no such process, `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/kill.2.html kill(2)}
 */
export function kill(pid: number, signum: number): void {
  // In C, NaN and 2^32 would become 0, and 2^32 - 1 would become -1, which mean many processes.
  if (!Number.isInteger(pid) || Math.abs(pid) > 0x7fff_ffff) {
    throw new RangeError(`Cannot kill ${pid}: expected a pid`);
  }
  const name = signum === 0 ? "0" : signalName(signum);
  check(libc().kill(pid, signum), "kill", `${pid} with ${name}`);
}

/**
 * Makes this process the leader of a new session, without a controlling terminal.
 *
 * @returns The id of the session.
 * @throws {SyscallError} `EPERM` if it is already the leader of a process group.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setsid.2.html setsid(2)}
 */
export function setsid(): number {
  return check(libc().setsid(), "setsid");
}

/**
 * Moves a process to another process group. Control-C in a terminal reaches the whole foreground
 * group.
 *
 * @param pid This process or one of its children; 0 for this process.
 * @param pgid The process group; 0 for a new one with the pid of the process.
 * @throws {SyscallError} `EPERM` if the group belongs to another session, `EACCES` if the child has
 *   executed another program.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setpgid.2.html setpgid(2)}
 */
export function setpgid(pid: number, pgid: number): void {
  check(libc().setpgid(pid, pgid), "setpgid", `${pid} to ${pgid}`);
}

/**
 * Returns the id of the user as which this process runs.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getuid.2.html getuid(2)}
 */
export function getuid(): number {
  return libc().getuid();
}

/**
 * Changes the user as which this process runs, in all its threads. For root, that cannot be undone:
 * change the groups first, with {@linkcode setgroups} or {@linkcode initgroups} and then
 * {@linkcode setgid}; otherwise the process keeps root's groups.
 *
 * @param uid The user's id.
 * @throws {SyscallError} `EPERM`, or `EAGAIN` if the user has too many processes.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setuid.2.html setuid(2)}
 */
export function setuid(uid: number): void {
  checkId("setuid", uid);
  check(libc().setuid(uid), "setuid", String(uid));
}

/**
 * Returns the id of the group as which this process runs.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getgid.2.html getgid(2)}
 */
export function getgid(): number {
  return libc().getgid();
}

/**
 * Changes the group as which this process runs, in all its threads.
 *
 * @param gid The group's id.
 * @throws {SyscallError} `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setgid.2.html setgid(2)}
 */
export function setgid(gid: number): void {
  checkId("setgid", gid);
  check(libc().setgid(gid), "setgid", String(gid));
}

/**
 * Returns the supplementary groups of this process, whose permissions it has in addition to those
 * of its group.
 *
 * @returns The ids of the groups, in the kernel's order.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getgroups.2.html getgroups(2)}
 */
export function getgroups(): number[] {
  const groups = new Uint32Array(check(libc().getgroups(0, null), "getgroups"));
  const count = check(libc().getgroups(groups.length, groups), "getgroups");
  return [...groups.subarray(0, count)];
}

/**
 * Changes the supplementary groups of this process, in all its threads.
 *
 * @param groups The ids of the groups; empty for no supplementary group.
 * @throws {RangeError} If one is not a group id.
 * @throws {SyscallError} `EPERM` without root privileges, `EINVAL` for more than 65536 groups.
 *
 * @example Give up root permanently
 * ```ts ignore
 * import { getuid, setgid, setgroups, setuid } from "@tine/tine";
 *
 * if (getuid() === 0) {
 *   setgroups([]); // while this is permitted
 *   setgid(65534); // nobody's group
 *   setuid(65534);
 * }
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setgroups.2.html setgroups(2)}
 */
export function setgroups(groups: readonly number[]): void {
  for (const gid of groups) checkId("setgroups", gid);
  const list = Uint32Array.from(groups);
  check(libc().setgroups(BigInt(list.length), list), "setgroups", groups.join(" "));
}

/**
 * Changes the supplementary groups of this process, in all its threads, to those of a user: the
 * groups in which `/etc/group` (or the system's other source) lists the user.
 *
 * @param user The user's name.
 * @param gid An additional group, usually the user's group in `/etc/passwd`.
 * @throws {TypeError} If the name contains NUL.
 * @throws {RangeError} If `gid` is not a group id.
 * @throws {SyscallError} `EPERM` without root privileges.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/initgroups.3.html initgroups(3)}
 */
export function initgroups(user: string, gid: number): void {
  checkId("initgroups", gid);
  check(libc().initgroups(cString(user), gid), "initgroups", user);
}

/** A resource limit: the effective one, and the maximum to which it can be raised. */
export interface ResourceLimit {
  /** The effective limit; `Infinity` for none. */
  readonly soft: number;
  /** The maximum of `soft`; `Infinity` for none. */
  readonly hard: number;
}

// RLIM_INFINITY
const UNLIMITED = 0xffff_ffff_ffff_ffffn;

/**
 * Returns a resource limit of this process.
 *
 * @param resource `RLIMIT_NOFILE`, ...
 * @throws {SyscallError} `EINVAL` if there is no such resource.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getrlimit.2.html getrlimit(2)}
 */
export function getrlimit(resource: number): ResourceLimit {
  const limit = new BigUint64Array(2);
  check(libc().getrlimit(resource, limit), "getrlimit", String(resource));
  const [soft, hard] = Array.from(
    limit,
    (value) => value === UNLIMITED ? Infinity : Number(value),
  );
  return { soft: soft!, hard: hard! };
}

/**
 * Changes a resource limit of this process and of its future children.
 *
 * @param resource `RLIMIT_NOFILE`, ...
 * @param limit The new limit; `Infinity` for none.
 * @throws {RangeError} If a limit is neither a whole number of at least 0 nor `Infinity`.
 * @throws {SyscallError} `EPERM` if the hard limit would be raised, `EINVAL` if the soft limit is
 *   above the hard one.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setrlimit.2.html setrlimit(2)}
 */
export function setrlimit(resource: number, limit: ResourceLimit): void {
  const values = BigUint64Array.from([limit.soft, limit.hard], (value) => {
    if (value === Infinity) return UNLIMITED;
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new RangeError(
        `Cannot set a limit of ${value}: expected a whole number of at least 0, or Infinity`,
      );
    }
    return BigInt(value);
  });
  check(
    libc().setrlimit(resource, values),
    "setrlimit",
    `${resource} to ${limit.soft}:${limit.hard}`,
  );
}

/**
 * Reads or changes an attribute of this process. The arguments are numbers.
 *
 * @param option `PR_SET_PDEATHSIG`, ...
 * @param args Up to four whole numbers.
 * @returns The result of the option.
 * @throws {SyscallError} `EINVAL`, `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/prctl.2.html prctl(2)}
 */
export function prctl(option: number, ...args: readonly number[]): number {
  const [a = 0n, b = 0n, c = 0n, d = 0n] = args.map((arg) => BigInt.asUintN(64, BigInt(arg)));
  return check(libc().prctl(option, a, b, c, d), "prctl", String(option));
}

/** The standard scheduling policy. */
export const SCHED_OTHER = 0;
/** The same, but a process that wakes up does not preempt others: fewer context switches. */
export const SCHED_BATCH = 3;

/**
 * Sets the scheduling policy of a process. Processes that it starts later inherit the policy.
 *
 * @param pid The process; 0 for this one. Only its main thread is affected.
 * @param policy `SCHED_OTHER` or `SCHED_BATCH`.
 * @throws {SyscallError} `EINVAL` if there is no such policy, or it requires a priority; `EPERM`,
 *   `ESRCH`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/sched_setscheduler.2.html sched_setscheduler(2)}
 */
export function sched_setscheduler(pid: number, policy: number): void {
  const noPriority = new Int32Array(1); // struct sched_param
  const call = libc().sched_setscheduler(pid, policy, noPriority);
  check(call, "sched_setscheduler", `${pid} to policy ${policy}`);
}

function checkId(syscall: string, id: number): void {
  // To some calls, (uid_t) -1 means "unchanged": it is not a valid id.
  if (!Number.isInteger(id) || id < 0 || id >= 0xffff_ffff) {
    throw new RangeError(`Cannot ${syscall} ${id}: expected a whole number of at least 0`);
  }
}
