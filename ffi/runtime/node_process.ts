/**
 * `process.pid` of `node:process`. In a child it is the parent's pid: the module reads `Deno.pid`
 * once, when it is loaded, into a variable behind a property that cannot be redefined.
 *
 * However, Deno keeps the function that did so, and it can be called again. It assigns more than
 * the pid: so it is passed the existing values, and is stopped directly after the pid, at its next
 * read.
 */
import { getpid } from "../process.ts";
import { ASSUMPTIONS } from "./assumptions.ts";
import { replaceGetter, replaceGlobal } from "./globals.ts";

const NAMES = ASSUMPTIONS.nodeProcess.value;

interface Internals {
  [NAMES.with]?: { readonly argv0?: string; readonly denoVersion: unknown };
  [NAMES.hasStarted]?: boolean;
  [NAMES.start]?(argv0: string, args: readonly string[], versions: unknown): void;
}

/** The relevant part of `node:process`. */
interface NodeProcess {
  kill(pid: number, signal?: string | number): true;
  readonly pid: number;
  readonly argv: string[];
  readonly argv0: string;
  platform: string;
}

/** Whether the program has loaded `node:process`, and Deno still has the function. */
export function hasNodeProcess(): boolean {
  const inside = internals();
  return inside[NAMES.hasStarted] === true && typeof inside[NAMES.start] === "function";
}

/** Sets `process.pid` to this process's pid, like `Deno.pid`, in a forked child. */
export function renewNodePid(): void {
  const inside = internals();
  const process = (globalThis as unknown as { process: NodeProcess }).process;
  const { argv, argv0, platform } = process;
  const args = [...argv];
  const streams = ["stdout", "stderr"].map((name) =>
    [name, Object.getOwnPropertyDescriptor(process, name)!] as const
  );
  const enough = new Error("the pid is read");
  const restorePpid = replaceGetter("Deno.ppid", () => {
    throw enough;
  });
  inside[NAMES.hasStarted] = false;
  try {
    inside[NAMES.start]!(argv0, args.slice(2), inside[NAMES.with]?.denoVersion);
  } catch (error) {
    if (error !== enough) throw error;
  } finally {
    inside[NAMES.hasStarted] = true;
    restorePpid();
    argv.splice(0, Infinity, ...args);
    if (process.platform !== platform) process.platform = platform;
    for (const [name, descriptor] of streams) Object.defineProperty(process, name, descriptor);
  }
}

/**
 * Makes `process.kill(process.pid)` end a child, and not its parent, where the pid cannot be renewed:
 * up to Deno 2.8. Called in the parent.
 */
export function redirectNodeKill(): void {
  // Later versions load the module when it is first used: until then this is a getter.
  const process: NodeProcess | undefined = Object.getOwnPropertyDescriptor(globalThis, "process")
    ?.value;
  if (hasNodeProcess() || typeof process?.kill !== "function") return;
  const { pid } = process;
  replaceGlobal("process.kill", (original) =>
    function kill(this: unknown, target, signal) {
      return original.call(this, target === pid ? getpid() : target, signal);
    });
}

function internals(): Internals {
  const { internal } = Deno as unknown as { internal?: symbol };
  const inside = Deno as unknown as Record<symbol, Internals | undefined>;
  return internal === undefined ? {} : inside[internal] ?? {};
}
