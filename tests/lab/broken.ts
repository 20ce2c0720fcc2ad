/** Plays lessons of the lab as a learner does, also on a copy of the repository with a program broken. */
import { assert } from "@std/assert";
import type { FigureEvent, LabEvent, VerdictEvent } from "../../examples/lab/lesson.ts";
import { applyChange, type Change, copyFolder, DENO, Program, ROOT, scratch } from "../support.ts";

/** What a lesson printed with `--json`. */
export interface Played {
  readonly code: number;
  /** The figures by their names. */
  readonly figures: ReadonlyMap<string, FigureEvent>;
  /** The names of the figures that differ. */
  readonly differs: readonly string[];
  readonly verdict: VerdictEvent | undefined;
  readonly events: readonly LabEvent[];
}

const SECONDS = 150; // on a busy machine

/** Plays a lesson. */
export async function playedLesson(name: string, args: readonly string[] = []): Promise<Played> {
  return await played(ROOT.pathname, name, args);
}

/**
 * Plays a lesson on a copy of the examples in which a program is changed. What is waited for in vain
 * is given up after a few seconds.
 *
 * @param prepare Is called with the copy's folder.
 */
export async function brokenLesson(
  name: string,
  change: Change,
  args: readonly string[] = ["--patience", "4"],
  prepare: (folder: string) => Promise<void> | void = () => {},
): Promise<Played> {
  await using folder = scratch();
  copyFolder(new URL("examples", ROOT).pathname, `${folder.path}/examples`);
  for (const entry of ["ffi", "server", "deno.json"]) {
    Deno.symlinkSync(new URL(entry, ROOT), `${folder.path}/${entry}`);
  }
  // The examples in the copy import the real thing, which Deno has in its cache.
  const mod = JSON.stringify(new URL("mod.ts", ROOT).href);
  Deno.writeTextFileSync(`${folder.path}/mod.ts`, `export * from ${mod};\n`);
  applyChange(folder.path, change);
  await prepare(folder.path);
  return await played(folder.path, name, args);
}

async function played(root: string, name: string, args: readonly string[]): Promise<Played> {
  await using program = new Program(
    DENO,
    ["run", "--allow-all", "examples/lab/learn.ts", name, "--json", ...args],
    { cwd: root },
  );
  const { code } = await program.ended(SECONDS * 1000);
  assert(program.stderr === "", program.stderr);
  const events: LabEvent[] = program.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  const figures = events.filter((event) => event.type === "figure");
  return {
    code,
    events,
    figures: new Map(figures.map((event) => [event.figure, event])),
    differs: figures.filter(({ holds }) => holds === false).map(({ figure }) => figure),
    verdict: events.find((event) => event.type === "verdict"),
  };
}
