/** The doctor command checks that a system and its Deno have what tine relies on. */
import { parseArgs as parseUntyped } from "npm:deno-std@1.3.0/cli/parse_args.js";
import { type Diagnosis, doctor as diagnose } from "../doctor.ts";
import { UsageError } from "./usage.ts";

const HELP = `\
Checks that this system and this Deno have what tine relies on.

Usage: tine doctor [options]

  --json   as JSON
  --help   this text

Each line is one check: the system, permissions and limits, and the facts that
docs/fork.md explains under "Why it works", each tried in a child. A check is not tried where
one that it needs has failed. A line that failed is followed by what to do.

Exit code: 0 if nothing failed, 1 if something did, 2 if an argument is invalid.
`;

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: readonly string[],
  options: {
    boolean: readonly string[];
    alias: Record<string, string>;
    unknown: (arg: string) => void;
  },
) => { json: boolean; help: boolean };

/**
 * Runs the doctor command.
 *
 * @param args The arguments, without the command's name.
 * @returns The exit code.
 * @throws {UsageError} If the arguments are invalid.
 */
export async function doctor(args: readonly string[]): Promise<number> {
  const { json, help } = parseArgs(args, {
    boolean: ["json", "help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new UsageError(`unknown argument ${arg}`);
    },
  });
  if (help) {
    console.log(HELP.trimEnd());
    return 0;
  }
  const diagnosis = await diagnose();
  console.log(json ? JSON.stringify(diagnosis, null, 2) : format(diagnosis));
  return diagnosis.ok ? 0 : 1;
}

function format({ findings }: Diagnosis): string {
  const width = Math.max(...findings.map(({ name }) => name.length)) + 2;
  return findings.flatMap(({ name, outcome, detail, advice }) => {
    const line = `${outcome.padEnd(11)}${name.padEnd(width)}${detail}`;
    return advice === undefined ? [line] : [line, `${"".padEnd(11)}${"".padEnd(width)}${advice}`];
  }).join("\n");
}
