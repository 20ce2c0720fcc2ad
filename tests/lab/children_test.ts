/**
 * The lessons about bursts of children, the gateway and chapter 20: each is played, and played on a
 * copy with one program changed.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { brokenLesson, playedLesson } from "./broken.ts";

interface Row {
  readonly lesson: string;
  /** What is changed, and how. */
  readonly change: string;
  readonly file: string;
  readonly text: string;
  readonly replacement: string;
  /** The figure that must differ then. */
  readonly figure: string;
}

const ROWS: readonly Row[] = [
  {
    lesson: "3f",
    change: "the handler waits for all children",
    file: "examples/part3/webserver3f.ts",
    text: "wait(); // for one child",
    replacement: "try { for (;;) wait(); } catch { /* none is left */ }",
    figure: "children waited for",
  },
  {
    lesson: "3g",
    change: "the handler waits for one child",
    file: "examples/part3/webserver3g.ts",
    text: "if (pid === 0) return; // no more zombies",
    replacement: "return;",
    figure: "children waited for",
  },
  {
    lesson: "3h",
    change: "the parent keeps its copy",
    file: "examples/part3/webserver3h.ts",
    text: "clientConnection.close(); // close parent copy and loop over",
    replacement: "",
    figure: "processes that have the connections",
  },
  {
    lesson: "zombieprob",
    change: "the parent waits",
    file: "examples/chapter20/zombieprob.ts",
    text: "sleep(PARENT_SECONDS);",
    replacement: '(await import("../../mod.ts")).wait();\n  sleep(PARENT_SECONDS);',
    figure: "the child is a",
  },
  {
    lesson: "zombiesol",
    change: "the handler does not wait",
    file: "examples/chapter20/zombiesol.ts",
    text: "({ pid } = waitpid(-1, WNOHANG)); // any child, without waiting",
    replacement: "return;",
    figure: "zombies that it has left",
  },
  {
    lesson: "zombiepoll",
    change: "the parent does not ask",
    file: "examples/chapter20/zombiepoll.ts",
    text: "\n  reap();\n",
    replacement: "\n",
    figure: "the parent, when the zombie is gone, is",
  },
  {
    lesson: "echo",
    change: "the parent does not ask",
    file: "examples/chapter20/echoserver.ts",
    text: "\n  reap();\n",
    replacement: "\n",
    figure: "zombies after that",
  },
  {
    lesson: "locking",
    change: "a child reads without a lock",
    file: "examples/chapter20/lockingserver.ts",
    text: "fd.flock(LOCK_SH); // others may read now, but not write",
    replacement: "",
    figure: "lines that the client has, as long as the file is locked",
  },
  {
    lesson: "flock",
    change: "the writers do not lock",
    file: "examples/lab/programs/writers.ts",
    text: 'if (lock !== "none") locked.flock(LOCK_EX);',
    replacement: "",
    figure: "records lost with flock()",
  },
  {
    lesson: "sharedlock",
    change: "each child opens the file itself",
    file: "examples/lab/programs/holders.ts",
    text: 'const locked = whose === "own" ? open(file, O_RDWR) : inherited;',
    replacement: "const locked = open(file, O_RDWR);",
    figure: "of those that inherited it, children that wait",
  },
  {
    lesson: "deadlock",
    change: "both take the locks in the same order",
    file: "examples/lab/programs/deadlock.ts",
    text: "? [[file, other], [other, file]]",
    replacement: "? [[file, other], [file, other]]",
    figure: "who waits for whom",
  },
  {
    lesson: "errors",
    change: "the server does not expect that fork() fails",
    file: "examples/chapter20/errorserver.ts",
    text: 'console.log("BAD THING HAPPENED: fork failed");',
    replacement: 'throw new Error("fork failed");',
    figure: "the server is",
  },
];

Deno.test("lesson 3h says that its framework is missing, and goes on without it", async () => {
  const { code, figures, events } = await brokenLesson("3h", {
    file: "examples/apps/hono.ts",
    text: '"npm:hono@4"',
    replacement: '"npm:hono@999"', // there is none, with a network or without
  });
  assertEquals(figures.get("framework")?.value, "missing");
  const said = events.flatMap((event) => event.type === "say" ? event.text : []).join("\n");
  assertMatch(said, /Hono, is missing.* `deno cache examples\/apps\/hono.ts` gets it, once/);
  assertEquals(code, 0);
});

for (const { lesson, change, figure, ...where } of ROWS) {
  Deno.test(`lesson ${lesson} shows what it says`, async () => {
    const { code, differs } = await playedLesson(lesson);
    assertEquals(differs, []);
    assertEquals(code, 0);
  });

  Deno.test(`lesson ${lesson} notices when ${change}`, async () => {
    // With the usual patience: none of these waits in vain.
    const { code, differs } = await brokenLesson(lesson, where, []);
    assert(differs.includes(figure), `"${figure}" is not among ${JSON.stringify(differs)}`);
    assertEquals(code, 1);
  });
}
