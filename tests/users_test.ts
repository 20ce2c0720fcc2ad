/** Servers that root starts and that become another user; and who may connect to a UNIX socket. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import * as tine from "../mod.ts";
import { getgrnam, getpwnam, getpwuid } from "../ffi/users.ts";
import { bindSocket } from "../server/listen.ts";
import {
  certificate,
  DENO,
  descendants,
  exists,
  isInstalled,
  Program,
  ROOT,
  scratch,
  Server,
  startServer,
  until,
  writeApp,
} from "./support.ts";

const isRoot = Deno.uid() === 0;
/** Only root can become another user. Others are told so, see below. */
const AS_ROOT = { ignore: !isRoot };

/** A Deno that every user can run, and the installed command. Root's own may be in its home. */
const installed = (() => {
  let path: string | undefined;
  return (): string => {
    if (path !== undefined) return path;
    path = Deno.makeTempDirSync({ prefix: "tine_test_" });
    Deno.chmodSync(path, 0o755);
    Deno.copyFileSync(DENO, `${path}/deno`);
    Deno.chmodSync(`${path}/deno`, 0o755);
    const { success, stderr } = new Deno.Command(DENO, {
      args: ["run", "-A", new URL("server/cli/install.ts", ROOT).pathname, path],
      env: { NO_COLOR: "1" },
    }).outputSync();
    assert(success, new TextDecoder().decode(stderr));
    globalThis.addEventListener("unload", () => Deno.removeSync(path!, { recursive: true }));
    return path;
  };
})();

function environment(folder: string): Record<string, string> {
  const bin = installed();
  const cache = `${folder}/deno_dir`;
  Deno.mkdirSync(cache, { recursive: true });
  Deno.chmodSync(cache, 0o777);
  return { PATH: `${bin}:${Deno.env.get("PATH")}`, DENO_DIR: cache };
}

/** Starts the installed command in a folder, and waits until it serves. */
async function serve(folder: string, args: readonly string[]): Promise<Server> {
  const server = new Server(`${installed()}/tine`, ["serve", ...args], {
    cwd: folder,
    env: environment(folder),
  });
  try {
    const [, url = ""] = await server.logged(/Serving (\S+) /);
    server.url = url;
    server.port = Number(url.match(/:(\d+)\/$/)?.[1]);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** A port that only root can bind. */
function lowPort(others: readonly number[] = []): number {
  for (let port = 1023; port > 600; port--) {
    if (others.includes(port)) continue;
    try {
      using _ = bindSocket(["0.0.0.0", port]);
      return port;
    } catch (error) {
      if (!tine.isSyscallError(error, "EADDRINUSE")) throw error;
    }
  }
  throw new Error("No port below 1024 is free");
}

/** What the kernel says of the users of all threads of a process and of its descendants. */
function credentials(pid: number): { processes: number; threads: number; all: string[] } {
  const pids = [pid, ...descendants(pid)];
  const texts = pids.flatMap((pid) => {
    try {
      return [...Deno.readDirSync(`/proc/${pid}/task`)].flatMap(({ name }) => {
        try {
          return [Deno.readTextFileSync(`/proc/${pid}/task/${name}/status`)];
        } catch {
          return []; // it has ended
        }
      });
    } catch {
      return [];
    }
  });
  const lines = (text: string) =>
    text.split("\n").filter((line) => /^(Uid|Gid|Groups|Cap(Eff|Prm|Amb)):/.test(line))
      .map((line) => line.trim().replaceAll("\t", " ")).join("; ");
  return { processes: pids.length, threads: texts.length, all: [...new Set(texts.map(lines))] };
}

/** What {@linkcode credentials} returns where nothing is left of root. */
function only(uid: number, gid: number, groups: readonly number[] = [gid]): string[] {
  const four = (id: number) => Array(4).fill(id).join(" ");
  const none = "0000000000000000";
  return [
    `Uid: ${four(uid)}; Gid: ${four(gid)}; Groups: ${groups.join(" ")}`.trim() +
    `; CapPrm: ${none}; CapEff: ${none}; CapAmb: ${none}`,
  ];
}

function fileOf(path: string): string {
  const { mode, uid, gid } = Deno.lstatSync(path);
  return `${(mode! & 0o7777).toString(8)} ${uid} ${gid}`;
}

const NOBODY = getpwnam("nobody");
const WWW = getpwnam("www-data");

/** Tells at each request as whom it runs, and whether it can become root again. */
const APP = `
  const { symbols } = Deno.dlopen("libc.so.6", {
    setuid: { parameters: ["u32"], result: "i32" },
    setgid: { parameters: ["u32"], result: "i32" },
    setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  });
  const back = [symbols.setuid(0), symbols.setgid(0), symbols.setresuid(0, 0, 0)];
  const loaded = Deno.uid();
  Deno.writeTextFileSync("files/written", String(Deno.pid));
  const variables = Object.keys(Deno.env.toObject())
    .filter((name) => /^TINE_(?!WORKER|STARTED_BY_|TEST_)/.test(name)); // those are the tests' own
  const { USER, LOGNAME, HOME } = Deno.env.toObject();
  // A subprocess gets nothing of what root has opened or read.
  const inherited = () => {
    const args = ["-c", "for fd in /proc/self/fd/*; do readlink $fd; done"];
    const { stdout } = new Deno.Command("sh", { args, stderr: "null" }).outputSync();
    return new TextDecoder().decode(stdout).match(/^(socket:|.*memfd:).*$/gm) ?? [];
  };
  export default {
    fetch: () =>
      Response.json({
        ...{ back, loaded, now: Deno.uid(), USER, LOGNAME, HOME, variables },
        inherited: inherited(),
      }),
  };
`;

/** A folder of root's with an app, and one of the user's in it. */
function folderFor(uid: number): { path: string } & AsyncDisposable {
  const folder = scratch();
  writeApp(folder.path, APP);
  Deno.mkdirSync(`${folder.path}/files`);
  Deno.chownSync(`${folder.path}/files`, uid, 0);
  return folder;
}

/** Creates a certificate, and its key, which only root can read. */
async function certificateOfRoot(folder: string): Promise<{ cert: string; key: string }> {
  const files = await certificate(folder);
  Deno.chmodSync(files.cert, 0o644);
  Deno.chmodSync(files.key, 0o600);
  return files;
}

const answer = (user: { name: string; uid: number; home: string }) => ({
  back: [-1, -1, -1],
  loaded: user.uid,
  now: user.uid,
  USER: user.name,
  LOGNAME: user.name,
  HOME: user.home,
  variables: [],
  inherited: [],
});

Deno.test(
  "serve --user leaves nothing of root in any thread, before the app is loaded and after restarts",
  AS_ROOT,
  async () => {
    await using folder = folderFor(NOBODY!.uid);
    const { path } = folder;
    const port = lowPort();
    const [pidFile, admin, log, errors] = ["tine.pid", "admin.sock", "access.log", "error.log"]
      .map((name) => `${path}/${name}`);
    await using server = new Server(`${installed()}/tine`, [
      ...["serve", "app.ts", "--user", "nobody", "--group", "www-data", "--umask", "027"],
      ...["--port", `${port}`, "--workers", "2", "--pid-file", pidFile!, "--admin", admin!],
      ...["--access-log", log!, "--error-log", errors!],
    ], { cwd: path, env: environment(path) });
    server.port = port;
    const said = (pattern: RegExp, count = 1) =>
      until(() => {
        if (!exists(errors!)) return false;
        return [...Deno.readTextFileSync(errors!).matchAll(pattern)].length >= count;
      }, `${pattern} in the error log`).catch((error) => {
        throw new Error(`${error.message}: ${server.stderr}${Deno.readTextFileSync(errors!)}`);
      });
    await said(/Serving .* with 2 workers/g);
    const [uid, gid] = [NOBODY!.uid, WWW!.gid];
    // initgroups(): the groups in which the user is listed, and the group.
    const check = async (processes: number) => {
      await until(() => descendants(server.pid).length + 1 === processes, `${processes} processes`);
      const found = credentials(server.pid);
      assertEquals(found.all, only(uid, gid));
      assert(found.threads > processes, `${found.threads} threads`);
    };
    await check(4); // and the admin process
    assertEquals(JSON.parse(await server.get("/")), answer(NOBODY!));
    assertEquals(fileOf(`${path}/files/written`), `640 ${uid} ${gid}`);
    for (const file of [log!, errors!, pidFile!]) assertEquals(fileOf(file), `640 ${uid} ${gid}`);
    assertEquals(fileOf(admin!), `750 ${uid} ${gid}`);
    assertEquals(Deno.readTextFileSync(pidFile!), `${server.pid}\n`);
    await until(() => /"GET \/ HTTP\/1.1" 200/.test(Deno.readTextFileSync(log!)), "a log line");

    // The server can be watched by root and by the user.
    for (const user of [[], ["setpriv", "--reuid=nobody", "--regid=www-data", "--clear-groups"]]) {
      const [command, ...args] = [...user, `${installed()}/tine`, "status", `${server.pid}`];
      const { stdout, stderr } = await new Deno.Command(command!, {
        args: [...args, "--json"],
        env: { ...environment(path), NO_COLOR: "1" },
      }).output();
      const [text, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      assertEquals(error, "");
      assertEquals(JSON.parse(text!).master.pid, server.pid);
    }

    // A worker that ends is replaced by one of the user's; and so at restarts, of which a failed one
    // changes nothing.
    const [first, second] = server.workers;
    Deno.kill(first!, "SIGKILL");
    await until(() => server.workers.length === 2 && !server.workers.includes(first!), "a worker");
    await check(4);
    let old = server.workers;
    assert(old.includes(second!));
    for (let count = 1; count <= 2; count++) {
      server.kill("SIGHUP");
      old = await server.replaced(old);
      await check(4); // the old workers have ended
      assertEquals(Deno.readTextFileSync(pidFile!), `${server.pid}\n`);
    }
    writeApp(path, "throw new Error(`broken as ${Deno.uid()}`);");
    server.kill("SIGHUP");
    await said(new RegExp(`broken as ${uid}`, "g"));
    assertEquals(server.workers, old);
    writeApp(path, APP);
    Deno.renameSync(log!, `${log}.1`);
    server.kill("SIGUSR1");
    await said(/access\.log: EACCES .*is still written to/g);
    assertEquals(JSON.parse(await server.get("/moved")), answer(NOBODY!));
    await until(() => Deno.readTextFileSync(`${log}.1`).includes("/moved"), "the moved log");

    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
    // They are in a folder of root's.
    assertEquals(Deno.readTextFileSync(pidFile!), "");
    assert(Deno.lstatSync(admin!).isSocket);
  },
);

Deno.test(
  "serve --user uses a key that only root can read, with fresh workers and after SIGHUP",
  AS_ROOT,
  async () => {
    await using folder = folderFor(NOBODY!.uid);
    const { path } = folder;
    const { cert, key } = await certificateOfRoot(path);
    await using server = await serve(path, [
      ...["app.ts", "--user", "nobody", "--no-preload", "--workers", "2", "--port", "0"],
      ...["--cert", cert, "--key", key],
    ]);
    const caCerts = [Deno.readTextFileSync(cert)];
    using client = Deno.createHttpClient({ caCerts, poolMaxIdlePerHost: 0 });
    const get = async () =>
      await (await fetch(`https://localhost:${server.port}/`, { client })).json();
    const check = () => {
      const { processes, all } = credentials(server.pid); // threads come and go
      assertEquals([processes, all], [3, only(NOBODY!.uid, NOBODY!.gid)]);
      // The key is in memory, and nothing of it where a program that the app starts could find it.
      for (const pid of server.workers) {
        assert(!Deno.readTextFileSync(`/proc/${pid}/environ`).includes("TINE_PEM"));
      }
    };
    check();
    assertEquals(await get(), answer(NOBODY!));
    for (let count = 1; count <= 2; count++) {
      await server.restarted();
      await until(() => descendants(server.pid).length === 2, "the end of the old workers");
      check();
      assertEquals(await get(), answer(NOBODY!));
      const kept = new RegExp(`Cannot read ${key} any more: what root read at the start`, "g");
      await until(() => server.stderr.match(kept)?.length === count, `${kept}, ${count} times`);
    }
    // A renewed certificate is of no use without its key, and prevents no new code.
    Deno.mkdirSync(`${path}/renewed`);
    const renewed = await certificate(`${path}/renewed`);
    Deno.copyFileSync(renewed.cert, cert);
    Deno.copyFileSync(renewed.key, key);
    const advice = /Cannot read \S+key\.pem any more.*Let the user read it, or start the server/g;
    const count = () => [...server.stderr.matchAll(advice)].length;
    for (const signal of ["SIGHUP", "SIGUSR2"] as const) {
      const [old, said] = [server.workers, count()];
      server.kill(signal);
      await server.replaced(old);
      await until(() => count() === said + 1, "the advice in the log");
      assertEquals(await get(), answer(NOBODY!));
    }
    // It is read again once it can be.
    Deno.chmodSync(key, 0o644);
    await server.restarted("SIGUSR2");
    await assertRejects(get);
    caCerts[0] = Deno.readTextFileSync(cert);
    using next = Deno.createHttpClient({ caCerts, poolMaxIdlePerHost: 0 });
    const response = await fetch(`https://localhost:${server.port}/`, { client: next });
    assertEquals(await response.json(), answer(NOBODY!));
    server.kill();
    assertEquals(await server.ended(), { code: 0, signal: null });
  },
);

for (const kind of [[], ["--no-preload"]]) {
  Deno.test(
    `serve --user keeps all addresses and their certificates over restarts, ${
      kind[0] ?? "with forked workers"
    }`,
    AS_ROOT,
    async () => {
      await using folder = folderFor(NOBODY!.uid);
      const { path } = folder;
      const { cert, key } = await certificateOfRoot(path);
      const socket = `${path}/app.sock`;
      const ports = [lowPort(), lowPort([lowPort()])];
      await using server = await serve(path, [
        ...["app.ts", "--user", "nobody", "--workers", "2", "--grace", "5", ...kind],
        ...["--listen", `127.0.0.1:${ports[0]}`, "--listen", `unix:${socket}`],
        ...["--listen", `[::]:${ports[1]},cert=${cert},key=${key}`],
        ...["--unix-mode", "0660", "--unix-group", "www-data"],
      ]);
      const caCerts = [Deno.readTextFileSync(cert)];
      const clients = [{}, { proxy: { transport: "unix", path: socket } as const }, { caCerts }]
        .map((options) => Deno.createHttpClient({ ...options, poolMaxIdlePerHost: 0 }));
      const urls = [
        `http://127.0.0.1:${ports[0]}`,
        "http://localhost",
        `https://localhost:${ports[1]}`,
      ];
      const check = async (workers: number) => {
        await until(() => descendants(server.pid).length === workers, `only ${workers} workers`);
        assertEquals(credentials(server.pid).all, only(NOBODY!.uid, NOBODY!.gid));
        assertEquals(fileOf(socket), `660 ${NOBODY!.uid} ${WWW!.gid}`);
        for (const [i, url] of urls.entries()) {
          const response = await fetch(url, { client: clients[i]! });
          assertEquals(await response.json(), answer(NOBODY!), url);
        }
      };
      try {
        await check(2);
        for (const signal of ["SIGHUP", "SIGUSR2", "SIGHUP"] as const) {
          await server.restarted(signal);
          await check(2);
        }
        server.kill("SIGTTIN");
        await until(() => server.workers.length === 3, "a third worker");
        Deno.kill(server.workers[0]!, "SIGKILL");
        await server.logged(/killed by SIGKILL/);
        await until(() => server.workers.length === 3, "three workers again");
        await check(3);
        server.kill();
        assertEquals(await server.ended(), { code: 0, signal: null }, server.stderr);
      } finally {
        for (const client of clients) client.close();
      }
    },
  );
}

Deno.test("--unix-mode and --unix-group say who may connect to the socket, whoever opens it", async () => {
  await using folder = scratch();
  const app = writeApp(folder.path, `export default { fetch: () => new Response("hi") };`);
  const socket = `${folder.path}/app.sock`;
  const { uid, gid } = { uid: tine.getuid(), gid: tine.getgid() };
  // With nothing but these options; the umask does not count.
  for (const [mode, umask] of [["0660", "077"], ["606", "0"]]) {
    await using server = await startServer(
      ["--unix", socket, "--unix-mode", mode!, "--unix-group", `${gid}`, "--umask", umask!],
      { app },
    );
    assertEquals(fileOf(socket), `${mode!.replace(/^0/, "")} ${uid} ${gid}`);
    server.kill();
    assertEquals((await server.ended()).code, 0);
  }
  if (!isRoot) return;
  // Root opens it in a folder of root's, and the socket is left there, and used by the next.
  for (let time = 1; time <= 2; time++) {
    await using server = await serve(folder.path, [
      ...["app.ts", "--user", "nobody", "--unix", socket, "--workers", "1"],
      ...["--unix-mode", "0660", "--unix-group", "www-data"],
    ]);
    assertEquals(fileOf(socket), `660 ${NOBODY!.uid} ${WWW!.gid}`);
    const asks = async (user: string, group: string) => {
      const { stdout } = await new Deno.Command("setpriv", {
        args: [`--reuid=${user}`, `--regid=${group}`, "--clear-groups", "curl", "--silent"]
          .concat(["--unix-socket", socket, "http://localhost/"]),
      }).output();
      return new TextDecoder().decode(stdout);
    };
    assertEquals(await asks("www-data", "www-data"), "hi");
    assertEquals(await asks("daemon", "daemon"), "");
    server.kill();
    assertEquals((await server.ended()).code, 0);
    assert(Deno.lstatSync(socket).isSocket, "it is left");
  }
});

Deno.test("bindSocket() gives a UNIX socket its permissions before a client can connect", async () => {
  await using folder = scratch();
  const path = `${folder.path}/socket`;
  const gid = isRoot ? 54321 : tine.getgid();
  using socket = bindSocket(path, undefined, { mode: 0o640, gid });
  assertEquals(fileOf(path), `640 ${tine.getuid()} ${gid}`);
  using client = new tine.Socket(tine.AF_UNIX, tine.SOCK_STREAM);
  const error = assertThrows(() => client.connect(path), tine.SyscallError);
  assertEquals(error.code, "ECONNREFUSED");
  socket.listen(1);
  client.connect(path);
});

Deno.test(
  "the documentation's commands serve on port 80, and behind nginx on a UNIX socket (needs nginx)",
  {
    ignore: !isRoot || !isInstalled("nginx"),
  },
  async () => {
    await using folder = scratch();
    const { path } = folder;
    const [port, cache] = [lowPort(), "/var/cache/tine"];
    const hadCache = exists(cache);
    for (const name of ["bin", "log", "run", "lib", "etc"]) Deno.mkdirSync(`${path}/${name}`);
    // What npx would give.
    Deno.writeTextFileSync(`${path}/bin/npx`, `#!/bin/sh\nshift 2\nexec ${DENO} "$@"\n`, {
      mode: 0o755,
    });
    const [, section] = Deno.readTextFileSync(new URL("docs/operate.md", ROOT))
      .match(/^## Users and sockets\n(.*?)^## /ms)!;
    const lines = [...section!.matchAll(/^```console\n(.*?)^```/gms)].flatMap(([, block]) =>
      block!.trimEnd().split("\n")
    );
    const commands = lines.filter((line) => line.startsWith("# ")).map((line) => line.slice(2));
    const expected = lines.filter((line) => !line.startsWith("# "));
    assert(commands.length > 12 && expected.length === 3, lines.join("\n"));
    const here = (text: string) =>
      text.replaceAll("/usr/local/bin", `${path}/bin`).replaceAll("/srv/app", `${path}/app`)
        .replaceAll("/var/log/", `${path}/log/`).replaceAll(
          / \/run\/(?!tine\/tine)/g,
          ` ${path}/run/`,
        )
        .replaceAll("|/run/tine/app", `|${path}/run/tine/app`)
        .replaceAll("/var/lib/", `${path}/lib/`).replaceAll("/etc/nginx/", `${path}/etc/`)
        .replaceAll("--port 80", `--port ${port}`).replaceAll("listen 80|", `listen ${port}|`)
        .replaceAll("http://localhost/", `http://localhost:${port}/`);
    // As if they were typed: each server is up when it is asked, and has ended before the next one.
    const typed = commands.map((command) =>
      here(command).replace(/^kill ["%].*/, "$&\nwait %tine || exit")
    );
    await using shell = new Program("bash", ["-c", `set -m\n${typed.join("\n")}\n`], {
      cwd: new URL(ROOT).pathname,
      env: { PATH: `${path}/bin:${Deno.env.get("PATH")}` },
      clearEnv: false,
    });
    try {
      const { code } = await shell.ended(120_000);
      // www-data has no folder of its own in which Deno could cache.
      assertEquals(fileOf(`${cache}/www-data`), `700 ${WWW!.uid} ${WWW!.gid}`);
      assertEquals(code, 0, shell.stderr);
    } finally {
      if (!hadCache && exists(cache)) Deno.removeSync(cache, { recursive: true });
    }
    const printed = shell.stdout.split("\n").filter((line) => /^(Hello|srw)/.test(line));
    assertEquals(printed, expected.map((line) => line.replace("33", `${WWW!.uid}`)), shell.stderr);
    assertMatch(Deno.readTextFileSync(`${path}/log/tine.log`), /"GET \/ HTTP/);
  },
);

/** Runs `serve` to its end, as an ordinary user if that is asked for. */
async function fails(
  folder: string,
  args: readonly string[],
  asRoot = isRoot,
): Promise<{ code: number; error: string }> {
  const user = isRoot && !asRoot
    ? ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    : [];
  const [command, ...rest] = [...user, `${installed()}/tine`, "serve", "app.ts", ...args];
  await using program = new Program(command!, rest, { cwd: folder, env: environment(folder) });
  const { code } = await program.ended();
  return { code, error: program.stderr };
}

const HELP = "Try --help.\n";

Deno.test("serve reports in one line that a user, a group or a mode is invalid, and opens nothing", async () => {
  await using folder = scratch();
  const { path } = folder;
  writeApp(path, "export default { fetch: () => new Response() };");
  const files = ["--pid-file", "tine.pid", "--access-log", "access.log", "--unix", "app.sock"];
  const none = "there is none";
  const digits = "octal digits from 0 to 777, such as 027";
  for (
    const [args, message] of [
      [
        ["--user", "no_such_user"],
        `--user "no_such_user": expected a user of this system: ${none}`,
      ],
      [
        ["--user", "4294967294"],
        '--user "4294967294": expected a user of this system, or --group, too: nothing tells the ' +
        "group of this id",
      ],
      [["--user", "a:b"], '--user "a:b": expected a name or an id'],
      [
        ["--user", "nobody", "--group", "no_such_group"],
        `--group "no_such_group": expected a group of this system: ${none}`,
      ],
      // The kernel takes the id after the greatest for "unchanged": the group would remain root's.
      [
        ["--user", "nobody", "--group", "4294967295"],
        `--group "4294967295": expected a group of this system: ${none}`,
      ],
      [
        ["--user", "4294967295", "--group", "0"],
        `--user "4294967295": expected a user of this system: ${none}`,
      ],
      [["--group", "nogroup"], "--group and without --user: expected both, or only the user"],
      [
        ["--unix-group", "no_such_group"],
        `--unix-group "no_such_group": expected a group of this system: ${none}`,
      ],
      [["--umask", "9"], `--umask "9": expected ${digits}`],
      [["--unix-mode", "999"], `--unix-mode "999": expected ${digits}`],
      [["--unix-mode", "7777"], `--unix-mode "7777": expected ${digits}`],
      [["--unix-mode", "rw"], `--unix-mode "rw": expected ${digits}`],
    ] as const
  ) {
    const { code, error } = await fails(path, [...files, ...args]);
    assertEquals(error, `error: Cannot serve with ${message}\n${HELP}`);
    assertEquals(code, 2);
  }
  for (const option of ["--unix-mode", "--unix-group"]) {
    for (const listen of [["--port", "0"], ["--listen", ":0", "--listen", "[::1]:0"]]) {
      const { code, error } = await fails(path, [...listen, option, "0"]);
      assertEquals(error, `error: Cannot serve with ${option} and without a UNIX socket\n${HELP}`);
      assertEquals(code, 2);
    }
  }
  const { stdout } = await new Deno.Command(`${installed()}/tine`, {
    args: ["check", "--json", "app.ts", "--user", "no_such_user"],
    cwd: path,
    env: environment(path),
  }).output();
  const report = JSON.parse(new TextDecoder().decode(stdout));
  assertMatch(report.error, /^Cannot serve with --user "no_such_user": /);
  // As an ordinary user.
  const { code, error } = await fails(path, ["--port", "0", "--user", "root"], false);
  assertEquals(
    error,
    "error: Cannot serve as user root: only root can become another user. Start the server as " +
      "root, or without --user\n",
  );
  assertEquals(code, 1);
  const socket = `${path}/deno_dir/app.sock`; // where any user can create one
  const group = await fails(path, ["--unix", socket, "--unix-group", "0"], false);
  assertEquals(
    group.error,
    `error: Cannot chown ${socket}: EPERM (Operation not permitted). Choose a --unix-group in which ` +
      "the user is, or start the server as root\n",
  );
  assert(!exists(socket));
  assertEquals([...Deno.readDirSync(path)].map(({ name }) => name).sort(), [
    ...["app.ts", "deno_dir"],
  ]);
});

Deno.test(
  "serve --user reports in one line what the user may not read or write, and opens nothing",
  AS_ROOT,
  async () => {
    await using folder = folderFor(NOBODY!.uid);
    const { path } = folder;
    const before = [...Deno.readDirSync(path)].length;
    const args = ["--user", "nobody", "--listen", "127.0.0.1:0", "--workers", "1"];
    const check = async (more: readonly string[], expected: RegExp) => {
      const { code, error } = await fails(path, [...args, "--pid-file", "tine.pid", ...more]);
      assertMatch(error, expected);
      assertEquals([error.trimEnd().split("\n").length, code], [1, 1], error);
    };
    Deno.chmodSync(`${path}/app.ts`, 0o600);
    await check([], /^error: Cannot serve as user nobody: Cannot open app\.ts: EACCES /);
    Deno.chmodSync(`${path}/app.ts`, 0o644);
    // Root does not write to it, and does not give it away: it might be any file.
    Deno.writeTextFileSync(`${path}/access.log`, "root's\n");
    await check(
      ["--access-log", "access.log"],
      /access\.log: EACCES .*: chown nobody \/.*\.log\n$/,
    );
    assertEquals(fileOf(`${path}/access.log`), "644 0 0");
    Deno.removeSync(`${path}/access.log`);
    Deno.writeTextFileSync(`${path}/tine.pid`, "1\n");
    await check([], /tine\.pid: it belongs to process 1, which is running/);
    Deno.removeSync(`${path}/tine.pid`);
    const missing = await fails(path, ["--user", "nobody", "--pid-file", "missing/tine.pid"]);
    assertMatch(missing.error, /^error: Cannot write pid file \S+missing\/tine\.pid: ENOENT/);
    // What has been created is removed if something else cannot be opened.
    await check(["--listen", "unix:missing/app.sock"], /bind .*missing\/app\.sock: ENOENT/);
    assertEquals([...Deno.readDirSync(path)].length, before + 1); // deno_dir
  },
);

Deno.test(
  "serve --user refuses a DENO_DIR that the user may not read",
  AS_ROOT,
  async () => {
    await using folder = folderFor(NOBODY!.uid);
    const { path } = folder;
    Deno.mkdirSync(`${path}/private`, { mode: 0o700 });
    await using program = new Program(`${installed()}/tine`, [
      "serve",
      "app.ts",
      "--user",
      "nobody",
    ], {
      cwd: path,
      env: { ...environment(path), DENO_DIR: `${path}/private` },
    });
    assertEquals((await program.ended()).code, 1);
    assertMatch(program.stderr, /Cannot serve as user nobody: Cannot open \S+\/private: EACCES/);
  },
);

Deno.test(
  "the simpler models, check and servePrefork() become the user, too",
  AS_ROOT,
  async () => {
    await using folder = folderFor(NOBODY!.uid);
    const { path } = folder;
    const port = lowPort();
    for (const model of ["iterative", "forking"]) {
      await using server = await serve(path, [
        ...["app.ts", "--user", "nobody", "--model", model, "--port", `${port}`, "--umask", "077"],
      ]);
      assertEquals(JSON.parse(await server.get("/")), answer(NOBODY!), model);
      assertEquals(credentials(server.pid).all, only(NOBODY!.uid, NOBODY!.gid));
      assertEquals(fileOf(`${path}/files/written`), `600 ${NOBODY!.uid} ${NOBODY!.gid}`);
      Deno.removeSync(`${path}/files/written`);
      server.kill();
      assertEquals((await server.ended()).code, 0);
    }
    const { success, stderr } = await new Deno.Command(`${installed()}/tine`, {
      args: ["check", "app.ts", "--user", "nobody", "--port", `${port}`],
      cwd: path,
      env: environment(path),
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    assertEquals(Deno.statSync(`${path}/files/written`).uid, NOBODY!.uid);

    const program = writeApp(
      path,
      `import { servePrefork } from ${
        JSON.stringify(new URL("prefork.js", `file://${path}/`).href)
      };
    console.log("begins as " + Deno.uid());
    const app = new URL("./app.ts", import.meta.url);
    Deno.exit(await servePrefork(app, { user: "nobody", port: ${port}, workers: 1 }));`,
      "program.ts",
    );
    const bundled = new Deno.Command(DENO, {
      args: ["bundle", "--quiet", "--platform", "deno", new URL("server/prefork.ts", ROOT).pathname]
        .concat("--output", `${path}/prefork.js`),
      cwd: ROOT,
    }).outputSync();
    assert(bundled.success, new TextDecoder().decode(bundled.stderr));
    await using server = new Server(`${installed()}/deno`, ["run", "-A", program], {
      cwd: path,
      env: environment(path),
    });
    await server.logged(/Serving /);
    server.port = port;
    assertEquals(JSON.parse(await server.get("/")), answer(NOBODY!));
    assertEquals(credentials(server.pid).all, only(NOBODY!.uid, NOBODY!.gid));
    assertMatch(server.stdout, new RegExp(`^begins as 0\n(begins as ${NOBODY!.uid}\n)+$`));
    await server.restarted("SIGHUP", 1);
    assertEquals(credentials(server.pid).all, only(NOBODY!.uid, NOBODY!.gid));
    server.kill();
    assertEquals((await server.ended()).code, 0);
  },
);

Deno.test(
  "serve --user serves a program on the port that root opens, on whichever addresses it asks for",
  AS_ROOT,
  async () => {
    await using folder = scratch();
    const { path } = folder;
    const port = lowPort();
    const apps = {
      // Of Node's servers, one without a host listens on all addresses, IPv6 and IPv4.
      "node.ts": `import { createServer } from "node:http";
        createServer((_, response) => response.end(String(Deno.uid()))).listen(3000);`,
      "deno.ts": `Deno.serve({ port: 3000 }, () => new Response(String(Deno.uid())));`,
    };
    for (const [name, app] of Object.entries(apps)) {
      writeApp(path, app, name);
      const host = name === "node.ts" ? "[::]" : "0.0.0.0";
      for (const more of [[], ["--no-preload"]]) {
        await using server = await serve(path, [
          ...[name, "--user", "nobody", "--workers", "1", "--port", `${port}`, ...more],
        ]);
        assertEquals(server.url, `http://${host}:${port}/`, more.join());
        assertEquals(await server.get("/"), `${NOBODY!.uid}`);
        await server.restarted("SIGHUP", 1);
        assertEquals(await server.get("/"), `${NOBODY!.uid}`);
        server.kill();
        assertEquals((await server.ended()).code, 0, server.stderr);
      }
    }
    // Which other address the program asks for, root cannot know.
    writeApp(path, `Deno.serve({ port: ${port} }, () => new Response());`);
    const { code, error } = await fails(path, ["--user", "nobody"]);
    assertMatch(error, /^error: .* 0\.0\.0\.0:\d+: EACCES .*, or with --user and --listen$/m);
    assertEquals([error.trimEnd().split("\n").length, code], [1, 1], error);
  },
);

Deno.test(
  "serve --user takes an id that the system does not list, without root's groups",
  AS_ROOT,
  async () => {
    await using folder = scratch();
    writeApp(folder.path, `export default { fetch: () => new Response(Deno.env.get("USER")) };`);
    const args = ["app.ts", "--user", "54321", "--group", "54322", "--port", "0", "--workers", "1"];
    await using server = new Server("setpriv", [
      ...["--groups=0,4", `${installed()}/tine`, "serve", ...args],
    ], { cwd: folder.path, env: environment(folder.path) });
    const [, port] = await server.logged(/Serving \S+:(\d+)\/ /);
    server.port = Number(port);
    assertEquals(credentials(server.pid).all, only(54321, 54322, []));
    assertEquals(await server.get("/"), "54321");
  },
);

Deno.test("the system's lists are read as /etc/passwd and /etc/group have them", () => {
  const lines = (path: string) =>
    Deno.readTextFileSync(path).split("\n").filter((line) => /^[a-z_]/.test(line))
      .map((line) => line.split(":"));
  const users = lines("/etc/passwd");
  // Some have a group with another id.
  assert(users.some(([, , uid, gid]) => uid !== gid));
  for (const [name, , uid, gid, , home] of users) {
    const user = { name: name!, uid: Number(uid), gid: Number(gid), home: home! };
    assertEquals(getpwnam(name!), user);
    assertEquals(getpwuid(user.uid)?.uid, user.uid);
  }
  for (const [name, , id] of lines("/etc/group")) {
    assertEquals(getgrnam(name!), { name: name!, gid: Number(id) });
  }
});

Deno.test("serve --user refuses to run with a part of root left", AS_ROOT, async () => {
  await using folder = folderFor(NOBODY!.uid);
  const { path } = folder;
  for (
    const [options, reason] of [
      // The user is the wanted one, and the group is not.
      [
        ["--reuid=nobody", "--regid=0", "--clear-groups"],
        "only root can become another user. Start the server as root, or without --user",
      ],
      [["--securebits=+no_setuid_fixup"], "this process keeps the capability to become root again"],
    ] as const
  ) {
    await using program = new Program("setpriv", [
      ...[...options, `${installed()}/tine`, "serve", "app.ts", "--user", "nobody", "--port", "0"],
    ], { cwd: path, env: environment(path) });
    // A server that starts would not end by itself.
    await program.logged(/error: .*\n|Serving/);
    assertEquals(program.stderr, `error: Cannot serve as user nobody: ${reason}\n`);
    assertEquals((await program.ended()).code, 1);
    assert(!exists(`${path}/files/written`), "the app was loaded");
  }
});

const canMount = new Deno.Command("unshare", {
  args: ["--mount", "mount", "-t", "tmpfs", "none", "/var/cache"],
  stdout: "null",
  stderr: "null",
}).outputSync().success;

Deno.test(
  "serve --user gives Deno a folder that the user can reach, whatever the umask, and none of root's",
  { ignore: !canMount },
  async () => {
    await using folder = folderFor(WWW!.uid);
    const { path } = folder;
    writeApp(
      path,
      `const { DENO_DIR } = Deno.env.toObject();
      Deno.writeTextFileSync(DENO_DIR + "/reached", "");
      export default { fetch: () => new Response(DENO_DIR) };`,
    );
    // The machine's own folders stay as they are.
    const home = getpwnam("www-data")!.home;
    const script = `for folder in /var/cache ${home}; do
      if [ -d $folder ]; then mount -t tmpfs -o mode=755 none $folder || exit; fi
    done
    umask 077
    exec "$@"`;
    for (const umask of [[], ["--umask", "027"]]) {
      await using server = new Server("unshare", [
        ...["--mount", "sh", "-c", script, "sh", "env", "-u", "DENO_DIR", "-u", "XDG_CACHE_HOME"],
        ...[`${installed()}/tine`, "serve", "app.ts", "--user", "www-data", "--port", "0"],
        ...["--workers", "1", ...umask],
      ], { cwd: path, env: { PATH: environment(path).PATH! } });
      const [, port] = await server.logged(/Serving \S+:(\d+)\/ /);
      server.port = Number(port);
      assertEquals(await server.get("/"), "/var/cache/tine/www-data");
      const root = `/proc/${server.pid}/root`;
      assertMatch(fileOf(`${root}/var/cache/tine`), /^755 0 /);
      assertEquals(fileOf(`${root}/var/cache/tine/www-data`), `700 ${WWW!.uid} ${WWW!.gid}`);
      assert(!exists(`${root}${home}/.cache`), "root has written to the user's home");
    }
  },
);

Deno.test("SIGHUP changes none of the options of users and sockets", AS_ROOT, async () => {
  await using folder = folderFor(NOBODY!.uid);
  const { path } = folder;
  const write = (options: unknown) =>
    Deno.writeTextFileSync(`${path}/tine.json`, JSON.stringify(options));
  const socket = { path: "app.sock", unixMode: "0666", unixGroup: "www-data" };
  const more = { app: "app.ts", workers: 1 };
  write({ ...more, ...socket, user: "nobody", group: "www-data", umask: "027" });
  await using server = await serve(path, []);
  assertEquals(fileOf(`${path}/app.sock`), `666 ${NOBODY!.uid} ${WWW!.gid}`);
  const { workers } = server;
  write({ ...more, ...socket, unixMode: "0600", unixGroup: "0", user: "daemon", umask: "0" });
  server.kill("SIGHUP");
  await server.logged(/SIGHUP cannot change unixMode, unixGroup, user, group, umask: stop/);
  await server.replaced(workers, 1);
  assertEquals(credentials(server.pid).all, only(NOBODY!.uid, WWW!.gid));
  assertEquals(fileOf(`${path}/files/written`), `640 ${NOBODY!.uid} ${WWW!.gid}`);
  assertEquals(fileOf(`${path}/app.sock`), `666 ${NOBODY!.uid} ${WWW!.gid}`);
  server.kill();
  assertEquals((await server.ended()).code, 0);
});
