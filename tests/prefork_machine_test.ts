/** What happens when the machine fails: docs/operate.md says what the tests here and elsewhere see. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  childrenOf,
  DENO,
  processState,
  ROOT,
  scratch,
  Server,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** Suspends a whole server; the master continues first, and looks before others can do anything. */
async function suspend(master: number, others: readonly number[], ms: number): Promise<void> {
  for (const pid of [master, ...others]) Deno.kill(pid, "SIGSTOP");
  await new Promise((resolve) => setTimeout(resolve, ms));
  const looks = () => {
    const status = Deno.readTextFileSync(`/proc/${master}/status`);
    return Number(status.match(/^voluntary_ctxt_switches:\t(\d+)$/m)![1]);
  };
  const before = looks();
  Deno.kill(master, "SIGCONT");
  await until(() => looks() >= before + 2, "a look at the workers");
  for (const pid of others) Deno.kill(pid, "SIGCONT");
}

Deno.test("servePrefork() does not count the time in which the whole server was suspended", async (context) => {
  const ms = 4500; // longer than each of the limits
  const steps = {
    async "while workers start"() {
      await using folder = scratch();
      const app = writeApp(
        folder.path,
        `export default {
          async onWorkerStart() {
            console.log("starts");
            await new Promise((resolve) => setTimeout(resolve, 1000));
          },
          fetch: () => new Response("served"),
        };`,
      );
      await using server = spawnServer(["--workers", "1", "--boot-timeout", "4"], { app });
      await server.printed(/starts/);
      await suspend(server.pid, childrenOf(server.pid), ms);
      await server.logged(/Serving/);
      assert(!server.stderr.includes("failed to start"), server.stderr);
    },
    async "while workers stop"() {
      await using server = await startServer(["--workers", "1", "--grace", "4"]);
      const slow = server.get("/sleep?ms=2000");
      await until(() => readStatus(server.pid).workers[0]?.inFlight === 1, "the request");
      server.kill("SIGTERM");
      await server.logged(/SIGTERM: stopping/);
      await suspend(server.pid, childrenOf(server.pid), ms);
      assertMatch(await slow, /^\d+$/);
      assertEquals(await server.ended(), { code: 0, signal: null });
      assert(!server.stderr.includes("killed"), server.stderr);
    },
  };
  await Promise.all(
    Object.entries(steps).map(([name, fn]) =>
      context.step({ name, fn, sanitizeOps: false, sanitizeResources: false, sanitizeExit: false })
    ),
  );
});

Deno.test("servePrefork() decides nothing by the clock, which may be set", async () => {
  await using folder = scratch();
  // The app's realm is the master's: the clock is a day ahead, then a day behind, and so on.
  const app = writeApp(
    folder.path,
    `const now = Date.now;
    let calls = 0;
    Date.now = () => now() + (calls++ % 2 === 0 ? 1 : -1) * 86_400_000;
    export default { fetch: () => new Response(String(Math.abs(Date.now() - now()) > 1e7)) };`,
  );
  await using server = await startServer([], { app });
  const { workers } = server;
  assertEquals(await server.get("/"), "true");
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assertEquals(server.workers, workers, server.stderr);
  server.kill("SIGUSR2");
  await server.replaced(workers);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  assert(!/killed|ended|Error/.test(server.stderr), server.stderr);
});

Deno.test("servePrefork() serves on when the process that has started it is killed", async () => {
  const { pathname } = ROOT;
  const command = [DENO, "run", "-A", "--no-lock", `${pathname}server/cli.ts`, "serve"]
    .concat(["--port", "0", "--workers", "1", `${pathname}tests/prefork/app.ts`]);
  const script = '"$@" & echo "master $!"; wait';
  await using parent = new Server("/bin/bash", ["-c", script, "bash", ...command]);
  const master = Number((await parent.printed(/master (\d+)/))[1]);
  try {
    parent.port = Number((await parent.logged(/Serving \S+:(\d+)\/ with/))[1]);
    const [worker] = childrenOf(master);
    parent.kill("SIGKILL");
    await parent.status;
    assertEquals(await parent.get("/pid"), `${worker}`);
    Deno.kill(worker!, "SIGKILL"); // and it still supervises
    await until(async () => Number(await parent.get("/pid").catch(() => 0)) > 0, "another worker");
  } finally {
    Deno.kill(master, "SIGTERM");
    await until(() => /^Z?$/.test(processState(master)?.state ?? ""), "the end of the master");
  }
});
