/** `deno task repl`: lines are typed to Deno's REPL, and real processes answer. */
import { assert, assertEquals } from "@std/assert";
import { DENO, Program, ROOT } from "../support.ts";

const DIRECTORY = DENO.slice(0, DENO.lastIndexOf("/"));
const OPTIONS: Deno.CommandOptions = {
  cwd: ROOT.pathname,
  stdin: "piped",
  env: { PATH: `${DIRECTORY}:${Deno.env.get("PATH")}`, DENO_REPL_HISTORY: "", TERM: "xterm" },
};

/** Gives the REPL lines through a pipe. Returns what it answers, without its first lines. */
async function answersTo(lines: readonly string[]): Promise<string[]> {
  const child = new Deno.Command(DENO, {
    ...OPTIONS,
    args: ["task", "--quiet", "repl"],
    env: { ...OPTIONS.env, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).replace(/^[^]*?\nexit using .*\n/, "").trimEnd()
    .split("\n");
}

Deno.test("`deno task repl` forks, and shows how the child ended", async () => {
  assertEquals(
    await answersTo([
      "const pid = fork(); if (pid === 0) _exit(3);",
      "waitpid(pid).status",
      "const sleeper = forkChild(() => sleep(600)); kill(sleeper, SIGKILL);",
      "waitpid(sleeper).status.kind",
    ]),
    ["undefined", '{ kind: "exited", code: 3, raw: 768 }', "undefined", '"signaled"'],
  );
});

Deno.test("`deno task repl` ends a child with the line that forked it", async () => {
  // Otherwise it would read the lines that follow.
  assertEquals(
    await answersTo([
      "const pid = fork()",
      "waitpid(pid).status.raw",
      "for (let i = 0; i < 3; i++) fork()",
      ...Array(3).fill("wait().status.raw"),
      "'the only one'",
    ]).then((lines) => lines.filter((line) => !/^\d{2,}$/.test(line))), // the loop's last pid
    ["undefined", "0", "0", "0", "0", '"the only one"'],
  );
});

Deno.test("`deno task repl` runs signal handlers at interruption points", async () => {
  assertEquals(
    await answersTo([
      'signal(SIGUSR1, () => console.log("handled")); kill(getpid(), SIGUSR1);',
      "1 + 1",
      "sleep(60) > 50",
    ]),
    ["undefined", "2", "handled", "true"],
  );
});

Deno.test("`deno task repl` shows a child's exit status on a terminal", async () => {
  // script(1) of util-linux gives it one.
  const line = `exec '${DENO}' task --quiet repl`;
  await using program = new Program("script", ["-qefc", line, "/dev/null"], OPTIONS);
  const writer = program.stdin.getWriter();
  const type = (text: string) => writer.write(new TextEncoder().encode(`${text}\r`));
  await program.printed(/> [^>]*$/);
  await type("const pid = fork(); if (pid === 0) _exit(7);");
  await program.printed(/undefined[^]*> [^>]*$/);
  await type("waitpid(pid).status");
  await program.printed(/\{ kind: "exited", code: 7, raw: 1792 \}/);
  await writer.close(); // as Control-D
  assertEquals((await program.ended()).code, 0);
});
