import { assertEquals } from "@std/assert";
import { isRunning, ROOT, run, startFunction, until } from "./support.ts";

const CLEAN_UP = new URL("tests/clean_up.ts", ROOT).href;

/** Starts a process whose parent ends, and returns its pid; its arguments define what it does. */
async function startOrphan(): Promise<void> {
  const [module, next] = Deno.args;
  const { cleaningUp } = await import(module!);
  using _ = cleaningUp(() => console.log("cleaned up"));
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"],
  }).output();
  console.log(`orphan ${new TextDecoder().decode(stdout).trim()}`);
  if (next === "throw") throw new Error("on purpose");
  if (next === "wait") await new Promise((resolve) => setTimeout(resolve, 30_000));
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(`cleaningUp() ends what was started on ${signal}`, async () => {
    await using program = startFunction(startOrphan, [CLEAN_UP, "wait"], { flags: ["-A"] });
    const [, orphan] = await program.printed(/orphan (\d+)\n/);
    program.kill(signal);
    const code = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal];
    assertEquals(await program.ended(), { code, signal: null });
    await until(() => !isRunning(Number(orphan)), "the orphan's end");
    assertEquals(program.stdout.match(/cleaned up/g)?.length, 1);
  });
}

Deno.test("cleaningUp() ends what was started when the program fails", async () => {
  await using program = startFunction(startOrphan, [CLEAN_UP, "throw"], { flags: ["-A"] });
  const [, orphan] = await program.printed(/orphan (\d+)\n/);
  assertEquals((await program.ended()).code, 1);
  await until(() => !isRunning(Number(orphan)), "the orphan's end");
  assertEquals(program.stdout.match(/cleaned up/g)?.length, 1);
});

Deno.test("cleaningUp() ends what was started when the program ends", async () => {
  const output = await run(startOrphan, [CLEAN_UP], { flags: ["-A"] });
  await until(() => !isRunning(Number(output.match(/orphan (\d+)/)?.[1])), "the orphan's end");
});
