import { assertEquals } from "@std/assert";
import { filesToRetry } from "./retry.ts";
import { DENO, scratch } from "./support.ts";

async function outputOf(folder: string): Promise<string> {
  const { stdout } = await new Deno.Command(DENO, {
    args: ["test", "--no-config", "."],
    cwd: folder,
    env: { NO_COLOR: "1" },
  }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("filesToRetry() reads which files have tests that failed", async () => {
  await using folder = scratch();
  const write = (name: string, text: string) =>
    Deno.writeTextFileSync(`${folder.path}/${name}_test.ts`, text);
  const failing = `throw new Error("\\n FAILURES \\n\\nno => ./such_test.ts:1:2\\n");`;
  write("right", `Deno.test("right", () => {});`);
  assertEquals(filesToRetry(await outputOf(folder.path)), []);

  write(
    "one",
    `Deno.test("=> ./one", () => { ${failing} }); Deno.test("two", () => { ${failing} });`,
  );
  write("step", `Deno.test("a", async (test) => { await test.step("b", () => { ${failing} }); });`);
  assertEquals(filesToRetry(await outputOf(folder.path)), ["one_test.ts", "step_test.ts"]);

  // A file that cannot be run is broken.
  write("top", failing);
  assertEquals(filesToRetry(await outputOf(folder.path)), []);
  Deno.removeSync(`${folder.path}/top_test.ts`);

  for (const name of ["three", "four"]) write(name, `Deno.test("a", () => { ${failing} });`);
  assertEquals(filesToRetry(await outputOf(folder.path)), []);
});
