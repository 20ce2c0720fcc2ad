/** An app's own world: `serve` loads it as `deno run` and `deno serve` do in its folder. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  DENO,
  Program,
  ROOT,
  scratch,
  Server,
  serveRepository,
  type ServerOptions,
  spawnServer,
  startServer,
  until,
  writeApp,
} from "./support.ts";

/** Files by their names in a folder. */
type Files = Readonly<Record<string, string>>;

function write(folder: string, files: Files): void {
  for (const [name, text] of Object.entries(files)) {
    Deno.mkdirSync(`${folder}/${name}`.replace(/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(`${folder}/${name}`, text);
  }
}

/** All files in a folder and what they contain, but for those of packages. */
function contents(folder: string): Files {
  return Object.fromEntries(
    [...Deno.readDirSync(folder)].filter(({ name }) => name !== "node_modules").flatMap(
      ({ name, isDirectory }): [string, string][] =>
        isDirectory
          ? Object.entries(contents(`${folder}/${name}`)).map(([file, text]) =>
            [`${name}/${file}`, text] as const as [string, string]
          )
          : [[name, Deno.readTextFileSync(`${folder}/${name}`)]],
    ).sort(),
  );
}

async function deno(folder: string, ...args: string[]): Promise<void> {
  await using program = new Program(DENO, args, { cwd: folder });
  assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
}

const JSON_APP = `export default { fetch: () => Response.json(answer) };`;

const JSX: Files = {
  "deno.json": JSON.stringify({
    imports: { "hono": "npm:hono@4", "hono/": "npm:/hono@4/", "@/": "./lib/" },
    compilerOptions: { jsx: "react-jsx", jsxImportSource: "hono/jsx" },
  }),
  "lib/name.ts": `export const name: string = "world";`,
  "app.tsx": `
    import { Hono } from "hono";
    import { name } from "@/name.ts";
    const app = new Hono();
    app.get("/", (c) => c.html(<h1>Hello, {name}</h1>));
    export default app;`,
};
const PAGE = "<h1>Hello, world</h1>";

/** Apps: what is in their folders, the module, what prepares them, and what they answer. */
const WORLDS: Record<string, {
  files: Files;
  app: string;
  prepare?: string[];
  options?: ServerOptions;
  answer: string;
}> = {
  "an import map and JSX settings in deno.json": { files: JSX, app: "app.tsx", answer: PAGE },
  "a deno.jsonc, with an import map in another file": {
    files: {
      "deno.jsonc": `{ /* a comment */ "importMap": "./map.json" }`,
      "map.json": `{ "imports": { "answer": "./answer.ts" } }`,
      "answer.ts": `export const answer = 42;`,
      "app.ts": `import { answer } from "answer"; ${JSON_APP}`,
    },
    app: "app.ts",
    answer: "42",
  },
  "unstable features in deno.json": {
    files: {
      "deno.json": `{ "unstable": ["kv"] }`,
      "app.ts": `const answer = typeof Deno.openKv; ${JSON_APP}`,
    },
    app: "app.ts",
    answer: `"function"`,
  },
  "a workspace": {
    files: {
      "deno.json": `{ "workspace": ["./web", "./lib"] }`,
      "lib/deno.json": `{ "name": "@acme/lib", "version": "1.0.0", "exports": "./mod.ts" }`,
      "lib/mod.ts": `export const answer = "of the other member";`,
      "web/deno.json": `{ "name": "@acme/web", "version": "1.0.0", "exports": "./app.ts" }`,
      "web/app.ts": `import { answer } from "@acme/lib"; ${JSON_APP}`,
    },
    app: "web/app.ts",
    answer: `"of the other member"`,
  },
  "a package.json whose node_modules Deno creates": {
    files: {
      "deno.json": `{ "nodeModulesDir": "auto" }`,
      "package.json": `{ "type": "module", "dependencies": { "hono": "^4" } }`,
      "app.js": `
        import { Hono } from "hono";
        export default new Hono().get("/", (c) => c.text("of a package"));`,
    },
    app: "app.js",
    answer: "of a package",
  },
  "a package.json with node_modules": {
    files: {
      "deno.json": `{ "nodeModulesDir": "manual" }`,
      "package.json": `{ "type": "module", "dependencies": { "hono": "^4" } }`,
      "app.js": `
        import { Hono } from "hono";
        export default new Hono().get("/", (c) => c.text(import.meta.resolve("hono")));`,
    },
    app: "app.js",
    prepare: ["install", "--quiet"],
    answer: "node_modules/",
  },
  "a CommonJS module": {
    files: {
      "package.json": `{ "type": "commonjs" }`,
      "app.js": `
        const os = require("node:os");
        module.exports = { fetch: () => new Response(os.platform() + (require.main === module)) };`,
    },
    app: "app.js",
    answer: "linuxtrue",
  },
  "a vendor folder": {
    files: {
      "deno.json":
        `{ "vendor": true, "imports": { "greeting": "http://127.0.0.1:1/greeting.js" } }`,
      "vendor/http_127.0.0.1_1/greeting.js": `export default "vendored";`,
      "app.ts": `import answer from "greeting"; ${JSON_APP}`,
    },
    app: "app.ts",
    answer: `"vendored"`,
  },
  "variables of --env-file": {
    files: {
      "env": "TINE_TEST_GREETING=hello\n",
      "app.ts": `const answer = Deno.env.get("TINE_TEST_GREETING"); ${JSON_APP}`,
    },
    app: "app.ts",
    options: { flags: ["--env-file=FOLDER/env"] },
    answer: `"hello"`,
  },
};

for (const [what, { files, app, prepare, options = {}, answer }] of Object.entries(WORLDS)) {
  Deno.test(`serve loads an app with ${what}`, async () => {
    await using folder = scratch();
    const { path } = folder;
    write(path, files);
    if (prepare !== undefined) await deno(path, ...prepare);
    const flags = (options.flags ?? []).map((flag) => flag.replace("FOLDER", path));
    await using server = await startServer([], { app: `${path}/${app}`, cwd: "/", flags });
    const found = await server.get("/");
    assert(found.includes(answer), found);
    await server.restarted();
    assertEquals(await server.get("/"), found);
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  });
}

Deno.test("an app has its own arguments, its directory, and is the main module", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(
    path,
    `const { args, mainModule } = Deno;
     const answer = [args, import.meta.main, mainModule === import.meta.url, Deno.cwd(),
       process.argv.slice(2), Object.keys(Deno.env.toObject()).filter((name) =>
         /^(TINE_(?!TEST|WORKER)|DENO_(AUTO|V8))/.test(name))];
     ${JSON_APP}`,
  );
  const args = ["--", "-x", "--port=1", "app"];
  for (const preload of [[], ["--no-preload"]]) {
    await using server = await startServer([...preload, `${path}/app.ts`, ...args], {
      app: "",
      cwd: path,
    });
    const expected = [args.slice(1), true, true, path, args.slice(1), []];
    assertEquals(JSON.parse(await server.get("/")), expected);
    await server.restarted();
    assertEquals(JSON.parse(await server.get("/")), expected);
  }
});

Deno.test("the installed command serves in its first execution, and takes arguments as the source does", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(
    path,
    `const answer = [Deno.args, import.meta.main, Deno.env.get("DENO_AUTO_SERVE") ?? null];
     ${JSON_APP}`,
    "it's an app.ts",
  );
  await deno(ROOT.pathname, "run", "-A", "server/cli/install.ts", `${path}/bin`);
  const PATH = `${DENO.replace(/\/[^/]*$/, "")}:${Deno.env.get("PATH")}`;
  const log = `${path}/access\nlog`;
  const lines: [args: string[], rest: string[], environment: Record<string, string>][] = [
    [["--port", "0", "--workers=2", "--access-log", log, "it's an app.ts"], [], {}],
    [["--no-preload", "it's an app.ts", "--workers", "2", "--access-log", "-", "--port=0"], [
      "-x",
      "--",
      "a b",
    ], {}],
    [["--port", "0", "--workers", "2", "./it's an app.ts"], ["--help"], { DENO_AUTO_SERVE: "1" }],
  ];
  for (const [args, rest, environment] of lines) {
    const line = ["serve", ...args, ...rest.length > 0 ? ["--", ...rest] : []];
    const env = { PATH, ...environment };
    await using server = new Server(`${path}/bin/tine`, line, { cwd: path, env });
    [, server.url = ""] = await server.logged(/Serving (.+?) (?:with|to) /);
    server.port = Number(server.url.match(/:(\d+)/)![1]);
    const expected = [rest, true, environment.DENO_AUTO_SERVE ?? null];
    assertEquals(JSON.parse(await server.get("/")), expected);
    const first = Deno.readTextFileSync(`/proc/${server.pid}/environ`);
    assertEquals(/(^|\0)TINE_ARGS=/.test(first) && !first.includes("TINE_SERVE"), true);
    await server.restarted();
    assertEquals(JSON.parse(await server.get("/")), expected);
  }
  assertEquals(Deno.readTextFileSync(log).split("\n").length > 1, true);
  const wrong: [string[], number, RegExp][] = [
    [["nothing.ts"], 1, /^error: .*nothing\.ts/],
    [["--port", "x", "it's an app.ts"], 2, /^error: .*--port/],
    [["--bogus", "it's an app.ts"], 2, /^error: unknown option --bogus/],
    [["it's an app.ts", "--port"], 2, /^error: missing value of --port/],
    [["a.ts", "b.ts"], 2, /^error: expected one app/],
  ];
  for (const [args, code, message] of wrong) {
    await using program = new Program(`${path}/bin/tine`, ["serve", ...args], {
      cwd: path,
      env: { PATH },
    });
    assertEquals(await program.ended(), { code, signal: null }, program.stderr);
    assertMatch(program.stderr, message);
  }
});

Deno.test("the processor time that an app has read while it was loaded does not decrease in workers", async () => {
  await using folder = scratch();
  // As packages for metrics do; and it needs more time than a worker that has just been started.
  const app = writeApp(
    folder.path,
    `import process from "node:process";
    while (process.cpuUsage().user < 500_000);
    const before = process.cpuUsage();
    export default {
      fetch() {
        const { user } = process.cpuUsage();
        return Response.json([process.cpuUsage(before).user >= 0, user >= before.user, user < 5e6]);
      },
    };`,
  );
  await using server = await startServer(["--workers", "1"], { app });
  assertEquals(await server.get("/"), "[true,true,true]");
  Deno.kill(server.workers[0]!, "SIGKILL"); // the next one is forked later
  await server.logged(/killed by SIGKILL/);
  assertEquals(await server.get("/"), "[true,true,true]");
});

Deno.test("a model other than prefork loads the app in its own world, too", async () => {
  await using folder = scratch();
  write(folder.path, JSX);
  for (const model of ["iterative", "forking"]) {
    const app = `${folder.path}/app.tsx`;
    await using server = await startServer(["--model", model], { app, cwd: "/" });
    assertEquals(await server.get("/"), PAGE);
  }
});

Deno.test("serve loads apps from URLs", async () => {
  const source = `const answer = import.meta.main; ${JSON_APP}`;
  const site = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(source, { headers: { "content-type": "text/javascript" } }),
  );
  try {
    const apps = [
      `http://127.0.0.1:${site.addr.port}/app.js`,
      `data:text/javascript,${encodeURIComponent(source)}`,
    ];
    for (const app of apps) {
      await using server = await startServer([], { app });
      assertEquals(await server.get("/"), "true");
    }
  } finally {
    await site.shutdown();
  }
});

/** An app whose lock file is frozen. */
async function frozen(path: string): Promise<void> {
  const config = JSON.parse(JSX["deno.json"]!);
  write(path, { ...JSX, "deno.json": JSON.stringify({ ...config, lock: { frozen: false } }) });
  await deno(path, "install", "--entrypoint", "app.tsx");
  write(path, { "deno.json": JSON.stringify({ ...config, lock: { frozen: true } }) });
  await deno(path, "install", "--entrypoint", "app.tsx");
}

/** Serves an app, and checks that nothing in its folder changes. */
async function leavesNothing(path: string, line: string[], env: Record<string, string> = {}) {
  const before = contents(path);
  await using server = new Program(line[0]!, [...line.slice(1), "--port=0", "app.tsx"], {
    cwd: path,
    env,
  });
  const [, port] = await until(
    () => server.stderr.match(/Serving http:\/\/\S+:(\d+)\/ with/),
    "the ready line",
    30_000,
  ).catch(() => {
    throw new Error(server.stderr);
  });
  assertEquals(await (await fetch(`http://127.0.0.1:${port}/`)).text(), PAGE);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
  assertEquals(contents(path), before);
}

Deno.test("tine adds nothing to the app's folder or to its frozen lock file, from wherever it runs", async (test) => {
  await using folder = scratch();
  const { path } = folder;
  Deno.mkdirSync(`${path}/app`);
  await frozen(`${path}/app`);
  const cli = new URL("server/cli.ts", ROOT).pathname;
  await test.step("from its source", () =>
    leavesNothing(`${path}/app`, [DENO, "run", "-A", cli, "serve"]));
  await test.step("from a URL", async () => {
    await using site = serveRepository();
    const line = [DENO, "run", "-A", `${site.url}server/cli.ts`, "serve"];
    await leavesNothing(`${path}/app`, line, { XDG_CACHE_HOME: `${path}/cache` });
  });
  await test.step("installed", async () => {
    await deno(ROOT.pathname, "run", "-A", "server/cli/install.ts", `${path}/bin`);
    const PATH = `${DENO.replace(/\/[^/]*$/, "")}:${Deno.env.get("PATH")}`;
    await leavesNothing(`${path}/app`, [`${path}/bin/tine`, "serve"], { PATH });
  });
});

Deno.test("serve reports an app that ends or fails while it is loaded", async () => {
  await using folder = scratch();
  const cases: [string, number, RegExp][] = [
    [
      `await new Promise((r) => setTimeout(r, 9));\nthrow new Error("late");`,
      1,
      /^error: .*top level: Error: late at .*app\.ts:2:7$/,
    ],
    [
      `const express = require("express");`,
      1,
      /ReferenceError: require is not defined at .*app\.ts:1:17\. If it is a CommonJS module, say/,
    ],
    [`console.log("done");`, 1, /^error: Cannot serve .*app\.ts: it has no default export/],
    [
      `Deno.exit(7);`,
      7,
      /^error: Cannot load .*app\.ts: it ended the process with exit code 7 whi/,
    ],
    [
      `Deno.exit(0);`,
      1,
      /^error: Cannot load .*app\.ts: it ended the process with exit code 0 whi/,
    ],
    [`(await import("node:process")).exit();`, 1, /: it ended the process with exit code 0 whi/],
    [
      `Promise.reject(new Error("other")); await new Promise((r) => setTimeout(r, 99));`,
      1,
      /other/,
    ],
  ];
  for (const [source, code, message] of cases) {
    const app = writeApp(folder.path, source);
    const line = ["run", "-A", new URL("server/cli.ts", ROOT).pathname, "serve", app];
    await using program = new Program(DENO, line);
    assertEquals(await program.ended(), { code, signal: null }, program.stderr);
    assertMatch(program.stderr.split("\n")[0]!, message);
  }
});

Deno.test("serve reports an app that ends the process while it is loaded by a simpler model or a worker", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    'addEventListener("unload", () => console.log("bye")); Deno.exit();',
  );
  const why =
    /Cannot load .*app\.ts: it ended the process with exit code 0 while it was being loaded\n/;
  for (const args of [["--model", "iterative"], ["--model", "forking"], ["--no-preload"]]) {
    await using program = spawnServer(args, { app });
    assertEquals(await program.ended(), { code: 1, signal: null }, program.stderr);
    assertMatch(program.stderr, why);
    assertMatch(program.stdout, /^(bye\n)+$/); // its own listeners are called
    assert(!program.stderr.includes("in a row"), program.stderr);
  }
});

Deno.test("serve can be told to stop while it loads the app, which is no failure of the app", async () => {
  await using folder = scratch();
  const app = writeApp(
    folder.path,
    'addEventListener("unload", () => console.log("bye")); console.log("waiting"); await new Promise(() => {});',
  );
  await using program = spawnServer([], { app });
  await program.printed(/waiting/);
  program.kill("SIGTERM");
  assertEquals(await program.ended(), { code: 0, signal: null });
  assertEquals([program.stdout, program.stderr], ["waiting\nbye\n", ""]);
});
