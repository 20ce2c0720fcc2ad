/**
 * `serve --watch`: a process beside the master, which sends it SIGHUP when a file of the app's
 * module graph changes. It is a program of its own because a process that watches files must not
 * fork: its children would share the watch.
 */
import { execve } from "../../ffi/execve.ts";
import { executable } from "../../ffi/forking/run_again.ts";
import { forkChild } from "../../ffi/forking/fork_child.ts";
import { getpid, getppid, kill, PR_SET_PDEATHSIG, prctl } from "../../ffi/process.ts";
import { denosArguments } from "../../ffi/runtime/v8_flags.ts";
import { SIGHUP, SIGKILL } from "../../ffi/signals.ts";
import { formatCount } from "../log.ts";
import { stderrLog } from "../prefork/logs/error_log.ts";
import { moduleGraph } from "./module_graph.ts";

/** The command of the process that watches, which is for `serve` alone. */
const WATCH = "watch-files";

/** What the process is to watch. It gets this as JSON. */
interface Task {
  /** The app's module, as typed. */
  readonly app: string;
  /** Further files: the configuration. They need not exist. */
  readonly files: readonly string[];
  /** Deno's arguments that decide which modules an app has. */
  readonly flags: readonly string[];
  /** Changes from this time on count, in milliseconds since 1970. */
  readonly since: number;
}

/** How long no file may change before the server is told, in milliseconds. */
const QUIET = 100;
/** How much older a changed file may seem than it is, in milliseconds: two ticks of the kernel. */
const COARSENESS = 20;
const CHANGES: ReadonlySet<string> = new Set(["create", "modify", "rename", "remove"]);

/**
 * Starts the process that watches. It ends with this one, however this one ends.
 *
 * @param app The app's module.
 * @param config The configuration file, which need not exist.
 * @param since When the loading of the app began, in milliseconds since 1970.
 * @returns Its pid.
 * @throws {SyscallError} `EAGAIN` if the user has too many processes, ...
 */
export function startWatching(app: string, config: string, since: number): number {
  const folder = Deno.cwd();
  const names = [config, "deno.json", "deno.jsonc", "package.json"];
  const task: Task = {
    app,
    files: names.map((name) => name.startsWith("/") ? name : `${folder}/${name}`),
    flags: graphFlags(denosArguments()),
    since,
  };
  const master = getpid();
  return forkChild(() => {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() !== master) return;
    const permissions = ["--allow-ffi", "--allow-read", "--allow-run", "--no-prompt"];
    const deno = executable();
    execve(
      deno,
      [deno, "run", "--no-config", "--no-lock", ...permissions, commandFile(), WATCH]
        .concat(JSON.stringify(task)),
    );
  });
}

/** Returns the file that runs tine's commands: the source's or, if it is bundled, this one. */
function commandFile(): string {
  return import.meta.url.endsWith("/server/cli/watch.ts")
    ? import.meta.resolve("../cli.ts")
    : import.meta.url;
}

/** Returns those of Deno's arguments that `deno info` takes, too, and that change what it finds. */
function graphFlags(args: readonly string[]): string[] {
  return args.flatMap((arg, i) => {
    if (/^(-c|--config|--import-map)$/.test(arg)) return [arg, args[i + 1]!];
    const counts =
      /^--((config|import-map|node-modules-dir)=|(no-config|node-modules-dir|vendor)$|unstable-)/;
    return counts.test(arg) ? [arg] : [];
  });
}

/**
 * Runs the process that watches. Its master's end ends it.
 *
 * @param args The task.
 * @returns The exit code if it cannot watch.
 */
export async function watch([text]: readonly string[]): Promise<number> {
  const task: Task = JSON.parse(text!);
  const log = stderrLog("watch");
  const master = getppid();
  try {
    const watcher = new Watcher();
    let modules = await findModules(task, []);
    watcher.watch([...modules, ...task.files]);
    log(`Watching ${formatCount(modules.length, "file")}`);
    const since = task.since - COARSENESS;
    if (!modules.some((file) => changedAt(file) > since)) await watcher.change();
    for (;;) {
      // What the change imports is watched before it is loaded.
      modules = await findModules(task, modules);
      watcher.watch([...modules, ...task.files]);
      kill(master, SIGHUP);
      await watcher.change();
    }
  } catch (error) {
    log(`Changes are not noticed any more: ${(error as Error).message}`);
    return 1;
  }
}

/** Finds the files of the module graph; where a module is broken, those known before, too. */
async function findModules({ app, flags }: Task, known: readonly string[]): Promise<string[]> {
  const { files, isComplete } = await moduleGraph(app, flags);
  return [...new Set(isComplete ? files : [...files, ...known])];
}

/** Returns when a file was changed, in milliseconds since 1970; 0 if it does not exist. */
function changedAt(file: string): number {
  try {
    return Deno.statSync(file).mtime?.getTime() ?? 0;
  } catch {
    return 0;
  }
}

/** Watches files through their folders: many editors replace a file by another of its name. */
class Watcher {
  #files: ReadonlySet<string> = new Set();
  #folders = "";
  #events: Deno.FsWatcher | undefined;
  #changes = 0;
  #wake = () => {};

  /** Watches these files from now on. */
  watch(files: readonly string[]): void {
    this.#files = new Set(files);
    const folders = [...new Set(files.map(folderOf))].filter(isFolder).sort();
    if (folders.join("\n") === this.#folders) return;
    this.#folders = folders.join("\n");
    const before = this.#events;
    this.#events = Deno.watchFs(folders, { recursive: false });
    this.#read(this.#events);
    // What it has seen already may still be on its way.
    setTimeout(() => before?.close(), QUIET);
  }

  async #read(events: Deno.FsWatcher): Promise<void> {
    for await (const { kind, paths } of events) {
      if (!CHANGES.has(kind) || !paths.some((path) => this.#isWatched(path))) continue;
      this.#changes++;
      this.#wake();
    }
  }

  #isWatched(path: string): boolean {
    // CommonJS may leave out the extension.
    return this.#files.has(path) || this.#files.has(path.replace(/\.[^./]+$/, ""));
  }

  /** Waits for a change since the last one that this method has returned, and until it is over. */
  async change(): Promise<void> {
    while (this.#changes === 0) await new Promise<void>((resolve) => this.#wake = resolve);
    while (this.#changes > 0) {
      this.#changes = 0;
      await new Promise((resolve) => setTimeout(resolve, QUIET));
    }
  }
}

function folderOf(file: string): string {
  return file.slice(0, file.lastIndexOf("/")) || "/";
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
