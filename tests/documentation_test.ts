/**
 * `deno test --doc` runs the documented examples inside the test process, which
 * cannot fork. Those are marked "ignore" there, and run here as programs.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as ffi from "../ffi/mod.ts";
import { descriptorsOf, Program, ROOT, until } from "./support.ts";

interface Example {
  place: string;
  code: string;
}

function* sources(folder: URL): Generator<URL> {
  for (const entry of Deno.readDirSync(folder)) {
    const url = new URL(entry.name + (entry.isDirectory ? "/" : ""), folder);
    if (entry.isDirectory) yield* sources(url);
    else if (entry.name.endsWith(".ts")) yield url;
  }
}

/** The code blocks that `deno test --doc` leaves out. */
function ignoredExamples(): Example[] {
  const files = [
    new URL("mod.ts", ROOT),
    ...sources(new URL("ffi/", ROOT)),
    ...sources(new URL("server/", ROOT)),
  ];
  return files.flatMap((file) => {
    const text = Deno.readTextFileSync(file);
    return [...text.matchAll(/^ *\* ```ts ignore\n([\s\S]*?)^ *\* ```$/gm)].map((match) => ({
      place: `${file.pathname.slice(ROOT.pathname.length)}:${
        text.slice(0, match.index).split("\n").length
      }`,
      code: match[1]!.replace(/^ *\* ?/gm, ""),
    }));
  });
}

/** Whether a process listens on a TCP socket. */
function listens(pid: number): boolean {
  const inodes = Deno.readTextFileSync(`/proc/${pid}/net/tcp`).split("\n").slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === "0A").map((fields) => fields[9]);
  const sockets = new Set(descriptorsOf(pid).values());
  return inodes.some((inode) => sockets.has(`socket:[${inode}]`));
}

const examples = ignoredExamples();

Deno.test("docs/fork.md's API in one screen names all functions and classes of ffi/mod.ts", () => {
  const screen = Deno.readTextFileSync(new URL("docs/fork.md", ROOT))
    .match(/^## The API in one screen\n\n```\n([\s\S]*?)^```$/m)![1]!;
  const names = new Set(screen.match(/\w+/g));
  const callable = Object.entries(ffi).filter(([, value]) => typeof value === "function")
    .map(([name]) => name);
  assertEquals(callable.filter((name) => !names.has(name)), []);
});

/** The documentation's files, from the root. */
const PAGES = [
  "README.md",
  "CONTRIBUTING.md",
  ...[...Deno.readDirSync(new URL("docs", ROOT))].map(({ name }) => `docs/${name}`)
    .filter((name) => name.endsWith(".md")),
];

Deno.test("the documentation names existing tasks, files and tests", () => {
  const read = (file: string) => Deno.readTextFileSync(new URL(file, ROOT));
  const guide = read("CONTRIBUTING.md");
  const { tasks } = JSON.parse(read("deno.json"));
  for (const page of PAGES) {
    for (const [, name] of read(page).matchAll(/deno (?:-\S+ )*task ([\w:]+)/g)) {
      assert(name! in tasks, `${page}: There is no task ${name}`);
    }
  }
  const files = guide.match(
    /\b(examples|server|ffi|tests)\/[\w/]*(\.ts)?|\.ci\/run|\b[A-Z]+\.md/g,
  )!;
  assert(files.length > 20);
  for (const file of files) Deno.statSync(new URL(file, ROOT));
  const [, file, name] = guide.match(/(tests\/\w+\.ts) --filter "(.*)"/)!;
  assertStringIncludes(read(file!), name!);
});

/** What a heading is called in links, as GitHub and JSR have it. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");
}

Deno.test("the documentation's links lead to files and headings that are there", () => {
  let count = 0;
  for (const page of PAGES) {
    const url = new URL(page, ROOT);
    for (
      const [, link] of Deno.readTextFileSync(url).matchAll(
        /(?:\]\(|\bsrc(?:set)?=")([^)\s"]+)[)"]/g,
      )
    ) {
      if (/^https?:/.test(link!)) continue;
      count++;
      const target = new URL(link!, url);
      const { hash } = target;
      target.hash = "";
      Deno.statSync(target);
      if (hash === "") continue;
      const headings = [...Deno.readTextFileSync(target).matchAll(/^#+ (.*)$/gm)];
      const anchors = headings.map(([, heading]) => `#${anchorOf(heading!)}`);
      assert(anchors.includes(hash), `${page} has a link to ${link}`);
    }
  }
  assert(count > 15);
});

Deno.test("the documentation has examples that fork", () => assert(examples.length >= 8));

/** What the examples name as the reader's own. */
const APP = 'export default { fetch: () => new Response("Hello, World!\\n") };\n';
const CONFIG = `--config=${new URL("deno.json", ROOT).pathname}`;

/** A folder with a reader's program and app. */
function folderWith(code: string): { path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "tine_test_" });
  Deno.writeTextFileSync(`${path}/app.ts`, APP);
  Deno.writeTextFileSync(`${path}/example.ts`, code);
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

Deno.test("the documentation's examples that fork have no type errors", async () => {
  const folders = examples.map(({ code }) => folderWith(code));
  const files = folders.map(({ path }) => `${path}/example.ts`);
  try {
    await using program = new Program(Deno.execPath(), ["check", CONFIG, ...files]);
    assertEquals(await program.ended(60_000), { code: 0, signal: null }, program.stderr);
  } finally {
    for (const folder of folders) folder[Symbol.dispose]();
  }
});

for (const { place, code } of examples) {
  Deno.test(`the example of ${place} runs`, async () => {
    // A fixed port may be taken where the tests run.
    using folder = folderWith(
      code.replace(/(\["127\.0\.0\.1", )\d+/, "$10").replace(/\bport: \d+/, "port: 0"),
    );
    // Deno's own HTTP server and modules ask for more than libc does.
    const permission = /\bfetch\b|Fetch|app\.ts/.test(code) ? "-A" : "--allow-ffi";
    await using program = new Program(
      Deno.execPath(),
      ["run", permission, CONFIG, "example.ts"],
      { cwd: folder.path },
    );
    if (/listen\(|Prefork\(|Deno\.serve\(/.test(code)) {
      await until(() => listens(program.pid), "the server to listen", 30_000);
      assertEquals(/error|cannot/i.exec(program.stderr), null, program.stderr);
    } else {
      assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
    }
  });
}
