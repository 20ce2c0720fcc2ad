/**
 * Certificates and their keys. Root may read a key that the user cannot as whom the server then
 * runs: what root has read is kept in a file in memory, and passed on to the program that this
 * process executes next.
 */
import { Descriptor } from "../../../ffi/descriptor.ts";
import { F_SETFD, fcntl, FD_CLOEXEC } from "../../../ffi/descriptor_calls.ts";
import { getenv, unsetenv } from "../../../ffi/environment.ts";
import { memfd_create } from "../../../ffi/memory.ts";
import { readText } from "../../../ffi/proc.ts";
import { getpid } from "../../../ffi/process.ts";

/** The name of the environment variable. */
const PEM = "TINE_PEM";

/** The file in memory: the texts, by the names of their files, as JSON. */
let memory: Descriptor | undefined;
/** The files that this process has read. */
const read = new Set<string>();
/** Those that root has kept, and that this process could not read again. */
const unreadable = new Set<string>();

/**
 * Reads a file with a certificate or a key.
 *
 * @param path The file.
 * @returns The text.
 * @throws {Deno.errors.NotFound | Deno.errors.PermissionDenied | Error} If it cannot be read.
 */
export function readPem(path: string): string {
  const text = Deno.readTextFileSync(path);
  read.add(absolute(path));
  return text;
}

/**
 * Returns what root has read when the server started, if permission is missing now for one of
 * several files: they belong together, and the others may have been replaced since.
 *
 * @param paths The files.
 * @returns The texts; `undefined` if all can be read, or if root has not kept them.
 */
export function keptPem(paths: readonly string[]): string[] | undefined {
  const texts = kept();
  const found = paths.flatMap((path) => texts[absolute(path)] ?? []);
  if (found.length < paths.length) return undefined;
  for (const path of paths) {
    if (isForbidden(path)) unreadable.add(path);
    else unreadable.delete(path);
  }
  return paths.some((path) => unreadable.has(path)) ? found : undefined;
}

function isForbidden(path: string): boolean {
  try {
    Deno.readTextFileSync(path);
    return false;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied;
  }
}

/** Returns the files for which permission was missing when they were to be read again. */
export function unreadablePem(): readonly string[] {
  return [...unreadable];
}

/**
 * Keeps the files that have been read for the program that this process executes, if it cannot read
 * all of them itself.
 *
 * @param isReadable Whether that program can read a file.
 */
export function keepPem(isReadable: (path: string) => boolean): void {
  const files = [...read];
  if (files.every(isReadable)) return;
  const texts = Object.fromEntries(files.map((path) => [path, Deno.readTextFileSync(path)]));
  memory = memfd_create("tine-pem");
  memory.write(new TextEncoder().encode(JSON.stringify(texts)));
}

/**
 * Makes the program that this process executes next inherit what is kept.
 *
 * @returns The environment variable that it needs.
 */
export function passPem(): Record<string, string> {
  if (memory === undefined) return {};
  memory.fcntl(F_SETFD, 0);
  return { [PEM]: `${getpid()}:${memory.fileno()}` };
}

/** Undoes {@linkcode passPem}, if the execution has failed. */
export function holdPem(): void {
  memory?.fcntl(F_SETFD, FD_CLOEXEC);
}

/** Takes over what the previous program has passed on, and leaves nothing of it to others. */
export function takePem(): void {
  const [pid, fd] = getenv(PEM)?.split(":").map(Number) ?? [];
  unsetenv(PEM);
  if (pid !== getpid()) return;
  fcntl(fd!, F_SETFD, FD_CLOEXEC);
  memory = new Descriptor(fd!);
}

function kept(): Record<string, string | undefined> {
  return memory === undefined ? {} : JSON.parse(readText(`/proc/self/fd/${memory.fileno()}`));
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}
