import { assertEquals, assertMatch } from "@std/assert";
import { descendants, Program, ROOT, scratch, until } from "./support.ts";

const MOD = new URL("mod.ts", ROOT).href;

/** A checkout that is this one, but for some of what its mod.ts exports. */
async function checkout(exported: string): Promise<{ path: string } & AsyncDisposable> {
  const folder = scratch();
  const { path } = folder;
  await Deno.mkdir(`${path}/server`);
  await Deno.writeTextFile(`${path}/server/cli.ts`, "");
  await Deno.writeTextFile(`${path}/deno.json`, '{ "imports": { "@tine/tine": "./mod.ts" } }');
  const source = `import * as tine from ${JSON.stringify(MOD)};\nexport * from ${
    JSON.stringify(MOD)
  };\n`;
  await Deno.writeTextFile(`${path}/mod.ts`, source + exported);
  return folder;
}

function bench(args: string[], env: Record<string, string> = {}): Program {
  const main = new URL("tests/bench/main.ts", ROOT).pathname;
  return new Program(Deno.execPath(), ["run", "--allow-all", main, ...args], { env });
}

/** A process's command line; nothing of one that has ended. */
function commandLine(pid: number): string {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`);
  } catch {
    return "";
  }
}

const SLOWER =
  "export function fork(): number {\n  tine.nanosleep(0.004);\n  return tine.fork();\n}\n";
const FASTER = "export const fork = () => 1;\nexport const waitpid = () => {};\n";

Deno.test("deno task bench --against compares this checkout with another one", async () => {
  for (
    const [other, ratio, code] of [
      [SLOWER, / [1-9]\.\d{3} \(.*yes$/m, 0],
      [FASTER, / 0\.0\d\d \(.*NO$/m, 1],
    ] as const
  ) {
    await using folder = await checkout(other);
    await using program = bench(["--against", folder.path, "--only", "fork", "--rounds", "1"]);
    assertEquals(await program.ended(60_000), { code, signal: null }, program.stderr);
    assertMatch(
      program.stdout,
      /^figure \(median\) +this +other +this \/ other +at least 0.97\?$/m,
    );
    assertMatch(program.stdout, ratio);
  }
});

Deno.test("deno task bench --against reports what is missing", async () => {
  await using folder = await checkout("");
  const { path } = folder;
  for (
    const [args, message] of [
      [["--against", "/nowhere"], /^error: \/nowhere is no checkout of tine: it has no mod.ts\n$/],
      [["--against", path], /^error: throughput needs wrk: apt-get install wrk, or /],
      [["--against", path, "--only", "fork,all"], /^error: There is no part all: choose from thr/],
      [["--against", path, "start"], /^error: --against measures no start: choose with --only\n$/],
      [["--only", "fork"], /^error: --only takes --against\n$/],
    ] as const
  ) {
    await using program = bench([...args], { PATH: "/nowhere" });
    assertEquals(await program.ended(), { code: 2, signal: null });
    assertMatch(program.stderr, message);
  }
});

Deno.test("deno task bench --against reports why it could not measure, and Control-C leaves nothing behind", async () => {
  await using folder = await checkout('throw new Error("on purpose");\n');
  await using temporary = scratch();
  const args = ["--against", folder.path, "--only", "fork"];
  const env = { TMPDIR: temporary.path };
  await using failing = bench(args, env);
  assertEquals(await failing.ended(), { code: 2, signal: null });
  assertMatch(failing.stderr, /on purpose[^]*error: .*fork_roundtrip\.ts 400 failed\n$/);
  assertEquals([...Deno.readDirSync(temporary.path)], []);

  await using hanging = await checkout("export const fork = () => tine.nanosleep(60);\n");
  await using stopped = bench(["--against", hanging.path, "--only", "fork"], env);
  // This checkout's comes first, and ends.
  const measured = await until(
    () => descendants(stopped.pid).find((pid) => commandLine(pid).includes(hanging.path)),
    "the other checkout's program",
  );
  stopped.kill("SIGINT");
  assertEquals(await stopped.ended(), { code: 130, signal: null }, stopped.stderr);
  assertEquals([...Deno.readDirSync(temporary.path)], []);
  await until(() => commandLine(measured) === "", "its end");
});
