/** An app's folder as its user has it: outside the repository, with its packages installed. */
import { DENO } from "../support.ts";
import type { App } from "./list.ts";

/** Tools that would report what they do. */
export const QUIET = {
  NO_COLOR: "1",
  CI: "1",
  ASTRO_TELEMETRY_DISABLED: "1",
  NEXT_TELEMETRY_DISABLED: "1",
};

const SOURCE = new URL("./", import.meta.url).pathname;

/**
 * Copies an app, installs its packages and builds it.
 *
 * @param app The app.
 * @param parent The folder that the app's is made in. One that an earlier run has made of the same
 *   files is used again.
 * @returns The app's folder.
 * @throws {Error} If that fails: what was printed.
 */
export async function prepare(app: App, parent: string): Promise<string> {
  const source = `${SOURCE}${app.name}`;
  const folder = `${parent}/${app.name}-${await digest(source)}`;
  if (isThere(`${folder}/.prepared`)) return folder;
  if (isThere(folder)) Deno.removeSync(folder, { recursive: true }); // half made
  copy(source, folder);
  if (app.byNpm) await run(folder, "npm", "install", "--no-package-lock");
  else if (isThere(`${folder}/package.json`)) await run(folder, DENO, "install", "--no-lock");
  else await run(folder, DENO, "install", "--no-lock", "--entrypoint", app.main);
  // Tools of npm's may want a newer Node than the machine has: Deno runs them, too.
  if (app.isBuilt) await run(folder, DENO, "task", "build");
  Deno.writeTextFileSync(`${folder}/.prepared`, "");
  return folder;
}

/** The files of an app's folder, without those of its packages. */
export function filesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    if (name === "node_modules") return [];
    const path = `${folder}/${name}`;
    return isDirectory ? filesIn(path) : [path];
  }).sort();
}

/** The exact version of a package that an app asks for. */
export function versionOf({ name, package: wanted }: App): string {
  for (const file of ["package.json", "deno.json"]) {
    if (wanted === undefined || !isThere(`${SOURCE}${name}/${file}`)) continue;
    const config = JSON.parse(Deno.readTextFileSync(`${SOURCE}${name}/${file}`));
    const { dependencies, devDependencies, imports } = config;
    const specifiers = Object.values({ ...imports }).map((specifier) => `${specifier}`);
    const own = { ...dependencies, ...devDependencies }[wanted] ??
      specifiers.find((one) => one.startsWith(`npm:${wanted}@`))?.slice(`npm:${wanted}@`.length);
    if (own !== undefined) return own;
  }
  return "";
}

function copy(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copy(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

async function digest(folder: string): Promise<string> {
  const text = filesIn(folder).map((file) => file + Deno.readTextFileSync(file)).join();
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(bytes).toHex().slice(0, 12);
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

async function run(folder: string, command: string, ...args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd: folder,
    env: QUIET,
    stdin: "null",
  }).output();
  if (success) return;
  const decoder = new TextDecoder();
  const said = `${decoder.decode(stdout)}${decoder.decode(stderr)}`.trim();
  throw new Error(`${command} ${args.join(" ")} failed: ${said.slice(-500)}`);
}
