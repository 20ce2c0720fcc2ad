/** The lessons past the sources: what preforked workers share, and what happens when one ends. */
import { assert, assertEquals } from "@std/assert";
import type { Change } from "../support.ts";
import { brokenLesson, playedLesson } from "./broken.ts";

interface Break {
  readonly what: string;
  readonly change: Change;
  /** The figures that differ then. */
  readonly differs: readonly string[];
}

const LESSONS: Readonly<Record<string, readonly Break[]>> = {
  memory: [{
    what: "a table that each worker fills by itself",
    change: {
      file: "examples/lab/programs/table.ts",
      text: "export default {\n",
      replacement: "export default {\n  onWorkerStart: () => void table.fill(2),\n",
    },
    differs: [
      "least that one of them shares, in MiB",
      "MiB that sharing saves",
      "MiB more of its own after writing",
    ],
  }],
  crash: [{
    what: "workers that answer with an error",
    change: {
      file: "examples/lab/programs/handlers.ts",
      text: 'new Response("Hello, World!\\n")',
      replacement: 'new Response("Hello, World!\\n", { status: 500 })',
    },
    differs: ["answered, of the other workers' clients", "answered, of those after the kill"],
  }],
  endless: [{
    what: "a loop that ends",
    change: {
      file: "examples/lab/programs/handlers.ts",
      text: "for (;;);",
      replacement: "for (const end = Date.now() + 1500; Date.now() < end;);",
    },
    differs: ["bytes of an answer for the client of the loop", "workers that were there before"],
  }],
  restart: [{
    what: "new code that fails",
    change: {
      file: "examples/lab/programs/version.ts",
      text: "new Response(`version ${version}\\n`)",
      replacement: 'new Response(`version ${version}\\n`, { status: version === "2" ? 500 : 200 })',
    },
    differs: ["requests without an answer", "the last answer is of the new code"],
  }],
  random: [{
    what: "a generator of the program's own, which nobody seeds again",
    change: {
      file: "examples/lab/programs/random_numbers.ts",
      text: "[Math.random()]",
      replacement: "[0.5]",
    },
    differs: ["different Math.random(), tine"],
  }, {
    what: "children that have no heap",
    change: {
      file: "examples/lab/programs/bare_fork.ts",
      text: "  libc.madvise(0n, 0x7fff_ffff_f000n, MADV_DOFORK);\n",
      replacement: "",
    },
    differs: [
      "children of bare_fork.ts that have handed over bytes",
      "different Math.random(), a bare fork(2)",
      "different getRandomValues(), a bare fork(2)",
    ],
  }],
};

/**
 * Compiles the command line in the copy. A server that did it itself would use many threads for it,
 * and wait until Deno has ended them, before it forks.
 */
async function compile(folder: string): Promise<void> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", "server/cli/whole.ts"],
    cwd: folder,
  }).output();
  assert(success);
}

for (const [name, breaks] of Object.entries(LESSONS)) {
  Deno.test(`the lesson ${name} is as its text says`, async () => {
    const { code, differs, verdict, events } = await playedLesson(name);
    assertEquals([differs, code, verdict?.holds], [[], 0, true]);
    const commands = events.flatMap((event) => event.type === "command" ? [event.text] : []);
    assertEquals(
      commands.filter((text) => !/^(VERSION=\S+ )?(deno|curl|kill|for i) /.test(text)),
      [],
    );
    assert(!commands.some((text) => text.includes("printf")), `${commands}`);
  });
  for (const { what, change, differs } of breaks) {
    Deno.test(`the lesson ${name} notices ${what}`, async () => {
      const played = await brokenLesson(name, change, [], compile);
      assertEquals([played.differs, played.code, played.verdict?.holds], [differs, 1, false]);
    });
  }
}
