/**
 * An app in the form that `deno serve` accepts: a module whose default export has a `fetch` method.
 * This method is the counterpart of WSGI in Python. The same module runs with every model of
 * server.
 */

import { isDirectory } from "../../ffi/descriptor.ts";
import { isSyscallError } from "../../ffi/errno.ts";

/** A worker, as the app's hooks see it. */
export interface WorkerInfo {
  /** The worker's pid. */
  readonly pid: number;
  /** The worker's number, from 1. Its replacement has the same number. */
  readonly number: number;
}

/** A loaded app. */
export interface App {
  /**
   * Answers one request.
   *
   * @param request The request.
   * @param info The client's address, and a promise of the request's completion.
   * @returns The response.
   */
  fetch(request: Request, info: Deno.ServeHandlerInfo): Response | Promise<Response>;
  /**
   * Called once the server listens.
   *
   * @param addr The address that the server listens on.
   */
  onListen?(addr: Deno.Addr): void;
  /**
   * Called in each worker before it serves. Open resources here that processes must not share.
   *
   * @param worker This worker.
   */
  onWorkerStart?(worker: WorkerInfo): void | Promise<void>;
  /**
   * Called in each stopping worker, after its last response.
   *
   * @param worker This worker.
   */
  onWorkerStop?(worker: WorkerInfo): void | Promise<void>;
}

/** The app cannot be loaded. The message is one plain line, for the operator. */
export class AppError extends Error {
  /** The class's name. */
  override name = "AppError";
}

/**
 * Imports an app.
 *
 * @param specifier A path, relative to the working directory; or a URL, including `npm:` and
 *   `jsr:`.
 * @returns The app. Its functions are called as methods of the exported object.
 * @throws {AppError} If there is no such module, it has a syntax error, it throws, or it is not an
 *   app.
 *
 * @example
 * ```ts
 * import { loadApp } from "@tine/tine/server";
 *
 * const app = await loadApp("data:text/javascript,export default { fetch: () => new Response() }");
 * const server = Deno.serve({ port: 0 }, app.fetch);
 * await server.shutdown();
 * ```
 */
export async function loadApp(specifier: string): Promise<App> {
  return appOf(await importModule(specifier), specifier);
}

/**
 * Imports a module.
 *
 * @param specifier The module, as for {@linkcode loadApp}.
 * @returns What it exports.
 * @throws {AppError} If there is no such module, it has a syntax error, or it throws.
 */
export async function importModule(specifier: string): Promise<Record<string, unknown>> {
  const url = resolve(specifier);
  try {
    return await import(url);
  } catch (error) {
    throw new AppError(`Cannot load ${specifier}: ${explain(error, url)}`, { cause: error });
  }
}

/**
 * Returns an app's name so that `deno run` takes it for nothing but a module, and not for a task.
 *
 * @param name The name, as typed.
 */
export function specifierOf(name: string): string {
  return isUrl(name) || name.startsWith("/") ? name : `./${name}`;
}

/**
 * Checks that an app's file exists, unless the app is a URL.
 *
 * @param name The name, as typed.
 * @throws {AppError} If there is no such file, or it is a directory.
 */
export function checkFile(name: string): void {
  if (isUrl(name)) return;
  try {
    if (!isDirectory(name)) return;
  } catch (error) {
    if (isSyscallError(error, "ENOENT")) {
      throw new AppError(`Cannot load ${name}: there is no file ${absolute(name)}`);
    }
    return; // Deno will tell what is wrong with it
  }
  throw new AppError(`Cannot load ${name}: ${absolute(name)} is a directory: name the file in it`);
}

function resolve(specifier: string): string {
  if (specifier === "") throw new AppError("Cannot load an app without a name: expected a file");
  if (isUrl(specifier)) return specifier;
  return new URL(`file://${absolute(specifier).split("/").map(encodeURIComponent).join("/")}`).href;
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

/** Whether an app's name is a URL, and not a path. */
export function isUrl(specifier: string): boolean {
  // The scheme of a URL has at least two letters.
  return /^[a-z][a-z0-9+.-]+:/i.test(specifier);
}

const HOW =
  "An app is a module with export default { fetch(request) { return new Response() } }, " +
  "or a program that listens itself";

/** Whether a module's default export has a `fetch` method. */
export function hasApp(module: Record<string, unknown>): boolean {
  return isObject(module.default) && typeof module.default.fetch === "function";
}

/**
 * Returns the app that a module exports.
 *
 * @param module What the module exports.
 * @param specifier The module, for messages.
 * @throws {AppError} If it is not an app.
 */
export function appOf(module: Record<string, unknown>, specifier: string): App {
  const target = module.default;
  if (target === undefined) {
    throw new AppError(`Cannot serve ${specifier}: it has no default export. ${HOW}`);
  }
  if (!isObject(target) || typeof target.fetch !== "function") {
    throw new AppError(
      `Cannot serve ${specifier}: its default export has no fetch function. ${HOW}`,
    );
  }
  const fetch = target.fetch.bind(target) as App["fetch"];
  return {
    fetch,
    ...hook("onListen", [target], specifier),
    ...hooksOf(module, specifier),
  };
}

/** What a program has run in its workers. */
export type Hooks = Pick<App, "onWorkerStart" | "onWorkerStop">;

/**
 * Returns the hooks that a module exports, by their names or in its default export.
 *
 * @param module What the module exports.
 * @param specifier The module, for messages.
 * @throws {AppError} If one is not a function.
 */
export function hooksOf(module: Record<string, unknown>, specifier: string): Hooks {
  const owners = [module, module.default].filter(isObject);
  return {
    ...hook("onWorkerStart", owners, specifier, module),
    ...hook("onWorkerStop", owners, specifier, module),
  };
}

function hook(
  name: string,
  owners: Record<string, unknown>[],
  specifier: string,
  namespace?: Record<string, unknown>,
): Record<string, unknown> {
  const owner = owners.find((owner) => owner[name] !== undefined);
  if (owner === undefined) return {};
  const value = owner[name];
  if (typeof value !== "function") {
    throw new AppError(`Cannot serve ${specifier}: its ${name} is not a function`);
  }
  return { [name]: value.bind(owner === namespace ? undefined : owner) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/** Explains in one line why an import failed, with the place. */
export function explain(error: unknown, url: string): string {
  if (!(error instanceof Error)) return `it threw at its top level: ${oneLine(String(error))}`;
  const { message } = error;
  if (message.startsWith(`Module not found "${url}"`)) {
    return url.startsWith("file:") ? `there is no file ${path(url)}` : `there is nothing at ${url}`;
  }
  if (message.includes("ERR_UNSUPPORTED_DIR_IMPORT")) {
    return `${path(url)} is a directory: name the file in it`;
  }
  // Deno's message about a module that it could not load or read contains the place.
  if ("code" in error && error.code === "ERR_MODULE_NOT_FOUND") return oneLine(message);
  const { stack = "" } = error;
  if (error instanceof SyntaxError) {
    const text = oneLine(message);
    const [place] = placesIn(stack);
    if (PLACE.test(text) || place === undefined) return text;
    // Nothing names a CommonJS module that V8 cannot parse.
    const where = stack.includes("compileFunction") ? " in a module that is required" : "";
    return `${text}${where} at ${path(place)}`;
  }
  const place = placeIn(stack, url);
  return `it threw at its top level: ${oneLine(`${error.name}: ${message}`)}` +
    (place === undefined ? "" : ` at ${path(place)}`) +
    (isOfCommonJs(error) ? `. ${COMMON_JS}` : "");
}

const COMMON_JS =
  'If it is a CommonJS module, say so: with "type": "commonjs" in its package.json, or with a name ' +
  "that ends in .cjs";

/** Whether an error shows that Deno took a CommonJS module for another, as it does by default. */
function isOfCommonJs({ name, message }: Error): boolean {
  return name === "ReferenceError" &&
    /^(require|module|exports|__dirname|__filename) is not defined/.test(message);
}

/** Returns the place in the app's own file from the stack, or else in the innermost file. */
function placeIn(stack: string, url: string): string | undefined {
  const places = placesIn(stack);
  return places.find((place) => place.startsWith(`${url}:`)) ?? places[0];
}

/** Returns all places in files from the stack, the innermost first. */
function placesIn(stack: string): string[] {
  return [...stack.matchAll(/\(?((?:file|https?):[^\s()]+:\d+:\d+)\)?$/gm)]
    .map(([, place]) => place!)
    .filter((place) => !place.startsWith(import.meta.url));
}

/** A place in a file, as Deno's messages have it. */
const PLACE = /\S:\d+:\d+/;

// deno-lint-ignore no-control-regex
const COLOUR = /\x1b\[[0-9;]*m/g;

/** Removes colors and the source code frame that Deno prints, and replaces file URLs with paths. */
export function oneLine(text: string): string {
  return text
    .replace(COLOUR, "")
    .split("\n")
    .filter((line) => !/^\s*\d*\s*\|/.test(line))
    .join(" ")
    .replace(/\s+/g, " ")
    .replace(/file:\/\/[^\s"']+/g, path)
    .trim()
    .replace(/\.?( at \S+:\d+:\d+)\1*$/, "$1"); // Deno may print the place twice
}

function path(url: string): string {
  return url.startsWith("file://") ? decodeURIComponent(url.slice("file://".length)) : url;
}
