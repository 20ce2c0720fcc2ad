/**
 * The HTTP servers that are compared: how each one is started and stopped, and when it is ready.
 */
import { bundle } from "../bundle.ts";
import { type CommandLine, freePort, here, isThere } from "./peers.ts";

/** The time limit for the first response of a server, in milliseconds. */
const PATIENCE = 60_000;

/** A server that can be started on a port. */
export interface HttpServer {
  readonly label: string;
  readonly commandLine: (port: number) => CommandLine;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** A server that answers. */
export interface RunningServer extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** The time from its start to its first response, in milliseconds. */
  readonly startTime: number;
}

/** The body of all responses. */
export const GREETING = "Hello, World!\n";

/** The default command line of Deno. */
export const DENO: CommandLine = [Deno.execPath(), "run", "--allow-all"];

/** This checkout. */
export const ROOT: string = here("../..");
const SOURCE = `${ROOT}/server/cli.ts`;

/** The preforking server, from the source of its command line. */
export function prefork(app: string, workers: number, ...options: string[]): HttpServer {
  return preforkOf("tine", [...DENO, SOURCE], app, workers, ...options);
}

/** The same, started as `deno task serve` does. */
export function preforkAtOnce(app: string, workers: number): HttpServer {
  return preforkOf("tine, with V8's flags", [...forkableDeno(ROOT), SOURCE], app, workers);
}

/**
 * The command that `deno task install` of a checkout writes.
 *
 * @param folder Where it is installed.
 * @throws {Error} If that failed; the message is what the task said.
 */
export function preforkInstalled(
  label: string,
  root: string,
  folder: string,
  app: string,
): HttpServer {
  if (!hasInstaller(root)) {
    Deno.mkdirSync(folder, { recursive: true });
    bundle(`${folder}/tine.js`, root);
    return preforkOf(label, [...forkableDeno(root), `${folder}/tine.js`], app, WORKERS);
  }
  const { success, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", `${root}/${INSTALLER}`, folder],
    stdin: "null",
    stdout: "null",
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return preforkOf(label, [`${folder}/tine`], app, WORKERS);
}

const INSTALLER = "server/cli/install.ts";
const WORKERS = 2;

/** Whether a checkout has a command to install. Before that, there was a bundle. */
function hasInstaller(root: string): boolean {
  try {
    return Deno.statSync(`${root}/${INSTALLER}`).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The same, with another command line before its arguments. */
export function preforkOf(
  label: string,
  [command, ...args]: CommandLine,
  app: string,
  workers: number,
  ...options: string[]
): HttpServer {
  return {
    label,
    commandLine: (port) => [
      command,
      ...[...args, "serve", app],
      ...["--host", "127.0.0.1", "--port", `${port}`, "--workers", `${workers}`, ...options],
    ],
  };
}

/**
 * Returns how `deno task serve` of a checkout starts Deno: so that the process can fork from its
 * start, and is not executed twice.
 */
export function forkableDeno(root: string): CommandLine {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${root}/deno.json`));
  const words: string[] = tasks.serve.command.split(" ");
  const [command, ...args] = words.slice(0, words.indexOf("server/cli.ts"))
    .map((word) => word === "deno" ? Deno.execPath() : word);
  return [command!, ...args];
}

/** `deno serve`: one process with one JavaScript thread. */
export function denoServe(app: string, ...options: string[]): HttpServer {
  return {
    label: "deno serve",
    commandLine: (port) => [
      Deno.execPath(),
      ...["serve", "--allow-all", "--host", "127.0.0.1", "--port", `${port}`, ...options, app],
    ],
  };
}

/** `deno serve --parallel`. */
export function denoServeParallel(app: string, threads: number, ...options: string[]): HttpServer {
  return {
    ...denoServe(app, "--parallel", ...options),
    label: "deno serve --parallel",
    env: { DENO_JOBS: `${threads}` },
  };
}

/** The servers from Debian packages, with two workers each. Missing ones are reported. */
export function debianServers(folder: string): HttpServer[] {
  Deno.chmodSync(folder, 0o755); // nginx and Apache give up root
  return [nginx(folder), apache(folder), gunicorn(), unicorn(folder)]
    .flatMap((server) => {
      const [program] = server.commandLine(0);
      if (isThere(program)) return [server];
      console.error(`Skipped: ${server.label}, for there is no ${program}`);
      return [];
    });
}

function nginx(folder: string): HttpServer {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${folder}/nginx_${name};`);
  return {
    label: "nginx, a constant",
    commandLine: (port) => {
      const file = write(
        `${folder}/nginx.conf`,
        `daemon off; worker_processes 2; pid ${folder}/nginx.pid; error_log stderr error;
events {}
http {
  access_log off; ${temporary.join(" ")}
  server { listen 127.0.0.1:${port}; return 200 ${JSON.stringify(GREETING)}; }
}
`,
      );
      return ["nginx", "-e", "stderr", "-c", file];
    },
  };
}

function apache(folder: string): HttpServer {
  const modules = "/usr/lib/apache2/modules";
  return {
    label: "Apache prefork, a file",
    commandLine: (port) => {
      Deno.mkdirSync(`${folder}/www`, { recursive: true });
      write(`${folder}/www/index.html`, GREETING);
      const file = write(
        `${folder}/apache.conf`,
        `DefaultRuntimeDir ${folder}
PidFile ${folder}/apache.pid
Listen 127.0.0.1:${port}
ServerName 127.0.0.1
ErrorLog ${folder}/apache.log
LogLevel emerg
LoadModule mpm_prefork_module ${modules}/mod_mpm_prefork.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
User nobody
Group nogroup
StartServers 2
MinSpareServers 1
MaxSpareServers 2
ServerLimit 2
MaxRequestWorkers 2
DocumentRoot ${folder}/www
`,
      );
      return ["apache2", "-d", folder, "-f", file, "-DFOREGROUND"];
    },
  };
}

function gunicorn(): HttpServer {
  return {
    label: "gunicorn, sync",
    cwd: here("."),
    env: { PYTHONDONTWRITEBYTECODE: "1" },
    commandLine: (port) => [
      "gunicorn",
      ...["--workers", "2", "--log-level", "error"],
      ...["--bind", `127.0.0.1:${port}`, "hello:application"],
    ],
  };
}

function unicorn(folder: string): HttpServer {
  return {
    label: "unicorn",
    commandLine: (port) => {
      const file = write(`${folder}/unicorn.rb`, `worker_processes 2\nlogger Logger.new(nil)\n`);
      return [
        "unicorn",
        ...["--env", "none", "--config-file", file],
        ...["--listen", `127.0.0.1:${port}`, here("hello.ru")],
      ];
    },
  };
}

function write(file: string, text: string): string {
  Deno.writeTextFileSync(file, text);
  return file;
}

/** Starts a server and waits for its first response. Disposing of it stops it. */
export async function start(server: HttpServer): Promise<RunningServer> {
  const port = freePort();
  const [command, ...args] = server.commandLine(port);
  const begin = performance.now();
  const child = new Deno.Command(command, {
    args,
    env: { NO_COLOR: "1", ...server.env },
    ...server.cwd === undefined ? {} : { cwd: server.cwd },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const ended = child.status.then(async ({ code }) => {
    throw new Error(`${server.label} ended with ${code}: ${await errors}`);
  });
  ended.catch(() => {}); // it is to end, later
  await Promise.race([firstResponse(port), ended]);
  const startTime = performance.now() - begin;
  return {
    pid: child.pid,
    port,
    startTime,
    async [Symbol.asyncDispose]() {
      // The master first, so that it replaces no worker. SIGTERM would not do: Apache then sends it
      // to its whole process group, to which this program belongs.
      for (const pid of processTree(child.pid)) kill(pid);
      await child.status;
    },
  };
}

async function firstResponse(port: number): Promise<void> {
  const end = performance.now() + PATIENCE;
  for (;;) {
    try {
      return await get(port, "/");
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** The time limit for one response, in milliseconds: Deno's `node:cluster` may never give the first. */
const RESPONSE_PATIENCE = 5000;

/** Requests a path over a new connection. Throws an error unless the status is 200, in time. */
export async function get(port: number, path: string): Promise<void> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const timer = setTimeout(() => connection.close(), RESPONSE_PATIENCE);
  try {
    await request(connection, path);
  } finally {
    clearTimeout(timer);
    try {
      connection.close();
    } catch {
      // closed by the timer
    }
  }
}

async function request(connection: Deno.Conn, path: string): Promise<void> {
  await connection.write(
    new TextEncoder().encode(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    ),
  );
  const reply = new Uint8Array(4096);
  const length = await connection.read(reply) ?? 0;
  const [status = ""] = new TextDecoder().decode(reply.subarray(0, length)).split("\r\n");
  if (!status.startsWith("HTTP/1.1 200")) throw new Error(`Cannot get ${path}: "${status}"`);
}

/** Returns a process and all its descendants. */
export function processTree(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(processTree)];
}

function childrenOf(pid: number): number[] {
  try {
    const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim();
    return children === "" ? [] : children.split(" ").map(Number);
  } catch {
    return []; // it has ended
  }
}

function kill(pid: number): void {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch {
    // it has ended
  }
}
