/** As whom this process acts, and what belongs to whom. */
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

const AT_EMPTY_PATH = 0x1000;
const EMPTY = new Uint8Array(1);
/** `(uid_t) -1`: unchanged. */
const UNCHANGED = 0xffff_ffff;

/** The three user ids, or the three group ids, of a process. */
export interface Ids {
  readonly real: number;
  readonly effective: number;
  readonly saved: number;
}

/**
 * Returns the user ids of this process.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getresuid.2.html getresuid(2)}
 */
export function getresuid(): Ids {
  return idsOf((...ids) => libc().getresuid(...ids), "getresuid");
}

/**
 * Returns the group ids of this process.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getresuid.2.html getresgid(2)}
 */
export function getresgid(): Ids {
  return idsOf((...ids) => libc().getresgid(...ids), "getresgid");
}

type Three = readonly [
  Uint32Array<ArrayBuffer>,
  Uint32Array<ArrayBuffer>,
  Uint32Array<ArrayBuffer>,
];

function idsOf(call: (...ids: Three) => number, name: string): Ids {
  const ids: Three = [new Uint32Array(1), new Uint32Array(1), new Uint32Array(1)];
  check(call(...ids), name);
  const [[real], [effective], [saved]] = ids as unknown as [[number], [number], [number]];
  return { real, effective, saved };
}

/**
 * Changes all user ids of this process, in all its threads.
 *
 * @param uid The user's id.
 * @throws {SyscallError} `EPERM`, or `EAGAIN` if the user has too many processes.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setresuid.2.html setresuid(2)}
 */
export function setresuid(uid: number): void {
  check(libc().setresuid(uid, uid, uid), "setresuid", String(uid));
}

/**
 * Changes all group ids of this process, in all its threads.
 *
 * @param gid The group's id.
 * @throws {SyscallError} `EPERM`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setresuid.2.html setresgid(2)}
 */
export function setresgid(gid: number): void {
  check(libc().setresgid(gid, gid, gid), "setresgid", String(gid));
}

/**
 * Changes as which user this thread accesses files, and no other thread. As another user than root,
 * it has no privilege to access them.
 *
 * @param uid The user's id.
 * @returns The id before. The kernel reports no failure.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setfsuid.2.html setfsuid(2)}
 */
export function setfsuid(uid: number): number {
  return libc().setfsuid(uid);
}

/**
 * Changes as which group this thread accesses files, and no other thread.
 *
 * @param gid The group's id.
 * @returns The id before. The kernel reports no failure.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/setfsgid.2.html setfsgid(2)}
 */
export function setfsgid(gid: number): number {
  return libc().setfsgid(gid);
}

/**
 * Changes which permissions the files do not get that this process and its future children create.
 *
 * @param mask The permissions.
 * @returns The mask before.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/umask.2.html umask(2)}
 */
export function umask(mask: number): number {
  return libc().umask(mask);
}

/**
 * Changes the owner of an open file, which may be open with `O_PATH`.
 *
 * @param fd The descriptor.
 * @param uid The new owner; `undefined` for the present one.
 * @param gid The new group; `undefined` for the present one.
 * @param name The file's name, for the error message.
 * @throws {SyscallError} `EPERM`, `EROFS`, ...
 *
 * @see {@link https://man7.org/linux/man-pages/man2/fchownat.2.html fchownat(2)}
 */
export function fchown(
  fd: number,
  uid: number | undefined,
  gid: number | undefined,
  name: string,
): void {
  const result = libc().fchownat(fd, EMPTY, uid ?? UNCHANGED, gid ?? UNCHANGED, AT_EMPTY_PATH);
  check(result, "chown", name);
}
