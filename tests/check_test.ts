import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  descendants,
  freePort,
  isPortFree,
  isRunning,
  type Program,
  ROOT,
  scratch,
  start,
  until,
  writeApp,
} from "./support.ts";

const HELLO = "export default { fetch: () => new Response('hello') };";

/** Starts `tine check` in a folder. */
function check(folder: string, args: string[], env: Record<string, string> = {}): Program {
  return start("server/cli.ts", ["check", ...args], {
    cwd: folder,
    env: { PORT: "", HOST: "", WEB_CONCURRENCY: "", ...env },
    flags: ["-A"],
  });
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("check tells what would be served, where, and where each option comes from", async () => {
  await using folder = scratch();
  writeApp(folder.path, HELLO);
  Deno.writeTextFileSync(
    `${folder.path}/tine.json`,
    JSON.stringify({ app: "app.ts", port: 1, workers: 3, accessLog: "access.log", pidFile: "pid" }),
  );
  await using program = check(folder.path, ["--grace", "7"], { PORT: "8123" });
  assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
  const lines = program.stdout.split("\n").map((line) => line.replace(/ +/g, " "));
  assertEquals(lines.slice(0, 2), [
    "app.ts can be served",
    " http://0.0.0.0:8123/ the default export",
  ]);
  for (
    const line of [
      " port 8123 PORT",
      " hostname 0.0.0.0 default",
      " workers 3 workers in tine.json",
      " accessLog access.log accessLog in tine.json",
      " grace 7 --grace",
      " maxRequests none default",
      " timeout 30 default",
    ]
  ) assert(lines.includes(line), program.stdout);
  assertEquals(program.stderr, "");
  assertEquals(names(folder.path), ["app.ts", "tine.json"]);
});

Deno.test("check tells on which addresses a program listens itself, and binds none of them", async () => {
  await using folder = scratch();
  const port = freePort();
  const app = writeApp(
    folder.path,
    `import http from "node:http";
     import { AF_INET, SOCK_STREAM, Socket } from "${new URL("mod.ts", ROOT)}";
     Deno.serve({ hostname: "127.0.0.1", port: ${port} }, () => new Response());
     http.createServer().listen("${folder.path}/app.sock");
     await new Promise((resolve) => setTimeout(resolve));
     new Socket(AF_INET, SOCK_STREAM).bind(["127.0.0.1", ${port}]); // throws if it is in use
     console.log("in between");`,
  );
  await using program = check(folder.path, ["--json", app]);
  assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
  assertMatch(program.stderr, /^in between$/m);
  const { ok, servers, options } = JSON.parse(program.stdout);
  assertEquals(ok, true);
  assertEquals(servers, [
    { url: `http://127.0.0.1:${port}/`, of: "Deno.serve()" },
    { url: `unix:${folder.path}/app.sock`, of: "a server of node:http" },
  ]);
  assertEquals(
    options.find(({ name }: { name: string }) => name === "port"),
    { name: "port", value: null, source: "default", from: null },
  );
  assertEquals(names(folder.path), ["app.ts"]);
  assert(isPortFree(port));

  await using ambiguous = check(folder.path, ["--port", "0", app]);
  assertEquals(await ambiguous.ended(), { code: 1, signal: null });
  assertMatch(
    ambiguous.stderr,
    /^error: An address can be given only to a program with one server/m,
  );
});

Deno.test("check tells what would not survive the fork, and leaves no process behind", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `setInterval(() => {}, 1000);
     const { pid } = new Deno.Command("sleep", { args: ["600"] }).spawn();
     Deno.writeTextFileSync("pid", String(pid));
     ${HELLO}`,
  );
  await using program = check(folder.path, [app]);
  assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
  const lines = program.stdout.split("\n").filter((line) => line.startsWith("Does not survive"));
  assertEquals(lines.length, 2, program.stdout);
  assertMatch(
    program.stdout,
    /^Does not survive the fork: interval of 1000 ms, from .*app\.ts:1:/m,
  );
  const sleep = Number(Deno.readTextFileSync(`${folder.path}/pid`));
  await until(() => !isRunning(sleep), "the end of the app's subprocess");

  await using json = check(folder.path, ["--json", app]);
  assertEquals((await json.ended()).code, 0);
  assertEquals(
    JSON.parse(json.stdout).open.map(({ kind }: { kind: string }) => kind).sort(),
    ["interval", "subprocess"],
  );
  await using strict = check(folder.path, ["--strict", app]);
  assertEquals((await strict.ended()).code, 1);
  assertMatch(strict.stderr, /^error: Cannot serve .* with --strict:\nDoes not survive the fork: /);
  await using later = check(folder.path, ["--no-preload", "--json", app]);
  assertEquals((await later.ended()).code, 0);
  assertEquals(JSON.parse(later.stdout).open, []);
});

Deno.test("check tells why an app cannot be served, with exit code 1", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, 'throw new Error("no database");');
  const message = /^Cannot load .*app\.ts: .*Error: no database at .*app\.ts:1:7$/;
  await using program = check(folder.path, [app]);
  assertEquals(await program.ended(), { code: 1, signal: null });
  assertEquals(program.stdout, "");
  assertMatch(program.stderr.trimEnd().replace("error: ", ""), message);
  await using json = check(folder.path, ["--json", app]);
  assertEquals(await json.ended(), { code: 1, signal: null });
  assertMatch(JSON.parse(json.stdout).error, message);
  assertEquals(JSON.parse(json.stdout).ok, false);
  assertEquals(json.stderr, "");

  writeApp(folder.path, 'import "./none.ts";', "missing.ts");
  writeApp(folder.path, "export default { fetch( };", "syntax.ts");
  writeApp(folder.path, "Deno.exit(3);", "exit.ts");
  writeApp(folder.path, "await new Promise((resolve) => setTimeout(resolve, 60_000));", "slow.ts");
  const wrong: [args: string[], code: number, message: RegExp][] = [
    [["--workers", "x", app], 2, /^Cannot serve with --workers "x"/],
    [["--watch", app], 2, /^unknown option --watch/],
    [["--model", "forking", "--max-requests", "1", app], 2, /^--max-requests does not apply to/],
    [["none.ts"], 1, /there is no file .*none\.ts/],
    [["missing.ts"], 1, /none\.ts[^]*\/missing\.ts:1:8$/m],
    [["syntax.ts"], 1, /\/syntax\.ts:1:\d+$/m],
    [
      ["exit.ts"],
      1,
      /^Cannot load exit\.ts: it ended the process with exit code 3 while it was being loaded$/m,
    ],
    [["--boot-timeout", "0.5", "slow.ts"], 1, /its top level did not finish within 0\.5 s/],
  ];
  for (const [args, code, message] of wrong) {
    await using program = check(folder.path, args);
    assertEquals(await program.ended(), { code, signal: null });
    assertEquals(program.stdout, "");
    assertMatch(program.stderr.replace("error: ", ""), message);
  }
  for (
    const [name, message] of [
      ["exit.ts", /exit code 3 while it was being loaded$/],
      ["missing.ts", /^Cannot load missing\.ts: .*none\.ts.* at .*\/missing\.ts:1:8$/],
      ["syntax.ts", /^Cannot load syntax\.ts: .* at .*\/syntax\.ts:1:\d+$/],
    ] as const
  ) {
    await using program = check(folder.path, ["--json", name]);
    assertEquals(await program.ended(), { code: 1, signal: null });
    assertMatch(JSON.parse(program.stdout).error, message);
  }
});

Deno.test("check can be interrupted while an app's top level does not finish", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, 'console.log("waiting"); await new Promise(() => {});');
  await using program = check(folder.path, [app]);
  await program.printed(/waiting/);
  const family = descendants(program.pid);
  program.kill("SIGINT");
  const { code, signal } = await program.ended();
  assert(code !== 0 || signal === "SIGINT");
  await until(() => family.every((pid) => !isRunning(pid)), "the end of all processes");
});
