/**
 * The ladder of docs/learn.md: what stands under "try" is run as it stands there, with the port and the pid
 * of the server that is under test, and what stands under "see" is looked for.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  childrenOf,
  portOf,
  Program,
  readAll,
  ROOT,
  scratch,
  start,
  until,
  within,
  zombiesOf,
} from "./support.ts";

interface Row {
  /** The commands under "try", in their order. */
  readonly tries: string[];
  /** What is to be seen literally. */
  readonly sees: string[];
}

const codeIn = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);

const PAGE = Deno.readTextFileSync(new URL("docs/learn.md", ROOT));
const TABLE = new Map(
  PAGE.match(/^\| stage [^]*?(?=\n\n)/m)![0].split("\n").slice(2).map((line) => {
    const [stage, tries, sees] = line.slice(2).split(" | ");
    return [stage!.trim(), { tries: codeIn(tries!), sees: codeIn(sees!) }] as const;
  }),
);

/** The row's literal sights, with any number where there is one, are in a text. */
function assertSeen({ sees }: Row, text: string): void {
  for (const see of sees) {
    const pattern = see.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\d+/g, "\\d+");
    assertMatch(text, new RegExp(pattern));
  }
}

/** Runs a command of the page in a shell, beside a server. */
function beside(server: Program, port: number, command: string): Program {
  const line = command.replace(/localhost(:| )\d+/, `localhost$1${port}`)
    .replace(/\bPID\b/, `${server.pid}`)
    .replace(/^curl /, "curl --no-buffer "); // as to a terminal
  return new Program("/bin/bash", ["-c", `exec ${line}`]);
}

/** Runs one to its end, and gives what it printed. */
async function outputOf(program: Program): Promise<string> {
  await using running = program;
  assertEquals((await running.ended(60_000)).code, 0, running.stderr);
  return running.stdout;
}

/** Runs `client3.ts ...`. */
function client3(command: string, port: number): Program {
  const [name, ...args] = command.split(" ");
  return start(`examples/part3/${name}`, [...args, "--port", `${port}`]);
}

function startStage(stage: string, args = ["0"], cwd?: string, shell?: string): Program {
  return start(`examples/${stage}.ts`, args, {
    ...cwd !== undefined && { cwd },
    ...shell !== undefined && { shell },
  });
}

/** What `ps` shows of a server's children, as the text above the table has it. */
async function ps(server: Program): Promise<string> {
  const [command] = codeIn(PAGE.match(/`ps -o [^`]*--ppid PID`/)![0]);
  const line = command!.replace("PID", `${server.pid}`);
  await using running = new Program("/bin/bash", ["-c", line]);
  await running.ended(); // it throws if there is none
  return running.stdout;
}

/** A client that says something, hears it and is gone. */
async function saysAndHears(port: number, words: string): Promise<string> {
  using connection = await Deno.connect({ port });
  await connection.write(new TextEncoder().encode(words));
  const heard = new Uint8Array(1000);
  const count = await within(connection.read(heard), 15_000, "the answer");
  return new TextDecoder().decode(heard.subarray(0, count ?? 0));
}

/** Runs two clients at the same time, with a server that sleeps for a second for each. */
async function twice(stage: string, { tries }: Row): Promise<{ server: string; times: number[] }> {
  await using server = startStage(stage, ["0", "1"]);
  const port = await portOf(server);
  const begin = performance.now();
  const times = await Promise.all([1, 2].map(async () => {
    assertEquals(await outputOf(beside(server, port, tries[0]!)), "Hello, World!\n");
    return performance.now() - begin;
  }));
  return { server: server.stdout, times };
}

/**
 * A client may be gone before the server has accepted its last connections: children can come and
 * end between one look and the next. Zombies that nobody collects stay.
 */
async function noZombies(server: Program): Promise<void> {
  await until(
    async () => childrenOf(server.pid).length === 0 && !(await ps(server)).includes("<defunct>"),
    "no children, dead or alive",
    30_000,
  );
}

/** A stage is run here, or by a test that stands elsewhere. */
type Scenario = ((row: Row) => Promise<void>) | { file: string; test: string };

const SCENARIOS: Record<string, Scenario> = {
  "`part3/webserver3a`": async (row) => {
    await using server = startStage("part3/webserver3a");
    assertSeen(row, await outputOf(beside(server, await portOf(server), row.tries[0]!)));
    await server.printed(/^GET \/hello HTTP\/1\.1\r$/m);
  },
  "`part3/webserver3b`": async (row) => {
    const { times } = await twice("part3/webserver3b", row);
    assert(Math.max(...times) >= 2000);
  },
  "`part3/webserver3c`": async (row) => {
    const { server } = await twice("part3/webserver3c", row);
    assertSeen(row, server);
    assertEquals(server.match(/^Child PID: \d+\. Parent PID \d+$/gm)?.length, 2);
  },
  "`part3/webserver3d`": async ({ tries: [curl, ls, list] }) => {
    assertEquals(list, "ps");
    await using server = startStage("part3/webserver3d");
    const port = await portOf(server);
    const before = (await outputOf(beside(server, port, ls!))).split("\n").length;
    for (let clients = 1; clients <= 2; clients++) {
      await using client = beside(server, port, curl!);
      await client.printed(/^Hello, World!\n/);
      await until(() => zombiesOf(server.pid).length === clients, "a zombie");
      assertEquals((await ps(server)).match(/<defunct>/g)?.length, clients);
      const open = (await outputOf(beside(server, port, ls!))).split("\n").length;
      assert(open >= before + clients); // Deno may have opened a file of its own
      client.kill("SIGINT"); // it hangs
    }
  },
  "… `ulimit -n 256` before it": async (row) => {
    await using server = startStage("part3/webserver3d", ["0"], undefined, "ulimit -n 256;");
    await using _ = client3(row.tries[0]!, await portOf(server));
    assertEquals((await server.ended()).code, 1);
    assertSeen(row, server.stderr);
  },
  "… `ulimit -u 400` before it": {
    file: "part3_servers_test.ts",
    test: "`webserver3d` ends with EAGAIN in fork when its user has too many processes",
  },
  "`part3/webserver3e`": async (row) => {
    await using server = startStage("part3/webserver3e");
    await outputOf(beside(server, await portOf(server), row.tries[0]!));
    assertEquals((await server.ended()).code, 1);
    assertSeen(row, server.stdout + server.stderr);
  },
  "`part3/webserver3f`": async ({ tries: [curl, list, client] }) => {
    assertEquals(list, "ps");
    await using server = startStage("part3/webserver3f");
    const port = await portOf(server);
    for (let i = 0; i < 3; i++) {
      await outputOf(beside(server, port, curl!));
      await noZombies(server);
    }
    for (let attempts = 0; zombiesOf(server.pid).length === 0; attempts++) {
      assert(attempts < 10, "zombies");
      await outputOf(client3(client!, port));
      await until(
        () => childrenOf(server.pid).length === zombiesOf(server.pid).length,
        "the children's end",
        30_000,
      );
    }
    assert((await ps(server)).includes("<defunct>"));
  },
  "`part3/webserver3g`": async ({ tries: [client] }) => {
    await using server = startStage("part3/webserver3g");
    const port = await portOf(server);
    const [, , few] = TABLE.get("`part3/webserver3f`")!.tries; // "the same"
    for (const command of [few!, client!]) {
      await outputOf(client3(command, port));
      await noZombies(server);
    }
  },
  "`part3/webserver3h`": async ({ tries: [flag, app, curl] }) => {
    const args = [new URL(app!, ROOT).pathname, "0"];
    await using server = start("examples/part3/webserver3h.ts", args, { flags: [flag!] });
    const page = await outputOf(beside(server, await portOf(server), curl!));
    assertMatch(page, /<a href="\/stream">/);
  },
  "`part3/client3`": async ({ tries: [command] }) => {
    const [name, ...args] = command!.split(" ");
    assertMatch(await outputOf(start(`examples/part3/${name}`, args)), /clients N[^]*conns M/);
  },
  "`part3/socket_pair`": {
    file: "part3_client_test.ts",
    test: "`socket_pair` shows the same pair",
  },
  "`part3/processes`": async () => {
    await using program = startStage("part3/processes", ["60"]);
    const [, child] = await program.printed(/^Child PID: (\d+)/m);
    const [command] = await program.printed(/^ps .*$/m);
    const table = await outputOf(beside(program, 0, command));
    assertMatch(table, new RegExp(`^ *${program.pid} +${Deno.pid} `, "m"));
    assertMatch(table, new RegExp(`^ *${child} +${program.pid} `, "m"));
  },
  "`part3/descriptors`": async ({ tries: [redirection] }) => {
    const lines = await outputOf(
      startStage("part3/descriptors", [], undefined, `exec ${redirection};`),
    );
    assertMatch(lines, /^standard input: 0, \/dev\/null\n/);
    assertMatch(lines, /^already open: 3, [^]*\nsocket: \d+, socket:\[\d+\]\nhello\n$/m);
  },
  "`part3/from_scratch`": async ({ tries: [curl] }) => {
    await using server = startStage("part3/from_scratch");
    assertEquals(await outputOf(beside(server, await portOf(server), curl!)), "Hello, World!");
    await server.printed(new RegExp(`^Child PID: \\d+\\. Parent PID ${server.pid}$`, "m"));
  },
  "`chapter20/zombieprob`": async (row) => {
    assertEquals(row.tries, ["ps"]);
    await using program = startStage("chapter20/zombieprob", ["0.1", "60"]);
    await until(() => zombiesOf(program.pid).length === 1, "the zombie");
    assertSeen(row, await ps(program));
  },
  "`chapter20/zombiesol`": async (row) => {
    assertSeen(row, await outputOf(startStage("chapter20/zombiesol", ["0.1", "600"])));
  },
  "`chapter20/zombiepoll`": {
    file: "chapter20_test.ts",
    test: "zombiepoll leaves a zombie while it sleeps, and reaps it when it wakes up",
  },
  "`chapter20/echoserver`": async () => {
    await using server = startStage("chapter20/echoserver");
    const port = await portOf(server);
    const words = ["one\n", "two\n"];
    assertEquals(await Promise.all(words.map((word) => saysAndHears(port, word))), words);
  },
  "`chapter20/lockingserver`": async ({ sees: [never] }) => {
    await using folder = scratch();
    await using server = startStage("chapter20/lockingserver", ["0"], folder.path);
    const port = await portOf(server);
    for (const seen of [never!, "I last saw you at "]) {
      using connection = await Deno.connect({ port });
      const answer = await within(readAll(connection), 15_000, "the answer");
      assert(answer.includes(`\n${seen}`), answer);
    }
  },
  // Root has no such limit: that test changes its user, and this one tries the commands.
  "`chapter20/errorserver`": async ({ tries: [lower, , raise] }) => {
    assert(
      Deno.readTextFileSync(new URL("tests/chapter20_test.ts", ROOT)).includes(
        "errorserver drops one client when fork() fails, and serves the next",
      ),
    );
    await using server = startStage("chapter20/errorserver");
    const port = await portOf(server);
    for (const [command, limit] of [[lower!, 1], [raise!, 1000]] as const) {
      await outputOf(beside(server, port, command));
      const limits = Deno.readTextFileSync(`/proc/${server.pid}/limits`);
      assertMatch(limits, new RegExp(`^Max processes +${limit} `, "m"));
    }
  },
};

Deno.test("the ladder has the stages that are tested here", () => {
  assertEquals([...TABLE.keys()], Object.keys(SCENARIOS));
});

for (const [stage, scenario] of Object.entries(SCENARIOS)) {
  Deno.test(`the ladder's ${stage} shows what the table describes`, async () => {
    if (typeof scenario === "function") return await scenario(TABLE.get(stage)!);
    const source = Deno.readTextFileSync(new URL(`tests/${scenario.file}`, ROOT));
    assert(source.includes(`Deno.test("${scenario.test}`), `${scenario.file} has that test`);
  });
}
