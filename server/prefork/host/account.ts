/** The user and the groups that the options name. */
import { getgrnam, getpwnam, getpwuid } from "../../../ffi/users.ts";
import type { SocketAccess } from "../../listen.ts";
import { cannot } from "../../options.ts";
import type { Config, PreforkOptions } from "../options.ts";

/** As whom a server runs. */
export interface Account {
  /** The user's name; the id for a user without one. */
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** The user's home directory, which need not exist. */
  readonly home: string;
  /** Whether the system lists the user, and so the user's groups. */
  readonly isListed: boolean;
}

/** Returns the name of an option in an error message. */
export type NameOf = (option: keyof PreforkOptions) => string;

/** The greatest id. The next one means "unchanged" to the kernel. */
const MOST = 2 ** 32 - 2;

/**
 * Finds the user and the group as whom a server is to run.
 *
 * @param config The configuration.
 * @param nameOf Returns the name of an option in an error message.
 * @returns The account; `undefined` if the configuration names no user.
 * @throws {RangeError} If there is no such user or group.
 * @throws {SyscallError} If the system's lists cannot be read.
 */
export function findAccount({ user, group }: Config, nameOf: NameOf): Account | undefined {
  if (user === undefined) return undefined;
  const id = idIn(user);
  const entry = id === undefined ? getpwnam(user) : getpwuid(id);
  const gid = group === undefined ? undefined : findGroup(group, nameOf("group"));
  if (entry !== undefined) {
    return { ...entry, gid: gid ?? entry.gid, isListed: true };
  }
  if (id === undefined) {
    throw new RangeError(`${cannot(nameOf("user"), user)} a user of this system: there is none`);
  }
  if (gid === undefined) {
    throw new RangeError(
      `${cannot(nameOf("user"), user)} a user of this system, or ${nameOf("group")}, too: ` +
        "nothing tells the group of this id",
    );
  }
  return { name: user, uid: id, gid, home: "/", isListed: false };
}

/**
 * Returns who may connect to the UNIX sockets of a server's app.
 *
 * @param config The configuration.
 * @param nameOf Returns the name of an option in an error message.
 * @throws As {@linkcode findAccount} does.
 */
export function findSocketAccess(
  { unixMode, unixGroup }: Config,
  nameOf: NameOf = (option) => option,
): SocketAccess {
  return {
    ...unixMode !== undefined && { mode: parseInt(unixMode, 8) },
    ...unixGroup !== undefined && { gid: findGroup(unixGroup, nameOf("unixGroup")) },
  };
}

function findGroup(text: string, name: string): number {
  const id = idIn(text);
  // A group needs no name.
  const gid = id === undefined ? getgrnam(text)?.gid : id;
  if (gid !== undefined) return gid;
  throw new RangeError(`${cannot(name, text)} a group of this system: there is none`);
}

/** Returns the id that a text is; `undefined` if it is a name. */
function idIn(text: string): number | undefined {
  const id = Number(text);
  return /^\d+$/.test(text) && id <= MOST ? id : undefined;
}
