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
