/**
 * `deno test --doc` runs the documented examples inside the test process, which
 * cannot fork. Those are marked "ignore" there, and run here as programs.
 */
import { assert, assertEquals } from "@std/assert";
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

Deno.test("the documentation has examples that fork", () => assert(examples.length >= 8));

for (const { place, code } of examples) {
  Deno.test(`the example of ${place} runs`, async () => {
    const file = Deno.makeTempFileSync({ suffix: ".ts" });
    // A fixed port may be taken where the tests run.
    Deno.writeTextFileSync(file, code.replace(/(\["127\.0\.0\.1", )\d+/, "$10"));
    try {
      await using program = new Program(Deno.execPath(), [
        "run",
        "--check",
        "--allow-ffi",
        `--config=${new URL("deno.json", ROOT).pathname}`,
        file,
      ]);
      if (code.includes("listen(")) {
        await until(() => listens(program.pid), "the server to listen", 30_000);
        assertEquals(program.stderr.replace(/^Check .*\n/m, ""), "");
      } else {
        assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
      }
    } finally {
      Deno.removeSync(file);
    }
  });
}
