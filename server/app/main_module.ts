/**
 * An app that Deno itself loads, as the main module of this process, after the module that tine has
 * it load first.
 */
import { nextTurn } from "../../ffi/runtime/timers.ts";
import { AppError, explain } from "./load_app.ts";

/** An app that Deno loads itself. */
export interface MainModule {
  /** Its name, for messages: as the operator typed it. */
  readonly name: string;
  /**
   * Checks that Deno can load the module, without running it.
   *
   * @throws {AppError} If a module is missing or has a syntax error.
   */
  check(): Promise<void>;
  /**
   * Has Deno load the module. May be called once. If a module is missing or has a syntax error,
   * Deno reports that and ends the process.
   *
   * @returns What it exports, when it has been evaluated.
   * @throws {AppError} If it throws.
   */
  load(): Promise<Record<string, unknown>>;
}

/**
 * Returns this process's main module, from a module that Deno loads before it.
 *
 * @param name Its name, as the operator typed it.
 * @param loadNow Has Deno load it.
 */
export function mainModule(name: string, loadNow: () => void): MainModule {
  return {
    name,
    check: () => check(name),
    load: async () => {
      const module = evaluated();
      loadNow();
      try {
        return await module;
      } catch (error) {
        throw new AppError(`Cannot load ${name}: ${explain(error, Deno.mainModule)}`, {
          cause: error,
        });
      }
    },
  };
}

/** What is added to the URL of a module that is checked. */
export const CHECK = "#check";

async function check(name: string): Promise<void> {
  // Under another name: Deno takes a module for the main one only if it has not been imported. All
  // modules are loaded before the first of them is evaluated, and that one throws.
  const url = Deno.mainModule + CHECK;
  const stop = "data:text/javascript,throw 0";
  const source = [stop, url].map((url) => `import ${JSON.stringify(url)};`).join("");
  try {
    await import(`data:text/javascript,${encodeURIComponent(source)}`);
  } catch (error) {
    if (error !== 0) {
      const reason = explain(error, url).replaceAll(CHECK, "");
      throw new AppError(`Cannot load ${name}: ${reason}`, { cause: error });
    }
  }
}

/** Returns what the main module exports, once Deno has evaluated it. */
function evaluated(): Promise<Record<string, unknown>> {
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
  // Not earlier: then it would not be the main module.
  const settle = () => void import(Deno.mainModule).then(resolve, reject);
  globalThis.addEventListener("load", settle, { once: true });

  // Deno would end the process now if it is the main module that has failed; and if that was after
  // an `await`, there is no other event.
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    import(Deno.mainModule).catch(reject); // fulfilled even while it is being evaluated
    const later = nextTurn().then(() => "later");
    // Something else has failed: the program decides, and its listeners are told.
    const isMain = Promise.race([promise, later]).then(() => false, () => true);
    isMain.then((is) => is || Promise.reject(event.reason));
  };
  globalThis.addEventListener("unhandledrejection", onRejection);
  const stop = () => globalThis.removeEventListener("unhandledrejection", onRejection);
  // A master goes on without new code that has failed, whatever that code has left behind: the
  // listener stays.
  promise.then(stop, () => {});
  return promise;
}
