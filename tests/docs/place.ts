/** Where the documentation's commands are run. */
import { ROOT } from "../support.ts";
import type { Place } from "./session.ts";

/**
 * Makes a checkout whose files are this one's, in which programs may leave others.
 *
 * @param isQuick Whether npx gives this Deno, and does not ask npm for it.
 * @param patience How long to wait for a line that is expected, in milliseconds.
 * @returns It, and the folder to remove at the end.
 */
export function prepare(isQuick: boolean, patience: number): Place & { root: string } {
  const root = Deno.makeTempDirSync({ prefix: "tine_docs_" });
  for (const name of ["tine", "bin", "log"]) Deno.mkdirSync(`${root}/${name}`);
  for (const { name } of Deno.readDirSync(ROOT)) {
    if (name !== ".git") Deno.symlinkSync(new URL(name, ROOT).pathname, `${root}/tine/${name}`);
  }
  Deno.symlinkSync(Deno.execPath(), `${root}/bin/deno`);
  if (isQuick) writeNpx(`${root}/bin/npx`);
  const home = Deno.env.get("HOME") ?? "/";
  return {
    root,
    checkout: `${root}/tine`,
    folder: `${root}/log`,
    patience,
    env: {
      PATH: `${root}/bin:${Deno.env.get("PATH")}`,
      DENO_DIR: Deno.env.get("DENO_DIR") ??
        `${Deno.env.get("XDG_CACHE_HOME") ?? `${home}/.cache`}/deno`,
      npm_config_cache: Deno.env.get("npm_config_cache") ?? `${home}/.npm`,
      npm_config_update_notifier: "false",
      NO_COLOR: "1",
    },
  };
}

/** Writes an npx that knows this version of Deno only. */
function writeNpx(file: string): void {
  const name = `deno@${Deno.version.deno}`;
  const script = `#!/bin/sh
[ "$1 $2" = "-y ${name}" ] || { echo "npx: expected -y ${name}, not $*" >&2; exit 1; }
shift 2
exec deno "$@"
`;
  Deno.writeTextFileSync(file, script, { mode: 0o755 });
}
