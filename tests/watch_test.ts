import { assert, assertEquals } from "@std/assert";
import {
  childrenOf,
  isRunning,
  scratch,
  type Server,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** An app that answers with what another module exports. */
const IMPORTER = `
import { text } from "./text.ts";
export default { fetch: () => new Response(text) };
`;

/** Starts a server that watches, and waits until it does. */
async function startWatching(app: string): Promise<Server> {
  const server = await startServer(["--watch"], { app });
  try {
    await server.logged(/Watching \d+ files/);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function answers(server: Server, text: string): Promise<void> {
  await until(async () => await server.get("/") === text, `${text} as the answer`)
    .catch((error) => {
      throw new Error(`${error.message}\nstderr: ${server.stderr}`);
    });
}

function reloads({ stderr }: Server): number {
  return stderr.match(/SIGHUP: trying the new code/g)?.length ?? 0;
}

Deno.test("serve --watch loads what has changed, also in files that are imported since", async () => {
  await using folder = scratch();
  const { path } = folder;
  Deno.mkdirSync(`${path}/lib`);
  const app = writeApp(path, IMPORTER);
  writeApp(path, 'export const text = "one";', "text.ts");
  await using server = await startWatching(app);
  await answers(server, "one");
  writeApp(path, 'export const text = "two";', "text.ts");
  await answers(server, "two");
  // Many editors write a new file, and give it the old one's name.
  writeApp(path, 'export { text } from "./lib/other.ts";', "text.ts~");
  writeApp(`${path}/lib`, 'export const text = "three";', "other.ts");
  Deno.renameSync(`${path}/text.ts~`, `${path}/text.ts`);
  await answers(server, "three");
  writeApp(`${path}/lib`, 'export const text = "four";', "other.ts");
  await answers(server, "four");

  // Other files do not count.
  const before = reloads(server);
  writeApp(path, "export const text = 5;", "unused.ts");
  await new Promise((resolve) => setTimeout(resolve, 300)); // longer than changes are collected
  writeApp(`${path}/lib`, 'export const text = "six";', "other.ts");
  await answers(server, "six");
  assertEquals(reloads(server), before + 1, server.stderr);
});

Deno.test("serve --watch shows why a change cannot be loaded, and the old code serves on", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, IMPORTER);
  writeApp(folder.path, 'export const text = "one";', "text.ts");
  await using server = await startWatching(app);
  const { workers } = server;
  writeApp(folder.path, 'export const text = "two', "text.ts");
  await server.logged(/text\.ts:1:\d+[^]*The new code cannot be loaded/);
  assertEquals(await server.get("/"), "one");
  assertEquals(server.workers, workers);
  // It imports what does not exist yet.
  writeApp(folder.path, 'export { text } from "./missing.ts";', "text.ts");
  await server.logged(/missing\.ts[^]*The new code cannot be loaded/);
  writeApp(folder.path, 'export const text = "three";', "missing.ts");
  await answers(server, "three");
});

Deno.test("serve --watch loads what has changed while the app was loaded at the start", async () => {
  await using folder = scratch();
  writeApp(folder.path, 'export const text = "one";', "text.ts");
  const app = writeApp(
    folder.path,
    `import { text } from "./text.ts";
     if (text === "one") Deno.writeTextFileSync("${folder.path}/text.ts", 'export const text = "two"');
     export default { fetch: () => new Response(text) };`,
  );
  await using server = await startWatching(app);
  await answers(server, "two");
});

Deno.test("serve --watch reads a changed tine.json", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, "export default { fetch: () => new Response() };");
  const args = ["--watch", "--model", "prefork", "--config", `${folder.path}/tine.json`];
  Deno.writeTextFileSync(`${folder.path}/tine.json`, '{ "workers": 1 }');
  await using server = await startServer(args, { app, env: { WEB_CONCURRENCY: "" } });
  await server.logged(/Watching \d+ file/);
  assertEquals(server.workers.length, 1);
  Deno.writeTextFileSync(`${folder.path}/tine.json`, '{ "workers": 2 }');
  await until(() => server.workers.length === 2, "a second worker");
});

function isWatcher(pid: number): boolean {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("\0watch-files\0");
  } catch {
    return false; // an old worker, which has ended
  }
}

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  Deno.test(`serve --watch leaves no process behind after ${signal}`, async () => {
    await using folder = scratch();
    const app = writeApp(folder.path, IMPORTER);
    writeApp(folder.path, 'export const text = "one";', "text.ts");
    await using server = await startWatching(app);
    writeApp(folder.path, 'export const text = "two";', "text.ts");
    await answers(server, "two"); // the watcher belongs to the master that re-executed itself, too
    const children = childrenOf(server.pid);
    assertEquals(children.filter(isWatcher).length, 1);
    server.kill(signal);
    await server.ended();
    await until(() => !children.some(isRunning), "the end of all processes");
  });
}

Deno.test("serve --watch is for the prefork model only", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, IMPORTER);
  const error = await startServer(["--watch", "--model", "forking"], { app })
    .then(() => undefined, (error) => error);
  assert(/error: --watch does not apply to --model forking\n/.test(error?.message), error);
});
