/** Workers with `--no-preload`: each is a Deno of its own. `rungs.ts` tests what all workers do. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  childrenOf,
  copySource,
  descriptorsOf,
  scratch,
  Server,
  startServer,
  until,
} from "./support.ts";
import { DENO, ROOT, writeApp } from "./support.ts";

/** Returns the variables of a process's environment when it was executed. */
function environmentOf(pid: number): Map<string, string> {
  const variables = Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").filter(Boolean);
  return new Map(
    variables.map((one) => [one.slice(0, one.indexOf("=")), one.replace(/.*?=/s, "")]),
  );
}

/** The signals that a process's threads block: nothing else would do for a program of its own. */
function masksOf(pid: number): string[] {
  return [...Deno.readDirSync(`/proc/${pid}/task`)].flatMap(({ name }) => {
    try {
      const status = Deno.readTextFileSync(`/proc/${pid}/task/${name}/status`);
      return status.match(/^SigBlk:\s*(\w+)$/m)![1]!;
    } catch {
      return []; // it has ended
    }
  });
}

Deno.test("a fresh worker has the signals, the environment and V8's flags of the user's, and no descriptor of others", async () => {
  for (const own of [undefined, "--stack-size=900"]) {
    await using server = await startServer(["--no-preload", "--admin", "127.0.0.1:0"], {
      env: own === undefined ? {} : { DENO_V8_FLAGS: own },
    });
    assert(environmentOf(server.pid).get("DENO_V8_FLAGS")?.includes("single_threaded"));
    const visible = await server.get(
      `/command?run=${encodeURIComponent("env; ls -l /proc/self/fd")}`,
    );
    assert(!/^TINE_(?!TEST|STARTED|WORKER=\d$)|memfd:/m.test(visible), visible);
    for (const pid of server.workers) {
      assertEquals(environmentOf(pid).get("DENO_V8_FLAGS"), own);
      assertEquals(new Set(masksOf(pid)), new Set(["0000000000000000"]));
      const files = [...descriptorsOf(pid).values()].filter((one) => one.startsWith("/memfd:tine"));
      assertEquals(files, []);
    }
  }
});

Deno.test("all of Deno works in a fresh worker", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `import process from "node:process";
     import { getpid } from "${new URL("mod.ts", ROOT)}";
     const kv = await Deno.openKv(":memory:");
     await kv.set(["key"], "value");
     const worker = new Worker(
       "data:text/javascript,onmessage = ({ data }) => postMessage(data + 1);",
       { type: "module" },
     );
     const watcher = Deno.watchFs("${folder.path}");
     const seen = watcher[Symbol.asyncIterator]().next();
     let signals = 0;
     const { promise: signaled, resolve: onSignal } = Promise.withResolvers();
     Deno.addSignalListener("SIGUSR1", onSignal);
     let collected = 0;
     const registry = new FinalizationRegistry(() => collected++);
     // As a top level may: its end is noticed through SIGCHLD.
     await new Deno.Command("true").output();
     export default {
       async fetch() {
         worker.postMessage(1);
         const { data } = await new Promise((resolve) => worker.onmessage = resolve);
         process.kill(process.pid, "SIGUSR1");
         await signaled;
         Deno.writeTextFileSync("${folder.path}/seen-" + Deno.pid, "");
         registry.register({});
         const memory = new Int32Array(new SharedArrayBuffer(4));
         const waited = Atomics.waitAsync(memory, 0, 0).value;
         Atomics.notify(memory, 0);
         for (let i = 0; i < 1000 && collected === 0; i++) {
           globalThis.gc();
           await new Promise((resolve) => setTimeout(resolve, 5));
         }
         const { success } = await new Deno.Command("true").output();
         return Response.json({
           pids: new Set([Deno.pid, process.pid, getpid()]).size,
           parents: [Deno.ppid, process.ppid],
           kv: (await kv.get(["key"])).value,
           worker: data,
           watched: !(await seen).done,
           waited: await waited,
           collected: collected > 0,
           success,
         });
       },
     };`,
  );
  await using server = await startServer(["--no-preload"], {
    app,
    flags: ["--unstable-kv", "--v8-flags=--expose-gc"],
  });
  assertEquals(JSON.parse(await server.get("/")), {
    pids: 1,
    parents: [server.pid, server.pid],
    kv: "value",
    worker: 2,
    watched: true,
    waited: "ok",
    collected: true,
    success: true,
  });
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
});

Deno.test("a fresh worker has the app as its main module, with its folder's configuration", async () => {
  await using folder = scratch();
  Deno.writeTextFileSync(`${folder.path}/deno.json`, `{ "imports": { "greet": "./greet.ts" } }`);
  writeApp(folder.path, `export const greeting = "hello";`, "greet.ts");
  const source = `
    import { greeting } from "greet";
    const variables = Object.keys(Deno.env.toObject());
    const facts = [greeting, import.meta.main, Deno.mainModule === import.meta.url, Deno.args];
    export default {
      fetch: () => Response.json([...facts, variables.filter((name) => /^TINE_(?!TEST|STARTED)|AUTO_SERVE/.test(name))]),
    };`;
  const app = writeApp(folder.path, source);
  await using server = await startServer(["--no-preload", app, "--", "a"], { app: "", cwd: "/" });
  assertEquals(JSON.parse(await server.get("/")), ["hello", true, true, ["a"], ["TINE_WORKER"]]);
  const { workers } = server;
  // What Deno itself cannot load: the log and the status have the reason.
  writeApp(folder.path, `export default { fetch( };`);
  Deno.kill(workers[0]!, "SIGKILL");
  await server.logged(/failed to start: exit 1: Cannot load \S+app\.ts: \S.*app\.ts:1:\d+/);
  writeApp(folder.path, source);
  await server.replaced([workers[0]!]);
});

Deno.test("a fresh worker ends as any program does", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    `globalThis.addEventListener("unload", () => console.log("unloaded"));
     export default { fetch: () => new Response() };`,
  );
  await using server = await startServer(["--no-preload", "--workers", "1"], { app });
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null });
  assertEquals(server.stdout, "unloaded\n");
});

Deno.test("a fresh worker leaves Deno's inspector to the master", async () => {
  await using server = await startServer(["--no-preload"], { flags: ["--inspect=127.0.0.1:0"] });
  // The master runs twice, the first time perhaps too briefly to say so.
  const listening = server.stderr.match(/Debugger listening/g)?.length ?? 0;
  assert(listening === 1 || listening === 2, server.stderr);
  const arguments_ = server.workers.map((pid) => Deno.readTextFileSync(`/proc/${pid}/cmdline`));
  for (const line of arguments_) assert(!line.includes("--inspect"), line);
});

Deno.test("a fresh worker has the master's options, whatever the configuration file says by now", async () => {
  await using folder = scratch();
  const file = `${folder.path}/tine.json`;
  const write = (options: unknown) => Deno.writeTextFileSync(file, JSON.stringify(options));
  write({ maxBodyBytes: 5 });
  await using server = await startServer(["--no-preload", "--workers", "1", "--config", file]);
  const upload = async () => {
    const init = { method: "POST", body: "0123456789" };
    const response = await fetch(`http://127.0.0.1:${server.port}/upload`, init);
    await response.body?.cancel();
    return response.status;
  };
  assertEquals(await upload(), 413);
  const [worker] = server.workers;
  write({ maxBodyBytes: 100 });
  Deno.kill(worker!, "SIGKILL");
  const [second] = await server.replaced([worker!], 1);
  assertEquals(await upload(), 413);
  server.kill("SIGHUP");
  await server.replaced([second!], 1);
  assertEquals(await upload(), 200);
});

Deno.test("a fresh worker of another version of tine says so, and a restart helps", async () => {
  await using folder = scratch();
  const change = {
    file: "server/prefork/scoreboard.ts",
    text: "VERSION = ",
    replacement: "VERSION = 1000 + ",
  };
  copySource(folder.path, change);
  const cli = `${folder.path}/server/cli.ts`;
  await using server = await startServer(["--no-preload"], { cli });
  const old = childrenOf(server.pid); // this process knows another scoreboard
  const file = `${folder.path}/${change.file}`;
  Deno.writeTextFileSync(file, Deno.readTextFileSync(file).replace("1000 +", ""));
  Deno.kill(old[0]!, "SIGKILL");
  await server.logged(
    /failed to start: exit 1: The master is another version of tine: SIGHUP replaces it/,
  );
  server.kill("SIGHUP");
  await server.logged(/Serving[^]*Serving/); // no status can be read before
  await server.replaced(old);
  assertMatch(await server.get("/pid"), /^\d+$/);
});

Deno.test("servePrefork() of a program runs it in each fresh worker, for a module and for an app", async () => {
  await using folder = scratch();
  writeApp(
    folder.path,
    `export default { fetch: () => new Response("module " + Deno.pid) };
     export const onWorkerStart = ({ pid, number }) => console.log(number, pid === Deno.pid);`,
    "module.ts",
  );
  const mod = new URL("mod.ts", ROOT);
  const apps = {
    module: `new URL("./module.ts", import.meta.url)`,
    app: `{ fetch: () => new Response("app " + Deno.pid),
            onWorkerStart: ({ pid, number }) => console.log(number, pid === Deno.pid) }`,
  };
  for (const [name, app] of Object.entries(apps)) {
    const program = writeApp(
      folder.path,
      `import { servePrefork } from "${mod}";
       const code = await servePrefork(${app}, { port: 0, workers: 2, preload: false });
       console.log("code", code);`,
      "main.ts",
    );
    await using server = new Server(DENO, ["run", "--no-lock", "--no-config", "-A", program]);
    const [, port] = await server.logged(/Serving \S+:(\d+)\/ with/);
    server.port = Number(port);
    const { workers } = server;
    const [, kind, pid] = (await server.get("/")).match(/^(\w+) (\d+)$/)!;
    assertEquals(kind, name);
    assert(workers.includes(Number(pid)));
    for (const pid of workers) assertEquals(environmentOf(pid).get("DENO_V8_FLAGS"), undefined);
    server.kill("SIGHUP");
    await server.replaced(workers);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
    // Once, in the master: no worker continues in the program.
    assertEquals(server.stdout.split("\n").filter((line) => line.startsWith("code")), ["code 0"]);
    assertEquals(server.stdout.match(/^[12] true$/gm)?.length, 4, server.stdout);
  }
});

/** A collector of telemetry: what it has received, as OTLP over HTTP, by the last part of the path. */
class Collector implements AsyncDisposable {
  readonly received: Record<string, string> = { traces: "", metrics: "", logs: "" };
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const text = JSON.stringify(await request.json()); // without its spaces
      this.received[new URL(request.url).pathname.replace("/v1/", "")] += text;
      return Response.json({});
    },
  );

  /** The variables that have Deno send to it. */
  env(interval: number): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: `${interval}`,
      OTEL_BSP_SCHEDULE_DELAY: `${interval}`,
      OTEL_BLRP_SCHEDULE_DELAY: `${interval}`,
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.shutdown();
  }
}

const TRACED = `
  export default {
    fetch(request) {
      console.log("request", new URL(request.url).pathname);
      return new Response(String(Deno.env.get("OTEL_DENO")));
    },
  };
  export const onWorkerStop = () => console.log("the last line");`;

Deno.test("fresh workers export traces, metrics and logs, to their last line, and the master ends", async () => {
  await using folder = scratch();
  await using collector = new Collector();
  const { received } = collector;
  const app = writeApp(folder.path, TRACED);
  {
    const log = `${folder.path}/log`;
    await using server = await startServer(
      // Deno 2.9.6 itself sometimes does not end if it is just exporting then: 1 time in 40.
      ["--no-preload", "--grace", "3", "--access-log", log, "--access-log-format", "json"],
      { app, env: collector.env(50) },
    );
    const trace = "0af7651916cd43dd8448eb211c80319c";
    const headers = { traceparent: `00-${trace}-b7ad6b7169203331-01` };
    assertEquals(await server.get("/traced", { headers }), "true");
    const line = await until(() => Deno.readTextFileSync(log), "a line of the access log");
    const { trace_id, span_id } = JSON.parse(line);
    assertEquals(trace_id, trace);
    // The span of the request, and not that of its client.
    await until(
      () => received.traces!.includes(`"traceId":"${trace}","spanId":"${span_id}"`),
      `span ${span_id} of the access log`,
    );
    await until(() => /request \/traced/.test(received.logs!), "the log of a request");
    await until(
      () => /"url.path","value":\{"stringValue":"\/traced"/.test(received.traces!),
      "a trace",
    );
    await until(() => /http\.server\.request\.duration/.test(received.metrics!), "a metric");
    const requests = (number: number) =>
      RegExp(
        String
          .raw`"name":"tine\.worker\.requests".{0,300}?"tine\.worker","value":\{"stringValue":` +
          String.raw`"[12]"\}\}\].{0,200}?"asDouble":${number}[,}]`,
      );
    const starts = /"name":"tine\.starts".*?\{"stringValue":"start"\}\}\].{0,200}?"asDouble":2[,}]/;
    await until(() => requests(1).test(received.metrics!), "the requests of a worker");
    assert(!requests(2).test(received.metrics!));
    await until(() => starts.test(received.metrics!), "the starts of workers");
    assert(!/the last line/.test(received.logs!));
    server.kill();
    assertEquals(await server.ended(20_000), { code: 0, signal: null });
  }
  const lastLines = () => received.logs!.match(/the last line/g)?.length;
  await until(() => lastLines() === 2, "the last line of both workers");
  // Nothing is sent in time: the end must wait for it.
  await using server = await startServer(["--no-preload"], { app, env: collector.env(60_000) });
  await server.get("/late");
  server.kill();
  assertEquals(await server.ended(20_000), { code: 0, signal: null });
  await until(() => lastLines() === 4, "the last line of both workers");
  await until(
    () => /"url.path","value":\{"stringValue":"\/late"/.test(received.traces!),
    "the last trace",
  );
});

Deno.test("with preloading and telemetry, the master ends, however it was started", async () => {
  await using folder = scratch();
  await using collector = new Collector();
  const app = writeApp(folder.path, TRACED);
  const program = writeApp(
    folder.path,
    `import { servePrefork } from "${new URL("mod.ts", ROOT)}";
     Deno.exit(await servePrefork("${app}", { port: 0, workers: 2 }));`,
    "main.ts",
  );
  const env = collector.env(50);
  // This one need not run again to become forkable.
  const ready = ["--block-signal=CHLD,TERM,INT,QUIT,HUP,USR1,USR2,TTIN,TTOU", DENO]
    .concat(["run", "--v8-flags=--single_threaded", "--no-lock", "-A", program]);
  const starts = [
    () => startServer([], { app, env }),
    () => Promise.resolve(new Server("env", ready, { env })),
  ];
  for (const start of starts) {
    await using server = await start();
    server.port = Number((await server.logged(/Serving \S+:(\d+)\/ with/))[1]);
    assertEquals(await server.get("/"), "true"); // as the user has set it
    const threads = [...Deno.readDirSync(`/proc/${server.pid}/task`)].map(({ name }) =>
      Deno.readTextFileSync(`/proc/${server.pid}/task/${name}/comm`).trim()
    );
    assertEquals(threads.filter((name) => name === "deno").length, 1, "it exports telemetry");
    await server.restarted();
    assertEquals(await server.get("/"), "true");
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  }
});
