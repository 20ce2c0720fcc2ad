import { assertEquals, assertMatch } from "@std/assert";
import { Program, ROOT, scratch } from "./support.ts";

const PASSES = 'Deno.test("passes", () => {});\n';
const FAILS = 'Deno.test("fails", () => {\n  throw new Error("on purpose");\n});\n';
const KILLED = 'Deno.test("ends the run", () => Deno.kill(Deno.pid, "SIGKILL"));\n';

/** Fails at its first run, and at those whose numbers are in `tests/fails`. */
const UNSTEADY = `Deno.test("unsteady", () => {
  Deno.writeTextFileSync("tests/runs", "x", { append: true });
  const run = Deno.readTextFileSync("tests/runs").length;
  if (Deno.readTextFileSync("tests/fails").includes(\`\${run}\`)) throw new Error("on purpose");
});
`;

/** A small project with the steps of this one, whose only tests are in `source`. */
async function project(source: string): Promise<{ path: string } & AsyncDisposable> {
  const folder = scratch();
  const write = async (file: string, text: string) => {
    await Deno.mkdir(new URL(".", `file://${folder.path}/${file}`), { recursive: true });
    await Deno.writeTextFile(`${folder.path}/${file}`, text);
  };
  const exported = "/** A number. */\nexport const NUMBER = 1;\n";
  for (const file of ["mod.ts", "ffi/mod.ts", "server/mod.ts"]) await write(file, exported);
  await write("tests/some_test.ts", source);
  for (const file of ["tests/ok.ts", "tests/retry.ts", ".ci/run"]) {
    await write(file, await Deno.readTextFile(new URL(file, ROOT)));
  }
  const { tasks: { ok }, fmt } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const config = {
    ...{ name: "@test/test", version: "0.1.0", license: "MIT", exports: "./mod.ts", lock: false },
    tasks: {
      ok,
      "test": "deno test --allow-all tests",
      "test:aarch64": "echo 3 passed, 0 failed",
      "test:versions": "echo 2 passed, 0 failed",
      "test:apps": "echo 4 passed, 0 failed",
    },
    fmt,
  };
  await write("deno.json", `${JSON.stringify(config)}\n`);
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "deno.json"], cwd: folder.path })
    .output();
  return folder;
}

/** The exit code, the names of the steps that ran, and the last line. */
async function outcomeOf(
  command: string,
  args: string[],
  options: Deno.CommandOptions,
): Promise<{ code: number; steps: string[]; last: string | undefined }> {
  await using program = new Program(command, args, options);
  const { code } = await program.ended(60_000);
  return {
    code,
    steps: [...program.stdout.matchAll(/^== (.*)$/gm)].map(([, name]) => name!),
    last: program.stdout.trimEnd().split("\n").at(-1),
  };
}

const ONCE_MORE = [1, 2, 3].map((i) => `tests/some_test.ts, once more: ${i} of 3`);

const STEPS = ["format", "lint", "documentation", "types", "package", "tests"];

Deno.test("deno task ok continues after a failed step, and counts it in addition to the tests", async () => {
  await using folder = await project(PASSES + FAILS);
  const cwd = folder.path;
  Deno.writeTextFileSync(`${cwd}/mod.ts`, "/** A number. */\nexport let NUMBER = 1;\n");
  assertEquals(
    await outcomeOf(Deno.execPath(), ["task", "ok"], { cwd }),
    { code: 1, steps: [...STEPS, ONCE_MORE[0]], last: "1 passed, 2 failed" },
  );
});

Deno.test("deno task ok goes on after a test that fails once and then passes three times", async () => {
  await using folder = await project(PASSES + UNSTEADY);
  const { path } = folder;
  const ok = async (fails: string) => {
    Deno.writeTextFileSync(`${path}/tests/fails`, fails);
    Deno.writeTextFileSync(`${path}/tests/runs`, "");
    return await outcomeOf(Deno.execPath(), ["task", "ok"], { cwd: path });
  };
  assertEquals(await ok("1"), {
    code: 0,
    steps: [...STEPS, ...ONCE_MORE],
    last: "2 passed, 0 failed",
  });
  assertEquals(await ok("1 4"), {
    code: 1,
    steps: [...STEPS, ...ONCE_MORE],
    last: "1 passed, 1 failed",
  });
});

Deno.test("deno task ok counts tests that ended before they could count as a failure", async () => {
  await using folder = await project(PASSES + KILLED);
  assertEquals(
    await outcomeOf(Deno.execPath(), ["task", "ok"], { cwd: folder.path }),
    { code: 1, steps: STEPS, last: "0 passed, 1 failed" },
  );
});

Deno.test(".ci/run ends with the tally, even if a step prints none", async () => {
  await using folder = await project(PASSES);
  const { path } = folder;
  const command = (name: string, text: string) => {
    Deno.writeTextFileSync(`${path}/bin/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  };
  Deno.mkdirSync(`${path}/bin`);
  const run = () =>
    outcomeOf("/bin/bash", [".ci/run"], {
      cwd: path,
      env: { PATH: `${path}/bin:${Deno.env.get("PATH")}` },
    });
  command("dpkg", "exit 0"); // all is installed
  command("npx", `shift 2; exec "${Deno.execPath()}" "$@"`);
  assertEquals(
    await run(),
    { code: 0, steps: [...STEPS, "aarch64", "versions", "apps"], last: "10 passed, 0 failed" },
  );
  command("npx", "echo cannot fetch deno; exit 1");
  assertEquals(await run(), { code: 1, steps: [], last: "0 passed, 1 failed" });
  command("npx", "echo 2 passed, 3 failed; exit 1");
  assertEquals(await run(), { code: 1, steps: [], last: "2 passed, 3 failed" });
  command("dpkg", "exit 1");
  command("apt-get", "exit 100");
  assertEquals(await run(), { code: 1, steps: [], last: "0 passed, 1 failed" });
  assertMatch(
    Deno.readTextFileSync(`${path}/.ci/run`),
    /deno@\d+\.\d+\.\d+ task ok --aarch64 --versions --apps/,
  );
});
