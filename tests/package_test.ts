/** The package that `deno publish` would upload, on a local registry: all that users get. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DENO, Program, ROOT, scratch, Server, writeApp } from "./support.ts";

interface Registry extends AsyncDisposable {
  /** The environment in which Deno takes it for jsr.io. */
  readonly env: Record<string, string>;
  /** The files of the package that was published there. */
  readonly files: readonly string[];
}

/** Publishes the package to a registry that serves it as jsr.io does. */
async function publish(folder: string): Promise<Registry> {
  const { name, version, exports } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
  const contents = `${folder}/package`;
  const files: string[] = [];
  const manifest: Record<string, { size: number; checksum: string }> = {};

  async function unpack(tarball: Uint8Array<ArrayBuffer>): Promise<void> {
    Deno.mkdirSync(contents);
    Deno.writeFileSync(`${folder}/package.tar.gz`, tarball);
    const tar = new Deno.Command("tar", { args: ["-xzf", "../package.tar.gz"], cwd: contents });
    assert((await tar.output()).success);
    for (const path of walk(contents)) {
      const bytes = Deno.readFileSync(`${contents}/${path}`);
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
      files.push(path);
      manifest[`/${path}`] = { size: bytes.length, checksum: `sha256-${hash}` };
    }
  }

  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { pathname } = new URL(request.url);
      if (request.method === "POST") {
        await unpack(new Uint8Array(await request.arrayBuffer()));
        return Response.json({ id: "1", status: "success", error: null });
      }
      if (pathname === "/api/scopes/tine/packages/tine") return Response.json({});
      if (pathname === `/${name}/meta.json`) {
        return Response.json({ versions: { [version]: {} }, latest: version });
      }
      if (pathname === `/${name}/${version}_meta.json`) return Response.json({ manifest, exports });
      const path = pathname.replace(`/${name}/${version}/`, "");
      if (!files.includes(path)) return new Response(null, { status: 404 });
      return new Response(Deno.readFileSync(`${contents}/${path}`));
    },
  );
  // A cache of its own, with the npm packages that are there.
  const { npmCache } = JSON.parse(await deno(["info", "--json"]));
  Deno.mkdirSync(`${folder}/cache`);
  Deno.symlinkSync(npmCache, `${folder}/cache/npm`);
  const env = {
    JSR_URL: `http://127.0.0.1:${server.addr.port}/`,
    DENO_DIR: `${folder}/cache`,
  };
  const args = ["publish", "--token=none", "--allow-dirty", "--no-check", "--no-provenance"];
  await deno(args, { cwd: ROOT, env });
  return { env, files, [Symbol.asyncDispose]: () => server.shutdown() };
}

function walk(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(`${folder}/${prefix}`)].flatMap(({ name, isDirectory }) =>
    isDirectory ? walk(folder, `${prefix}${name}/`) : [prefix + name]
  );
}

/** Runs Deno to its end, and gives what it printed. */
async function deno(args: string[], options: Deno.CommandOptions = {}): Promise<string> {
  await using program = new Program(DENO, args, options);
  assertEquals(await program.ended(), { code: 0, signal: null }, program.stderr);
  return program.stdout;
}

Deno.test("the published package has a working command line, installed or not", async () => {
  await using folder = scratch();
  await using registry = await publish(folder.path);
  const { env } = registry;
  const app = writeApp(folder.path, `export default { fetch: () => new Response("served") };`);
  const options = { env, cwd: folder.path };
  const help = await deno(["run", "-A", "jsr:@tine/tine/cli", "--help"], options);
  assertMatch(help, /^tine: serves a fetch app/);
  await using server = new Server(
    DENO,
    ["run", "-A", "jsr:@tine/tine/cli", "serve", "--port", "0", "--workers", "1", app],
    options,
  );
  const [, port] = await server.logged(/Serving http:\/\/\S+:(\d+)\/ with 1 worker\n/);
  server.port = Number(port);
  assertEquals(await server.get("/"), "served");

  const root = `${folder.path}/root`;
  const line = [
    "install",
    "--global",
    "-A",
    "--root",
    root,
    "--name",
    "tine",
    "jsr:@tine/tine/cli",
  ];
  await deno(line, options);
  await using status = new Program(`${root}/bin/tine`, ["status", `${server.pid}`], {
    env: { ...env, PATH: `${folder.path}/bin:${Deno.env.get("PATH")}` },
  });
  assertEquals(await status.ended(), { code: 0, signal: null }, status.stderr);
  assertStringIncludes(status.stdout, `master ${server.pid}`);
  server.kill();
  assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
});

Deno.test("`deno cache` fetches all that the command line of the published package needs", async () => {
  await using folder = scratch();
  const options: Deno.CommandOptions = { cwd: folder.path };
  {
    await using registry = await publish(folder.path);
    options.env = registry.env;
    await deno(["cache", "jsr:@tine/tine/cli"], options);
  }
  const line = ["run", "-A", "--cached-only", "jsr:@tine/tine/cli"];
  assertMatch(await deno([...line, "serve", "--help"], options), /^Serves a module/);
  const diagnosis = await deno([...line, "doctor", "--json"], options);
  assertEquals(JSON.parse(diagnosis).ok, true);
});

Deno.test("the published package is complete, and contains no tests", async () => {
  await using folder = scratch();
  await using registry = await publish(folder.path);
  const script = writeApp(
    folder.path,
    `import { getpid } from "jsr:@tine/tine";
     import { fork } from "jsr:@tine/tine/ffi";
     import { servePrefork } from "jsr:@tine/tine/server";
     console.log(getpid() === Deno.pid, typeof fork, typeof servePrefork);`,
    "main.ts",
  );
  const printed = await deno(["run", "--allow-ffi", "--check", script], {
    env: registry.env,
    cwd: folder.path,
  });
  assertEquals(printed, "true function function\n");
  for (const file of ["README.md", "docs/serve.md", "LICENSE", "deno.json"]) {
    assert(registry.files.includes(file));
  }
  assertEquals(registry.files.filter((path) => /test|\.ci|\.git/.test(path)), []);
});
