/** The architectures whose constants and struct layouts are known. */
export type Architecture = "x86_64" | "aarch64";

/** The numbers of system calls for which not every glibc has a function. */
export const SYSTEM_CALLS = {
  x86_64: { futex: 202n, get_robust_list: 274n, getdents64: 217n, gettid: 186n },
  aarch64: { futex: 98n, get_robust_list: 100n, getdents64: 61n, gettid: 178n },
} as const;

/** The oldest supported Deno. Older ones cannot load a module before the main one. */
export const LEAST_DENO = "2.4.4";

/**
 * A system call was requested on an unsupported system or version of Deno.
 *
 * The error is thrown by the first call, never by the import, so that a program that does not
 * always fork can be loaded elsewhere.
 */
export class UnsupportedPlatformError extends Error {
  /** The class's name. */
  override readonly name: string = "UnsupportedPlatformError";

  /**
   * Creates an error for this system.
   *
   * @param missing What this system lacks.
   */
  constructor(missing: string) {
    super(
      `tine needs Deno ${LEAST_DENO} or later on Linux with glibc, x86-64 or aarch64: ${missing}`,
    );
  }
}

/**
 * Returns the architecture whose constants apply here.
 *
 * @throws {UnsupportedPlatformError} If this is not Linux on x86-64 or aarch64.
 */
export function architecture(): Architecture {
  const { os, arch } = Deno.build;
  if (os !== "linux") throw new UnsupportedPlatformError(`this is ${os}`);
  if (arch !== "x86_64" && arch !== "aarch64") {
    throw new UnsupportedPlatformError(`this processor is ${arch}`);
  }
  return arch;
}

/**
 * Checks that Deno is not too old.
 *
 * @throws {UnsupportedPlatformError} If it is older than {@linkcode LEAST_DENO}.
 */
export function checkDeno(): void {
  const { deno } = Deno.version;
  if (isOlder(deno, LEAST_DENO)) throw new UnsupportedPlatformError(`this is Deno ${deno}`);
}

/** Whether a version of Deno is older than another one. */
export function isOlder(version: string, other: string): boolean {
  const [own, others] = [numbersOf(version), numbersOf(other)];
  const first = others.findIndex((number, i) => number !== own[i]);
  return own[first]! < others[first]!;
}

/** Returns the numbers of a version, such as `2.9.6` or `2.10.0-rc.1`. */
function numbersOf(version: string): number[] {
  return version.split(/[.+-]/, 3).map(Number);
}
