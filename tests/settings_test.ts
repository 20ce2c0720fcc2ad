import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readCommandLine } from "../server/cli/command_line.ts";
import { checkFiles } from "../server/cli/config_file.ts";
import { JsoncError, parseJsonc } from "../server/cli/jsonc.ts";
import { MODELS, OPTIONS } from "../server/cli/options.ts";
import { readSettings, type Settings } from "../server/cli/settings.ts";
import {
  checkOption,
  PREFORK_OPTIONS,
  type PreforkOptions,
  resolveOptions,
} from "../server/prefork/options.ts";
import { MODELS as RUNGS, onEachRung } from "./rungs.ts";
import { readStatus } from "../server/prefork/status/status.ts";
import {
  certificate,
  DENO,
  ROOT,
  scratch,
  Server,
  start,
  startServer,
  until,
  writeApp,
} from "./support.ts";

const HELLO = "export default { fetch: () => new Response('hello') };";

/** Writes a configuration file into a folder. */
function configure(folder: string, content: unknown, name = "tine.json"): string {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  Deno.writeTextFileSync(`${folder}/${name}`, text);
  return `${folder}/${name}`;
}

/** Reads the settings as `serve` does, with these variables and no others of tine's. */
function settings(args: string[], variables: Record<string, string> = {}): Settings {
  const names = ["PORT", "HOST", "WEB_CONCURRENCY"];
  const before = names.map((name) => [name, Deno.env.get(name)] as const);
  for (const name of names) Deno.env.delete(name);
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    return readSettings(readCommandLine(args)!.line);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}

Deno.test("the command line overrides the environment, which overrides the file and the defaults", async () => {
  await using folder = scratch();
  const file = configure(folder.path, {
    "$schema": "tine.schema.json",
    port: 1001,
    hostname: "127.0.0.1",
    workers: 11,
    backlog: 12,
    preload: false,
    adminHosts: ["a", "b"],
  });
  const variables = { PORT: "2001", WEB_CONCURRENCY: "21", HOST: "" };
  const args = ["--config", file, "--workers", "31", "--admin-host", "c", "app.ts"];
  const { app, model, config, sources } = settings(args, variables);
  assertEquals([app, model], ["app.ts", "prefork"]);
  const { workers, port, hostname, backlog, preload, adminHosts, grace } = config;
  assertEquals([workers, port, hostname, backlog, preload, adminHosts, grace], [
    31,
    2001,
    "127.0.0.1",
    12,
    false,
    ["c"],
    30,
  ]);
  assertEquals(Object.fromEntries(sources), {
    app: "command line",
    workers: "command line",
    adminHosts: "command line",
    port: "environment",
    hostname: "file",
    backlog: "file",
    preload: "file",
  });
  assertEquals(settings(["app.ts"], { HOST: "::1" }).config.hostname, "::1");
});

Deno.test("an address of the command line or the environment overrides the file's UNIX socket", async () => {
  await using folder = scratch();
  const file = configure(folder.path, { path: "app.sock" });
  const args = ["--config", file, "app.ts"];
  assertEquals(settings(args).config.path, `${folder.path}/app.sock`);
  assertEquals(settings(args, { PORT: "1" }).config.path, undefined);
  assertEquals(settings(["--host", "::1", ...args]).config.path, undefined);
  assertEquals(settings(["--unix", "/x", ...args], { PORT: "1" }).config.path, "/x");
});

Deno.test("paths in a configuration file are relative to its folder", async () => {
  await using folder = scratch();
  const { path } = folder;
  await certificate(path);
  const file = configure(path, {
    app: "src/app.ts",
    model: "prefork",
    path: "app.sock",
    accessLog: "access.log",
    errorLog: "/var/log/error.log",
    pidFile: "../tine.pid",
    admin: "admin.sock",
  });
  const { app, config } = settings(["--config", file]);
  assertEquals(
    [app, config.path, config.accessLog, config.errorLog, config.pidFile, config.admin],
    [
      `${path}/src/app.ts`,
      `${path}/app.sock`,
      `${path}/access.log`,
      "/var/log/error.log",
      `${path}/../tine.pid`,
      `${path}/admin.sock`,
    ],
  );
  configure(path, { app: "src/app.ts", cert: "cert.pem", key: `${path}/key.pem` });
  const [own] = settings(["--config", file]).config.listen[0]!.certificates;
  assertMatch(own!.cert, /^-----BEGIN CERTIFICATE/);
  assertMatch(own!.key, /^-----BEGIN PRIVATE KEY/);
  configure(path, { app: "npm:x", accessLog: "-", admin: "localhost:9090", path: "\0abstract" });
  const other = settings(["--config", file]);
  assertEquals(
    [other.app, other.config.accessLog, other.config.admin, other.config.path],
    ["npm:x", "-", ["localhost", 9090], "\0abstract"],
  );
});

Deno.test("parseJsonc() accepts comments and trailing commas", () => {
  const text = `// one
    { "a": "/* no */ // comment ,}", /* two
    lines */ "b": [1, 2, ], // "c"
    "d": "\\\\\\"//", }`;
  assertEquals(parseJsonc(text), { a: "/* no */ // comment ,}", b: [1, 2], d: '\\"//' });
});

Deno.test("parseJsonc() says where the text is wrong", () => {
  const wrong: Record<string, RegExp> = {
    "": /^Unexpected end in line 1, column 1$/,
    '{\n  "port": 8000,\n  "workers":': /^Unexpected end in line 3, column 13$/,
    '{\n  "port": x\n}': /^Unexpected "x" in line 2, column 11$/,
    '{\n  /* é */ "port" 8000\n}': /^Expected ':' .*in line 2, column 18$/,
    '{ "port": 1 "workers": 2 }': /^Expected ',' .*in line 1, column 13$/,
    '{ "port": 1 } }': /^Unexpected .*in line 1, column 15$/,
    '{ "host": "a\nb" }': /^Bad control character .*in line 1, column 13$/,
    '{ "host": "a }': /^Unterminated string in line 1, column 15$/,
    "{ port: 1 }": /^Expected .*in line 1, column 3$/,
    "{ , }": /in line 1, column 3$/,
    "[1,,]": /^Unexpected "," in line 1, column 4$/,
  };
  for (const [text, message] of Object.entries(wrong)) {
    const error = assertThrows(() => parseJsonc(text), JsoncError);
    assertMatch(error.message, message, text);
  }
});

Deno.test("serve reports a wrong setting in one line that names its source", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, HELLO);
  Deno.mkdirSync(`${path}/folder`);
  const files: [content: unknown, message: RegExp][] = [
    ['{\n "port": 0,\n', /^error: tine\.json: Cannot parse .* in line 3, column 1$/],
    [{ port: "0" }, /^error: tine\.json: Cannot serve with port "0": expected a number$/],
    [{ port: -1 }, /^error: tine\.json: Cannot serve with port -1: expected a whole number from/],
    [{ workers: 129 }, /^error: tine\.json: Cannot serve with workers 129: expected at most 128$/],
    [{ admin: "9090" }, /^error: tine\.json: Cannot serve with admin "9090": expected host:port/],
    [{ model: "cluster" }, /tine\.json: Cannot serve with model "cluster": expected one of iter/],
    [{ accessLogFormat: "%h\n%Z" }, /with accessLogFormat "%h\\n%Z": expected one line of print/],
    [{ app: 1 }, /^error: tine\.json: Cannot serve with app 1: expected a string$/],
    [{ workrs: 1 }, /^error: tine\.json: Unknown option "workrs": expected one of .*, workers,/],
    [{ unix: "a" }, /^error: tine\.json: Unknown option "unix": it is called "path" here$/],
    [{ cert: "app.ts" }, /only one of cert in tine\.json and --key: expected both$/],
    [{ model: "forking", maxRequests: 1 }, /: maxRequests in tine\.json does not apply to --mod/],
    [["port"], /^error: tine\.json: Cannot serve with options .*: expected an object/],
  ];
  const refused = async (args: string[] = [], env: Record<string, string> = {}, code = 2) => {
    await using program = start("server/cli.ts", ["serve", ...args, "app.ts"], {
      cwd: path,
      env: { PORT: "0", WEB_CONCURRENCY: "", HOST: "", ...env },
      flags: ["-A"],
    });
    assertEquals(await program.ended(), { code, signal: null }, program.stderr);
    assertEquals(program.stdout, "");
    const [line, ...rest] = program.stderr.trimEnd().split("\n");
    assert(rest.length === 0 || rest.join() === "Try --help.", program.stderr);
    return line!;
  };
  for (const [content, message] of files) {
    configure(path, content);
    assertMatch(await refused(), message);
  }
  configure(path, { cert: "none", key: "none" });
  assertMatch(
    await refused([], {}, 1),
    /^error: Cannot read \/\S+\/none for cert in tine\.json: No such/,
  );
  configure(path, {});
  const variables: [name: string, value: string, message: RegExp][] = [
    ["PORT", "x", /^error: Cannot serve with PORT "x": expected a whole number from 0 to 65535$/],
    [
      "WEB_CONCURRENCY",
      "129",
      /^error: Cannot serve with WEB_CONCURRENCY 129: expected at most 12/,
    ],
    ["HOST", "http://x", /^error: Cannot serve with HOST "http:\/\/x": expected an address/],
  ];
  for (const [name, value, message] of variables) {
    assertMatch(await refused([], { [name]: value }), message);
  }
  assertMatch(await refused(["--config", "none"]), /^error: Cannot read none: there is no such fi/);
  assertMatch(await refused(["--config", "folder"]), /^error: Cannot read folder: EISDIR/);
});

/** Starts a server in a folder, with the address and the workers that its settings say. */
async function serveIn(
  folder: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Promise<Server> {
  const cli = new URL("server/cli.ts", ROOT).pathname;
  const server = new Server(DENO, ["run", "--no-lock", "-A", cli, "serve", ...args], {
    cwd: folder,
    env: { PORT: "0", WEB_CONCURRENCY: "", HOST: "", ...env },
  });
  try {
    const [, port] = await server.logged(/Serving \S+?:(\d+)\/ (with|to) /);
    server.port = Number(port);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

onEachRung(RUNGS, "serve takes the app and its options from tine.json", async (model) => {
  await using folder = scratch();
  Deno.mkdirSync(`${folder.path}/src`);
  writeApp(`${folder.path}/src`, HELLO);
  const { cert, key } = await certificate(folder.path);
  configure(folder.path, { app: "src/app.ts", model, cert: "cert.pem", key: "key.pem" });
  await using server = await serveIn(folder.path);
  assert(cert.startsWith(folder.path) && key.startsWith(folder.path));
  using client = Deno.createHttpClient({ caCerts: [Deno.readTextFileSync(cert)] });
  const response = await fetch(`https://localhost:${server.port}/`, { client });
  assertEquals(await response.text(), "hello");
  client.close();
  server.kill();
  assertEquals((await server.ended()).code, 0, server.stderr);
});

Deno.test("serve takes the number of workers from $WEB_CONCURRENCY, and needs no permission for it", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, HELLO);
  const file = configure(folder.path, { workers: 4, hostname: "127.0.0.2" });
  const permissions = ["--allow-ffi", `--allow-read=${app}`, "--allow-net=127.0.0.1"];
  await using server = await startServer(["--model", "prefork", "--config", file], {
    app,
    permissions,
    env: { WEB_CONCURRENCY: "3", PORT: "1" },
    cwd: "/",
  });
  assertMatch(server.url, /^http:\/\/127\.0\.0\.2:\d+\/$/);
  assertEquals(readStatus(server.pid).master.workers, 3);
});

Deno.test("SIGHUP reads tine.json again, and applies what can change", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, HELLO);
  configure(path, { app: "app.ts", workers: 1 });
  await using server = await serveIn(path);
  const old = server.workers;
  configure(path, { app: "app.ts", workers: 3, accessLog: "access.log" });
  server.kill("SIGHUP");
  const three = await server.replaced(old, 3);
  assert(!server.stderr.includes("SIGHUP cannot change"), server.stderr);
  assertEquals(await server.get("/"), "hello");
  await until(() => read(`${path}/access.log`).includes("GET / "), "the access log");

  // SIGTTIN and SIGTTOU hold while the file says the same number of workers.
  server.kill("SIGTTOU");
  await server.logged(/2 workers from now on/);
  configure(path, { app: "app.ts", workers: 3 });
  server.kill("SIGHUP");
  const two = await server.replaced(three, 2);
  configure(path, { app: "app.ts", workers: 1, grace: 7 });
  server.kill("SIGHUP");
  await server.replaced(two, 1);
  server.kill();
  assertEquals((await server.ended()).code, 0);
  assertMatch(server.stderr, /SIGTERM: stopping \d workers?, within 7 s/);
});

Deno.test("SIGHUP serves another app where tine.json names another", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, HELLO);
  Deno.mkdirSync(`${path}/next`);
  writeApp(`${path}/next`, "export default { fetch: () => new Response('next') };");
  configure(path, { app: "app.ts", workers: 1 });
  await using server = await serveIn(path);
  configure(path, { app: "next/app.ts", workers: 1 });
  server.kill("SIGHUP");
  await until(async () => await server.get("/") === "next", "the other app");
  assertEquals(readStatus(server.pid).master.app, "next/app.ts");
  configure(path, { app: "none.ts", workers: 1 });
  server.kill("SIGHUP");
  await server.logged(/there is no file .*none\.ts[^]*the old code stays in use/);
  assertEquals(await server.get("/"), "next");
});

Deno.test("SIGHUP names what it cannot change, and keeps it", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, HELLO);
  const before = { app: "app.ts", workers: 1, pidFile: "pid", admin: "a.sock" };
  configure(path, before);
  await using server = await serveIn(path);
  const old = server.workers;
  configure(path, {
    app: "app.ts",
    workers: 1,
    model: "forking",
    hostname: "127.0.0.9",
    backlog: 7,
    pidFile: "other",
    admin: "b.sock",
    errorLog: "errors",
  });
  server.kill("SIGHUP");
  const fresh = await server.replaced(old, 1);
  const log = () => server.stderr + read(`${path}/errors`);
  const refusals = () => log().match(/SIGHUP cannot change .*/g);
  await until(() => refusals(), "a refusal");
  assertEquals(refusals(), [
    "SIGHUP cannot change hostname, backlog, pidFile, admin, model: stop the server and start it " +
    "again for that",
  ]);
  assertEquals(await server.get("/"), "hello");
  assertEquals(read(`${path}/pid`), `${server.pid}\n`);
  assertEquals(names(path), ["a.sock", "app.ts", "errors", "pid", "tine.json"]);

  // Where standard error went before the error log is not known any more.
  configure(path, before);
  server.kill("SIGHUP");
  await server.replaced(fresh, 1);
  await until(() => refusals()?.[1], "the next refusal");
  assertEquals(refusals()![1]!.split(":")[0], "SIGHUP cannot change errorLog");
  server.kill();
  assertEquals((await server.ended()).code, 0);
  assertMatch(log(), /Stopped\n$/);
  assertEquals(names(path), ["app.ts", "errors", "tine.json"]);
});

Deno.test("SIGHUP with a broken tine.json changes nothing, and says what is wrong", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, HELLO);
  configure(path, { app: "app.ts", workers: 1 });
  await using server = await serveIn(path);
  const { workers } = server;
  const broken: [content: unknown, message: RegExp][] = [
    [{ app: "app.ts", workers: "2" }, /tine\.json: Cannot serve with workers "2": expected a num/],
    ["{", /tine\.json: Cannot parse it as JSON: .* in line 1, column 2/],
    [{ app: "app.ts", accessLog: "no/access.log" }, /Cannot open .*no\/access\.log.*: ENOENT/],
    [
      { app: "app.ts", cert: "app.ts", key: "app.ts" },
      /Cannot use the certificate \S+ and its key/,
    ],
  ];
  for (const [content, message] of broken) {
    configure(path, content);
    const { length } = server.stderr;
    server.kill("SIGHUP");
    await until(
      () => /The new code cannot be loaded/.test(server.stderr.slice(length)),
      "the end of the canary",
    );
    assertMatch(server.stderr.slice(length), message);
    // It is recorded when it has been logged.
    await until(
      () => message.test(readStatus(server.pid).master.lastReload?.reason ?? ""),
      `${message} in the status`,
    );
    assertEquals(server.workers, workers);
    assertEquals(await server.get("/"), "hello");
  }
});

Deno.test("servePrefork() survives a tine.json that breaks after the canary has read it", async () => {
  await using folder = scratch();
  const { path } = folder;
  // Breaks the file once, in the canary.
  const source = (text: string) => `
    const isThere = [...Deno.readDirSync(".")].some(({ name }) => name === "break");
    if (isThere) {
      Deno.removeSync("break");
      Deno.writeTextFileSync("tine.json", '{ "workers": 0 }');
    }
    export default { fetch: () => new Response("${text}") };`;
  writeApp(path, source("old"));
  const good = { app: "app.ts", workers: 2, timeout: 25 };
  configure(path, good);
  await using server = await serveIn(path);
  const { workers } = server;
  writeApp(path, source("new"));
  Deno.writeTextFileSync(`${path}/break`, "");
  server.kill("SIGHUP");
  await server.logged(/re-executing the master/);
  await server.logged(/cannot be loaded, the old workers keep serving: tine\.json: .* workers 0:/);
  await until(
    () => /^tine\.json: Cannot/.test(readStatus(server.pid).master.lastReload?.reason ?? ""),
    "the reason in the status",
  );
  assertEquals(await server.get("/"), "old");
  await server.logged(/Trying the new code again in 2 s/);
  assertEquals(server.workers, workers);
  assert(!/will be replaced/.test(server.stderr), server.stderr);
  configure(path, good);
  await server.replaced(workers, 2);
  assertEquals(await server.get("/"), "new");
});

function read(file: string): string {
  try {
    return Deno.readTextFileSync(file);
  } catch {
    return ""; // it is not there yet
  }
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly pattern?: string;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Record<string, Schema>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean;
  readonly items?: Schema;
  readonly default?: unknown;
  readonly description?: string;
}

const KEYWORDS = "type enum minimum exclusiveMinimum maximum minLength minItems pattern anyOf " +
  "properties required additionalProperties items default description";

/** Whether a value is valid by a schema with those keywords. */
function isValid(schema: Schema, value: unknown): boolean {
  for (const keyword of Object.keys(schema)) assert(KEYWORDS.split(" ").includes(keyword), keyword);
  if (schema.enum !== undefined) return schema.enum.includes(value);
  if (schema.anyOf !== undefined) return schema.anyOf.some((one) => isValid(one, value));
  switch (schema.type) {
    case "boolean":
      return typeof value === "boolean";
    case "string":
      return typeof value === "string" && value.length >= (schema.minLength ?? 0) &&
        new RegExp(schema.pattern ?? "").test(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value) &&
        schema.required!.every((name) => name in value) &&
        Object.entries(value).every(([name, one]) =>
          name in schema.properties! && isValid(schema.properties![name]!, one)
        );
    case "array":
      return Array.isArray(value) && value.length >= (schema.minItems ?? 0) &&
        value.every((one) => isValid(schema.items!, one));
    case "integer":
      if (!Number.isInteger(value)) return false;
  }
  return typeof value === "number" && value >= (schema.minimum ?? -Infinity) &&
    value > (schema.exclusiveMinimum ?? -Infinity) && value <= (schema.maximum ?? Infinity);
}

Deno.test("the schema of tine.json lists every option, with its type, range and default", () => {
  const text = Deno.readTextFileSync(new URL("server/tine.schema.json", ROOT));
  const schema: { properties: Record<string, Schema>; additionalProperties: boolean } = JSON.parse(
    text,
  );
  assertEquals(
    Object.keys(schema.properties),
    ["$schema", "app", "model", ...PREFORK_OPTIONS],
  );
  assertEquals(schema.additionalProperties, false);
  assertEquals(schema.properties.model!.enum, [...MODELS]);
  const defaults: Record<string, unknown> = {
    ...resolveOptions({}),
    workers: undefined,
    listen: undefined,
  };
  const numbers = [0, 1, 2, 0.5, 128, 129, 65535, 65536, 2147483, 2147484, 2147483647, 2147483648]
    .flatMap((number) => [number, -number]);
  const others = [true, null, "", "x", [], ["x"], [""], [1], {}, "common", "combined", "json"];
  const addresses = [[":80"], [":80", "[::]:81", "unix:x"], ["unix:"], [{}], [{ address: ":80" }]]
    .concat([[{ address: ":80", cert: "x", key: ["y"] }], [{ address: ":80", port: 1 }]]);
  for (const option of PREFORK_OPTIONS) {
    const property = schema.properties[option]!;
    assert(property.description, option);
    const value = defaults[option];
    assertEquals(property.default, value === Infinity ? undefined : value, option);
    const more = option === "listen" ? addresses : [];
    for (const candidate of [...numbers, ...others, ...more]) {
      // In the file, they are names of files.
      const isFile = option === "cert" || option === "key";
      assertEquals(
        isValid(property, candidate),
        accepts(() => isFile ? checkFiles(option, candidate) : checkOption(option, candidate)),
        `${option}: ${JSON.stringify(candidate)}`,
      );
    }
  }
});

Deno.test("every option has a flag, and is a name in tine.json", () => {
  const flags = Object.values(OPTIONS).flatMap((one) => typeof one === "string" ? [] : [one.sets]);
  const known: (keyof PreforkOptions | "model" | "config")[] = [...PREFORK_OPTIONS];
  flags.push("preload", "strict", "proxyProtocol"); // they take no value
  assertEquals(flags.sort(), [...known, "model", "config"].sort() as typeof flags);
});

function accepts(check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    assert(error instanceof TypeError || error instanceof RangeError);
    return false;
  }
}
