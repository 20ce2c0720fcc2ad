/** The lab itself: its first lesson, the command line, and that nothing outlives it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { LESSONS } from "../../examples/lab/lessons/all.ts";
import { brokenLesson, playedLesson } from "./broken.ts";
import { DENO, processState, Program, ROOT, until } from "../support.ts";

function learn(args: string[], options: Deno.CommandOptions = {}): Program {
  const command = ["run", "--allow-all", "examples/lab/learn.ts", ...args];
  return new Program(DENO, command, { cwd: ROOT.pathname, ...options });
}

/** The pids of processes whose command line has a text. */
function running(text: string): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((pid) => {
    try {
      return pid > 0 && Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes(text);
    } catch {
      return false;
    }
  });
}

/** The port of the server that a lesson has started, and its process. */
async function served(program: Program): Promise<{ port: string; pid: number }> {
  const [, port] = await program.printed(/webserver3b\.ts (\d+) /);
  return await until(() => {
    const [pid] = running(`webserver3b.ts\0${port}\0`);
    return pid !== undefined && { port: port!, pid };
  }, "the lesson's server");
}

Deno.test("the lesson 3b is as its text says", async () => {
  const { code, differs, figures, verdict, events } = await playedLesson("3b");
  assertEquals(differs, []);
  assertEquals(code, 0);
  assertEquals(verdict?.holds, true);
  assertEquals(figures.get("connections in the queue")?.value, "1");
  const picture = events.find((event) => event.type === "picture")!;
  const [server] = picture.snapshot.processes;
  assertEquals(server?.line?.text, "sleep(SECONDS);");
  const listener = picture.snapshot.sockets.find(({ state }) => state === "LISTEN");
  assertEquals([listener?.queue, listener?.limit], [1, 5]);
});

Deno.test("the lesson 3b notices a server that does not sleep", async () => {
  const { code, differs } = await brokenLesson("3b", {
    file: "examples/part3/webserver3b.ts",
    text: "  sleep(SECONDS); // nobody else is served meanwhile\n",
    replacement: "",
  });
  assertEquals(code, 1);
  // For a moment, the second connection may be in the queue.
  assert(
    differs.includes("a connection in the queue") ||
      differs.includes("seconds until the second client's end"),
    `${differs}`,
  );
});

Deno.test("a lesson tells what its program printed, if it ends before it listens", async () => {
  const { code, figures, differs } = await brokenLesson("3b", {
    file: "examples/part3/webserver3b.ts",
    text: "    listenSocket.listen(REQUEST_QUEUE_SIZE);\n",
    replacement: '    throw new Error("no listener today");\n',
  });
  assertEquals(code, 1);
  assertEquals(differs.length, 1);
  assertMatch(figures.get(differs[0]!)!.value, /^it ended with 1: no listener today/);
});

Deno.test("`learn` lists each lesson with the name and the title that it has itself", async () => {
  await using program = learn([]);
  assertEquals((await program.ended()).code, 0);
  for (const [i, entry] of LESSONS.entries()) {
    const { name, title, programs, next } = await entry.load();
    assertEquals(next, LESSONS[i + 1]?.name);
    assertEquals([entry.name, entry.title], [name, title]);
    assert(program.stdout.includes(`  ${title}\n`), title);
    for (const { file, decisive, differsFrom } of programs) {
      const lines = Deno.readTextFileSync(new URL(file, ROOT)).split("\n");
      assert(lines.some((line) => line.includes(decisive ?? "")), `${decisive} in ${file}`);
      if (differsFrom !== undefined) Deno.statSync(new URL(differsFrom, ROOT));
    }
  }
  assertEquals(new Set(LESSONS.map(({ name }) => name)).size, LESSONS.length);
});

Deno.test("`learn` refuses what it does not know in one line, and names the nearest lesson", async () => {
  for (
    const [args, message] of [
      [["3bb"], /^There is no lesson "3bb": the nearest is 3b; deno task learn lists them\n$/],
      [["--quick"], /^Unknown option --quick: deno task learn --help lists the options\n$/],
      [["3b", "--patience", "x"], /^Cannot wait for "x" seconds: expected a number such as 20\n$/],
      [["3b", "--all"], /^Cannot play a lesson and --all: expected one of them\n$/],
    ] as const
  ) {
    await using program = learn([...args]);
    assertEquals((await program.ended()).code, 2);
    assertMatch(program.stderr, message);
    assertEquals(program.stdout, "");
  }
});

Deno.test("`learn` shows the evidence, the verdict and what comes next as text", async () => {
  await using program = learn(["3b"]);
  assertEquals((await program.ended()).code, 0);
  const text = program.stdout;
  assertMatch(text, /^\$ deno run --allow-ffi examples\/part3\/webserver3b\.ts \d+ 1$/m);
  assertMatch(text, /webserver3b {2}sleeping {2}fd \d+ \d+ {2}in ppoll\(\), line \d+: sleep/);
  assertMatch(text, /^ {2}listener :\d+ +queue ■□□□□□ 1, backlog 5 +1 reference: \d+/m);
  assertMatch(
    text,
    /^ {2}connection of client 2 +ESTABLISHED +0 references: waits for accept\(\)$/m,
  );
  assertMatch(text, /^ {2}✓ connections in the queue +1$/m);
  assertMatch(text, /^As expected: all 5 figures are right$/m);
  assert(!text.includes("\x1b"), "no styles in a file");
  const drawn = text.split("\n").filter((line) => !line.startsWith("$"));
  assertEquals(drawn.filter((line) => [...line].length > 80), []);
});

for (
  const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129], [
    "SIGKILL",
    137,
  ]] as const
) {
  Deno.test(`\`learn\` leaves no process and no port after ${signal}`, async () => {
    await using program = learn(["3b", "--json"]);
    const { port, pid } = await served(program);
    // Others may play lessons on this machine.
    const [guard] = running("examples/lab/learn.ts")
      .filter((other) => processState(other)?.ppid === program.pid);
    assert(guard);
    program.kill(signal);
    assertEquals((await program.ended()).code, code);
    await until(() => running(`webserver3b.ts\0${port}\0`).length === 0, "the server's end");
    await until(() => !running("examples/lab/learn.ts").includes(guard!), "the guard's end");
    assert(pid > 0);
    // The port is free.
    Deno.listen({ hostname: "0.0.0.0", port: Number(port) }).close();
  });
}

Deno.test("`learn` ends without a word, with the status of SIGPIPE, when nobody reads on", async () => {
  const command =
    `'${DENO}' run --allow-all examples/lab/learn.ts 3b | head -n 3; echo \${PIPESTATUS[0]}`;
  await using program = new Program("bash", ["-c", command], { cwd: ROOT.pathname });
  assertEquals((await program.ended()).code, 0);
  assertEquals(program.stderr, "");
  assertMatch(program.stdout, /^\n3b .*\n.*\n141\n$/);
});

Deno.test("two readers at once do not disturb each other", async () => {
  const both = await Promise.all([playedLesson("3b"), playedLesson("3b")]);
  assertEquals(both.map(({ code, differs }) => [code, ...differs]), [[0], [0]]);
});
