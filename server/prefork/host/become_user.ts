/**
 * How a server that root starts gives up root: it opens what only root can, changes the user for
 * good, and runs the program again from its start. So no line of the app runs as root, and all
 * processes of the server are the user's: each can watch and kill the others.
 */
import { type Address, AF_UNIX, formatAddress } from "../../../ffi/address.ts";
import {
  fchown,
  getresgid,
  getresuid,
  type Ids,
  setfsgid,
  setfsuid,
  setresgid,
  setresuid,
  umask,
} from "../../../ffi/credentials.ts";
import {
  noFollowFlag,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  open,
} from "../../../ffi/descriptor.ts";
import { getenv, setenv } from "../../../ffi/environment.ts";
import { isSyscallError, SyscallError } from "../../../ffi/errno.ts";
import { executable } from "../../../ffi/forking/run_again.ts";
import { getpid, initgroups, PR_SET_DUMPABLE, prctl, setgroups } from "../../../ffi/process.ts";
import type { Socket } from "../../../ffi/socket.ts";
import { unlink } from "../../../ffi/unlink.ts";
import { AppError } from "../../app/load_app.ts";
import {
  bindEither,
  bindSocket,
  type ListenAddress,
  removeStaleSocket,
  type SocketAccess,
} from "../../listen.ts";
import { checkLogFile } from "../logs/log_file.ts";
import { isCanary } from "../master/canary.ts";
import { isInheriting } from "../master/inheritance.ts";
import type { Config } from "../options.ts";
import { isActivated } from "./activation.ts";
import { type Account, findAccount, findSocketAccess, type NameOf } from "./account.ts";
import { giveDenoFolder } from "./deno_folder.ts";
import { type Opened, passOpened } from "./opened.ts";
import { keepPem, passPem } from "./pem_files.ts";
import { checkPidFile } from "./pid_file.ts";

const ROOT = 0;

/** How a server becomes another user's. */
export interface Options {
  /** Returns the name of an option in an error message. The default is the option's own. */
  readonly nameOf?: NameOf;
  /** The files that the user must be able to read, besides Deno. */
  readonly files?: readonly string[];
  /** Whether to open sockets and create files, because a server is to start. The default is true. */
  readonly opens?: boolean;
}

/**
 * Becomes the user whom the options name. The caller must then execute the program again: threads
 * that already exist know what root has read.
 *
 * @param config The configuration.
 * @param options How.
 * @returns Whether anything has changed.
 * @throws {RangeError} If there is no such user or group.
 * @throws {AppError} If this process may not become the user, or the user may not read a file.
 * @throws {PidFileError} If the pid file belongs to a running process.
 * @throws {SyscallError} If an address or a file cannot be opened: `EADDRINUSE`, ...
 */
export function becomeUser(config: Config, options: Options): boolean {
  if (isCanary() || isInheriting()) return false; // it is what its master was
  const { nameOf = (option) => option, files = [], opens = true } = options;
  const account = findAccount(config, nameOf);
  const access = findSocketAccess(config, nameOf);
  if (account === undefined || isAlready(account)) return false;
  if (getresuid().effective !== ROOT) {
    throw new AppError(
      `Cannot serve as user ${account.name}: only root can become another user. Start the server ` +
        `as root, or without ${nameOf("user")}`,
    );
  }
  changeGroups(account);
  const denoFolder = getenv("DENO_DIR");
  for (const file of [executable(), ...denoFolder ? [denoFolder] : [], ...files]) {
    checkReadable(file, account);
  }
  keepPem((path) => isReadable(path, account));
  if (config.umask !== undefined) umask(parseInt(config.umask, 8));
  giveDenoFolder(account, (access) => actAs(account, access));
  const opened = opens ? openAll(config, account, access) : undefined;
  changeUser(account);
  if (opened !== undefined) passOpened(opened);
  const variables = { HOME: account.home, USER: account.name, LOGNAME: account.name };
  for (const [name, value] of Object.entries({ ...variables, ...passPem() })) setenv(name, value);
  return true;
}

function isAlready({ uid, gid }: Account): boolean {
  const all = ({ real, effective, saved }: Ids, id: number) =>
    real === id && effective === id && saved === id;
  return all(getresuid(), uid) && all(getresgid(), gid);
}

/** Changes the groups of all threads. Root's permissions do not depend on them. */
function changeGroups({ name, gid, isListed }: Account): void {
  if (isListed) initgroups(name, gid);
  else setgroups([]);
  setresgid(gid);
}

/** Changes the user of all threads, for good. */
function changeUser({ uid, name }: Account): void {
  setresuid(uid);
  if (uid === ROOT) return;
  try {
    setresuid(ROOT);
  } catch (error) {
    if (!isSyscallError(error, "EPERM")) throw error;
    prctl(PR_SET_DUMPABLE, 1); // /proc/self remains readable until the program is executed
    return;
  }
  throw new AppError(
    `Cannot serve as user ${name}: this process keeps the capability to become root again`,
  );
}

/** Accesses files as the user does, for as long as a function runs. */
function actAs<T>({ uid, gid }: Account, access: () => T): T {
  const before = [setfsgid(gid), setfsuid(uid)] as const;
  try {
    return access();
  } finally {
    setfsuid(before[1]);
    setfsgid(before[0]);
  }
}

function checkReadable(path: string, account: Account): void {
  try {
    actAs(account, () => open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC).close());
  } catch (error) {
    if (!isSyscallError(error, "EACCES")) return; // whoever uses the file tells what is wrong
    throw new AppError(
      `Cannot serve as user ${account.name}: ${error.message}. The user needs permission to read ` +
        "it, and to search its folders",
    );
  }
}

function isReadable(path: string, account: Account): boolean {
  try {
    actAs(account, () => open(path, O_RDONLY | O_CLOEXEC).close());
    return true;
  } catch (error) {
    if (isSyscallError(error)) return false;
    throw error;
  }
}

type Bindable = Pick<ListenAddress, "address" | "dualStack">;

/** Opens what the user may not: sockets, and files in folders of root's. */
function openAll(config: Config, account: Account, access: SocketAccess): Opened {
  const { accessLog, errorLog, pidFile, admin } = config;
  const sockets: Socket[] = [];
  const { uid, gid } = account;
  const bind = ({ address, dualStack }: Bindable, access: SocketAccess) => {
    const socket = bindSocket(address, dualStack, access);
    sockets.push(socket);
    return socket;
  };
  const created: string[] = [];
  try {
    if (accessLog !== undefined && accessLog !== "-") createLog(accessLog, account, created);
    if (errorLog !== undefined) createLog(errorLog, account, created);
    if (pidFile !== undefined) createPidFile(pidFile, account, created);
    const addresses = isActivated() ? [] : givenAddresses(config);
    const listeners = addresses.map((one) => bind(one, { gid, ...access, uid }));
    const requested = addresses.map(({ address }) => formatAddress(address));
    const { port, hostname, path } = config.givenAddress;
    if (
      addresses.length > 0 && port !== undefined && hostname === undefined && path === undefined
    ) {
      // Nobody knows yet whether the program asks for all addresses, as servers of Node's do. What
      // it does not ask for is closed again.
      const socket = bindIfFree(["::", port]);
      if (socket !== undefined) {
        listeners.push(socket);
        sockets.push(socket);
        requested.push(formatAddress(["::", port]));
      }
    }
    return {
      ...{ listeners, requested },
      admin: admin === undefined ? undefined : bind({ address: admin }, { uid, gid }),
    };
  } catch (error) {
    for (const socket of sockets) {
      const path = socket.family === AF_UNIX ? String(socket.getsockname()) : undefined;
      socket.close();
      if (path !== undefined) removeStaleSocket(path);
    }
    for (const path of created) unlink(path);
    throw error;
  }
}

function bindIfFree(address: Address): Socket | undefined {
  try {
    return bindEither(address, true);
  } catch (error) {
    if (isSyscallError(error)) return undefined;
    throw error;
  }
}

/** Returns the addresses that the options give. A program may have others of its own. */
function givenAddresses({ givenAddress, listen }: Config): readonly ListenAddress[] {
  return Object.keys(givenAddress).length === 0 ? [] : listen;
}

/** Creates a log that the user cannot create. The server then opens it as the user. */
function createLog(path: string, account: Account, created: string[]): void {
  try {
    actAs(account, () => checkLogFile(path));
  } catch (error) {
    if (!isSyscallError(error, "EACCES")) throw error;
    if (exists(path)) {
      throw new AppError(
        `Cannot serve as user ${account.name}: ${error.message}. Give it to the user: ` +
          `chown ${account.name} ${path}`,
      );
    }
    createFor(path, account, created);
  }
}

/**
 * Creates a pid file that the user cannot create. It remains empty until the app is loaded. The
 * file of a server that has ended is replaced.
 */
function createPidFile(path: string, account: Account, created: string[]): void {
  checkPidFile(path);
  const probe = `${path}.${getpid()}`;
  try {
    actAs(account, () => {
      open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644).close();
      unlink(probe);
    });
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    if (error.code !== "EACCES") throw new SyscallError("write", error.errno, `pid file ${path}`);
    if (exists(path)) unlink(path);
    createFor(path, account, created);
  }
}

function createFor(path: string, { uid, gid }: Account, created: string[]): void {
  // A link that somebody else has put there is not followed.
  using file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644);
  created.push(path);
  fchown(file.fileno(), uid, gid, path);
}

function exists(path: string): boolean {
  try {
    open(path, O_PATH | noFollowFlag() | O_CLOEXEC).close();
    return true;
  } catch (error) {
    if (isSyscallError(error, "ENOENT")) return false;
    throw error;
  }
}
