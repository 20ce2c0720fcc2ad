import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { bundle, FORKABLE } from "./bundle.ts";
import { askAsBrowser, checkPage } from "./status_page.ts";
import { exchange, Program, scratch, startServer, until, within, writeApp } from "./support.ts";

const app = (greeting: string) => `export default { fetch: () => new Response("${greeting}\\n") };`;

/** A folder with the command line's one file and an app, and nothing else of tine. */
async function installed(): Promise<{ path: string; cli: string } & AsyncDisposable> {
  const folder = scratch();
  const cli = `${folder.path}/tine.js`;
  try {
    bundle(cli);
    writeApp(folder.path, app("hello"));
  } catch (error) {
    await folder[Symbol.asyncDispose]();
    throw error;
  }
  return { ...folder, cli };
}

Deno.test("the bundled command line serves, restarts and shows the status, also to a browser, without other files or packages", async () => {
  await using folder = await installed();
  const alone = {
    cli: folder.cli,
    flags: ["--no-config", "--no-remote", "--no-npm"],
    cwd: folder.path,
    env: { DENO_DIR: `${folder.path}/deno` },
  };
  for (const flags of [[], [FORKABLE]]) {
    writeApp(folder.path, app("hello"));
    const options = { ...alone, app: "app.ts", flags: [...alone.flags, ...flags] };
    const args = [
      "--pid-file",
      `${folder.path}/pid`,
      "--access-log",
      "-",
      "--admin",
      `${folder.path}/admin.sock`,
    ];
    await using server = await startServer(args, options);
    assertEquals(await server.get("/"), "hello\n");
    const { workers } = server;
    writeApp(folder.path, app("hello again"));
    server.kill("SIGHUP");
    await server.replaced(workers);
    assertEquals(await server.get("/"), "hello again\n");
    await using status = new Program(
      Deno.execPath(),
      ["run", "-A", ...alone.flags, folder.cli, "status", "--pid-file", `${folder.path}/pid`],
      { cwd: folder.path, env: alone.env },
    );
    assertEquals(await status.ended(), { code: 0, signal: null });
    assertMatch(status.stdout, /2 of 2 workers ready/);
    const page = await until(
      () => askAsBrowser(`${folder.path}/admin.sock`).catch(() => undefined),
      "the status page",
    );
    assertEquals((await checkPage(page)).master.pid, server.pid);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
    assertStringIncludes(server.stdout, '"GET / HTTP/1.1" 200');
  }
});

Deno.test("the bundled command line loads nothing else at its start, and has the other commands", async () => {
  await using folder = await installed();
  // What a command needs that is not for all of them is imported when it runs.
  assertEquals(Deno.readTextFileSync(folder.cli).match(/^import .*/m), null);
  for (const command of ["status", "top", "reload", "stop"]) {
    await using program = new Program(
      Deno.execPath(),
      ["run", "-A", "--no-config", folder.cli, command, "--admin", "127.0.0.1:1"],
      { cwd: folder.path },
    );
    assertEquals(await program.ended(), { code: 1, signal: null });
    assertStringIncludes(program.stderr, "nothing listens there");
  }
});

Deno.test("the bundled command line also has the lower rungs", async () => {
  await using folder = await installed();
  for (const model of ["iterative", "forking"]) {
    await using server = new Program(
      Deno.execPath(),
      ["run", "-A", "--no-config", folder.cli, "serve", "app.ts", "--model", model, "--port", "0"],
      { cwd: folder.path },
    );
    const [, port] = await until(() => server.stderr.match(/http:[^ ]*:(\d+)/), "the ready line");
    const reply = await within(
      exchange(Number(port), "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
      15_000,
      "the reply",
    );
    assertStringIncludes(reply, "hello\n");
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  }
});
