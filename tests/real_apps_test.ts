/** The trial of real apps, `deno task test:apps`. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { foldNames, normalize } from "./apps/exchange.ts";
import { filesIn, versionOf } from "./apps/folder.ts";
import { APPS } from "./apps/list.ts";
import { formatTable, parseTable, replaceTable } from "./apps/table.ts";
import { MODES, type Outcome } from "./apps/trial.ts";
import { DENO, Program, ROOT, scratch } from "./support.ts";

const page = Deno.readTextFileSync(new URL("docs/measured.md", ROOT));

Deno.test("the table of apps has those of the list, and each has a folder", () => {
  assertEquals([...parseTable(page).keys()], APPS.map(({ title }) => title));
  const folders = [...Deno.readDirSync(new URL("tests/apps", ROOT))]
    .filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  assertEquals(folders.sort(), APPS.map(({ name }) => name).sort());
});

Deno.test("the apps are short, ask for exact versions, and come without packages", () => {
  for (const app of APPS) {
    const files = filesIn(new URL(`tests/apps/${app.name}`, ROOT).pathname);
    const names = files.map((file) => file.split("/").at(-1)!);
    assert(names.includes("deno.json") || names.includes("package.json"), app.name);
    assertEquals(names.filter((name) => /lock/.test(name)), []);
    for (const file of files) assert(Deno.statSync(file).size < 2000, file);
    if (app.package !== undefined) assert(/^\d+\.\d+\.\d+$/.test(versionOf(app)), app.name);
  }
});

Deno.test("the table of apps is read as it is written, and replaced in its place", () => {
  const [app] = APPS;
  const outcome = (mode: Outcome["mode"], ...failures: string[]): Outcome => ({
    app: app!,
    mode,
    verdict: failures.length === 0 ? "yes" : "no",
    failures: failures.map((check) => ({ check, why: "on purpose" })),
  });
  const table = formatTable([{
    app: app!,
    version: "1.2.3",
    outcomes: [outcome("preload"), outcome("--no-preload", "HUP", "TERM")],
  }]);
  assertEquals(
    table,
    `\
| app                         | version | run by       | preload | \`--no-preload\` |
| --------------------------- | ------- | ------------ | ------- | -------------- |
| Hono, \`export default\`, JSX | 1.2.3   | \`deno serve\` | yes     | no             |

- Hono, \`export default\`, JSX, --no-preload: HUP: on purpose
- Hono, \`export default\`, JSX, --no-preload: TERM: on purpose
`,
  );
  const other = replaceTable(page, table);
  assertEquals([...parseTable(other)], [[app!.title, MODES.map((mode) => mode === "preload")]]);
  assertEquals(other.split(table).length, 2);
  assertThrows(() => parseTable(other.replace("| run by ", "| by ")), Error, "The columns");
  assertThrows(() => parseTable("# tine"), Error, "There is no place");
});

Deno.test("deno task test:apps tells what fails, and leaves nothing behind", async () => {
  await using folder = scratch();
  await using temporary = scratch();
  // Plain Deno serves the app, and tine does not start.
  const program = `${folder.path}/deno`;
  const refusal = 'case "$*" in *cli.ts*) echo error: on purpose >&2; exit 1;; esac';
  Deno.writeTextFileSync(program, `#!/bin/sh\n${refusal}\nexec '${DENO}' "$@"\n`, { mode: 0o755 });
  await using trial = new Program(
    Deno.execPath(),
    ["run", "-A", new URL("tests/apps/main.ts", ROOT).pathname, "--only", "node_http"],
    { cwd: ROOT, env: { TINE_TEST_DENO: program, TMPDIR: temporary.path } },
  );
  const { code } = await trial.ended(120_000);
  assertMatch(trial.stdout, /^1 of 1: node_http: preload no, --no-preload no, [\d.]+ s$/m);
  for (const mode of MODES) {
    assertMatch(
      trial.stdout,
      new RegExp(`^  ${mode}: start: It ends with 1 after [\\d.]+ s: error: on purpose$`, "m"),
    );
  }
  const wanted = parseTable(page).get("`node:http`")!.filter((isServed) => isServed).length;
  assertEquals([code, trial.stdout.trimEnd().split("\n").at(-1)], [
    wanted === 0 ? 0 : 1,
    `0 passed, ${wanted} failed`,
  ]);
  assertEquals([...Deno.readDirSync(temporary.path)], []);
});

const HEAD = "HTTP/1.1 200 OK\r\nX-A: b\r\nDate: today\r\nConnection: close\r\n";

Deno.test("normalize() keeps all of an answer but when it came and how", () => {
  assertEquals(
    normalize(`${HEAD}Content-Length: 2\r\n\r\nhi`, {}),
    "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi",
  );
  assertEquals(
    normalize(`${HEAD}\r\nhi`, { volatile: ["x-a"] }),
    "HTTP/1.1 200 OK\r\n\r\nhi",
  );
  const chunked = `${HEAD}Transfer-Encoding: chunked\r\n\r\n`;
  for (const chunks of ["2\r\nhi\r\n0\r\n\r\n", "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"]) {
    assertEquals(
      normalize(chunked + chunks, {}),
      "HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\nhi",
    );
  }
  for (const part of ["2\r\nhi\r\n", "2\r\nh"]) {
    assertThrows(() => normalize(chunked + part, {}), Error, "within its chunks");
  }
  assertThrows(() => normalize(`${HEAD}Content-Length: 3\r\n\r\nhi`, {}), Error, "2 bytes of 3");
  assertThrows(() => normalize(HEAD, {}), Error, "no head");
});

Deno.test("foldNames() changes the names of headers only", () => {
  assertEquals(
    foldNames("HTTP/1.1 200 OK\r\nX-A: B: C\r\n\r\nD: E\r\nF: G"),
    "HTTP/1.1 200 OK\r\nx-a: B: C\r\n\r\nD: E\r\nF: G",
  );
});
