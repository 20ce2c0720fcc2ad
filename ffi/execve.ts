import { cString } from "./c_string.ts";
import { environ } from "./environment.ts";
import { SyscallError } from "./errno.ts";
import { handlerOf } from "./interruption.ts";
import { errno, libc } from "./libc.ts";
import { SIG_DFL, signal } from "./signal.ts";
import { heldSignals, kernelMask, programMask, setKernelMask } from "./signal_mask.ts";
import { SIGPIPE } from "./signals.ts";

/**
 * Replaces the program of this process. The pid, the alarm and descriptors without `FD_CLOEXEC` are
 * kept. The new program gets the program's own signal mask, without the signals that tine blocks,
 * and the default action of SIGPIPE, which the runtime had replaced.
 *
 * @param path The program's file. `PATH` is not searched.
 * @param args Its arguments, the first of which is its name.
 * @param env Its complete environment. The default is this process's environment.
 * @returns Never.
 * @throws {SyscallError} `ENOENT`, `EACCES`, `E2BIG`, ... The process is then unchanged.
 * @throws {TypeError} If a string contains NUL.
 *
 * @example Run another program in this process
 * ```ts ignore
 * import { execve } from "@tine/tine";
 *
 * execve("/bin/echo", ["echo", "hello"], { LANG: "C" });
 * ```
 *
 * @see {@link https://man7.org/linux/man-pages/man2/execve.2.html execve(2)}
 */
export function execve(
  path: string,
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
): never {
  const variables = env && Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const mask = kernelMask();
  // A handler must not run between the new mask and the new program.
  const actions = [SIGPIPE, ...[...heldSignals()].filter(handlerOf)]
    .map((signum) => [signum, signal(signum, SIG_DFL)] as const);
  setKernelMask(programMask());
  try {
    throw new SyscallError("execve", execveOrErrno(path, args, variables), path);
  } finally {
    setKernelMask(mask);
    for (const [signum, action] of actions) signal(signum, action);
  }
}

/**
 * Calls execve(2) with the current signal mask and actions.
 *
 * @param variables Strings `NAME=value`. The default is this process's environment.
 * @returns The error number: the call returns only if it fails.
 */
export function execveOrErrno(
  path: string,
  args: readonly string[],
  variables?: readonly string[],
): number {
  const program = cString(path);
  const argv = stringVector(args);
  const envp = variables === undefined ? environ() : stringVector(variables);
  libc().execve(program, argv, envp);
  return errno();
}

// The vectors contain addresses, which do not protect memory from garbage collection. This map
// keeps the memory to which they point for as long as they exist.
const memory = new WeakMap<BigUint64Array, ArrayBuffer>();

/** Creates a `char *const[]`: addresses of C strings, with a terminating null pointer. */
function stringVector(texts: readonly string[]): BigUint64Array<ArrayBuffer> {
  const strings = texts.map(cString);
  // One explicit buffer: the contents of small arrays are in the JavaScript heap, where they move.
  const bytes = new ArrayBuffer(strings.reduce((sum, { length }) => sum + length, 1));
  let address = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  const vector = new BigUint64Array(strings.length + 1);
  let at = 0;
  strings.forEach((string, i) => {
    new Uint8Array(bytes).set(string, at);
    vector[i] = address;
    at += string.length;
    address += BigInt(string.length);
  });
  memory.set(vector, bytes);
  return vector;
}
