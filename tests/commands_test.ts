/**
 * The commands for a running server: reload, stop, scale and logs reopen. Each runs as a process,
 * and is told by its exit code and by what the server really does.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  ask,
  DENO,
  descriptorsOf,
  exchange,
  exists,
  listeningPorts,
  processState,
  Program,
  ROOT,
  scratch,
  type Server,
  spawnServer,
  start,
  until,
  writeApp,
} from "./support.ts";

/** Starts a command. */
function begin(...args: string[]): Program {
  return start("server/cli.ts", args, { flags: ["-A"] });
}

/** What a command has ended with. */
interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function outcomeOf(program: Program): Promise<Outcome> {
  const { code, signal } = await program.ended(60_000);
  assertEquals(signal, null);
  return { code, stdout: program.stdout, stderr: program.stderr };
}

/** Runs a command to its end. */
async function tine(...args: string[]): Promise<Outcome> {
  await using program = begin(...args);
  return await outcomeOf(program);
}

const app = (answer: string, top = "") =>
  `${top}\nexport default { async fetch(request: Request) {
    const end = new URL(request.url).searchParams.get("until");
    const isThere = () => { try { return Deno.statSync(end!).isFile; } catch { return false; } };
    while (end !== null && !isThere()) await new Promise((resolve) => setTimeout(resolve, 20));
    return new Response("${answer}");
  } };\n`;

/** What waits in an app, after having said so, until there is a file. */
const waitIn = (folder: string) =>
  `Deno.writeTextFileSync("${folder}/waits", "");
  await new Promise((go) => {
    const timer = setInterval(() => {
      try {
        Deno.statSync("${folder}/go");
        clearInterval(timer);
        go(0);
      } catch { /* not yet */ }
    }, 20);
  });`;

/** An app whose workers wait in that way before they are ready. */
const waitingApp = (folder: string) =>
  app("one").replace(
    "export default {",
    `export default { async onWorkerStart() { ${waitIn(folder)} },`,
  );

/** A server with an app of the test's. */
async function serve(
  source: string,
  args: string[] = [],
): Promise<{ server: Server; pid: string; folder: string } & AsyncDisposable> {
  const folder = scratch();
  const file = writeApp(folder.path, source);
  const server = spawnServer(args, { app: file, cwd: folder.path });
  const started = {
    server,
    pid: String(server.pid),
    folder: folder.path,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
  try {
    // The line in the log may be in a file.
    const url = await until(() => readyUrl(server.pid), "workers that are ready", 60_000);
    server.port = Number(new URL(url).port);
    return started;
  } catch (error) {
    await started[Symbol.asyncDispose]();
    throw new Error(`${(error as Error).message}: ${server.stderr}`);
  }
}

function readyUrl(pid: number): string | undefined {
  try {
    const { lastReload, url } = readStatus(pid).master;
    return lastReload?.success ? url : undefined;
  } catch {
    return undefined; // it is still starting
  }
}

/** What `reload` ends with when 2 workers serve the new code. */
const reloaded = (rest = ""): Outcome => ({
  code: 0,
  stdout: `Reloaded: 2 workers serve the new code${rest}\n`,
  stderr: "",
});

const isStopping = (server: Server) => () => readStatus(server.pid).master.draining;

Deno.test("`reload` ends when the new code is in use, or with the app's error", async () => {
  await using started = await serve(app("one"), ["--boot-timeout", "20"]);
  const { server, pid, folder } = started;
  const { workers } = server;
  const slow = ask(server.port, `/?until=${folder}/end`);
  await until(() => server.inFlight > 0, "it");
  writeApp(folder, app("two"));
  assertEquals(
    await tine("reload", pid),
    reloaded("; 1 worker with the old code still finishes its requests"),
  );
  assertEquals(await ask(server.port, "/"), "two");
  assert(!server.workers.some((worker) => workers.includes(worker)));
  Deno.writeTextFileSync(`${folder}/end`, "");
  assertEquals(await slow, "one");

  writeApp(folder, "export default {");
  const broken = await tine("reload", pid);
  assertEquals([broken.code, broken.stdout], [1, ""]);
  assertMatch(
    broken.stderr,
    /^error: The reload failed: .*app\.ts:1:17\. The old code stays in use\n$/,
  );
  Deno.removeSync(`${folder}/app.ts`);
  const missing = await tine("reload", pid);
  assertEquals([missing.code, missing.stdout], [1, ""]);
  assertMatch(missing.stderr, /failed: [^.]+ "[^"]*app\.ts"\. The old code stays in use\n$/);
  writeApp(folder, "throw new Error('no \\x07configuration');");
  const thrown = await tine("reload", pid);
  assertEquals([thrown.code, thrown.stdout], [1, ""]);
  assertMatch(thrown.stderr, /^error: The reload failed: .*no \W?configuration.*\n$/);
  assert(!/[^\n\P{Cc}]/u.test(thrown.stderr), "It has a control character");
  assertEquals(await ask(server.port, "/"), "two");

  writeApp(folder, app("three"));
  assertEquals(await tine("reload", pid, "--no-wait"), { code: 0, stdout: "", stderr: "" });
  await until(async () => await ask(server.port, "/") === "three", "the new code");
});

Deno.test("`reload` reports workers that fail to start with the new code", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  const { workers } = server;
  writeApp(
    folder,
    `${app("two")}throw_; function throw_() {}`.replace(
      "export default {",
      "export default { onWorkerStart() { throw new Error('no database'); },",
    ),
  );
  const { code, stderr } = await tine("reload", pid);
  assertEquals(code, 1);
  assertMatch(stderr, /^error: The reload failed: .*no database.* The old workers keep serving/);
  assertEquals(await ask(server.port, "/"), "one");
  assert(workers.every((worker) => processState(worker) !== undefined));
});

Deno.test("`reload` does not wait for an old worker whose event loop is blocked", async () => {
  await using started = await serve(`${app("one")}
    addEventListener("loop", () => { for (;;); });`.replace(
    "const end =",
    'if (request.url.endsWith("/loop")) dispatchEvent(new Event("loop"));\nconst end =',
  ));
  const { server, pid, folder } = started;
  ask(server.port, "/loop").catch(() => {}); // killed
  await until(() => readStatus(server.pid).workers.some(({ stalled }) => stalled > 0), "the loop");
  writeApp(folder, app("two"));
  assertEquals(
    await tine("reload", pid),
    reloaded("; 1 worker with the old code still finishes its requests"),
  );
  assertEquals(await ask(server.port, "/"), "two");
  assertEquals((await tine("stop", "--now", pid)).code, 0);
});

Deno.test("`reload` waits for the outcome of its own request, not of one before", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  writeApp(folder, `${waitIn(folder)} throw new Error("broken");`);
  await using first = begin("reload", pid);
  await until(() => exists(`${folder}/waits`), "the attempt with the broken code");
  writeApp(folder, app("two"));
  await using second = begin("reload", pid);
  await until(() => readStatus(server.pid).master.reloads.requested === 2, "the second request");
  Deno.writeTextFileSync(`${folder}/go`, "");
  const [one, two] = await Promise.all([outcomeOf(first), outcomeOf(second)]);
  assertEquals(one.code, 1, one.stdout);
  assertStringIncludes(one.stderr, "broken");
  assertEquals(two, reloaded());
  assertEquals(await ask(server.port, "/"), "two");
});

Deno.test("a time limit or a signal ends the wait of `reload`, and changes nothing for the server", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  writeApp(folder, app("two", waitIn(folder)));
  const late = await tine("reload", pid, "--timeout", "0.3");
  assertEquals([late.code, late.stdout], [1, ""]);
  assertMatch(late.stderr, /^error: The reload has not ended within 0\.3 s, and goes on.*\n$/);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const { requested } = readStatus(server.pid).master.reloads;
    await using waiting = begin("reload", pid);
    await until(() => readStatus(server.pid).master.reloads.requested > requested, "the request");
    waiting.kill(signal);
    const { code, stderr } = await outcomeOf(waiting);
    assertEquals(code, 1);
    assertMatch(stderr, /^error: Interrupted: the reload goes on/);
  }
  Deno.writeTextFileSync(`${folder}/go`, "");
  await until(async () => await ask(server.port, "/") === "two", "the new code");
});

Deno.test("`reload` reports that the master has ended meanwhile", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  writeApp(folder, app("two", waitIn(folder)));
  await using waiting = begin("reload", pid);
  await until(() => exists(`${folder}/waits`), "the attempt");
  server.kill("SIGKILL");
  assertEquals(await outcomeOf(waiting), {
    code: 1,
    stdout: "",
    stderr: "error: The server has ended during the reload\n",
  });
  Deno.writeTextFileSync(`${folder}/go`, ""); // for the process that tries the code
});

Deno.test("`stop` ends when the server has, and a second one does not hurry it", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  const slow = ask(server.port, `/?until=${folder}/end`);
  await until(() => server.inFlight > 0, "it");
  await using first = begin("stop", pid);
  await until(isStopping(server), "the stop");
  // Signals within half a second are one request: the second command must not send a later one.
  await new Promise((resolve) => setTimeout(resolve, 600));
  await using second = begin("stop", pid);
  await new Promise((resolve) => setTimeout(resolve, 3000)); // longer than its start takes
  Deno.writeTextFileSync(`${folder}/end`, "");
  const stopped = { code: 0, stdout: "Stopped\n", stderr: "" };
  assertEquals(await outcomeOf(first), stopped);
  assertEquals(await outcomeOf(second), stopped);
  assertEquals(await slow, "one");
  assertEquals(await server.ended(), { code: 0, signal: null });
  const gone = await tine("stop", pid);
  assertEquals([gone.code, gone.stdout], [1, ""]);
  assertMatch(gone.stderr, /^error: .*there is no such process\n$/);
});

Deno.test("`stop` waits for --grace; --now does not, also where the server is stopping", async () => {
  await using patient = await serve(app("one"), ["--grace", "1"]);
  const hung = (server: Server) => {
    ask(server.port, "/?until=/nonexistent").catch(() => {}); // cut off
    return until(() => server.inFlight > 0, "it");
  };
  await hung(patient.server);
  assertEquals(await tine("stop", patient.pid), { code: 0, stdout: "Stopped\n", stderr: "" });

  await using started = await serve(app("one"));
  const { server, pid } = started;
  await hung(server);
  const late = await tine("stop", pid, "--timeout", "3");
  assertEquals([late.code, late.stdout], [1, ""]);
  assertMatch(
    late.stderr,
    /The stop has not ended within 3 s, and goes on: 1 worker is left, 1 /,
  );
  const refused = await tine("reload", pid);
  assertEquals([refused.code, refused.stderr], [
    1,
    `error: Cannot reload server ${pid}: it is stopping\n`,
  ]);
  assertEquals((await tine("stop", "--now", pid)).code, 0);
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("`scale` ends when so many workers are ready", async () => {
  await using started = await serve(app("one"));
  const { server, pid } = started;
  const is = async (amount: string[], count: number) => {
    const { code, stdout, stderr } = await tine("scale", ...amount);
    assertEquals([code, stderr], [0, ""], amount.join(" "));
    assertMatch(stdout, new RegExp(`^${count} workers? ready\n$`));
    assertEquals(server.workers.length, count);
    assertEquals(readStatus(server.pid).workers.length, count);
  };
  await is(["+2", pid], 4);
  await is([pid, "-1"], 3);
  await is(["1", pid], 1);
  await is(["1", pid], 1);
  for (
    const [args, code, reason] of [
      [["-1", pid], 1, `Cannot scale server ${pid} from 1 to 0 workers: expected 1 to 128`],
      [["1000", pid], 1, `Cannot scale server ${pid} from 1 to 1000 workers: expected 1 to 128`],
      [["0", pid], 2, '"0" is not a number of workers: expected +N, -N or N'],
      [["+0", pid], 2, '"+0" is not a number of workers: expected +N, -N or N'],
      [["many", pid], 2, '"many" is not a number of workers: expected +N, -N or N'],
      [["1.5", pid], 2, '"1.5" is not a number of workers: expected +N, -N or N'],
      [[], 2, "missing number: expected +N, -N or N"],
      [["--admin", "admin.sock", "--timeout", "5"], 2, "missing number: expected +N, -N or N"],
      [["+1", pid, "--timeout", "x"], 2, "wait for --timeout"],
      [["+1", pid, "--nonsense"], 2, "unknown option --nonsense"],
      [["+1", "x"], 2, '"x" is not a pid'],
    ] as const
  ) {
    const outcome = await tine("scale", ...args);
    assertEquals([outcome.code, outcome.stdout], [code, ""], args.join(" "));
    assertStringIncludes(outcome.stderr, reason);
  }
  assertEquals(server.workers.length, 1);
});

Deno.test("`scale` waits for the workers that another one adds meanwhile", async () => {
  await using folder = scratch();
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  await using started = await serve(waitingApp(folder.path));
  const { server, pid } = started;
  Deno.removeSync(`${folder.path}/go`);
  await using adding = begin("scale", "+1", pid);
  // At once, and not when a timer is due: the command may see the third and the fourth together.
  const wanted = () => readStatus(server.pid).master.workers;
  for (const end = performance.now() + 30_000; wanted() < 3 && performance.now() < end;);
  server.kill("SIGTTIN");
  await until(() => wanted() === 4, "the fourth worker");
  assertEquals(await tine("scale", "+1", pid, "--no-wait"), { code: 0, stdout: "", stderr: "" });
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  assertEquals(await outcomeOf(adding), { code: 0, stdout: "5 workers ready\n", stderr: "" });
  assertEquals(server.workers.length, 5);
});

Deno.test("a command shows on a terminal how far it is", async () => {
  await using started = await serve(app("one"));
  const { server, pid, folder } = started;
  writeApp(folder, app("two", waitIn(folder)));
  const cli = new URL("server/cli.ts", ROOT).pathname;
  const line = [DENO, "run", "-A", "--no-lock", cli, "reload", pid].join(" ");
  await using terminal = new Program("script", ["-qefc", line, "/dev/null"]);
  await terminal.printed(/Trying the new code/);
  Deno.writeTextFileSync(`${folder}/go`, "");
  assertEquals(await terminal.ended(), { code: 0, signal: null });
  // The progress is gone when the outcome is there.
  // deno-lint-ignore no-control-regex
  assertMatch(terminal.stdout, /\r\x1b\[KReloaded: 2 workers serve the new code\r\n$/);
  assertEquals(await ask(server.port, "/"), "two");
});

Deno.test("after `logs reopen`, nobody writes to the old files", async () => {
  await using started = await serve(app("one"), [
    ...["--access-log", "access.log", "--error-log", "error.log", "--admin", "admin.sock"],
  ]);
  const { server, pid, folder } = started;
  await until(() => readStatus(server.pid).admin !== null, "the admin process");
  for (const name of ["access", "error"]) {
    Deno.renameSync(`${folder}/${name}.log`, `${folder}/${name}.old`);
  }
  assertEquals(await tine("logs", "reopen", pid), {
    code: 0,
    stdout: "The logs are open again\n",
    stderr: "",
  });
  const { admin, workers } = readStatus(server.pid);
  for (const one of [server, admin!, ...workers]) {
    const open = [...descriptorsOf(one.pid).values()];
    assert(!open.some((path) => path.endsWith(".old")), `${one.pid}: ${open}`);
    assert(open.includes(`${folder}/error.log`), `${one.pid}: ${open}`);
  }
  await ask(server.port, "/?after");
  const log = `${folder}/access.log`;
  await until(() => Deno.readTextFileSync(log).includes("/?after"), "the request in the log");

  // A log that cannot be opened.
  Deno.renameSync(`${folder}/access.log`, `${folder}/access.old`);
  Deno.mkdirSync(`${folder}/access.log`);
  const failed = await tine("logs", "reopen", pid);
  assertEquals([failed.code, failed.stdout], [1, ""]);
  assertEquals(
    failed.stderr,
    "error: 2 processes could not open a log and write to the old one. The error log says why\n",
  );
  const wrong = await tine("logs", pid);
  assertEquals([wrong.code, wrong.stderr], [2, "error: expected tine logs reopen\nTry --help.\n"]);
});

Deno.test("a worker that was starting while the logs were moved opens them when it is ready", async () => {
  await using folder = scratch();
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  await using started = await serve(waitingApp(folder.path), ["--error-log", "error.log"]);
  const { server, pid } = started;
  Deno.removeSync(`${folder.path}/go`);
  Deno.kill(server.workers[0]!, "SIGKILL");
  await until(
    () => readStatus(server.pid).workers.some(({ state }) => state === "booting"),
    "a worker that is starting",
  );
  Deno.renameSync(`${started.folder}/error.log`, `${started.folder}/error.old`);
  await using waiting = begin("logs", "reopen", pid);
  await until(() => readStatus(server.pid).master.logs.reopened === 1, "the request");
  Deno.writeTextFileSync(`${folder.path}/go`, "");
  assertEquals((await outcomeOf(waiting)).code, 0);
  for (const worker of server.workers) {
    assert([...descriptorsOf(worker).values()].includes(`${started.folder}/error.log`));
  }
});

Deno.test("the commands work over a UNIX admin socket, and not over TCP", async () => {
  await using started = await serve(app("one"), ["--admin", "admin.sock"]);
  const { server, folder } = started;
  const socket = ["--admin", `${folder}/admin.sock`];
  await until(() => readStatus(server.pid).admin !== null, "the admin process");
  writeApp(folder, app("two"));
  assertEquals(
    (await tine("reload", ...socket)).stdout,
    "Reloaded: 2 workers serve the new code\n",
  );
  assertEquals(await ask(server.port, "/"), "two");
  writeApp(folder, "export default {");
  const broken = await tine("reload", ...socket);
  assertEquals(broken.code, 1);
  assertStringIncludes(broken.stderr, "app.ts:1:17. The old code stays in use");
  assertEquals((await tine("scale", "+1", ...socket)).stdout, "3 workers ready\n");
  assertEquals((await tine("scale", ...socket, "3")).stdout, "3 workers ready\n");
  assertEquals(server.workers.length, 3);
  assertEquals((await tine("logs", "reopen", ...socket)).code, 0);
  assertMatch((await tine("status", ...socket)).stdout, /3 of 3 workers ready/);
  assertEquals((await tine("stop", ...socket)).stdout, "Stopped\n");
  assertEquals(await server.ended(), { code: 0, signal: null });
  const gone = await tine("stop", ...socket);
  assertEquals(gone, {
    code: 1,
    stdout: "",
    stderr: `error: Cannot ask the server at ${folder}/admin.sock: there is no such socket\n`,
  });
});

Deno.test("the admin socket over TCP shows the status, and changes nothing", async () => {
  await using started = await serve(app("one"), ["--admin", "127.0.0.1:0"]);
  const { server } = started;
  const { admin } = await until(() => {
    const status = readStatus(server.pid);
    return status.admin === null ? undefined : status;
  }, "the admin process");
  const port = await until(
    () => listeningPorts(admin!.pid).find((port) => port !== server.port),
    "its port",
  );
  const address = `127.0.0.1:${port}`;
  assertMatch((await tine("status", "--admin", address)).stdout, /2 of 2 workers ready/);
  for (const args of [["reload"], ["stop"], ["scale", "+1"], ["logs", "reopen"]]) {
    const { code, stderr } = await tine(...args, "--admin", address);
    assertEquals(code, 1);
    assertMatch(
      stderr,
      /^error: Cannot .*: Over TCP, the admin socket only shows the status\..*\n$/,
    );
  }
  assertEquals(server.workers.length, 2);
});

/** Asks a UNIX socket for a page, and returns the status of the answer. */
async function askSocket(path: string, start: string, header = ""): Promise<number> {
  const rest = `HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${header}\r\n`;
  return Number((await exchange(path, `${start} ${rest}`)).split(" ")[1]);
}

const HEADER = "X-Requested-With: a test\r\n";

Deno.test("a command must be posted, with a header that a page of another site cannot send", async () => {
  await using started = await serve(app("one"), ["--admin", "admin.sock"]);
  const { server, folder } = started;
  await until(() => readStatus(server.pid).admin !== null, "the admin process");
  const ask = (start: string, header?: string) => askSocket(`${folder}/admin.sock`, start, header);
  for (const page of ["/stop", "/stop?now", "/reload", "/scale?workers=1", "/logs/reopen"]) {
    for (const method of ["GET", "HEAD", "PUT", "OPTIONS"]) {
      assertEquals(await ask(`${method} ${page}`, HEADER), 405, `${method} ${page}`);
    }
    assertEquals(await ask(`POST ${page}`), 403, page);
    // What a form, or a script without leave, may send.
    assertEquals(await ask(`POST ${page}`, "Content-Type: text/plain\r\n"), 403, page);
  }
  for (const workers of ["", "0", "-1", "+1", "1e2", "1.5", "129", "999", "9999", "x"]) {
    assertEquals(await ask(`POST /scale?workers=${workers}`, HEADER), 400, workers);
  }
  const { master } = readStatus(server.pid);
  assertEquals([master.draining, master.workers, master.reloads.requested], [false, 2, 0]);
  assertEquals(await ask("POST /stop", HEADER), 202);
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("an abstract admin socket, which anybody can connect to, changes nothing", async () => {
  await using folder = scratch();
  const name = `\0tine-test-${crypto.randomUUID()}`;
  writeApp(folder.path, app("one"));
  const program = writeApp(
    folder.path,
    `import { servePrefork } from "${new URL("server/prefork.ts", ROOT).href}";
    const options = { admin: ${JSON.stringify(name)}, port: 0, workers: 1 };
    Deno.exit(await servePrefork(new URL("./app.ts", import.meta.url), options));`,
    "program.ts",
  );
  await using server = start(program, [], { flags: ["-A"] });
  await until(() => readyUrl(server.pid), "a worker that is ready", 60_000);
  await until(() => readStatus(server.pid).admin !== null, "the admin process");
  assertEquals(await askSocket(name, "GET /healthz"), 200);
  for (const page of ["/stop", "/stop?now", "/reload", "/scale?workers=2", "/logs/reopen"]) {
    assertEquals(await askSocket(name, `POST ${page}`, HEADER), 403, page);
  }
  const { master } = readStatus(server.pid);
  assertEquals([master.draining, master.workers, master.reloads.requested], [false, 1, 0]);
});

Deno.test("`stop` ends where nobody waits for the server's process, which remains a zombie", async () => {
  await using folder = scratch();
  const file = writeApp(folder.path, app("one"));
  const pidFile = `${folder.path}/pid`;
  // The shell executes another program, which knows nothing of its child.
  const script = `"$@" & exec sleep 1000`;
  const serveIt = [DENO, "run", "-A", new URL("server/cli.ts", ROOT).pathname, "serve", file];
  await using _shell = new Program("sh", [
    ...["-c", script, "sh", ...serveIt, "--port", "0", "--workers", "1", "--pid-file", pidFile],
  ]);
  const pid = await until(() => exists(pidFile) && Number(Deno.readTextFileSync(pidFile)), "a pid");
  await until(() => readyUrl(pid), "a worker that is ready", 60_000);
  assertEquals(await tine("stop", `${pid}`), { code: 0, stdout: "Stopped\n", stderr: "" });
  assertEquals(processState(pid)?.state, "Z");
  const again = await tine("stop", `${pid}`);
  assertEquals([again.code, again.stdout], [1, ""]);
});

Deno.test("the commands report servers that they cannot find, by their reasons", async () => {
  const nowhere = "127.0.0.1:1";
  for (const args of [["reload"], ["stop"], ["scale", "+1"], ["logs", "reopen"], ["top"]]) {
    const { code, stdout, stderr } = await tine(...args, "--admin", nowhere);
    assertEquals([code, stdout], [1, ""]);
    assertEquals(stderr, `error: Cannot ask the server at ${nowhere}: nothing listens there\n`);
    const other = await tine(...args, String(Deno.pid));
    assertEquals([other.code, other.stdout], [1, ""]);
    assertMatch(other.stderr, /^error: .*it is not a preforking server of tine\n$/);
    const both = await tine(...args, "1", "--admin", nowhere);
    assertEquals([both.code, both.stdout], [2, ""]);
    assertMatch(both.stderr, /^error: expected only one of a pid, --pid-file and --admin\n/);
  }
  // Something else that answers.
  await using http = Deno.serve({ port: 0, onListen() {} }, () => new Response("{}"));
  const { stderr } = await tine("status", "--admin", `127.0.0.1:${http.addr.port}`);
  assertMatch(stderr, /^error: .*: that is not the admin socket of tine\n$/);
});
