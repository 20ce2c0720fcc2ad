/** The architectures whose constants and struct layouts tine knows. */
export type Architecture = "x86_64" | "aarch64";

/** System calls that not every glibc has a function for: their numbers. */
export const SYSTEM_CALLS = {
  x86_64: { futex: 202n, getdents64: 217n, gettid: 186n },
  aarch64: { futex: 98n, getdents64: 61n, gettid: 178n },
} as const;

/**
 * tine was asked to make a system call on a system that it does not know.
 *
 * Thrown at the first call, never at import, so that a program which only
 * sometimes forks can still be loaded elsewhere.
 */
export class UnsupportedPlatformError extends Error {
  /** The class's name. */
  override readonly name: string = "UnsupportedPlatformError";

  /**
   * Describes the system.
   *
   * @param missing What this system lacks.
   */
  constructor(missing: string) {
    super(`tine needs Linux with glibc on x86-64 or aarch64: ${missing}`);
  }
}

/**
 * The architecture whose tables apply here.
 *
 * @throws {UnsupportedPlatformError} On anything but Linux on x86-64 or aarch64.
 */
export function architecture(): Architecture {
  const { os, arch } = Deno.build;
  if (os !== "linux") throw new UnsupportedPlatformError(`this is ${os}`);
  if (arch !== "x86_64" && arch !== "aarch64") {
    throw new UnsupportedPlatformError(`this processor is ${arch}`);
  }
  return arch;
}
