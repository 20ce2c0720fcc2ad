/** The arguments of the teaching programs, as described in each file's head comment. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { portOf, type Program, ROOT, scratch, start } from "./support.ts";

interface Example {
  /** The file, from the repository's root. */
  readonly file: string;
  /** The line in the head comment, without the comment's marks. */
  readonly usage: string;
  /** What `deno run` needs. */
  readonly flags: string[];
  /** The words of the usage line after the file's name, in their order. */
  readonly parameters: string[];
}

function readExample(file: string): Example {
  const head = Deno.readTextFileSync(new URL(file, ROOT)).split("\nimport ")[0]!;
  const line = head.match(/^\/\/ {3}(deno run (-\S+) (\S+)(.*))$/m);
  assert(line, `${file} says how it is run`);
  const [, usage, flag, name, parameters] = line!;
  assertEquals(name, file.split("/").at(-1));
  return {
    file,
    usage: usage!,
    flags: [flag!],
    parameters: parameters!.split(/[ [\]]+/).filter((word) => word !== ""),
  };
}

const EXAMPLES = ["examples/part3", "examples/chapter20"].flatMap((folder) =>
  [...Deno.readDirSync(new URL(folder, ROOT))]
    .map(({ name }) => name).toSorted().map((name) => readExample(`${folder}/${name}`))
);
const SERVERS = EXAMPLES.filter(({ parameters }) => parameters.includes("port"));

const APP = new URL("examples/apps/hello.ts", ROOT).pathname;

/** What is right and wrong for each parameter, and what is said of the latter. */
const PARAMETERS: Record<string, { right: string; wrong: string[]; said(word: string): string }> = {
  "app.ts": { right: APP, wrong: [], said: () => "" },
  port: {
    right: "0",
    wrong: ["abc", "-1", "70000", "80.5", ""],
    said: (word) =>
      `Cannot listen on port "${word}": expected a number from 0 (for any free port) to 65535\n`,
  },
  seconds: {
    right: "0",
    wrong: ["abc", "-1", "Infinity", ""],
    said: (word) => `Cannot sleep for "${word}" seconds: expected a number such as 60 or 0.5\n`,
  },
};

/** `child-seconds` is a parameter of the same kind as `seconds`. */
function kind(parameter: string): string {
  return parameter.replace(/^\w+-/, "");
}

/** The arguments that let a server start on a port. */
function argumentsFor({ parameters }: Example, port: string): string[] {
  return parameters.includes("app.ts") ? [APP, port] : [port];
}

function startExample({ file, flags }: Example, args: string[], cwd?: string): Program {
  return start(file, args, { flags, ...cwd !== undefined && { cwd } });
}

Deno.test("the examples accept the arguments that their head comments describe", () => {
  assertEquals(
    Object.fromEntries(EXAMPLES.map(({ file, parameters }) => [file, parameters.join(" ")])),
    {
      "examples/part3/client3.ts": "options",
      "examples/part3/descriptors.ts": "seconds",
      "examples/part3/from_scratch.ts": "port",
      "examples/part3/processes.ts": "seconds",
      "examples/part3/socket_pair.ts": "seconds",
      "examples/part3/webserver3a.ts": "port",
      "examples/part3/webserver3b.ts": "port seconds",
      "examples/part3/webserver3c.ts": "port seconds",
      "examples/part3/webserver3d.ts": "port",
      "examples/part3/webserver3e.ts": "port seconds",
      "examples/part3/webserver3f.ts": "port",
      "examples/part3/webserver3g.ts": "port",
      "examples/part3/webserver3h.ts": "app.ts port",
      "examples/chapter20/echoserver.ts": "port",
      "examples/chapter20/errorserver.ts": "port",
      "examples/chapter20/lockingserver.ts": "port",
      "examples/chapter20/zombiepoll.ts": "child-seconds parent-seconds",
      "examples/chapter20/zombieprob.ts": "child-seconds parent-seconds",
      "examples/chapter20/zombiesol.ts": "child-seconds parent-seconds",
    },
  );
});

for (const example of EXAMPLES) {
  const checked = example.parameters.filter((parameter) => kind(parameter) in PARAMETERS);
  if (checked.length === 0) continue;
  Deno.test(`\`${example.file}\` reports in one line what is wrong with its arguments`, async () => {
    const cases = checked.flatMap((parameter, at) => {
      const before = checked.slice(0, at).map((earlier) => PARAMETERS[kind(earlier)]!.right);
      const { wrong, said } = PARAMETERS[kind(parameter)]!;
      return wrong.map((word) => ({ args: [...before, word], line: said(word) }));
    });
    await Promise.all(cases.map(async ({ args, line }) => {
      await using program = startExample(example, args);
      const { code } = await program.ended();
      assertEquals([code, program.stdout, program.stderr], [2, "", line]);
    }));
  });
}

Deno.test("`webserver3h` prints its usage without an app", async () => {
  const example = EXAMPLES.find(({ file }) => file.endsWith("webserver3h.ts"))!;
  await using program = startExample(example, []);
  assertEquals((await program.ended()).code, 2);
  assertEquals([program.stdout, program.stderr], ["", `Usage: ${example.usage}\n`]);
});

for (const example of SERVERS) {
  Deno.test(`\`${example.file}\` prints its pid and port, and reports a port in use`, async () => {
    await using folder = scratch(); // lockingserver writes a file
    await using server = startExample(example, argumentsFor(example, "0"), folder.path);
    const port = await portOf(server);
    const [, pid] = await server.printed(/(?:PID|PID \(PPID\)): (\d+)\n|Parent at (\d+) /)
      .then((match) => match.filter((part) => part !== undefined));
    assertEquals(Number(pid), server.pid);
    using _ = await Deno.connect({ hostname: "127.0.0.1", port });

    await using second = startExample(example, argumentsFor(example, `${port}`), folder.path);
    assertEquals([(await second.ended()).code, second.stdout], [1, ""]);
    assertMatch(
      second.stderr,
      /^Cannot bind (\*|0\.0\.0\.0):\d+: EADDRINUSE \(Address already in use\): choose another port\n$/,
    );
    assert(second.stderr.includes(`:${port}: `));
  });
}
