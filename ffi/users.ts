/** The users and groups of this system, whatever lists them: `/etc/passwd`, LDAP, systemd. */
import { cString } from "./c_string.ts";
import { EINTR, ENOENT, ERANGE, ESRCH, SyscallError } from "./errno.ts";
import { libc } from "./libc.ts";

/** A user. */
export interface User {
  readonly name: string;
  readonly uid: number;
  /** The user's group. */
  readonly gid: number;
  /** The home directory, which need not exist. */
  readonly home: string;
}

/** A group. */
export interface Group {
  readonly name: string;
  readonly gid: number;
}

const FIRST_SIZE = 1024;
/** What the manual page lists for "there is no such entry", besides success. */
const NOT_FOUND: readonly number[] = [0, ENOENT, ESRCH];

/**
 * Finds a user by name.
 *
 * @param name The name.
 * @returns The user; `undefined` if there is none.
 * @throws {TypeError} If the name contains NUL.
 * @throws {SyscallError} `EIO`, `EMFILE`, ... if the system's list cannot be read.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/getpwnam.3.html getpwnam_r(3)}
 */
export function getpwnam(name: string): User | undefined {
  const text = cString(name);
  return userAt(find("getpwnam_r", name, (...out) => libc().getpwnam_r(text, ...out)));
}

/**
 * Finds a user by id.
 *
 * @param uid The id.
 * @returns The user; `undefined` if there is none.
 * @throws As {@linkcode getpwnam} does.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/getpwnam.3.html getpwuid_r(3)}
 */
export function getpwuid(uid: number): User | undefined {
  return userAt(find("getpwuid_r", String(uid), (...out) => libc().getpwuid_r(uid, ...out)));
}

/**
 * Finds a group by name.
 *
 * @param name The name.
 * @returns The group; `undefined` if there is none.
 * @throws As {@linkcode getpwnam} does.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/getgrnam.3.html getgrnam_r(3)}
 */
export function getgrnam(name: string): Group | undefined {
  const text = cString(name);
  return groupAt(find("getgrnam_r", name, (...out) => libc().getgrnam_r(text, ...out)));
}

/** What the three functions have in common: the struct, its strings, their size, and the result. */
type Call = (
  struct: Uint8Array<ArrayBuffer>,
  strings: Uint8Array<ArrayBuffer>,
  size: bigint,
  result: BigUint64Array<ArrayBuffer>,
) => number;

/** The struct that was found, and the buffer that contains its strings. */
interface Entry {
  readonly view: DataView;
  readonly strings: Uint8Array<ArrayBuffer>;
}

function find(name: string, object: string, call: Call): Entry | undefined {
  for (let size = FIRST_SIZE;;) {
    const struct = new Uint8Array(48); // struct passwd; struct group is smaller
    const strings = new Uint8Array(size);
    const result = new BigUint64Array(1);
    const error = call(struct, strings, BigInt(size), result);
    if (result[0] !== 0n) return { view: new DataView(struct.buffer), strings };
    if (NOT_FOUND.includes(error)) return undefined;
    if (error === ERANGE) size *= 2;
    else if (error !== EINTR) throw new SyscallError(name, error, object);
  }
}

function userAt(entry: Entry | undefined): User | undefined {
  return entry && {
    name: stringAt(entry, 0),
    uid: entry.view.getUint32(16, true),
    gid: entry.view.getUint32(20, true),
    home: stringAt(entry, 32),
  };
}

function groupAt(entry: Entry | undefined): Group | undefined {
  return entry && { name: stringAt(entry, 0), gid: entry.view.getUint32(16, true) };
}

function stringAt({ view, strings }: Entry, offset: number): string {
  const base = Deno.UnsafePointer.value(Deno.UnsafePointer.of(strings));
  const text = strings.subarray(Number(view.getBigUint64(offset, true) - base));
  return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
}
