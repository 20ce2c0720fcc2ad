/** The files that a program consists of, as Deno sees them. */

/** The local files of a module graph. */
export interface ModuleGraph {
  readonly files: readonly string[];
  /** Whether all modules were found and understood; otherwise files may be missing. */
  readonly isComplete: boolean;
}

/** A part of what `deno info --json` prints. */
interface Info {
  readonly modules: readonly { readonly specifier: string; readonly error?: string }[];
}

/**
 * Finds the local files of a module graph, without those of npm packages.
 *
 * @param module The module with which it begins.
 * @param flags Further arguments of `deno info`.
 * @throws {Error} If `deno info` fails.
 */
export async function moduleGraph(module: string, flags: readonly string[]): Promise<ModuleGraph> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--quiet", "--json", "--no-lock", ...flags, module],
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`deno info failed: ${decoder.decode(stderr).trim()}`);
  const { modules }: Info = JSON.parse(decoder.decode(stdout));
  return {
    files: modules.filter(({ specifier }) => specifier.startsWith("file:"))
      .map(({ specifier }) => decodeURIComponent(new URL(specifier).pathname)),
    isComplete: modules.every(({ error }) => error === undefined),
  };
}
