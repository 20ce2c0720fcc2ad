/** The models of `tine serve`, by their rungs. */
export const MODELS = {
  iterative: "iterative",
  forking: "forking",
  prefork: "prefork",
} as const;

/**
 * Tests one behavior on each rung: the test gets the rung's value and name.
 *
 * These are steps, and not `@std/testing/bdd`, because the npm package that `@std` is mapped to
 * lacks a file of that module.
 */
export function onEachRung<Rung extends string, Value>(
  rungs: Readonly<Record<Rung, Value>>,
  behavior: string,
  test: (value: Value, rung: Rung) => Promise<void>,
): void {
  Deno.test(behavior, async (context) => {
    for (const rung of Object.keys(rungs) as Rung[]) {
      await context.step(`on the ${rung} rung`, () => test(rungs[rung], rung));
    }
  });
}

/** The kinds of workers of the preforking server, by the options that ask for them. */
const WORKERS = { forked: [], fresh: ["--no-preload"] } as const;

/** Tests one behavior with each kind of workers: the test gets the options that ask for them. */
export function withEachKindOfWorker(
  behavior: string,
  test: (options: readonly string[]) => Promise<void>,
): void {
  Deno.test(behavior, async (context) => {
    for (const [kind, options] of Object.entries(WORKERS)) {
      await context.step(`with ${kind} workers`, () => test(options));
    }
  });
}
