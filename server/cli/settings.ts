/**
 * What `serve` is to do: the command line, the environment and the configuration file together.
 * This needs no package: it may run in the app's world, where tine's import map does not hold.
 */
import { getenv } from "../../ffi/environment.ts";
import { takePem } from "../prefork/host/pem_files.ts";
import { readCertificates } from "../prefork/certificates.ts";
import type { ListenAddress } from "../listen.ts";
import { absolute, type Config, type PreforkOptions, resolveOptions } from "../prefork/options.ts";
import { readConfigFile } from "./config_file.ts";
import { flagOf, type Model, OPTIONS, type Setting } from "./options.ts";
import { ConfigFileError, UsageError } from "./usage.ts";

/** The configuration file, unless `--config` names another. It need not exist. */
const CONFIG_FILE = "tine.json";

/** What the command line says. It can be passed on as JSON. */
export interface CommandLine {
  readonly app: string | undefined;
  /** The configuration file. */
  readonly config: string | undefined;
  /** Whether changed files are loaded. */
  readonly watch: boolean;
  /** The form of the output of `check`; `null` for `serve`. */
  readonly check: "text" | "json" | null;
  /** The other options. `cert` and `key` are the names of files. */
  readonly options: { readonly [name in Setting]?: unknown };
}

/** Where settings come from. Each source overrides those after it. */
export const SOURCES = ["command line", "environment", "file", "default"] as const;
/** One of {@linkcode SOURCES}. */
export type Source = typeof SOURCES[number];

/** What to serve, and how. */
export interface Settings {
  /** The app's module. */
  readonly app: string;
  readonly model: Model;
  readonly config: Config;
  /** The settings as they were given. `cert` and `key` are the names of files. */
  readonly given: Readonly<Record<string, unknown>>;
  /** The configuration file, which need not exist. */
  readonly file: string;
  /** Where each setting comes from, unless it has its default. */
  readonly sources: ReadonlyMap<Setting | "app", Exclude<Source, "default">>;
}

/**
 * Reads the environment and the configuration file, and fills in the defaults.
 *
 * @param line What the command line says.
 * @returns All settings.
 * @throws {UsageError} If the command line or the environment is invalid.
 * @throws {ConfigFileError} If the configuration file is.
 * @throws {AppError} If a certificate or its key cannot be read.
 */
export function readSettings({ app, config: named, options }: CommandLine): Settings {
  takePem();
  const file = named ?? CONFIG_FILE;
  const content = readConfigFile(file);
  if (content === undefined && named !== undefined) {
    throw new ConfigFileError(`Cannot read ${file}: there is no such file`);
  }
  const sources: Settings["sources"] & Map<string, Source> = new Map();
  const given: Record<string, unknown> = {};
  const add = (source: Source, values: object) => {
    // An address overrides all of lower rank, and not only one of the same form.
    const hasAddress = sources.has("port") || sources.has("hostname");
    const hidden = [
      ...hasAddress || sources.has("listen") ? ["path"] : [],
      ...hasAddress || sources.has("path") ? ["listen"] : [],
      ...sources.has("listen") || sources.has("path") ? ["port", "hostname"] : [],
      ...sources.has("path") ? ["cert", "key"] : [],
    ];
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || sources.has(name) || hidden.includes(name)) continue;
      given[name] = value;
      sources.set(name, source);
    }
  };
  add("command line", { app, ...options });
  add("environment", readEnvironment());
  add("file", content ?? {});

  const { app: module, model = "prefork", ...rest } = given;
  if (module === undefined) {
    throw new UsageError("missing app: expected its module, such as serve app.ts");
  }
  const name = (option: Setting) => nameOf(option, sources.get(option), file);
  const config = resolve(rest, name);
  const purpose = (part: "cert" | "key") => ` for ${name(given.listen ? "listen" : part)}`;
  const listen = readCertificates(config.listen.map(fromFiles), purpose);
  return {
    app: String(module),
    model: model as Model,
    config: { ...config, listen },
    given,
    file,
    sources,
  };
}

function resolve(options: PreforkOptions, name: (option: Setting) => string): Config {
  try {
    return resolveOptions(options, name);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Has an address get its certificates from the files that were given instead of them. */
function fromFiles({ certificates, ...address }: ListenAddress): ListenAddress {
  const files = certificates.map(({ cert, key }) => ({ cert: absolute(cert), key: absolute(key) }));
  return { ...address, certificates: files.map((files) => ({ ...files, files })) };
}

/** Returns the name that a setting has where it is set. */
export function nameOf(name: Setting, source: Source | undefined, file?: string): string {
  switch (source) {
    case "environment":
      return variableOf(name);
    case "file":
      return `${name} in ${file}`;
    default:
      return flagOf(name);
  }
}

function readEnvironment(): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const option of Object.values(OPTIONS)) {
    if (typeof option === "string" || option.variable === undefined) continue;
    const text = getenv(option.variable);
    if (text) settings[option.sets] = option.kind(text, option.variable);
  }
  return settings;
}

function variableOf(name: Setting): string {
  const option = Object.values(OPTIONS).find((one) => typeof one !== "string" && one.sets === name);
  return (option as { variable: string }).variable;
}
