/** The check command: tells what `serve` would do with the same arguments, and does not do it. */
import { Descriptor } from "../../ffi/descriptor.ts";
import { dup2, F_DUPFD_CLOEXEC, fcntl } from "../../ffi/descriptor_calls.ts";
import { releaseSignals } from "../../ffi/signal_mask.ts";
import { SIGCHLD } from "../../ffi/signals.ts";
import { watchExit } from "../app/load_program.ts";
import { CHECK, type MainModule } from "../app/main_module.ts";
import { memoryShare } from "../prefork/host/cgroup.ts";
import type { ListenOptions } from "../prefork/listen_option.ts";
import { formatOpenResource, type OpenResource } from "../prefork/open_resources.ts";
import { PREFORK_OPTIONS, type PreforkOptions } from "../prefork/options.ts";
import { check as checkProgram, type Trial } from "../prefork/serve.ts";
import { HANDLED_SIGNALS } from "../prefork/signals.ts";
import type { Setting } from "./options.ts";
import { checkApplicable } from "./lower_rungs.ts";
import { report } from "./report.ts";
import { nameOf, type Settings, type Source } from "./settings.ts";
import { ConfigFileError, UsageError } from "./usage.ts";

/** An option, as the command shows it. */
interface Option {
  readonly name: keyof PreforkOptions | "model";
  /** Its value; `null` for none, or no limit. For a certificate or its key, the file. */
  readonly value: unknown;
  readonly source: Source;
  /** Its name there; `null` for a default that depends on nothing. */
  readonly from: string | null;
}

/** What the command finds. */
interface Report {
  /** Whether `serve` would serve the app. */
  readonly ok: boolean;
  /** Why not; `null` if it would. */
  readonly error: string | null;
  /** The app's module; `null` if it is not known. */
  readonly app: string | null;
  readonly servers: Trial["servers"];
  readonly options: readonly Option[];
  readonly open: readonly OpenResource[];
}

/** What a default says that follows the limits of the cgroup. */
const FROM_CGROUP = "default, by the limit of the cgroup";
const STDOUT = 1;
const STDERR = 2;

/**
 * Runs the `check` command. The process must be forkable.
 *
 * @param form The form of the output.
 * @param settings What `serve` would serve, and how.
 * @param app The app.
 * @returns The exit code.
 */
export async function check(
  form: "text" | "json",
  settings: Settings,
  app: MainModule,
): Promise<number> {
  releaseSignals(HANDLED_SIGNALS.filter((signum) => signum !== SIGCHLD));
  // What the app prints while it is loaded is no part of the JSON.
  using output = new Descriptor(fcntl(STDOUT, F_DUPFD_CLOEXEC, STDERR + 1));
  if (form === "json") dup2(STDERR, STDOUT);
  const unwatch = watchExit(app.name, (error) => Deno.exit(tell(error)));
  try {
    // Deno itself reports, in words, that it cannot load the main module, and ends the process.
    if (form === "json") await app.check();
    const result = await reportOn(settings, app);
    leave();
    if (form === "json") print(result);
    else console.log(formatReport(result));
    return 0;
  } catch (error) {
    return tell(error);
  }

  function leave(): void {
    unwatch();
    dup2(output.fileno(), STDOUT);
  }

  function tell(error: unknown): number {
    leave();
    return form === "json" ? printError(error) : report(error);
  }
}

/**
 * Prints as JSON why an app cannot be served.
 *
 * @returns The exit code.
 */
export function printError(error: unknown): number {
  const { message } = error as Error;
  print({ ok: false, error: message, app: null, servers: [], options: [], open: [] });
  return error instanceof UsageError || error instanceof ConfigFileError ? 2 : 1;
}

function print(report: Report): void {
  // A module that is loaded twice has the first name in every place that is given of it.
  console.log(JSON.stringify(report, null, 2).replaceAll(`${CHECK}:`, ":"));
}

async function reportOn(settings: Settings, app: MainModule): Promise<Report> {
  const { model, config } = settings;
  if (model !== "prefork") checkApplicable(model, settings);
  const trial = await checkProgram(app, config);
  return { ok: true, error: null, app: app.name, ...trial, options: optionsOf(settings, trial) };
}

function optionsOf(
  { model, config, given, sources, file }: Settings,
  { servers }: Trial,
): Option[] {
  // Otherwise the program has an address of its own.
  const hasDefaultAddress = servers.some((server) => server.of === "the default export");
  const defaults = {
    ...config,
    ...(!hasDefaultAddress || config.givenAddress.listen) && { port: null, hostname: null },
    cert: null,
    key: null,
    maxWorkerMemory: memoryShare(config.cgroup.memory, config.workers),
    listen: null,
    model,
  };
  const { processors, memory } = config.cgroup;
  const limits = new Map<Setting, string>();
  if (processors !== Infinity) limits.set("workers", FROM_CGROUP);
  if (memory !== Infinity) limits.set("maxWorkerMemory", FROM_CGROUP);
  return (["model", ...PREFORK_OPTIONS] as const).map((name) => {
    const source = sources.get(name) ?? "default";
    // As it was given: not the text of a certificate.
    const value = source !== "default" ? given[name] : defaults[name];
    return {
      name,
      value: value === undefined || value === Infinity ? null : value,
      source,
      from: source === "default" ? limits.get(name) ?? null : nameOf(name, source, file),
    };
  });
}

function formatReport({ app, servers, options, open }: Report): string {
  return [
    `${app} can be served`,
    ...table(servers.map(({ url, of }) => [url, of])),
    "",
    "Options",
    ...table(options.map(({ name, value, from }) => [name, show(value), from ?? "default"])),
    ...open.length === 0 ? [] : ["", ...open.map(formatOpenResource)],
  ].join("\n");
}

/** Aligns the columns. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]!.length))) ?? [];
  return rows.map((row) =>
    `  ${row.map((text, i) => text.padEnd(widths[i]!)).join("  ")}`.trimEnd()
  );
}

function show(value: unknown): string {
  if (value === null) return "none";
  return Array.isArray(value) ? value.map(showOne).join(", ") || "none" : String(value);
}

/** Shows an address with its certificates as on the command line. */
function showOne(one: unknown): string {
  if (typeof one !== "object") return String(one);
  const { address, cert = [], key = [] } = one as ListenOptions;
  const keys = [key].flat();
  return [address, ...[cert].flat().map((file, i) => `cert=${file},key=${keys[i]}`)].join(",");
}
