import { cString } from "./c_string.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { signalName } from "./signals.ts";

/** `getrlimit()`: seconds of processor time. */
export const RLIMIT_CPU = 0;
/** `getrlimit()`: bytes of a file that is written. */
export const RLIMIT_FSIZE = 1;
/** `getrlimit()`: bytes of a core dump. */
export const RLIMIT_CORE = 4;
/** `getrlimit()`: processes (and threads) of this user. */
export const RLIMIT_NPROC = 6;
/** `getrlimit()`: the highest descriptor number plus one. */
export const RLIMIT_NOFILE = 7;
/** `getrlimit()`: bytes of address space. */
export const RLIMIT_AS = 9;
/** No limit. */
export const RLIM_INFINITY: number = Infinity;

/** `prctl()`: the signal that this process gets when its parent ends. */
export const PR_SET_PDEATHSIG = 1;
/** `prctl()`: whether the process can be traced and dumps core. */
export const PR_SET_DUMPABLE = 4;
/** `prctl()`: adopt orphaned descendants. */
export const PR_SET_CHILD_SUBREAPER = 36;
/** `prctl()`: no program started later gains privileges. */
export const PR_SET_NO_NEW_PRIVS = 38;

/**
 * Ends this process at once: no exit handler, no event, nothing of Deno's
 * teardown. The way out of a forked child.
 *
 * @param status The exit status, 0 to 255.
 * @throws {RangeError} When it is not an exit status.
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
 * This process's number.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getpid.2.html getpid(2)}
 */
export function getpid(): number {
  return libc().getpid();
}

/**
 * The parent process's number; 1, or a subreaper's, once the parent is gone.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getppid.2.html getppid(2)}
 */
export function getppid(): number {
  return libc().getppid();
}

/**
 * Sends a signal.
 *
 * @param pid A process; 0 for this process group, -1 for all, less than -1 for the process
 *   group `-pid`.
 * @param signum The signal's number; 0 only asks whether the process is there.
 * @throws {RangeError} When the pid or the signal is not a valid number.
 * @throws {SyscallError} `ESRCH` when there is no such process, `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/kill.2.html kill(2)}
 */
export function kill(pid: number, signum: number): void {
  // C would cut NaN or 2^32 down to 0 or -1, which mean many processes.
  if (!Number.isInteger(pid) || Math.abs(pid) > 0x7fff_ffff) {
    throw new RangeError(`Cannot kill ${pid}: expected a pid`);
  }
  const name = signum === 0 ? "0" : signalName(signum);
  check(libc().kill(pid, signum), "kill", `${pid} with ${name}`);
}

/**
 * Makes this process the leader of a session of its own, without a terminal.
 *
 * @returns The session's number.
 * @throws {SyscallError} `EPERM` when it leads a process group already.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setsid.2.html setsid(2)}
 */
export function setsid(): number {
  return check(libc().setsid(), "setsid");
}

/**
 * Moves a process to another process group. A terminal's Control-C reaches the whole
 * group in the foreground.
 *
 * @param pid A process, this one or its child; 0 for this one.
 * @param pgid The group; 0 for one of its own.
 * @throws {SyscallError} `EPERM` when the group is another session's, `EACCES` when the child has
 *   executed another program.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setpgid.2.html setpgid(2)}
 */
export function setpgid(pid: number, pgid: number): void {
  check(libc().setpgid(pid, pgid), "setpgid", `${pid} to ${pgid}`);
}

/**
 * The user that this process runs as.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getuid.2.html getuid(2)}
 */
export function getuid(): number {
  return libc().getuid();
}

/**
 * Changes the user that this process runs as, in all its threads. As root there
 * is no way back: change the groups first, {@linkcode setgroups} or
 * {@linkcode initgroups} and then {@linkcode setgid}, or root's stay.
 *
 * @param uid The user's number.
 * @throws {SyscallError} `EPERM`, or `EAGAIN` when the user has too many processes.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setuid.2.html setuid(2)}
 */
export function setuid(uid: number): void {
  checkId("setuid", uid);
  check(libc().setuid(uid), "setuid", String(uid));
}

/**
 * The group that this process runs as.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getgid.2.html getgid(2)}
 */
export function getgid(): number {
  return libc().getgid();
}

/**
 * Changes the group that this process runs as, in all its threads.
 *
 * @param gid The group's number.
 * @throws {SyscallError} `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setgid.2.html setgid(2)}
 */
export function setgid(gid: number): void {
  checkId("setgid", gid);
  check(libc().setgid(gid), "setgid", String(gid));
}

/**
 * The supplementary groups of this process: what it may do beside what the group that it
 * runs as may.
 *
 * @returns The groups' numbers, in the kernel's order.
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
 * @param groups The groups' numbers; none for no group at all.
 * @throws {RangeError} When one is no group's number.
 * @throws {SyscallError} `EPERM` without root's rights, `EINVAL` for more than 65536 groups.
 *
 * @example Give up root permanently
 * ```ts ignore
 * import { getuid, setgid, setgroups, setuid } from "@tine/tine";
 *
 * if (getuid() === 0) {
 *   setgroups([]); // while it may
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
 * Changes the supplementary groups of this process, in all its threads, to those of a
 * user: the groups in which `/etc/group` (or whatever the system asks instead) lists it.
 *
 * @param user The user's name.
 * @param gid A further group, mostly the one that `/etc/passwd` gives the user.
 * @throws {TypeError} When the name holds a NUL.
 * @throws {RangeError} When it is not a group's number.
 * @throws {SyscallError} `EPERM` without root's rights.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/initgroups.3.html initgroups(3)}
 */
export function initgroups(user: string, gid: number): void {
  checkId("initgroups", gid);
  check(libc().initgroups(cString(user), gid), "initgroups", user);
}

/** A resource limit: the one in force, and how far it may be raised. */
export interface ResourceLimit {
  /** The limit in force, `Infinity` for none. */
  readonly soft: number;
  /** The most that `soft` may be set to, `Infinity` for any. */
  readonly hard: number;
}

// RLIM_INFINITY
const UNLIMITED = 0xffff_ffff_ffff_ffffn;

/**
 * Reads a limit of this process.
 *
 * @param resource `RLIMIT_NOFILE`, ...
 * @throws {SyscallError} `EINVAL` when there is no such resource.
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
 * Changes a limit of this process and of the children it will have.
 *
 * @param resource `RLIMIT_NOFILE`, ...
 * @param limit The new limit; `Infinity` for none.
 * @throws {RangeError} When a limit is neither a whole number from 0 nor `Infinity`.
 * @throws {SyscallError} `EPERM` when the hard limit would be raised, `EINVAL` when the soft
 *   one is above it.
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
 * Asks or changes something about this process, with numbers as arguments.
 *
 * @param option `PR_SET_PDEATHSIG`, ...
 * @param args Up to four whole numbers.
 * @returns What the option returns.
 * @throws {SyscallError} `EINVAL`, `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/prctl.2.html prctl(2)}
 */
export function prctl(option: number, ...args: readonly number[]): number {
  const [a = 0n, b = 0n, c = 0n, d = 0n] = args.map((arg) => BigInt.asUintN(64, BigInt(arg)));
  return check(libc().prctl(option, a, b, c, d), "prctl", String(option));
}

/** The scheduling policy of most processes. */
export const SCHED_OTHER = 0;
/** The same, but waking up does not interrupt who runs: fewer switches, more done. */
export const SCHED_BATCH = 3;

/**
 * Sets how a process is scheduled. What it starts later inherits that.
 *
 * @param pid The process; 0 for this one. Of one with threads, the main thread.
 * @param policy `SCHED_OTHER` or `SCHED_BATCH`.
 * @throws {SyscallError} `EINVAL` when there is no such policy, or it takes a priority; `EPERM`,
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
  // (uid_t) -1 means "leave it" to some calls: it is nobody's number.
  if (!Number.isInteger(id) || id < 0 || id >= 0xffff_ffff) {
    throw new RangeError(`Cannot ${syscall} ${id}: expected a whole number of at least 0`);
  }
}
