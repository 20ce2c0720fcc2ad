import { cString } from "./c_string.ts";
import { SyscallError } from "./errno.ts";
import { handlerOf } from "./interruption.ts";
import { errno, libc } from "./libc.ts";
import { SIG_DFL, signal } from "./signal.ts";
import { heldSignals, kernelMask, programMask, setKernelMask } from "./signal_mask.ts";
import { SIGPIPE } from "./signals.ts";

/**
 * Replaces the program of this process. The pid, the alarm and descriptors
 * without `FD_CLOEXEC` stay. The new program gets the signal mask that the
 * program sees here, and SIGPIPE's default action, which the runtime had taken.
 *
 * @param path The program; no search in `PATH`.
 * @param args Its arguments, the first of which is its name.
 * @param env Its whole environment; this process's own if left out.
 * @returns Never.
 * @throws {SyscallError} `ENOENT`, `EACCES`, `E2BIG`, ...: then nothing has changed.
 * @throws {TypeError} When a text holds a NUL.
 *
 * @example Become another program
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
  const number = execveOrErrno(path, args, variables);
  setKernelMask(mask);
  for (const [signum, action] of actions) signal(signum, action);
  throw new SyscallError("execve", number, path);
}

/**
 * execve(2) as it is, with the mask and the actions of this moment.
 *
 * @param variables `NAME=value` texts; this process's environment if left out.
 * @returns The error number: it returns only when it failed.
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

// The vectors hold addresses, which keep nothing from being collected: the
// memory that they point into hangs on this map as long as they live.
const memory = new WeakMap<BigUint64Array, ArrayBuffer>();

/** A `char *const[]`: addresses of NUL-ended texts, ended by a null pointer. */
function stringVector(texts: readonly string[]): BigUint64Array<ArrayBuffer> {
  const strings = texts.map(cString);
  // One explicit buffer: small arrays of their own live in the JavaScript heap, and move.
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

/** This process's environment as libc has it now: `extern char **environ`. */
function environ(): BigUint64Array<ArrayBuffer> {
  const variable = libc().environ;
  const list = variable && new Deno.UnsafePointerView(variable).getPointer();
  if (!list) return new BigUint64Array(1);
  const view = new Deno.UnsafePointerView(list);
  const addresses: bigint[] = [];
  do addresses.push(view.getBigUint64(8 * addresses.length)); while (addresses.at(-1) !== 0n);
  return new BigUint64Array(addresses);
}
