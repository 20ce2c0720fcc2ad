import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import {
  DENO,
  scratch,
  Server,
  serveRepository,
  startFunction,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** Runs a user's script, which knows only the URL of tine. */
async function startScript(folder: string, script: string, ...flags: string[]): Promise<Server> {
  const server = new Server(
    DENO,
    ["run", "--no-lock", "--no-config", "--allow-all", ...flags, script],
    { cwd: folder, env: { DENO_DIR: `${folder}/deno` } },
  );
  [, server.url = ""] = await server.logged(/Serving (\S+) with/);
  server.port = Number(server.url.match(/:(\d+)\/$/)?.[1]);
  return server;
}

Deno.test("servePrefork() serves an app of the script that imports it from a URL", async () => {
  await using folder = scratch();
  await using site = serveRepository();
  const source = (greeting: string) =>
    `import { servePrefork } from "${site.url}mod.ts";
     let started = 0;
     const app = {
       fetch: () => new Response("${greeting} " + started),
       onWorkerStart: ({ number }) => { started = number; },
     };
     const code = await servePrefork(app, { port: 0, hostname: "127.0.0.1", workers: 2 });
     console.log("code", code);`;
  const script = writeApp(folder.path, source("hello"), "main.ts");
  await using server = await startScript(folder.path, script);
  const { workers } = server;
  assertEquals(workers.length, 2);
  assert(["hello 1", "hello 2"].includes(await server.get("/")));
  writeApp(folder.path, source("hello again"), "main.ts");
  server.kill("SIGHUP");
  await server.replaced(workers);
  assert(["hello again 1", "hello again 2"].includes(await server.get("/")));
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  // Once, in the master: no worker continues in the script.
  assertEquals(server.stdout, "code 0\n");
});

Deno.test("servePrefork() starts and restarts if V8 is already single-threaded", async () => {
  await using folder = scratch();
  await using site = serveRepository();
  const script = writeApp(
    folder.path,
    `import { servePrefork } from "${site.url}mod.ts";
     Deno.exit(await servePrefork({ fetch: () => new Response("hello") }, { port: 0, workers: 2 }));`,
    "main.ts",
  );
  await using server = await startScript(folder.path, script, "--v8-flags=--single-threaded");
  assertEquals(await server.get("/"), "hello");
  await server.restarted();
  assertEquals(await server.get("/"), "hello");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("servePrefork() serves a module that the script names", async () => {
  await using folder = scratch();
  await using site = serveRepository();
  const app = (greeting: string) => `export default { fetch: () => new Response("${greeting}") };`;
  writeApp(folder.path, app("hello"));
  const script = writeApp(
    folder.path,
    `import { servePrefork } from "${site.url}mod.ts";
     const app = new URL("./app.ts", import.meta.url);
     Deno.exit(await servePrefork(app, { port: 0, workers: 2 }));`,
    "main.ts",
  );
  await using server = await startScript(folder.path, script);
  assertEquals(await server.get("/"), "hello");
  const { workers } = server;
  writeApp(folder.path, `throw new Error("no database");`);
  server.kill("SIGHUP");
  await server.logged(/The new code cannot be loaded/);
  assertStringIncludes(server.stderr, "no database");
  assertEquals(await server.get("/"), "hello");
  writeApp(folder.path, app("hello again"));
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertEquals(await server.get("/"), "hello again");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("servePrefork() under the command line loads an app from a URL", async () => {
  await using folder = scratch();
  await using site = serveRepository();
  await using server = await startServer([], {
    app: `${site.url}tests/prefork/app.ts`,
    env: { DENO_DIR: `${folder.path}/deno` },
  });
  assertEquals(await server.get("/"), "Hello, World!\n");
  assertEquals(server.workers.length, 2);
});

Deno.test("servePrefork() restores the program's signal actions when it returns", async () => {
  await using program = startFunction(
    async () => {
      const app = { fetch: () => new Response() };
      const code = await tine.servePrefork(app, { port: 0, hostname: "127.0.0.1", workers: 1 });
      console.log(`returned ${code}`);
      for (;;) tine.sleep(60);
    },
    [],
    { flags: ["--allow-all"] },
  );
  await until(() => /Serving/.test(program.stderr), "the server");
  program.kill();
  await program.printed(/returned 0/);
  program.kill();
  assertEquals(await program.ended(), { code: 143, signal: "SIGTERM" });
});
