import { assert, assertEquals } from "@std/assert";
import { assertSnapshot, start } from "./support.ts";

for (const args of [[], ["serve"], ["status"]]) {
  const line = [...args, "--help"];
  Deno.test(`\`tine ${line.join(" ")}\` prints its text, and ends with exit code 0`, async (test) => {
    await using program = start("server/cli.ts", line, { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 0, signal: null });
    assertEquals(program.stderr, "");
    for (const text of program.stdout.split("\n")) assert(text.length <= 100, text);
    await assertSnapshot(test, program.stdout);
  });
}

Deno.test("the command line says that there is no such command, whatever its name", async () => {
  for (const name of ["toString", "constructor", "__proto__", "hasOwnProperty", "-x"]) {
    await using program = start("server/cli.ts", [name], { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 2, signal: null });
    assertEquals(program.stderr, `error: there is no command ${name}\nTry --help.\n`);
    assertEquals(program.stdout, "");
  }
});
