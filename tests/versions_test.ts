import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { LEAST_DENO } from "../ffi/platform.ts";
import { Program, ROOT, scratch } from "./support.ts";
import { ASPECTS, CHOSEN, VERSIONS } from "./versions/list.ts";
import { countLost, formatTable, parseTable, replaceTable } from "./versions/table.ts";
import { readTap, type Verdict } from "./versions/trial.ts";

const page = Deno.readTextFileSync(new URL("docs/measured.md", ROOT));

Deno.test("the table of versions is that of the list, and begins with the one that runs the tests", () => {
  const table = parseTable(page);
  assertEquals([...table.keys()], VERSIONS.map(({ name }) => name));
  assertEquals([...table.keys()][0], Deno.version.deno);
  const [first, ...others] = table.values();
  for (const aspect of ASPECTS) {
    const { passed, total } = first![aspect];
    assertEquals(passed, total, aspect);
    for (const row of others) if (row !== undefined) assertEquals(row[aspect].total, total);
  }
});

Deno.test("the table of versions has the oldest Deno that tine takes, and one that is too old", () => {
  const table = [...parseTable(page)];
  const old = table.findIndex(([, row]) => row === undefined);
  assertEquals(table[old - 1]?.[0], LEAST_DENO);
  for (const [, row] of table.slice(old)) assertEquals(row, undefined);
});

Deno.test("the tests that are run on all versions are there, and CI runs those of the table's first", () => {
  for (const { file, tests } of CHOSEN) {
    const source = Deno.readTextFileSync(new URL(file, ROOT));
    for (const part of tests) assertStringIncludes(source, part, file);
  }
  const ci = Deno.readTextFileSync(new URL(".ci/run", ROOT));
  assertEquals(ci.match(/deno@(\S+)/)?.[1], VERSIONS[0]!.name);
});

/** A version in which some of the tests of each aspect have passed. */
function verdictOf(version: string, passed: number, failures: string[] = []): Verdict {
  const scores = ASPECTS.map((aspect) => [aspect, { passed, total: 3 }]);
  return { version, scores: Object.fromEntries(scores), failures };
}

const OLD: Verdict = { version: "2.0.0", scores: undefined, failures: [] };
const TABLE = formatTable([verdictOf("2.9.6", 3), verdictOf("2.9.5", 2, ["a", "b"]), OLD]);

Deno.test("the table of versions is read as it is written, and replaced in its place", () => {
  assertEquals(
    TABLE,
    `\
| Deno  | fork    | runtime | prefork | bodies  | restart |
| ----- | ------- | ------- | ------- | ------- | ------- |
| 2.9.6 | 3 of 3  | 3 of 3  | 3 of 3  | 3 of 3  | 3 of 3  |
| 2.9.5 | 2 of 3  | 2 of 3  | 2 of 3  | 2 of 3  | 2 of 3  |
| 2.0.0 | too old | too old | too old | too old | too old |

- 2.9.5: "a" fails.
- 2.9.5: "b" fails.
`,
  );
  const other = replaceTable(page, TABLE);
  assertEquals([...parseTable(other)], [
    ["2.9.6", verdictOf("", 3).scores],
    ["2.9.5", verdictOf("", 2).scores],
    ["2.0.0", undefined],
  ]);
  assertEquals(other.split(TABLE).length, 2);
  assertThrows(() => parseTable(other.replace("| 2 of 3 ", "| yes ")), Error, "a bad row");
  assertThrows(() => parseTable(other.replace("| fork ", "| forks ")), Error, "The columns");
  assertThrows(() => parseTable("# tine"), Error, "There is no place");
});

Deno.test("a version has lost what fails that did not, or has not run", () => {
  const row = verdictOf("", 2).scores;
  assertEquals(countLost(verdictOf("2.9.6", 3), row), 0);
  assertEquals(countLost(verdictOf("2.9.6", 2), row), 0);
  assertEquals(countLost(verdictOf("2.9.6", 1), row), ASPECTS.length);
  const none = Object.fromEntries(ASPECTS.map((aspect) => [aspect, { passed: 0, total: 0 }]));
  const notRun = { ...verdictOf("2.9.6", 0), scores: none as typeof row };
  assertEquals(countLost(notRun, row), 2 * ASPECTS.length);
  assertEquals(countLost(OLD, row), 2 * ASPECTS.length);
  assertEquals(countLost(OLD, undefined), 0);
  assertEquals(countLost(verdictOf("2.0.0", 3), undefined), 1);
});

Deno.test("readTap() tells which tests passed", () => {
  const output = [
    "TAP version 14",
    "# ./tests/fork_test.ts",
    "ok 1 - fork() gives a child: two - three",
    "not ok 2 - it # fails",
    "  ---",
    '  {"message":"not ok 3 - no test"}',
    "ok 3 - needs root # SKIP",
    "1..3",
  ];
  assertEquals([...readTap(output.join("\n"))], [
    ["fork() gives a child: two - three", true],
    ["it # fails", false],
    ["needs root", true],
  ]);
});

/** Runs `deno task test:versions --only VERSION` where npx gives a program that is no Deno. */
async function outcomeOf(
  version: string,
  { says, program }: { says: string; program: string },
): Promise<{ code: number; lines: string[] }> {
  await using folder = scratch();
  const write = (name: string, text: string) =>
    Deno.writeTextFileSync(`${folder.path}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  write("npx", `echo ${says} ${folder.path}/deno`);
  write("deno", program);
  const main = new URL("tests/versions/main.ts", ROOT).pathname;
  await using started = new Program(
    Deno.execPath(),
    ["run", "-A", main, "--only", version],
    { cwd: ROOT, env: { PATH: `${folder.path}:${Deno.env.get("PATH")}`, TMPDIR: folder.path } },
  );
  const { code } = await started.ended();
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), ["deno", "npx"]);
  return { code, lines: started.stdout.trimEnd().split("\n") };
}

Deno.test("deno task test:versions compares a version with the table", async () => {
  const old = VERSIONS.at(-1)!.name;
  const refuses = "echo 'error: tine needs Deno 9.9.9 or later on Linux: no' >&2; exit 1";
  const outcome = await outcomeOf(old, { says: old, program: refuses });
  assertEquals([outcome.code, outcome.lines.at(-1)], [0, "1 passed, 0 failed"]);

  const [newest] = VERSIONS;
  const lost = await outcomeOf(newest!.name, { says: newest!.name, program: refuses });
  assertEquals(lost.code, 1);
  assertMatch(lost.lines.at(-1)!, /^1 passed, \d\d failed$/);
  assertMatch(lost.lines[1]!, /: too old, and says so: \d\d less than the table says, \d+ s$/);
});

Deno.test("deno task test:versions fails for a version that cannot be tried", async () => {
  const [newest] = VERSIONS;
  const broken = await outcomeOf(newest!.name, {
    says: newest!.name,
    program: "echo no >&2; exit 1",
  });
  assertEquals([broken.code, broken.lines.at(-1)], [1, "0 passed, 1 failed"]);
  assertMatch(broken.lines[0]!, /: deno \S+ cannot load tine: no$/);

  const other = await outcomeOf("2.3.0", { says: "2.4.0", program: "exit 1" });
  assertEquals([other.code, other.lines.at(-1)], [1, "0 passed, 1 failed"]);
  assertMatch(other.lines[0]!, /: What npm calls deno@2\.3\.0 is Deno 2\.4\.0$/);
});
