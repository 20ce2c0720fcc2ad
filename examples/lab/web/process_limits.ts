/** The limits of a process, read from `/proc` and changed as prlimit(1) does. */
import { Refusal } from "./refusal.ts";

/** The soft and the hard limit; `null` is unlimited. */
export type Limit = readonly [soft: number | null, hard: number | null];
/** Limits by prlimit(1)'s names. */
export type ProcessLimits = Readonly<Record<"nofile" | "nproc", Limit>>;

/** Reads a process's limits; `undefined` if it has ended. */
export function limitsOf(pid: number): ProcessLimits | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(`/proc/${pid}/limits`);
  } catch {
    return undefined;
  }
  const limit = (name: string): Limit => {
    const [, soft, hard] = text.match(new RegExp(`^${name}\\s+(\\w+)\\s+(\\w+)`, "m")) ?? [];
    return [numberIn(soft), numberIn(hard)];
  };
  return { nofile: limit("Max open files"), nproc: limit("Max processes") };
}

function numberIn(text: string | undefined): number | null {
  return text === undefined || text === "unlimited" ? null : Number(text);
}

/**
 * Changes a soft limit, and leaves the hard one.
 *
 * @param args prlimit(1)'s arguments.
 * @throws {Refusal} With status 409 if the kernel refuses, or there is no prlimit(1).
 */
export async function prlimit(args: readonly string[]): Promise<void> {
  try {
    const { success, stderr } = await new Deno.Command("prlimit", { args: [...args] }).output();
    if (success) return;
    const [line = ""] = new TextDecoder().decode(stderr).split("\n");
    throw new Refusal(409, line);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new Refusal(409, "prlimit(1) of util-linux is not installed");
    }
    throw error;
  }
}
