/**
 * A copy of tine's own modules for a command line that was run from a URL. What Deno loads before
 * the app would otherwise count as the app's: Deno would add it to the app's lock file, or refuse
 * it if that is frozen, and to its vendor folder.
 */
import { getenv } from "../../ffi/environment.ts";
import { getpid } from "../../ffi/process.ts";

/** The files that other files name. Some of the names are examples, and there is no such file. */
const NAMES = /"(\.{1,2}\/[^"\s]+\.[jt]s)"/g;

/**
 * Copies a module and all those that it names, unless there is such a copy already.
 *
 * @param url The module's URL.
 * @param root The URL of the folder that contains them all.
 * @returns The URL of the copy; the given URL if there can be no copy.
 */
export async function localCopy(url: string, root: string): Promise<string> {
  try {
    const texts = new Map<string, string>();
    await collect(url, texts);
    const folder = `${cacheFolder()}/tine/${await digest(texts)}`;
    if (!exists(folder)) {
      const temporary = `${folder}.${getpid()}`;
      for (const [module, text] of texts) write(temporary + module.slice(root.length - 1), text);
      rename(temporary, folder);
    }
    return new URL(`file://${folder}${url.slice(root.length - 1)}`).href;
  } catch {
    return url; // no folder, no permission, or a Deno that cannot import text
  }
}

async function collect(url: string, texts: Map<string, string>): Promise<void> {
  if (texts.has(url)) return;
  texts.set(url, "");
  const text: string = (await import(url, { with: { type: "text" } })).default;
  texts.set(url, text);
  const names = [...text.matchAll(NAMES)].map(([, name]) => new URL(name!, url).href);
  await Promise.all(names.map((name) => collect(name, texts).catch(() => texts.delete(name))));
}

function cacheFolder(): string {
  const folder = getenv("XDG_CACHE_HOME") || `${getenv("HOME")}/.cache`;
  if (!folder.startsWith("/")) throw new Error("there is no folder for caches");
  return folder;
}

async function digest(texts: ReadonlyMap<string, string>): Promise<string> {
  const all = JSON.stringify([...texts].sort());
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(all));
  return new Uint8Array(hash).toHex().slice(0, 16);
}

function exists(folder: string): boolean {
  try {
    return Deno.statSync(folder).isDirectory;
  } catch {
    return false;
  }
}

function write(file: string, text: string): void {
  Deno.mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
  Deno.writeTextFileSync(file, text);
}

function rename(from: string, to: string): void {
  try {
    Deno.renameSync(from, to);
  } catch (error) {
    Deno.removeSync(from, { recursive: true });
    if (!exists(to)) throw error; // otherwise another process was faster
  }
}
