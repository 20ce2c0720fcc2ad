import { assert, assertEquals } from "@std/assert";
import { assertSnapshot, ROOT, scratch, start, writeApp } from "./support.ts";

for (
  const args of [
    ...[[], ["serve"], ["check"], ["doctor"]],
    ...[["status"], ["top"], ["reload"], ["scale"], ["logs"], ["logs", "reopen"], ["stop"]],
  ]
) {
  const line = [...args, "--help"];
  Deno.test(`\`tine ${line.join(" ")}\` prints its text, with exit code 0`, async (test) => {
    await using program = start("server/cli.ts", line, { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 0, signal: null });
    assertEquals(program.stderr, "");
    for (const text of program.stdout.split("\n")) assert(text.length <= 100, text);
    await assertSnapshot(test, program.stdout);
  });
}

Deno.test("the command line reports an unknown command, whatever its name", async () => {
  for (const name of ["toString", "constructor", "__proto__", "hasOwnProperty", "-x"]) {
    await using program = start("server/cli.ts", [name], { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 2, signal: null });
    assertEquals(program.stderr, `error: unknown command ${name}\nTry --help.\n`);
    assertEquals(program.stdout, "");
  }
});

Deno.test("the command line suggests the command that was probably meant", async () => {
  for (
    const [name, meant] of [
      ["relod", "reload"],
      ["sclae", "scale"],
      ["tpo", undefined],
      ["toop", "top"],
      ["log", "logs"],
      ["restart", undefined],
    ] as const
  ) {
    await using program = start("server/cli.ts", [name], { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 2, signal: null });
    const suggestion = meant === undefined ? "" : `: did you mean ${meant}?`;
    assertEquals(program.stderr, `error: unknown command ${name}${suggestion}\nTry --help.\n`);
  }
});

Deno.test("the command line reports in one line that Deno is too old", async () => {
  await using folder = scratch();
  const old = writeApp(
    folder.path,
    `Object.defineProperty(Deno, "version", { value: { deno: "2.2.15" } });
     delete Deno.errors.NotCapable; // Deno 1 has none
     await import("${new URL("server/cli.ts", ROOT)}");`,
  );
  for (const args of [["serve", "app.ts"], ["status"], ["--help"]]) {
    await using program = start(old, args, { flags: ["-A"] });
    assertEquals(await program.ended(), { code: 1, signal: null }, program.stderr);
    assertEquals(
      program.stderr,
      "error: tine needs Deno 2.4.4 or later on Linux with glibc, x86-64 or aarch64: " +
        "this is Deno 2.2.15\n",
    );
  }
});
