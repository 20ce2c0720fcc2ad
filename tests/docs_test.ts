/** `deno task docs`, and what it finds in the documentation. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { compare } from "./docs/compare.ts";
import { LESSONS } from "../examples/lab/lessons/all.ts";
import { parsePage } from "./docs/page.ts";
import { lessonOf, makePictures, picturesIn } from "./docs/pictures.ts";
import { Program, ROOT, scratch } from "./support.ts";

/** Runs `deno task docs`. */
async function docs(...args: string[]): Promise<{ code: number; lines: string[] }> {
  const main = new URL("tests/docs/main.ts", ROOT).pathname;
  await using program = new Program(Deno.execPath(), ["run", "-A", main, ...args], { cwd: ROOT });
  const { code } = await program.ended(240_000);
  assertEquals(program.stderr, "");
  return { code, lines: program.stdout.trimEnd().split("\n") };
}

/** Runs a page of the test's own. */
async function tryPage(
  text: string,
  ...args: string[]
): Promise<{ code: number; lines: string[] }> {
  await using folder = scratch();
  const page = `${folder.path}/page.md`;
  Deno.writeTextFileSync(page, text);
  const { code, lines } = await docs("--quick", "--wait", "2", ...args, page);
  return { code, lines: lines.map((line) => line.replaceAll(page, "page.md")) };
}

Deno.test("every command of the documentation prints what the page says", async () => {
  const { code, lines } = await docs("--quick");
  assertEquals(code, 0, lines.join("\n"));
  const [, passed] = lines.at(-1)!.match(/^(\d+) passed, 0 failed, \d+ skipped$/)!;
  assert(Number(passed) > 15, lines.at(-1));
});

Deno.test("docs/learn.md has readers run every program of the texts", () => {
  const page = Deno.readTextFileSync(new URL("docs/learn.md", ROOT));
  const commands = parsePage("docs/learn.md", page).flatMap(({ steps }) =>
    steps.flatMap((step) => step.kind === "command" && step.skipped === undefined ? step.text : [])
  );
  for (const folder of ["examples/part3", "examples/chapter20"]) {
    for (const { name } of Deno.readDirSync(new URL(folder, ROOT))) {
      assert(commands.some((text) => text.includes(`${folder}/${name}`)), `${folder}/${name}`);
    }
  }
});

const read = (file: string) => Deno.readTextFileSync(new URL(file, ROOT));
const namesIn = (folder: string) =>
  [...Deno.readDirSync(new URL(folder, ROOT))].map(({ name }) => name);

Deno.test("docs/learn.md lists the lessons that there are, in their order", () => {
  const [, table] = read("docs/learn.md").match(/<!-- lessons -->([^]*)<!-- \/lessons -->/)!;
  const names = [...table!.matchAll(/^\| `(\w+)` /gm)].map(([, name]) => name);
  assertEquals(names, LESSONS.map(({ name }) => name));
  for (const page of ["README.md", "docs/learn.md"]) {
    for (const [, name] of read(page).matchAll(/task learn (\w+)/g)) {
      assert(names.includes(name), `${page}: there is no lesson ${name}`);
    }
  }
});

Deno.test("lessons send readers to pages and headings that are there", () => {
  const pages = Object.fromEntries(
    namesIn("docs").filter((name) => name.endsWith(".md")).map((
      name,
    ) => [name, read(`docs/${name}`)]),
  );
  for (const name of namesIn("examples/lab/lessons")) {
    const source = read(`examples/lab/lessons/${name}`);
    for (const [, page, anchor = ""] of source.matchAll(/"docs\/([\w.]+)(?:#([\w-]+))?"/g)) {
      assert(pages[page!] !== undefined, `${name}: docs/${page}`);
      const headings = [...pages[page!]!.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
        heading!.toLowerCase().replace(/[^\w -]/g, "").replaceAll(" ", "-")
      );
      assert(anchor === "" || headings.includes(anchor), `${name}: docs/${page}#${anchor}`);
    }
  }
});

Deno.test("docs/serve.md has a test for each feature that it lists", () => {
  const [, table] = read("docs/serve.md").match(/<!-- features -->([^]*)<!-- \/features -->/)!;
  const [, , ...rows] = table!.trim().split("\n");
  assert(rows.length > 15);
  for (const row of rows) {
    const [, feature, ours] = row.split("|").map((cell) => cell.trim());
    const [, file, name] = ours!.match(/^\[[^\]]+\]\(\.\.\/(tests\/\w+\.ts) "(.+)"\)$/) ?? [];
    assert(file !== undefined, `${feature}: no test`);
    const text = read(file!);
    assert(["`", '"'].some((quote) => text.includes(quote + name + quote)), `${file}: ${name}`);
  }
});

Deno.test("every picture is shown by a page, and a lesson still makes it", () => {
  const shown = ["README.md", ...namesIn("docs").map((name) => `docs/${name}`)]
    .filter((name) => name.endsWith(".md")).flatMap((page) => picturesIn(read(page)));
  const there = namesIn("docs/pictures").map((name) => name.replace(/\.svg$/, ""));
  assertEquals(there.sort(), [...new Set(shown)].sort());

  // The captions are strings of the lessons, some with a number in them.
  const literals = namesIn("examples/lab/lessons").flatMap((name) =>
    [...read(`examples/lab/lessons/${name}`).matchAll(/"([A-Z][^"]+)"|`([^`\n]+)`/g)]
      .map(([, plain, template]) => plain ?? template!)
  );
  const patterns = literals.map((text) =>
    new RegExp(`^${text.split(/\$\{\w+\}/).map((part) => RegExp.escape(part)).join("\\d+")}$`)
  );
  for (const name of there) {
    assert(LESSONS.some((lesson) => lesson.name === lessonOf(name)), name);
    const [, caption] = read(`docs/pictures/${name}.svg`).match(/ aria-label="([^"]*)"/)!;
    const text = caption!.replaceAll("&amp;", "&").replaceAll("&quot;", '"');
    assert(patterns.some((pattern) => pattern.test(text)), `${name}: ${text}`);
  }
});

Deno.test("deno task docs --pictures draws the same picture again", async () => {
  const [again, ...more] = await makePictures(["3b"]);
  assertEquals(more, []);
  // How it is drawn may change: `deno task docs --pictures` draws all anew. How many descriptors
  // Deno has of its own, and so the numbers of the others, depends on the machine.
  const words = (svg: string) =>
    [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map(([, text]) =>
      text!.replace(/^\d+$|(?<=^and )\d+(?= of Deno's own$)/, "N")
    );
  assert(words(again!.svg).includes("pid 101"));
  assertEquals(words(again!.svg), words(read("docs/pictures/3b.svg")));
});

Deno.test("deno task docs types into a program, also in the blocks that follow", async () => {
  const page = (answer: string) =>
    `\
\`\`\`console
$ while read -r a b; do echo "$((a + b))"; done
> 1 2
3
\`\`\`

\`\`\`console
> 3 4
${answer}
\`\`\`
`;
  assertEquals((await tryPage(page("7"))).lines.at(-1), "1 passed, 0 failed, 0 skipped");
  assertEquals((await tryPage(page("8"))).lines.at(-1), "0 passed, 1 failed, 0 skipped");
});

Deno.test("deno task docs says what differs, and goes on with the next section", async () => {
  const { code, lines } = await tryPage(`\
# Wrong

\`\`\`console
$ echo one; echo two
one
three
$ echo not run
\`\`\`

## Right

\`\`\`console
$ echo "PID: $$"
PID: <pid>
\`\`\`
`);
  assertEquals(code, 1);
  assertEquals(
    lines.map((line) => line.replace(/\d+\.\d s$/, "0 s")).sort(),
    [
      "    > three",
      "      one",
      "      one",
      "      two",
      "    it printed:",
      "    the page says:",
      "  page.md:4: failed: echo one; echo two",
      "1 passed, 1 failed, 0 skipped",
      "page.md:10: Right: ok, 0 s",
      "page.md:1: Wrong: failed, 0 s",
    ].sort(),
  );
});

/** Pages with a command that does not do what they say, and what is said of it. */
const WRONG = {
  "prints more": ["$ echo one; echo two\none", "> (no more)"],
  "prints nothing": ["$ true\none", "(nothing)"],
  "ends by itself": ["$ echo one\none\n^C", "it has ended, and did not wait for ^C"],
  "prints something else before ^C": ["$ echo one; sleep 60\ntwo\n^C", "> two"],
};

for (const [what, [block, reason]] of Object.entries(WRONG)) {
  Deno.test(`deno task docs fails where a command ${what}`, async () => {
    const { code, lines } = await tryPage(`\`\`\`console\n${block}\n\`\`\`\n`);
    assertEquals([code, lines.at(-1)], [1, "0 passed, 1 failed, 0 skipped"]);
    assertStringIncludes(lines.join("\n"), reason!);
  });
}

Deno.test("deno task docs fails where a command of a script fails, and where a preparation does", async () => {
  const script = await tryPage("```sh\ntrue # a comment\nfalse\n```\n");
  assertEquals(script.lines.at(-1), "1 passed, 1 failed, 0 skipped");
  const preparation = await tryPage("<!-- docs: run false -->\n\n```sh\ntrue\n```\n");
  assertEquals(preparation.lines.at(-1), "0 passed, 1 failed, 0 skipped");
});

Deno.test("deno task docs runs servers on free ports, and ends all that a section has started", async () => {
  const name = `server_${Deno.pid}.js`;
  const { code, lines } = await tryPage(`\
# A server

<!-- docs: file ${name} -->

\`\`\`js
Deno.serve({ port: 8888 }, () => new Response("hello\\n"));
\`\`\`

<!-- docs: background -->

\`\`\`console
$ deno run -A ${name}
Listening on http://0.0.0.0:8888/ <and more>
\`\`\`

\`\`\`console
$ curl localhost:8888
hello
$ setsid sh -c 'sleep 600; : ${name}' &
$ curl localhost:8888 && sh -c 'sleep 600; : ${name}'
hello
^C
\`\`\`
`);
  assertEquals(code, 0, lines.join("\n"));
  assertEquals(lines.at(-1), "4 passed, 0 failed, 0 skipped");
  const left = [...Deno.readDirSync("/proc")].filter((entry) => {
    try {
      return Deno.readTextFileSync(`/proc/${entry.name}/cmdline`).includes(name);
    } catch {
      return false;
    }
  });
  assertEquals(left, []);
});

Deno.test("deno task docs says why it leaves something out", async () => {
  const { code, lines } = await tryPage(`\
# A

<!-- docs: skip it takes a day -->

\`\`\`sh
sleep 86400
\`\`\`

# B

<!-- docs: needs no-such-program -->

\`\`\`sh
no-such-program
\`\`\`

# C

<!-- docs: slow a minute -->

\`\`\`sh
sleep 60
\`\`\`
`);
  assertEquals([code, lines.at(-1)], [0, "0 passed, 0 failed, 3 skipped"]);
  const text = lines.join("\n");
  assertMatch(text, /it takes a day/);
  assertMatch(text, /no-such-program is not installed/);
  assertMatch(text, /C: skipped: a minute/);
});

Deno.test("compare() knows placeholders, omissions and columns", () => {
  const holds = (expected: string[], text: string, words = new Map<string, string>()) =>
    compare(expected, text, words, true).matches;
  assert(holds(["PID: <pid>"], "PID: 42\n"));
  assert(!holds(["PID: <pid>"], "PID: none\n"));
  assert(holds(["a", "...", "z"], "a\nb\nc\nz\n"));
  assert(holds(["...", "z"], "z\n"));
  assert(!holds(["a", "..."], "b\n"));
  assert(holds(["PID  STAT", "<pid>  Z"], "    PID STAT\n      7 Z\n".replace(/^ +/gm, "")));
  assert(holds(["  1  <pid>"], " 1     99\n"));
  assert(!holds(["1.5"], "1x5\n"));
  const words = new Map<string, string>();
  assert(holds(["<pid of the child> of <pid of the parent>"], "2 of 1\n", words));
  assert(holds(["<pid of the parent>"], "1\n", words));
  assert(!holds(["<pid of the parent>"], "2\n", words));
  assert(!holds(["<pid of x> <pid of x>"], "1 2\n"));
  assertEquals(compare(["a", "b", "c"], "a\nx\nc\n", new Map(), true).differs, 1);
});

Deno.test("parsePage() refuses what would not be run", () => {
  const parse = (text: string) => () => parsePage("page.md", text);
  assertThrows(parse("```ts\nf();\n```\n"), Error, "neither a file nor skipped");
  assertThrows(parse("<!-- docs: backgruond -->\n"), Error, 'there is no "backgruond"');
  assertThrows(parse("<!-- docs: background -->\n\n# Next\n"), Error, "there is no block for");
  assertThrows(
    parse("<!-- docs: skip `other` no -->\n\n```sh\none\n```\n"),
    Error,
    'page.md:1: there is no block for "skip"',
  );
  assertThrows(parse("```sh\n"), Error, "the block has no end");
});
