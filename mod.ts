/**
 * fork(2) for Deno: a `fork()` whose child goes on running JavaScript, with the
 * sockets, signals and `waitpid()` that belong to it, called straight from libc.
 *
 * Needs Linux with glibc, and `--allow-ffi` as its only permission.
 *
 * @example
 * ```ts ignore
 * import { _exit, becomeForkable, fork, getpid, waitpid } from "@tine/tine";
 *
 * becomeForkable();
 * if (fork() === 0) {
 *   console.log(`child ${getpid()}`);
 *   _exit(0);
 * }
 * console.log(waitpid(-1).status);
 * ```
 *
 * @module
 */
export * from "./ffi/mod.ts";
export * from "./server/mod.ts";
