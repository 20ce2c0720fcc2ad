import { assert, assertEquals, assertMatch } from "@std/assert";
import { readStatus, type ReloadStatus } from "../server/prefork/status/status.ts";
import {
  childrenOf,
  DENO,
  isPortFree,
  processState,
  ROOT,
  scratch,
  Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** An app that loads slowly, and then fails if a file of that name exists. */
function slowApp(folder: string, text = "new"): string {
  const source = `
    await new Promise((resolve) => setTimeout(resolve, 700));
    let isBroken = true;
    try { Deno.statSync("${folder}/broken"); } catch { isBroken = false; }
    if (isBroken) throw new Error("a broken deploy");
    export default { fetch: () => new Response("${text}") };`;
  return writeApp(folder, source);
}

/**
 * Has a deploy land that is broken, after the canary has loaded the code and before the master has.
 */
async function breakBetween(server: Server, folder: string): Promise<void> {
  server.kill("SIGHUP");
  await server.logged(/re-executing the master/);
  Deno.writeTextFileSync(`${folder}/broken`, "");
  await server.logged(
    /The new code cannot be loaded, the old workers keep serving: .*a broken deploy/,
  );
}

Deno.test("servePrefork() tries again when new code fails to load after its canary has loaded it", async () => {
  await using folder = scratch();
  await using server = await startServer([], { app: slowApp(folder.path, "old") });
  const old = server.workers;
  slowApp(folder.path);
  await breakBetween(server, folder.path);
  await server.logged(/Trying the new code again in 1 s[^]*cannot be loaded \(exit 1\)[^]* in 2 s/);
  Deno.kill(old[0]!, "SIGKILL");
  await until(() => server.workers.length === 1, "the end of a worker");
  assertEquals(await server.get("/"), "old", "the other worker keeps serving");
  Deno.removeSync(`${folder.path}/broken`);
  await server.replaced(old);
  assertEquals(await server.get("/"), "new");
});

Deno.test("servePrefork() ends when no worker is left and the new code cannot be loaded", async () => {
  await using folder = scratch();
  await using server = await startServer([], { app: slowApp(folder.path) });
  const { port, workers } = server;
  await breakBetween(server, folder.path);
  for (const pid of workers) Deno.kill(pid, "SIGKILL");
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /No worker is left: trying[^]*cannot be loaded[^]*Giving up/);
  assert(isPortFree(port));
});

Deno.test("servePrefork() restarts an app that has set its process's title", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `import process from "node:process";
     process.title = "${"an app ".repeat(100)}";
     export default { fetch: () => new Response("served") };`,
  );
  await using server = await startServer([], { app });
  await until(
    () => Deno.readTextFileSync(`/proc/${server.pid}/cmdline`).startsWith("an app"),
    "the title",
  );
  for (let i = 0; i < 2; i++) {
    await server.restarted();
    assertEquals(await server.get("/"), "served");
  }
});

Deno.test("servePrefork() does not lose a SIGHUP that arrives while a canary runs", async () => {
  await using folder = scratch();
  const app = slowApp(folder.path, "old");
  await using server = await startServer([], { app });
  const old = server.workers;
  Deno.writeTextFileSync(`${folder.path}/broken`, "");
  server.kill("SIGHUP");
  const canary = await canaryOf(server, old);
  Deno.kill(canary, "SIGSTOP"); // so that it is still there
  server.kill("SIGHUP");
  // The master has seen the second when it has acted on a signal that was sent later.
  server.kill("SIGUSR1");
  await server.logged(/logs reopened/);
  Deno.kill(canary, "SIGCONT");
  await server.logged(/cannot be loaded \(exit 1\)[^]*trying the new code/);
  await server.logged(/cannot be loaded[^]*cannot be loaded/);
  assertEquals(server.workers, old);
});

Deno.test("servePrefork() does not lose a signal that arrives at the end of a canary", async () => {
  await using folder = scratch();
  await using server = await startServer([], { app: slowApp(folder.path) });
  const { workers } = server;
  server.kill("SIGHUP");
  const canary = await canaryOf(server, workers);
  server.kill("SIGSTOP");
  await until(() => processState(canary)?.state === "Z", "the end of the canary");
  // One handler runs at a time: the second comes when the master hears its workers.
  server.kill("SIGUSR1");
  server.kill("SIGTERM");
  server.kill("SIGCONT");
  assertEquals(await server.ended(), { code: 0, signal: null });
  assert(!/re-executing the master/.test(server.stderr), server.stderr);
});

Deno.test("servePrefork() keeps the number of workers set by SIGTTIN and SIGTTOU after SIGHUP", async () => {
  await using server = await startServer();
  server.kill("SIGTTIN");
  const three = await until(() => server.workers.length === 3 && server.workers, "a third worker");
  server.kill("SIGHUP");
  const others = await server.replaced(three, 3);
  assertEquals(readStatus(server.pid).master.workers, 3);
  server.kill("SIGTTOU");
  await server.logged(/2 workers from now on/);
  server.kill("SIGTTOU");
  await server.logged(/1 worker from now on/);
  await until(() => server.workers.length === 1, "one worker");
  server.kill("SIGHUP");
  await server.replaced(others, 1);
});

Deno.test("servePrefork() says after two seconds that an app is still being loaded", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `while (![...Deno.readDirSync("${folder.path}")].some(({ name }) => name === "go")) {
       await new Promise((resolve) => setTimeout(resolve, 20));
     }
     export default { fetch: () => new Response() };`,
  );
  await using server = spawnServer([], { app });
  await server.logged(/Still loading .*app\.ts after 2 s: .* take 60 s \(--boot-timeout\)$/m);
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  await server.logged(/Serving /);
  assertEquals(server.stderr.match(/Still loading/g)?.length, 1);
});

Deno.test("servePrefork() ends when the app's top level does not finish within --boot-timeout", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, "await new Promise(() => {}); export default {};");
  await using server = spawnServer(["--boot-timeout", "0.5"], { app });
  assertEquals(await server.ended(), { code: 1, signal: null });
  assertMatch(server.stderr, /^error: Cannot load .*app\.ts: .*did not finish within 0\.5 s/m);
});

Deno.test("servePrefork() treats two simultaneous SIGINTs as one", async () => {
  for (let attempt = 1;; attempt++) {
    await using server = await startServer();
    const slow = server.get("/sleep?ms=2000").catch(() => "killed");
    await until(() => server.inFlight === 1, "the request");
    const { pid, workers } = server;
    // As `deno task` does with a terminal's: it passes on what the master has got already.
    const first = performance.now();
    Deno.kill(pid, "SIGINT");
    await server.logged(/SIGINT: stopping/);
    Deno.kill(pid, "SIGINT");
    const isInTime = performance.now() - first < 300; // not so on a busy machine
    if (isInTime) assert(workers.includes(Number(await slow)));
    assertEquals(await server.ended(), { code: 0, signal: null });
    if (isInTime) break;
    assert(attempt < 20, "the second SIGINT came too late each time");
  }
});

Deno.test("servePrefork() finishes requests when its master is killed, even with --timeout 0", async () => {
  await using server = await startServer(["--timeout", "0"]);
  const slow = server.get("/sleep?ms=2000");
  await until(() => server.inFlight === 1, "the request");
  const { workers } = server;
  server.kill("SIGKILL");
  assert(workers.includes(Number(await slow)));
  await until(() => workers.every((pid) => processState(pid) === undefined), "the workers' end");
});

/** How the last attempt to load code ended, once it is another than this one. */
function nextReload(server: Server, before: ReloadStatus | null): Promise<ReloadStatus> {
  return until(() => {
    const { lastReload } = readStatus(server.pid).master;
    return lastReload?.time !== before?.time && lastReload;
  }, "the end of an attempt to load code");
}

Deno.test("the status tells whether the last reload succeeded, when, and the app's own reason", async () => {
  await using folder = scratch();
  const good = 'export default { fetch: () => new Response("good") };';
  const app = writeApp(folder.path, good);
  await using server = await startServer([], { app });
  const start = readStatus(server.pid).master;
  assertEquals([start.lastReload?.success, start.lastReload?.reason], [true, null]);
  let last = start.lastReload!;
  assert(last.time > start.started);

  const broken: [source: string, reason: RegExp][] = [
    ['throw new Error("no\\nluck");', /^Cannot load .*app\.ts: it threw at.*Error: no luck at \//],
    ["export default {};", /^Cannot serve .*app\.ts: its default export has no fetch function\. /],
    ["Deno.exit(3);", /^Cannot load .*app\.ts: it ended the process with exit code 3 while it was/],
    [
      "Deno.exit(86);",
      /^Cannot load .*app\.ts: it ended the process with exit code 86 while it was/,
    ],
    [good + "const x = ;", /^SyntaxError: .* at \/.*app\.ts:1:\d+$/],
    [`import "./missing.ts";`, /^Module not found "\/.*missing\.ts" at \/.*app\.ts:1:8$/],
    ['JSON.parse("{oops");', /^Cannot load .*app\.ts: .* in JSON .* at \/\S*app\.ts:1:6$/],
    [
      `import { createRequire } from "node:module";
       createRequire(import.meta.url)("./broken.cjs");`,
      /^Cannot load .*app\.ts: Unexpected .* in a module that is required at \/\S*app\.ts:2:\d+$/,
    ],
    ['export function onWorkerStart() { throw new Error("no\\nway"); }' + good, /^no$/],
  ];
  writeApp(folder.path, "module.exports = ;", "broken.cjs");
  for (const [source, reason] of broken) {
    const before = Date.now();
    writeApp(folder.path, source);
    server.kill("SIGHUP");
    last = await nextReload(server, last);
    assertEquals(last.success, false);
    assertMatch(last.reason!, reason);
    assert(Date.parse(last.time) >= before && Date.parse(last.time) <= Date.now());
    assertEquals(await server.get("/"), "good", "the old code keeps serving");
  }

  writeApp(folder.path, good);
  server.kill("SIGHUP");
  last = await until(() => {
    const { lastReload } = readStatus(server.pid).master;
    return lastReload?.success && lastReload;
  }, "a reload that succeeds");
  assertEquals(last.reason, null);
});

Deno.test("the status tells why the code that its canary could load was not loaded by the master", async () => {
  await using folder = scratch();
  await using server = await startServer([], { app: slowApp(folder.path) });
  await breakBetween(server, folder.path);
  // It is recorded when it has been logged.
  const lastReload = await until(() => {
    const { lastReload } = readStatus(server.pid).master;
    return lastReload?.success === false && lastReload;
  }, "the failure in the status");
  assertMatch(lastReload.reason!, /^Cannot load .*app\.ts: .*Error: a broken deploy at \//);
});

Deno.test("the status tells why a program of its own could not be restarted", async () => {
  await using folder = scratch();
  writeApp(folder.path, 'export default { fetch: () => new Response("good") };');
  const program = writeApp(
    folder.path,
    `import { servePrefork } from ${JSON.stringify(new URL("server/mod.ts", ROOT).href)};
     const app = new URL("./app.ts", import.meta.url);
     Deno.exit(await servePrefork(app, { port: 0, workers: 1 }));`,
    "main.ts",
  );
  await using server = new Server(DENO, ["run", "-A", "--no-lock", program]);
  await server.logged(/Serving/);
  const { lastReload } = readStatus(server.pid).master;
  writeApp(folder.path, 'throw new Error("a broken deploy");');
  server.kill("SIGHUP");
  const { success, reason } = await nextReload(server, lastReload);
  assertEquals(success, false);
  assertMatch(reason!, /^Cannot load file:.*app\.ts: .*Error: a broken deploy at \//);
});

/** The process that tries to load new code. */
function canaryOf({ pid }: Server, workers: readonly number[]): Promise<number> {
  return until(() => childrenOf(pid).find((child) => !workers.includes(child)), "the canary");
}
