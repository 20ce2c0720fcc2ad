/** V8's young objects, which a child would move for itself. */
import { assert, assertEquals } from "@std/assert";
import { ROOT, run, scratch, startServer, writeApp } from "./support.ts";

/** The size of V8's young objects, in bytes, as the source of a function. */
const YOUNG = `() => process.getBuiltinModule("node:v8").getHeapSpaceStatistics()
  .find(({ space_name }) => space_name === "new_space").space_used_size`;

Deno.test("collectYoungObjects() makes objects that are in use old, and leaves no garbage", async () => {
  const output = await run(
    async () => {
      const { collectYoungObjects } = await import(Deno.args[0]!);
      const { gc } = globalThis as unknown as { gc(options: { type: "minor" }): void };
      const young = new Function(`return (${Deno.args[1]})()`) as () => number;
      young(); // loads a module
      gc({ type: "minor" });
      gc({ type: "minor" });
      const empty = young();
      const used: unknown[] = [];
      while (young() < empty + 400_000) used.push(Array.from({ length: 1000 }, (_, i) => ({ i })));
      collectYoungObjects();
      console.log(young() < empty + 200_000, used.length > 0);
    },
    [new URL("ffi/runtime/heap.ts", ROOT).href, YOUNG],
    { flags: ["--allow-all", "--v8-flags=--expose-gc,--single_threaded"] },
  );
  assertEquals(output, "true true\n");
});

Deno.test("servePrefork() has workers begin with few young objects, but the first, which boots meanwhile", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `const young = ${YOUNG};
     export const used = [];
     while (young() < 700_000) used.push(Array.from({ length: 100 }, (_, i) => ({ i })));
     export default {
       onWorkerStart: ({ number }) => Deno.writeTextFileSync("${folder.path}/" + number, \`\${young()}\`),
       fetch: () => new Response(),
     };`,
  );
  await using _server = await startServer(["--workers", "3"], { app });
  const [first, ...others] = [1, 2, 3]
    .map((number) => Number(Deno.readTextFileSync(`${folder.path}/${number}`)));
  assert(others.every((other) => other < first! / 2), `${[first, ...others]}`);
});
