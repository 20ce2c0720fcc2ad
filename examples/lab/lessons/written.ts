/** Runs `writers.ts` and counts what is in its file afterwards. */
import type { Stage } from "../lesson.ts";

/** The program that is run. */
export const WRITERS = "examples/lab/programs/writers.ts";
/** What each of the two writers writes. */
export const RECORDS = 100;

/**
 * Lets two writers add records to a file at the same time.
 *
 * @param stage Where they run.
 * @param lock Which lock they use.
 * @returns The number of records that they have written and that are not in the file.
 */
export async function lostRecords(
  stage: Stage,
  lock: "none" | "own" | "inherited",
): Promise<number> {
  const file = `${stage.folder()}/records.txt`;
  const writers = await stage.start({ program: WRITERS, args: [file, `${RECORDS}`, lock] });
  const { code } = await writers.ended(60);
  stage.expect("exit code of the writers", code, (code) => code === 0, "0");
  const lines = new Set(Deno.readTextFileSync(file).split("\n"));
  let lost = 0;
  for (const writer of ["first", "second"]) {
    for (let i = 1; i <= RECORDS; i++) if (!lines.has(`${writer} ${i}`)) lost++;
  }
  return lost;
}
