import { assertEquals } from "@std/assert";
import * as tine from "../mod.ts";
import { run } from "./support.ts";

const TIMERS = new URL("../ffi/runtime/timers.ts", import.meta.url).href;

/** Forks a child with a runtime after the parent has set timers in all ways, and looks whose code runs there. */
async function forkAmongTimers(): Promise<void> {
  if (Deno.args.includes("hidden")) Object.defineProperty(Deno, "internal", { value: undefined });
  const { after, every, nextTurn } = await import(Deno.args[0]!);
  tine.becomeForkable();
  const node = await import("node:timers");
  const seen: string[] = [];
  const note = (name: string) => () => void seen.push(name);
  await nextTurn();
  // From here to the fork nothing runs.
  after(20, note("after"));
  const ticks = every(10, note("every"));
  if (Deno.args.includes("public")) {
    setTimeout(note("setTimeout"), 20);
    setInterval(note("setInterval"), 10);
  }
  if (Deno.args.includes("node")) node.setInterval(note("node"), 10);
  const child = tine.fork({ runtime: true });
  const own = child === 0 ? "child's " : "parent's ";
  after(50, note(`${own}after`));
  const mine = every(20, note(`${own}every`));
  after(10, note(`${own}canceled`)).cancel();
  // Timers run in the order in which they are due: the others were before.
  await new Promise((resolve) => setTimeout(resolve, 80));
  const before = [...new Set(seen)].sort().join(", ");
  mine.cancel();
  ticks.cancel();
  seen.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 30));
  const later = [...new Set(seen)].sort().join(", ");
  console.log(`${own}run: ${before}; later: ${later}.`);
  if (child === 0) tine._exit(0);
  console.log(tine.waitpid(child).status?.raw === 0);
  Deno.exit();
}

for (
  const [what, args, others] of [
    ["none but tine's", [], []],
    ["public ones", ["public"], ["setInterval", "setTimeout"]],
    ["Node's", ["node"], ["node"]],
    ["all kinds, where Deno hides its own", ["public", "node", "hidden"], [
      "node",
      "setInterval",
      "setTimeout",
    ]],
  ] as const
) {
  Deno.test(`a child with a runtime runs its own timers and not the parent's: ${what}`, async () => {
    const output = await run(forkAmongTimers, [TIMERS, ...args], { flags: ["-A"] });
    const parents = ["after", "every", "parent's after", "parent's every", ...others].sort();
    const last = others.filter((name) => name !== "setTimeout");
    assertEquals(output.trimEnd().split("\n").sort(), [
      "child's run: child's after, child's every; later: .",
      `parent's run: ${parents.join(", ")}; later: ${last.join(", ")}.`,
      "true",
    ]);
  });
}

Deno.test("a program's own timers need none of Node's", async () => {
  const output = await run(
    async () => {
      const { after, every, nextTurn } = await import(Deno.args[0]!);
      const named: string[] = [];
      for (const name of ["setTimeout", "setInterval"]) {
        Object.defineProperty(globalThis, name, { get: () => void named.push(name) });
      }
      const start = performance.now();
      await nextTurn();
      await new Promise<void>((resolve) => after(30, resolve));
      let count = 0;
      await new Promise<void>((resolve) => {
        const timer = every(10, () => {
          if (++count === 3) {
            timer.cancel();
            resolve();
          }
        });
      });
      tine.becomeForkable();
      const child = tine.fork({ runtime: true });
      if (child === 0) tine._exit(named.length);
      console.log(performance.now() - start >= 55, tine.waitpid(child).status?.raw, named.join());
    },
    [TIMERS],
    { flags: ["-A", "--v8-flags=--single-threaded"] },
  );
  assertEquals(output, "true 0 \n");
});
