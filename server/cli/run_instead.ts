import { SyscallError } from "../../ffi/errno.ts";
import { execveOrErrno } from "../../ffi/execve.ts";
import { executable } from "../../ffi/forking/run_again.ts";
import { commandLine, readlink } from "../../ffi/proc.ts";

/**
 * Runs another program in this process, with the same Deno, permissions and arguments. Returns only
 * if the command line does not name the present one.
 *
 * @param present The URL of the present program's file.
 * @param other The URL of the other program's file.
 * @throws {SyscallError} If the kernel refuses.
 * @throws {Deno.errors.NotCapable} Without `--allow-ffi`.
 */
export function runInstead(present: string, other: string): void {
  const args = commandLine();
  const directory = readlink("/proc/self/cwd");
  const index = args.findIndex((arg) => pathOf(arg, directory) === pathOf(present, directory));
  if (index === -1) return;
  args[index] = pathOf(other, directory);
  throw new SyscallError("execve", execveOrErrno(executable(), args), args[index]);
}

/** Returns the absolute path of a file that is given as Deno takes it: a path or a URL. */
function pathOf(file: string, directory: string): string {
  const path = file.startsWith("/") ? file : `${directory}/${file}`;
  const url = /^file:/i.test(file)
    ? file
    : `file://${path.split("/").map(encodeURIComponent).join("/")}`;
  return decodeURIComponent(new URL(url).pathname);
}
