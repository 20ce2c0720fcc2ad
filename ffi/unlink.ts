import { cString } from "./c_string.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/**
 * Removes a name from the file system. The file continues to exist while a process has it open.
 *
 * @param path The name. If it is a symbolic link, the link is removed.
 * @throws {SyscallError} `ENOENT`, `EACCES`, `EISDIR`, ...
 *
 * @example Create a socket to which no other process can connect
 * ```ts
 * import { AF_UNIX, SOCK_STREAM, Socket, unlink } from "@tine/tine";
 *
 * using socket = new Socket(AF_UNIX, SOCK_STREAM);
 * const path = `/tmp/example-${crypto.randomUUID()}`;
 * socket.bind(path);
 * unlink(path);
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/unlink.2.html unlink(2)}
 */
export function unlink(path: string): void {
  check(libc().unlink(cString(path)), "unlink", path);
}
