import { execve } from "../execve.ts";
import { _exit } from "../process.ts";
import { forkUntested } from "./fork.ts";

/**
 * Forks a child that executes a program. It never continues in the caller's code: if the program
 * cannot be executed, it prints the error and ends with exit code 1.
 *
 * @param path The program's file. `PATH` is not searched.
 * @param args Its arguments, the first of which is its name.
 * @param prepare Runs in the child before that, to set its environment, directory and descriptors.
 * @returns The child's pid.
 * @throws {Error} If the process is not forkable.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, `ENOMEM`.
 */
export function forkProgram(path: string, args: readonly string[], prepare: () => void): number {
  const pid = forkUntested();
  if (pid !== 0) return pid;
  try {
    prepare();
    execve(path, args);
  } catch (error) {
    console.error(
      `error: Cannot execute ${path}: ${error instanceof Error ? error.message : error}`,
    );
  } finally {
    _exit(1);
  }
}
