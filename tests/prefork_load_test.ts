/** How the preforking server loads an app that leaves many threads behind. */
import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import {
  isRunning,
  mkfifo,
  ROOT,
  scratch,
  spawnServer,
  start,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/**
 * Creates a folder with an app that has most threads of the pool wait at the same time, and notes
 * each load in a file.
 *
 * @param isOnce Whether they wait in the first load only.
 * @param rest What the app does then.
 */
async function crowdedApp(isOnce: boolean, rest: string): Promise<ReturnType<typeof scratch>> {
  const folder = scratch();
  await mkfifo(`${folder.path}/fifo`);
  writeApp(
    folder.path,
    `Deno.writeTextFileSync("loads", "x", { append: true });
     if (!${isOnce} || Deno.readTextFileSync("loads") === "x") {
       const opened = Array.from({ length: 30 }, () => Deno.open("fifo"));
       using writer = Deno.openSync("fifo", { write: true }); // waits for the first of them
       for (const file of await Promise.all(opened)) file.close();
       void writer;
     }
     ${rest}`,
  );
  return folder;
}

const HELLO_APP = `export default { fetch: () => new Response("hello") };`;
const pidsIn = (folder: string) =>
  Deno.readTextFileSync(`${folder}/pids`).trim().split(" ").map(Number);
const loads = (folder: string) => Deno.readTextFileSync(`${folder}/loads`).length;
const AGAIN = /Loading it again/;
const WAITING = /Waiting until the runtime ends them/;

Deno.test("serve loads an app again at once if that started many threads the first time", async () => {
  await using folder = await crowdedApp(
    true,
    `const child = new Deno.Command("sleep", {
       args: ["1000"],
       stdin: "null",
       stdout: "null",
       stderr: "null",
     }).spawn();
     Deno.writeTextFileSync("pids", child.pid + " ", { append: true });
     Deno.chdir("/");
     const environment = Object.keys(Deno.env.toObject()).filter((name) => /^TINE/.test(name));
     const facts = [Deno.pid, Deno.args, import.meta.main, environment];
     export default { fetch: () => Response.json(facts) };`,
  );
  const { path } = folder;
  using stack = new DisposableStack();
  stack.defer(() => {
    for (const pid of pidsIn(path)) if (isRunning(pid)) Deno.kill(pid, "SIGKILL");
  });
  await using server = await startServer(["--pid-file", "pid"], {
    app: "app.ts",
    cwd: path,
    env: { PWD: path },
  });
  assertMatch(server.stderr, AGAIN);
  assertNotMatch(server.stderr, WAITING);
  assertEquals(loads(path), 2);
  assertEquals(JSON.parse(await server.get("/")).slice(1), [[], true, []]);
  assertEquals(server.workers.length, 2);
  assertEquals(Deno.readTextFileSync(`${path}/pid`).trim(), String(server.pid));
  // The first load's subprocess has been killed: it would belong to nobody.
  const [first, second] = pidsIn(path);
  await until(() => !isRunning(first!), "the end of the first subprocess");
  assertEquals(isRunning(second!), true);
  await server.restarted();
  const [, , canarys, last] = pidsIn(path);
  await until(() => !isRunning(canarys!), "the end of the canary's subprocess");
  assertEquals(isRunning(last!), true);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("serve loads a program again that listens itself", async () => {
  await using folder = await crowdedApp(
    true,
    `const path = Deno.readTextFileSync("loads") + ".socket";
     Deno.serve({ path }, () => new Response("hello"));`,
  );
  const { path } = folder;
  await using server = spawnServer([], { app: "app.ts", cwd: path, ownAddress: true });
  await server.logged(/Serving unix:/);
  assertMatch(server.stderr, AGAIN);
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${path}/xx.socket` } });
  const response = await fetch("http://localhost/", { client });
  assertEquals(await response.text(), "hello");
  assertEquals([...Deno.readDirSync(path)].map(({ name }) => name).sort(), [
    "app.ts",
    "fifo",
    "loads",
    "xx.socket",
  ]);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("serve waits for the end of the threads that an app starts each time", async () => {
  await using folder = await crowdedApp(false, HELLO_APP);
  const { path } = folder;
  await using server = spawnServer([], { app: "app.ts", cwd: path });
  await server.logged(WAITING);
  assertMatch(server.stderr, AGAIN);
  assertEquals(loads(path), 2);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("serve with sockets of a service manager's waits, and loads the app once", async () => {
  await using folder = await crowdedApp(true, HELLO_APP);
  const { path } = folder;
  const launcher = writeApp(
    path,
    `import * as tine from ${JSON.stringify(new URL("mod.ts", ROOT).href)};
     const socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
     socket.bind(["127.0.0.1", 0]);
     socket.listen(5);
     tine.dup2(tine.fcntl(socket.fileno(), tine.F_DUPFD_CLOEXEC, 500), 3);
     Deno.env.set("LISTEN_PID", String(tine.getpid()));
     Deno.env.set("LISTEN_FDS", "1");
     tine.execve(Deno.execPath(), [Deno.execPath(), ...Deno.args]);`,
    "launcher.ts",
  );
  const { pathname } = new URL("server/cli.ts", ROOT);
  const args = ["run", "--no-lock", "-A", pathname, "serve", "--workers", "1", "app.ts"];
  await using server = start(launcher, args, { flags: ["-A"], cwd: path });
  await server.logged(WAITING);
  assertNotMatch(server.stderr, AGAIN);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  assertEquals(loads(path), 1);
});

Deno.test("serve loads an app again rather than wait if Deno has just fetched its packages", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(
    path,
    `import express from "npm:express@5.1.0";
     const app = express();
     app.get("/", (_request, response) => void response.send("hello"));
     app.listen(3000);`,
  );
  await using server = spawnServer([], { app: "app.ts", cwd: path, env: { DENO_DIR: "cache" } });
  const [, port] = await server.logged(/Serving \S+:(\d+)\/ with/, 120_000);
  server.port = Number(port);
  // A busy machine may need as many threads to read the packages.
  if (WAITING.test(server.stderr)) assertMatch(server.stderr, AGAIN);
  assertEquals(await server.get("/"), "hello");
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});
