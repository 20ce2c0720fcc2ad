import { assert, assertEquals, assertMatch } from "@std/assert";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  childrenOf,
  DENO,
  processState,
  ROOT,
  scratch,
  type Server,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/**
 * What a subprocess of the app finds: signals, descriptors, directory and environment. Any worker may
 * answer, so its number is left out.
 */
function traces(server: Server): Promise<string> {
  const run =
    "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; pwd; env | grep -v ^TINE_WORKER= | sort";
  return server.get(`/command?run=${encodeURIComponent(run)}`);
}

/** Copies a file, or a folder with all that is in it. */
async function copy(from: string, to: string): Promise<void> {
  const { success } = await new Deno.Command("cp", { args: ["-r", from, to] }).output();
  assert(success, `cannot copy ${from}`);
}

/** An app that answers with a text. */
function answering(text: string): string {
  return `export default { fetch: () => new Response("${text}") };`;
}

Deno.test("servePrefork() leaves nothing in the app's subprocesses after a restart, even a failed one", async () => {
  await using folder = scratch();
  // A Deno of its own, which no longer can be executed once the canary has loaded the code.
  const deno = `${folder.path}/deno`;
  Deno.copyFileSync(DENO, deno);
  const app = writeApp(
    folder.path,
    `export { default } from "${new URL("prefork/app.ts", import.meta.url)}";
     Deno.chdir("/");
     if (Deno.readTextFileSync("${folder.path}/obstacle") === "yes") Deno.chmodSync("${deno}", 0o600);`,
  );
  const obstacle = (is: "yes" | "no") => Deno.writeTextFileSync(`${folder.path}/obstacle`, is);
  obstacle("no");
  const shell = `exec bash -c 'shift 2; exec "$0" "$@"' ${deno}`;
  await using server = await startServer(["--admin", `${folder.path}/admin`], { app, shell });
  const fresh = await traces(server);

  const restarted = await server.restarted();
  assertEquals(await traces(server), fresh);

  obstacle("yes");
  server.kill("SIGHUP");
  await server.logged(/Cannot re-execute the master: .*EACCES.*, the old code stays in use/);
  assertEquals(server.workers, restarted);
  server.kill("SIGUSR2"); // workers of the master that could not be replaced
  const later = await server.replaced(restarted);
  assertEquals(await traces(server), fresh);

  obstacle("no");
  Deno.chmodSync(deno, 0o755);
  server.kill("SIGHUP");
  await server.replaced(later);
  assertEquals(await traces(server), fresh);
});

Deno.test("servePrefork() restarts an app that changes the working directory", async () => {
  await using folder = scratch();
  const source = (text: string) => `Deno.chdir("/"); ${answering(text)}`;
  writeApp(folder.path, source("old"));
  await using server = await startServer([], { app: "app.ts", cwd: folder.path });
  for (const text of ["new", "newest"]) {
    writeApp(folder.path, source(text));
    await server.restarted();
    assertEquals(await server.get("/"), text);
  }
});

Deno.test("servePrefork() restarts an app with the environment that it was given, not with what it set", async () => {
  await using folder = scratch();
  // As packages do that read a .env file: what is set already takes precedence.
  const source = (text: string) => `
    const given = Deno.env.get("GIVEN");
    Deno.env.delete("GIVEN");
    if (Deno.env.get("TEXT") === undefined) Deno.env.set("TEXT", "${text}");
    if (Deno.env.get("PORT") === undefined) Deno.env.set("PORT", "1");
    const text = Deno.env.get("TEXT") + " " + given;
    export default { fetch: () => new Response(text + " " + Deno.env.get("GIVEN")) };`;
  const app = writeApp(folder.path, source("old"));
  await using server = await startServer([], { app, env: { GIVEN: "given" } });
  assertEquals(await server.get("/"), "old given undefined");
  for (const text of ["new", "newest"]) {
    writeApp(folder.path, source(text));
    await server.restarted();
    assertEquals(await server.get("/"), `${text} given undefined`);
  }
});

Deno.test("servePrefork() restarts with the release to which the directory's link then points", async () => {
  await using folder = scratch();
  const link = `${folder.path}/current`;
  for (const release of ["1", "2", "3"]) {
    Deno.mkdirSync(`${folder.path}/${release}`);
    writeApp(`${folder.path}/${release}`, answering(release));
  }
  Deno.symlinkSync("1", link);
  await using server = await startServer([], { app: "app.ts", cwd: link, env: { PWD: link } });
  assertEquals(await server.get("/"), "1");
  for (const release of ["2", "3"]) {
    Deno.symlinkSync(release, `${link}.new`);
    Deno.renameSync(`${link}.new`, link);
    await server.restarted();
    assertEquals(await server.get("/"), release);
  }
});

Deno.test("servePrefork() reports in one line that the directory in which it was started is gone", async () => {
  await using folder = scratch();
  const cwd = `${folder.path}/release`;
  Deno.mkdirSync(cwd);
  const app = writeApp(folder.path, answering("served"));
  await using server = await startServer([], { app, cwd, env: { PWD: cwd } });
  Deno.removeSync(cwd);
  server.kill("SIGHUP");
  await server.logged(/the old code stays in use/);
  const [error, ...more] = server.stderr.split("\n").filter((line) => !/^\d{4}-/.test(line));
  assertMatch(
    error ?? "",
    /^error: Cannot change to the directory in which .*: No such file .*release'$/,
  );
  assertEquals(more, [""]);
  await until(
    () => `error: ${readStatus(server.pid).master.lastReload?.reason}` === error,
    `"${error}" in the status`,
  );
  assertEquals(await server.get("/"), "served");
});

Deno.test("servePrefork() ignores a $PWD that names another directory", async () => {
  await using folder = scratch();
  Deno.mkdirSync(`${folder.path}/other`);
  writeApp(folder.path, answering("old"));
  writeApp(`${folder.path}/other`, answering("other"));
  for (const PWD of [`${folder.path}/other`, `${folder.path}/missing`, ".", ""]) {
    writeApp(folder.path, answering("old"));
    await using server = await startServer([], { app: "app.ts", cwd: folder.path, env: { PWD } });
    writeApp(folder.path, answering("new"));
    await server.restarted();
    assertEquals(await server.get("/"), "new", PWD);
  }
});

Deno.test("servePrefork() forks no worker while it has no app, and loads one at the next SIGHUP", async () => {
  await using folder = scratch();
  // The third one to load it is the master, after the start and the canary.
  const app = writeApp(
    folder.path,
    `Deno.writeTextFileSync("${folder.path}/loads", ".", { append: true });
     const loads = Deno.readTextFileSync("${folder.path}/loads").length;
     if (loads >= 3 && loads < 1000) throw new Error("the third time");
     ${answering("served")}`,
  );
  await using server = await startServer(["--admin", `${folder.path}/admin`], { app });
  const [first, second] = server.workers;
  server.kill("SIGHUP");
  await server.logged(
    /The new code cannot be loaded, the old workers keep serving: .*the third time/,
  );
  assertEquals(server.workers, [first, second]);
  Deno.kill(first!, "SIGKILL");
  await server.logged(new RegExp(`\\(pid ${first}\\) ended: killed by SIGKILL`));
  server.kill("SIGTTIN");
  await server.logged(/3 workers from now on/);
  await server.logged(/Trying the new code again in 2 s/);
  assertEquals(await server.get("/"), "served");
  assertEquals(server.workers, [second]);
  assert(!/failed to start/.test(server.stderr), server.stderr);
  Deno.writeTextFileSync(`${folder.path}/loads`, ".".repeat(1000));
  server.kill("SIGHUP");
  await server.replaced([second!], 3);
  assertEquals(await server.get("/"), "served");
});

Deno.test("servePrefork() survives an import that breaks after the canary has loaded it", async () => {
  await using folder = scratch();
  writeApp(folder.path, answering("old"));
  await using server = await startServer([], { app: "app.ts", cwd: folder.path });
  const { workers } = server;
  writeApp(folder.path, "", "import.ts");
  writeApp(
    folder.path,
    `import "./import.ts";
     Deno.writeTextFileSync("${folder.path}/import.ts", "const x = ;");
     ${answering("new")}`,
  );
  server.kill("SIGHUP");
  await server.logged(
    /re-executing[^]*cannot be loaded, the old workers keep serving: .*import\.ts/,
  );
  assertEquals(server.workers, workers);
  assertEquals(await server.get("/"), "old");
  const loads = `${folder.path}/loads`;
  writeApp(
    folder.path,
    `Deno.writeTextFileSync("${loads}", ".", { append: true }); ${answering("newest")}`,
  );
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertEquals(await server.get("/"), "newest");
  assertEquals(Deno.readTextFileSync(loads), "..", "by the canary and the master");
});

Deno.test("servePrefork() survives what new code leaves behind that fails in the master alone", async () => {
  await using folder = scratch();
  writeApp(folder.path, answering("old"));
  await using server = await startServer([], { app: "app.ts", cwd: folder.path });
  const { workers } = server;
  const loaded = `${folder.path}/loaded`;
  writeApp(
    folder.path,
    `import { setImmediate } from "node:timers";
     try {
       Deno.writeTextFileSync("${loaded}", "by the canary", { createNew: true });
     } catch {
       const leaveBehind = () => {
         Promise.reject(new Error("left behind"));
         setImmediate(leaveBehind); // in each turn of the event loop
       };
       leaveBehind();
       throw new Error("not in the master");
     }
     ${answering("new")}`,
  );
  server.kill("SIGHUP");
  await server.logged(/cannot be loaded, the old workers keep serving: .*not in the master/);
  writeApp(folder.path, answering("newest"));
  server.kill("SIGHUP");
  await server.replaced(workers);
  assertEquals(await server.get("/"), "newest");
});

Deno.test("servePrefork() restarts as another version of tine with a different scoreboard", async () => {
  await using folder = scratch();
  for (const name of ["deno.json", "mod.ts", "ffi", "server"]) {
    await copy(new URL(name, ROOT).pathname, `${folder.path}/${name}`);
  }
  const file = `${folder.path}/server/prefork/scoreboard.ts`;
  const source = Deno.readTextFileSync(file);
  const other = source.replace(/^const VERSION = /m, "$&1000 + ");
  assert(other !== source);
  Deno.writeTextFileSync(file, other);
  await using server = await startServer([], { cli: `${folder.path}/server/cli.ts` });
  const old = childrenOf(server.pid);
  const slow = await fetch(`http://127.0.0.1:${server.port}/stream?count=20&ms=50`);
  Deno.writeTextFileSync(file, source);
  server.kill("SIGHUP");
  await server.logged(/(Serving[^]*){2}/); // no status can be read before
  const workers = await server.replaced(old);
  assertEquals(
    (await slow.text()).match(/\d+/g)?.filter((pid) => old.includes(Number(pid))).length,
    20,
  );
  await until(() => childrenOf(server.pid).length === 2, "the old workers' end");
  assertEquals(server.workers, workers);
  assert(workers.includes(Number(await server.get("/pid"))));
});

Deno.test("servePrefork() survives a new version of tine that lacks what only an option needs", async () => {
  await using folder = scratch();
  for (const name of ["deno.json", "mod.ts", "ffi", "server"]) {
    await copy(new URL(name, ROOT).pathname, `${folder.path}/${name}`);
  }
  const cli = `${folder.path}/server/cli.ts`;
  const log = `${folder.path}/access.log`;
  await using server = await startServer(["--access-log", log], { cli });
  const { workers } = server;
  const file = `${folder.path}/server/prefork/logs/access_log.ts`;
  Deno.renameSync(file, `${file}.away`);
  server.kill("SIGHUP");
  await server.logged(/access_log\.ts[^]*cannot be loaded[^]*the old code stays in use/);
  assertEquals(server.workers, workers);
  Deno.renameSync(`${file}.away`, file);
  server.kill("SIGHUP");
  await server.replaced(workers);
});

Deno.test("servePrefork() tries new code for at most --boot-timeout, and not while it stops", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, answering("old"));
  await using server = await startServer(["--boot-timeout", "2"], { app });
  const { workers } = server;
  writeApp(folder.path, `await new Promise(() => setInterval(() => {}, 1000));`);
  const canary = () =>
    until(() => childrenOf(server.pid).find((pid) => !workers.includes(pid)), "the canary");

  server.kill("SIGHUP");
  const late = await canary();
  await server.logged(
    /The new code cannot be loaded \(killed by SIGKILL\), the old code stays in use/,
  );
  assertEquals(processState(late), undefined);
  const reason = () => readStatus(server.pid).master.lastReload?.reason;
  await until(() => reason() === "The new code has not loaded within 2 s", "it in the status");
  assertEquals(await server.get("/"), "old");
  assertEquals(server.workers, workers);

  server.kill("SIGHUP");
  const aborted = await canary();
  await server.logged(/(SIGHUP: trying the new code[^]*){2}/);
  const client = await Deno.connect({ port: server.port });
  try {
    await client.write(new TextEncoder().encode("GET / HTTP/1.1\r\n")); // holds a worker up
    const { length } = server.stderr;
    server.kill("SIGTERM");
    await until(() => processState(aborted) === undefined, "the canary's end");
    server.kill("SIGHUP");
    assertEquals(await server.ended(), { code: 0, signal: null });
    assert(!/new code/.test(server.stderr.slice(length)), server.stderr);
  } finally {
    client.close();
  }
});
