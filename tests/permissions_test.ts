import { assertEquals, assertMatch } from "@std/assert";
import { MODELS, onEachRung } from "./rungs.ts";
import {
  DENO,
  Program,
  ROOT,
  scratch,
  Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

const appOf = (text: string) => `export default { fetch: () => new Response("${text}") };`;
const LEAST = ["--allow-ffi", "--allow-read", "--allow-net=127.0.0.1"];

/** Starts a server that lacks a permission, and gives its only line. */
async function complaint(
  permissions: string[],
  args: string[],
  app: string,
  env: Record<string, string> = {},
): Promise<string> {
  await using server = spawnServer(args, { app, permissions, env });
  assertEquals(await server.ended(), { code: 1, signal: null }, server.stderr);
  const [line, ...rest] = server.stderr.trimEnd().split("\n");
  assertEquals(rest, [], server.stderr);
  assertEquals(server.stdout, "");
  return line!;
}

onEachRung(MODELS, `serve needs only the permissions ${LEAST.join(" ")}`, async (model) => {
  await using folder = scratch();
  const app = writeApp(folder.path, appOf("served"));
  await using server = await startServer(["--model", model], { app, permissions: LEAST });
  assertEquals(await server.get("/"), "served");
  server.kill();
  assertEquals((await server.ended()).code, 0, server.stderr);
});

onEachRung(MODELS, "serve reports a missing permission when it starts", async (model) => {
  await using folder = scratch();
  const app = writeApp(folder.path, appOf("served"));
  const cases: [string, RegExp][] = [
    ["--allow-ffi", /^error: Requires ffi access to "libc\.so\.6", .* the --allow-ffi flag$/],
    ["--allow-net", /^error: Requires net access to "127\.0\.0\.1:0", .* the --allow-net flag$/],
  ];
  for (const [missing, message] of cases) {
    const permissions = LEAST.filter((flag) => !flag.startsWith(missing));
    assertMatch(await complaint(permissions, ["--model", model], app), message);
  }
});

Deno.test("tine's own files need no permission, however the command line is named", async () => {
  await using folder = scratch();
  const link = `${folder.path}/50% of #tine?`;
  Deno.symlinkSync(ROOT.pathname, link);
  const cases: [cwd: string, cli: string][] = [
    [`${link}/server`, "cli.ts"],
    [folder.path, `./${link.slice(folder.path.length + 1)}/ffi/../server/cli.ts`],
    [folder.path, `${link}/server/cli.ts`],
    [folder.path, new URL("server/cli.ts", ROOT).href],
  ];
  for (const [cwd, cli] of cases) {
    await using program = new Program(DENO, ["run", "--allow-ffi", cli, "status", "--help"], {
      cwd,
    });
    assertEquals((await program.ended()).code, 0, `${cli}: ${program.stderr}`);
    assertMatch(program.stdout, /^Shows what a preforking server/);
  }
});

Deno.test("logs, an admin port and signals need no further permission", async () => {
  await using folder = scratch();
  const [code, logs] = [`${folder.path}/code`, `${folder.path}/logs`];
  for (const path of [code, logs]) Deno.mkdirSync(path);
  const app = writeApp(code, appOf("old"));
  const files = ["--access-log", `${logs}/access.log`, "--error-log", `${logs}/error.log`];
  await using server = spawnServer(["--admin", "127.0.0.1:0", ...files], {
    app,
    cwd: code,
    permissions: ["--allow-ffi", `--allow-read=${code}`, "--allow-net=127.0.0.1"],
  });
  const log = () => {
    try {
      return Deno.readTextFileSync(`${logs}/error.log`);
    } catch {
      return server.stderr; // it is not there yet
    }
  };
  const logged = (pattern: RegExp) => until(() => log().match(pattern), `${pattern} in the log`);
  server.port = Number((await logged(/Serving http:\/\/0\.0\.0\.0:(\d+)/))[1]);
  assertEquals(await server.get("/"), "old");
  writeApp(code, appOf("new"));
  server.kill("SIGHUP");
  await until(async () => await server.get("/") === "new", "the new code");
  Deno.renameSync(`${logs}/access.log`, `${logs}/access.log.1`);
  server.kill("SIGUSR1");
  await until(async () => {
    await server.get("/");
    return [...Deno.readDirSync(logs)].some(({ name }) => name === "access.log");
  }, "the new access log");
  server.kill("SIGUSR2");
  await logged(/SIGUSR2: replacing/);
  server.kill();
  assertEquals((await server.ended()).code, 0, log());
  assertEquals(log().match(/NotCapable|Requires|Cannot.*/g), null, log());
});

Deno.test("a UNIX socket needs --allow-net, and a pid file --allow-write for its folder", async () => {
  await using folder = scratch();
  const { path } = folder;
  const app = writeApp(path, appOf("served"));
  Deno.mkdirSync(`${path}/tmp`);
  const env = { TMPDIR: `${path}/tmp` };
  const common = ["--allow-ffi", `--allow-read=${path}`];
  const unix = ["--unix", `${path}/socket`];
  const pidFile = ["--pid-file", `${path}/pid`];
  const admin = ["--admin", `${path}/admin`];

  const refused = async (permissions: string[], args: string[]) =>
    await complaint([...common, ...permissions], args, app, env);
  const write = `--allow-write=${path}`;
  const net = "--allow-net=127.0.0.1";
  assertMatch(await refused([net, write], unix), /Requires net access to "unix:/);
  assertMatch(await refused([net, write], admin), /Requires net access to "unix:/);
  assertMatch(await refused([net], pidFile), /Requires write access to ".*\/pid\.\d+"/);

  await using noFile = await startServer(unix, {
    app,
    env: { TMPDIR: "/nonexistent" },
    permissions: [...common, "--allow-net"],
  });
  noFile.kill("SIGKILL"); // its socket stays, and the next server takes its path
  await noFile.ended();

  const permissions = [...common, "--allow-net", write];
  const options = { app, env, permissions };
  await using server = await startServer([...unix, ...admin, ...pidFile], options);
  assertEquals(Deno.readTextFileSync(`${path}/pid`), `${server.pid}\n`);
  for (const name of ["socket", "admin"]) {
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${path}/${name}` } });
    const response = await fetch("http://localhost/healthz", { client });
    assertEquals(response.status, 200);
    await response.body?.cancel();
  }
  server.kill();
  assertEquals((await server.ended()).code, 0, server.stderr);
  assertEquals([...Deno.readDirSync(path)].map(({ name }) => name).sort(), ["app.ts", "tmp"]);
  assertEquals([...Deno.readDirSync(`${path}/tmp`)], []);
});

Deno.test("serve names the permission that the app lacks, and serves it with that permission", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `const text = Deno.env.get("TINE_TEST_TEXT");
     export default { fetch: () => new Response(text) };`,
  );
  const env = { TINE_TEST_TEXT: "from the environment" };
  assertMatch(
    await complaint(LEAST, [], app, env),
    /^error: .*Requires env access to "TINE_TEST_TEXT", .* the --allow-env flag at .*app\.ts:1:\d+$/,
  );
  const permissions = [...LEAST, "--allow-env=TINE_TEST_TEXT"];
  await using server = await startServer([], { app, env, permissions });
  assertEquals(await server.get("/"), "from the environment");
  writeApp(folder.path, 'Deno.env.get("HOME"); export default { fetch: () => new Response() };');
  server.kill("SIGHUP");
  await server.logged(/Requires env access to "HOME"[^]*the old code stays in use/);
  assertEquals(await server.get("/"), "from the environment");
});

for (const args of [[], ["--no-preload"]]) {
  Deno.test(
    ["a worker in a terminal names the permission it lacks, and asks no question", ...args].join(
      " ",
    ),
    async () => {
      await using folder = scratch();
      const app = writeApp(
        folder.path,
        `function text() {
           try { return Deno.env.get("HOME"); } catch (error) { return error.message; }
         }
         export default { fetch: () => new Response(text()) };`,
      );
      const cli = new URL("server/cli.ts", ROOT).pathname;
      const line = [DENO, "run", "--no-lock", ...LEAST, cli, "serve", "--port=0", "--workers=1"];
      // script(1) runs it in a terminal of its own.
      const command = [...line, ...args, app].join(" ");
      await using terminal = new Server("script", ["-qec", command, "/dev/null"]);
      const [, port] = await until(
        () => terminal.stdout.match(/Serving http:\S+:(\d+)\//),
        "the ready line",
      );
      terminal.port = Number(port);
      assertMatch(
        await terminal.get("/"),
        /^Requires env access to "HOME", .* the --allow-env flag$/,
      );
    },
  );
}
