/** Other versions of Deno, as npm has them. */

/**
 * Returns the file of a version of Deno, which npx fetches and keeps.
 *
 * @param version Such as `2.9.6`.
 * @throws {Error} If npm has no such version, or calls another one by its name: `deno@2.3.0` is
 *   Deno 2.4.0.
 */
export async function denoOf(version: string): Promise<string> {
  const program = "console.log(Deno.version.deno, Deno.execPath())";
  const output = await outputOf("npx", ["-y", `deno@${version}`, "eval", "-q", program]);
  const [own, file] = output.split(" ");
  if (own !== version) throw new Error(`What npm calls deno@${version} is Deno ${own}`);
  return file!;
}

/** Returns the newest version, as the registry says. */
export async function newestDeno(): Promise<string> {
  return await outputOf("npm", ["view", "deno", "version"]);
}

async function outputOf(command: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trim();
}
