/**
 * Runs programs on aarch64: with Debian's emulator and the npm package of Deno for that
 * architecture, or directly if the machine has such a processor.
 */

// The npm registry does not have every release of Deno: the first available one is used.
const VERSIONS = ["2.9.6", "2.9.5"];

const EMULATOR = "qemu-aarch64-static";
const LIBRARIES = "/usr/aarch64-linux-gnu";

/** Something is missing: the message says what, and where it can be found. */
export class MissingError extends Error {}

/** Whether programs must be emulated on this machine. */
export const emulated = Deno.build.os !== "linux" || Deno.build.arch !== "aarch64";

/**
 * Returns the beginning of a command line that runs an aarch64 Deno. It is downloaded into the
 * user's cache folder if necessary.
 *
 * The emulator cannot execute an aarch64 program from inside, so `becomeForkable()` must have
 * nothing left to do: V8 starts without worker threads, and the emulated threads inherit the
 * signals that
 * `env` blocks.
 *
 * @param signals The signals that every thread blocks, as env(1) names them.
 * @throws {MissingError} If a program or a package is missing.
 */
export async function aarch64Deno(signals: string[]): Promise<string[]> {
  const start = ["env", `--block-signal=${signals.join()}`, "DENO_V8_FLAGS=--single-threaded"];
  if (!emulated) return [...start, Deno.execPath()];
  requirePackages();
  return [...start, EMULATOR, "-L", LIBRARIES, await fetchedDeno()];
}

function requirePackages(): void {
  const missing = [
    [findProgram(EMULATOR), EMULATOR, "qemu-user-static"],
    [exists(`${LIBRARIES}/lib/libc.so.6`), "glibc for aarch64", "libc6-arm64-cross"],
    [exists(`${LIBRARIES}/lib/libgcc_s.so.1`), "libgcc for aarch64", "libgcc-s1-arm64-cross"],
  ].filter(([found]) => !found);
  if (missing.length === 0) return;
  throw new MissingError(
    missing.map(([, what, name]) => `Missing ${what}: apt-get install ${name}`).join("\n"),
  );
}

async function fetchedDeno(): Promise<string> {
  const folder = cacheFolder();
  const programs = VERSIONS.map((version) => `${folder}/deno-${version}-aarch64`);
  const cached = programs.find(exists);
  if (cached !== undefined) return cached;
  if (!findProgram("npm")) throw new MissingError("Missing npm: apt-get install npm");
  Deno.mkdirSync(folder, { recursive: true });
  const unpacked = Deno.makeTempDirSync({ dir: folder });
  try {
    const failures: string[] = [];
    for (const [i, version] of VERSIONS.entries()) {
      // `npm install` rejects a package for another processor; `npm pack` only downloads it.
      const failure = await run("npm", ["pack", `@deno/linux-arm64-glibc@${version}`], unpacked) ??
        await run("tar", ["-xzf", `deno-linux-arm64-glibc-${version}.tgz`], unpacked);
      if (failure === undefined) {
        Deno.renameSync(`${unpacked}/package/deno`, programs[i]!);
        return programs[i]!;
      }
      failures.push(failure);
    }
    throw new MissingError(`Missing Deno for aarch64: ${failures.join("; ")}`);
  } finally {
    Deno.removeSync(unpacked, { recursive: true });
  }
}

/** Runs a program to its end, and returns its error messages if it failed. */
async function run(command: string, args: string[], cwd: string): Promise<string | undefined> {
  const signal = AbortSignal.timeout(120_000);
  const { success, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    signal,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return undefined;
  const words = new TextDecoder().decode(stderr).match(/error.*/)?.[0] ?? "it took too long";
  return `${command} ${args.join(" ")}: ${words}`;
}

function cacheFolder(): string {
  const home = Deno.env.get("HOME");
  const cache = Deno.env.get("XDG_CACHE_HOME") || (home ? `${home}/.cache` : "/tmp");
  return `${cache}/tine`;
}

function findProgram(name: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => exists(`${folder}/${name}`));
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
