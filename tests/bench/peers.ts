/** The programs that are compared: how each is compiled, started and asked for its figure. */

/** No program may take longer, in milliseconds. */
const PATIENCE = 60_000;

/** A command line. */
export type CommandLine = readonly [command: string, ...args: string[]];

/** The path of a file, seen from this folder. */
export function here(file: string): string {
  return new URL(file, import.meta.url).pathname;
}

/**
 * A program of ours as its user starts it.
 *
 * @param file Its path, seen from this folder.
 * @param config The deno.json that says which tine it gets, if not the one above it.
 */
export function tine(file: string, config?: string): CommandLine {
  const options = config === undefined ? [] : ["--config", config];
  return [Deno.execPath(), "run", "--no-lock", ...options, "--allow-ffi", here(file)];
}

/** Whether a command can be run. Not each one knows the option, and that does not matter. */
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

/** Compiles a C file that stands beside this one. */
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

/** Runs a program and gives what it printed. */
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

/** Starts a server, which gets the port as its last argument, and asks a client for its figure. */
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

/** A port that nobody listens on. */
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
