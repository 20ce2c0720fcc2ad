/**
 * The sockets that root has opened for the program that this process executes as another user. An
 * environment variable describes them.
 */
import { F_SETFD, fcntl, FD_CLOEXEC } from "../../../ffi/descriptor_calls.ts";
import { getenv, setenv, unsetenv } from "../../../ffi/environment.ts";
import { getpid } from "../../../ffi/process.ts";
import { Socket } from "../../../ffi/socket.ts";

/** The name of the environment variable. */
const OPENED = "TINE_OPENED";

/** Sockets that are bound, and do not listen yet. */
export interface Opened {
  readonly listeners: readonly Socket[];
  /** The address of each, as it was given. */
  readonly requested: readonly string[];
  /** The socket of the admin process. */
  readonly admin: Socket | undefined;
}

interface Record extends Pick<Opened, "requested"> {
  readonly listeners: readonly number[];
  readonly admin: number | undefined;
}

/** Passes sockets on to the program that this process executes next. */
export function passOpened({ listeners, requested, admin }: Opened): void {
  const record: Record = {
    listeners: listeners.map((socket) => socket.fileno()),
    requested,
    admin: admin?.fileno(),
  };
  setCloseOnExec(record, 0);
  setenv(OPENED, `${getpid()}:${JSON.stringify(record)}`);
}

/** Takes over what was passed on, and leaves nothing of it to others. */
export function takeOpened(): Opened {
  const text = getenv(OPENED);
  unsetenv(OPENED);
  if (text?.startsWith(`${getpid()}:`) !== true) {
    return { listeners: [], requested: [], admin: undefined };
  }
  const record: Record = JSON.parse(text.slice(text.indexOf(":") + 1));
  setCloseOnExec(record, FD_CLOEXEC);
  const { listeners, requested, admin } = record;
  return {
    listeners: listeners.map((fd) => Socket.fromDescriptor(fd)),
    requested,
    admin: admin === undefined ? undefined : Socket.fromDescriptor(admin),
  };
}

function setCloseOnExec({ listeners, admin }: Record, flags: number): void {
  for (const fd of [...listeners, ...admin === undefined ? [] : [admin]]) {
    fcntl(fd, F_SETFD, flags);
  }
}
