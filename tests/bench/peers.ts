/** The programs that are compared: how each one is compiled and started, and gives its figure. */

/** The time limit for a program, in milliseconds. */
const PATIENCE = 60_000;

/** A command line. */
export type CommandLine = readonly [command: string, ...args: string[]];

/** Returns the path of a file that is given relative to this folder. */
export function here(file: string): string {
  return new URL(file, import.meta.url).pathname;
}

/**
 * Returns how users start a program of this repository.
 *
 * @param file Its path, relative to this folder.
 * @param config The deno.json that determines which tine it imports, if it is not the usual one.
 */
export function tine(file: string, config?: string): CommandLine {
  const options = config === undefined ? [] : ["--config", config];
  return [Deno.execPath(), "run", "--no-lock", ...options, "--allow-ffi", here(file)];
}

/** Whether a command can be run. A command that does not know the option can be run, too. */
export function isThere(command: string): boolean {
  try {
    const { code } = new Deno.Command(command, {
      args: ["--version"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).outputSync();
    return code < 126; // 127: a script that has not found what it stands for
  } catch {
    return false;
  }
}

/** Compiles a C file of this folder. */
export function compile(compiler: string, file: string, folder: string): string {
  const program = `${folder}/${file.replace(".c", "")}`;
  const { success } = new Deno.Command(compiler, {
    args: ["-O2", "-pthread", "-o", program, here(file)],
    stderr: "inherit",
  }).outputSync();
  if (!success) throw new Error(`${compiler} could not compile ${file}`);
  return program;
}

/** Runs a program that prints one number. */
export async function figureOf(line: CommandLine): Promise<number> {
  const output = await outputOf(line);
  if (!(Number.parseFloat(output) > 0)) throw new Error(`${line.join(" ")} printed "${output}"`);
  return Number.parseFloat(output);
}

/** Runs a program, and returns its output. */
export async function outputOf([command, ...args]: CommandLine): Promise<string> {
  const { success, stdout } = await new Deno.Command(command, {
    args,
    env: { NO_COLOR: "1" },
    stderr: "inherit",
    signal: AbortSignal.timeout(PATIENCE),
  }).output();
  if (!success) throw new Error(`${[command, ...args].join(" ")} failed`);
  return new TextDecoder().decode(stdout).trim();
}

/**
 * Starts a server with the port as its last argument, and returns the figure that a client prints.
 */
export async function figureOfServer(
  [command, ...args]: CommandLine,
  client: (port: number, count: number) => CommandLine,
  count: number,
): Promise<number> {
  const port = freePort();
  await using server = new Deno.Command(command, {
    args: [...args, `${port}`],
    env: { NO_COLOR: "1" },
    stdout: "null",
    stderr: "inherit",
    signal: AbortSignal.timeout(PATIENCE),
  }).spawn();
  await connectable(port);
  await figureOf(client(port, count >> 2)); // warms it up
  const figure = await figureOf(client(port, count));
  server.kill("SIGKILL");
  return figure;
}

/** Returns a free port. */
export function freePort(): number {
  using listener = Deno.listen({ port: 0 });
  return listener.addr.port;
}

async function connectable(port: number): Promise<void> {
  const end = performance.now() + PATIENCE;
  for (;;) {
    try {
      (await Deno.connect({ port })).close();
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
