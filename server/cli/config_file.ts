/**
 * The configuration file, `tine.json`: the options of `servePrefork()` by their names, the app and
 * the model. `server/tine.schema.json` describes it for editors.
 */
import { isSyscallError, SyscallError } from "../../ffi/errno.ts";
import { readTextIfThere } from "../../ffi/proc.ts";
import { isUrl } from "../app/load_app.ts";
import { cannot } from "../options.ts";
import { checkTexts } from "../prefork/listen_option.ts";
import {
  checkFile,
  checkOption,
  networkAddress,
  PREFORK_OPTIONS,
  type PreforkOptions,
} from "../prefork/options.ts";
import { JsoncError, parseJsonc } from "./jsonc.ts";
import { type Model, MODELS } from "./options.ts";
import { ConfigFileError } from "./usage.ts";

/** The options that the command line calls something else. */
const MEANT = new Map([["unix", "path"], ["host", "hostname"], ["adminHost", "adminHosts"]]);

/** What a configuration file says. */
export interface ConfigFile extends PreforkOptions {
  /** The app's module. */
  readonly app?: string;
  /** The model of the server. */
  readonly model?: Model;
}

/**
 * Reads a configuration file. Paths in it are relative to its folder; those returned are relative
 * to the working directory. `cert` and `key` are the names of files.
 *
 * @param file The file.
 * @returns What it says; `undefined` if it does not exist.
 * @throws {ConfigFileError} If it cannot be read, is not JSON, or contains an invalid option.
 */
export function readConfigFile(file: string): ConfigFile | undefined {
  let text: string | undefined;
  try {
    text = readTextIfThere(file); // through libc: the app may have no permission to read it
  } catch (error) {
    if (!isSyscallError(error)) throw error;
    throw new ConfigFileError(new SyscallError("read", error.errno, file).message);
  }
  if (text === undefined) return undefined;
  try {
    return understand(parseJsonc(text), file.replace(/[^/]*$/, ""));
  } catch (error) {
    const what = error instanceof JsoncError ? "Cannot parse it as JSON: " : "";
    throw new ConfigFileError(`${file}: ${what}${(error as Error).message}`);
  }
}

function understand(content: unknown, folder: string): ConfigFile {
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    throw new TypeError(`${cannot("options", content)} an object, such as { "port": 8000 }`);
  }
  const entries = Object.entries(content).filter(([name]) => name !== "$schema");
  return Object.fromEntries(entries.map(([name, value]) => [name, valueOf(name, value, folder)]));
}

function valueOf(name: string, value: unknown, folder: string): unknown {
  // The name of an abstract UNIX socket begins with a NUL byte.
  const within = (path: string) => /^[/\0]/.test(path) ? path : folder + path;
  const inFolder = (address: string) =>
    address.replace(/^(unix:)(.+)/s, (_, unix, path) => unix + within(path));
  switch (name) {
    case "app":
      checkFile(name, value);
      return isUrl(value) ? value : within(value);
    case "model":
      if (isModel(value)) return value;
      throw new RangeError(`${cannot(name, value)} one of ${MODELS.join(", ")}`);
    case "cert":
    case "key":
      checkFiles(name, value); // here it is the name of a file
      return typeof value === "string" ? within(value) : value.map(within);
    case "listen":
      checkOption(name, value);
      return (value as NonNullable<PreforkOptions["listen"]>).map((one) =>
        typeof one === "string" ? inFolder(one) : {
          ...one,
          address: inFolder(one.address),
          ...one.cert !== undefined && { cert: [one.cert].flat().map(within) },
          ...one.key !== undefined && { key: [one.key].flat().map(within) },
        }
      );
    case "admin":
      checkOption(name, value);
      return networkAddress(value as string) === undefined ? within(value as string) : value;
    case "accessLog":
      checkOption(name, value);
      return value === "-" ? value : within(value as string);
    case "path":
    case "errorLog":
    case "pidFile":
      checkOption(name, value);
      return within(value as string);
  }
  if (!isOption(name)) {
    const names = ["app", "model", ...PREFORK_OPTIONS].join(", ");
    const meant = MEANT.get(name);
    throw new TypeError(
      `Unknown option ${Deno.inspect(name)}: ${
        meant === undefined
          ? `expected one of ${names}`
          : `it is called ${Deno.inspect(meant)} here`
      }`,
    );
  }
  checkOption(name, value);
  return value;
}

/** Rejects a value that is neither a path nor an array of paths. */
export function checkFiles(
  name: string,
  value: unknown,
): asserts value is string | readonly string[] {
  checkTexts(name, value);
  for (const one of [value].flat()) checkFile(name, one);
}

function isModel(value: unknown): value is Model {
  return (MODELS as readonly unknown[]).includes(value);
}

function isOption(name: string): name is keyof PreforkOptions {
  return (PREFORK_OPTIONS as readonly string[]).includes(name);
}
