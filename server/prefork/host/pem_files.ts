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
/** Those of them that it could not read again. */
const unreadable = new Set<string>();

/**
 * Reads a file with a certificate or a key. Where permission is missing, it is the text that root
 * has read when the server started.
 *
 * @param path The file.
 * @returns The text.
 * @throws {Deno.errors.NotFound | Deno.errors.PermissionDenied | Error} If it cannot be read.
 */
export function readPem(path: string): string {
  let text: string | undefined;
  try {
    text = Deno.readTextFileSync(path);
    unreadable.delete(path);
  } catch (error) {
    text = error instanceof Deno.errors.PermissionDenied ? kept()[absolute(path)] : undefined;
    if (text === undefined) throw error;
    unreadable.add(path);
  }
  read.add(absolute(path));
  return text;
}

/** Returns the files that {@linkcode readPem} could not read any more. */
export function unreadablePem(): readonly string[] {
  return [...unreadable];
}

/**
 * Keeps files that have been read for the program that this process executes.
 *
 * @param isReadable Whether that program can read a file itself.
 */
export function keepPem(isReadable: (path: string) => boolean): void {
  const files = [...read].filter((path) => !isReadable(path));
  if (files.length === 0) return;
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
