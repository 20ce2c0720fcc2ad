/** What a server leaves in the folder for temporary files: nothing, however it ends. */
import { assert, assertEquals } from "@std/assert";
import {
  childrenOf,
  descendants,
  descriptorsOf,
  isRunning,
  processState,
  scratch,
  type Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** How often a server is started and ended. */
const CYCLES = 12;

/** A folder for an app's socket and for temporary files. */
function place(): { path: string; app: string; env: { TMPDIR: string } } & AsyncDisposable {
  const folder = scratch();
  const TMPDIR = `${folder.path}/tmp`;
  Deno.mkdirSync(TMPDIR);
  const app = writeApp(folder.path, "export default { fetch: () => new Response('served') };");
  return { ...folder, app, env: { TMPDIR } };
}

/** Kills a server with all its processes, which are not to do anything more. */
async function killAll(server: Server): Promise<void> {
  server.kill("SIGSTOP"); // it must not fork another one meanwhile
  await until(() => processState(server.pid)?.state === "T", "the master's stop");
  const family = descendants(server.pid);
  for (const pid of [...family, server.pid]) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // it has ended
    }
  }
  await server.ended();
  await until(() => !family.some(isRunning), "the processes' end");
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

for (const signal of ["SIGTERM", "SIGKILL"]) {
  Deno.test(`a server that ends by ${signal} while its workers start leaves no temporary file`, async () => {
    await using folder = place();
    const { path, app, env } = folder;
    const args = ["--unix", `${path}/socket`, "--admin", `${path}/admin`, "--workers", "3"];
    for (let i = 0; i < CYCLES; i++) {
      await using server = spawnServer(args, { app, env, cwd: path });
      await until(() => childrenOf(server.pid).length > 0, "the first worker");
      await pause(2 * i); // another moment each time
      if (signal === "SIGKILL") await killAll(server);
      else {
        server.kill();
        await server.ended();
      }
    }
    assertEquals([...Deno.readDirSync(env.TMPDIR)].map(({ name }) => name), []);
  });
}

Deno.test("a server without a folder for temporary files serves, at its own port only", async () => {
  await using folder = place();
  const env = { TMPDIR: "/nonexistent" };
  await using server = await startServer(["--workers", "1"], { app: folder.app, env });
  assertEquals(await server.get("/"), "served");
  const sockets = [...descriptorsOf(server.workers[0]!).values()];
  const ports = [
    ...Deno.readTextFileSync("/proc/net/tcp").matchAll(
      /^ *\d+: [0-9A-F]+:([0-9A-F]+) \S+ 0A (?:\S+ +){5}(\d+) /gm,
    ),
  ].filter(([, , inode]) => sockets.includes(`socket:[${inode}]`)).map(([, port]) =>
    parseInt(port!, 16)
  );
  assert(ports.includes(server.port));
  for (const port of ports.filter((port) => port !== server.port)) {
    const { code } = await new Deno.Command("timeout", {
      args: ["1", "bash", "-c", `</dev/tcp/127.0.0.1/${port}`],
    }).output();
    assertEquals(code, 124, `port ${port} can be reached`);
  }
});
