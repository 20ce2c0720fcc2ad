/** The command line of `serve`. */
import { parseArgs as parseUntyped } from "npm:deno-std@1.3.0/cli/parse_args.js";
import { type Option, OPTIONS } from "./options.ts";
import type { CommandLine } from "./settings.ts";
import { UsageError } from "./usage.ts";

// The package has no type declarations.
const parseArgs = parseUntyped as (
  args: readonly string[],
  options: {
    string: readonly string[];
    collect: readonly string[];
    boolean: readonly string[];
    negatable: readonly string[];
    default: Record<string, unknown>;
    alias: Record<string, string>;
    unknown: (arg: string, key?: string) => void;
    "--": true;
  },
) => Record<string, unknown> & {
  _: (string | number)[];
  "--": string[];
  help: boolean;
  preload: boolean;
  watch?: boolean;
  json?: boolean;
  strict: boolean;
  "proxy-protocol"?: boolean;
};

/**
 * Reads the arguments of `serve` or `check`.
 *
 * @param args The arguments, without the command's name.
 * @param isCheck Whether they are those of `check`.
 * @returns What they say, and the app's own arguments; `undefined` if they ask for help.
 * @throws {UsageError} If they are invalid.
 */
export function readCommandLine(
  args: readonly string[],
  isCheck = false,
): { line: CommandLine; rest: readonly string[] } | undefined {
  const flags = Object.entries(OPTIONS)
    .filter((entry): entry is [string, Option] => typeof entry[1] !== "string");
  const parsed = parseArgs(withDashes(args), {
    string: [...flags.map(([flag]) => flag), "_"],
    collect: flags.filter(([, { repeatable }]) => repeatable).map(([flag]) => flag),
    boolean: ["help", "preload", "strict", "proxy-protocol", isCheck ? "json" : "watch"],
    negatable: ["preload"],
    default: { preload: true },
    alias: { help: "h" },
    unknown: (arg, key) => {
      if (key !== undefined) throw new UsageError(`unknown option ${arg}`);
    },
    "--": true,
  });
  if (parsed.help) return undefined;
  const options: Record<string, unknown> = {
    ...!parsed.preload && { preload: false },
    ...parsed.strict && { strict: true },
    ...parsed["proxy-protocol"] && { proxyProtocol: true },
  };
  for (const [flag, { sets, takes, kind, repeatable }] of flags) {
    const values = [parsed[flag] ?? []].flat();
    if (values.length === 0) continue;
    if (values.includes("")) throw new UsageError(`missing value of --${flag}: expected ${takes}`);
    const understood = values.map((value) => kind(String(value), `--${flag}`));
    options[sets] = repeatable ? understood.flat() : understood[0];
  }
  const [app, ...surplus] = parsed._.map(String);
  if (surplus.length > 0) throw new UsageError(`expected one app, not also ${surplus.join(", ")}`);
  const { config, ...rest } = options as CommandLine["options"] & { config?: string };
  const line: CommandLine = {
    app,
    config,
    watch: parsed.watch === true,
    check: isCheck ? parsed.json ? "json" : "text" : null,
    options: rest,
  };
  return { line, rest: parsed["--"] };
}

/** Joins a lone dash to its option: the parser would take the dash for an argument. */
function withDashes(args: readonly string[]): string[] {
  return args.flatMap((arg, i) => {
    if (arg === "-" && isOption(args[i - 1])) return [];
    return args[i + 1] === "-" && isOption(arg) ? [`${arg}=-`] : [arg];
  });
}

function isOption(arg: string | undefined): boolean {
  return arg !== undefined && /^--[^=]+$/.test(arg);
}
