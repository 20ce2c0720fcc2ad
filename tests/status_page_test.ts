import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { adminHandler } from "../server/prefork/status/admin.ts";
import { createScoreboard } from "../server/prefork/scoreboard.ts";
import { formatPage, HEADERS } from "../server/prefork/status/page/page.ts";
import { readStatus, type Status } from "../server/prefork/status/status.ts";
import { askAsBrowser, checkPage } from "./status_page.ts";
import {
  ask,
  DENO,
  listeningPorts,
  Program,
  ROOT,
  scratch,
  type Server,
  serveRepository,
  startServer,
  until,
  within,
  writeApp,
} from "./support.ts";

const STATUS: Status = {
  master: {
    pid: 1,
    url: "http://127.0.0.1:8000/",
    app: "app.ts",
    started: "2026-01-02T03:04:05.678Z",
    uptime: 1,
    generation: 0,
    workers: 0,
    requests: 0,
    errors: 0,
    crashes: 0,
    lastReload: null,
    draining: false,
    latency: { bounds: [], counts: [0], sum: 0, count: 0 },
    responseBytes: { bounds: [], counts: [0], sum: 0, count: 0 },
    responses: [],
    starts: [],
    versions: { tine: "0.1.0", deno: "2.9.6", v8: "15" },
    reloads: { requested: 0, answered: 0 },
    logs: { reopened: 0, pending: 0, failed: 0 },
    memory: null,
  },
  admin: null,
  workers: [],
  listeners: [],
  slow: [],
};

/** Markup that would run if it were not text. It sets the title of a page that it gets into. */
const HOSTILE = [
  "</script><script>document.title='run'</script>",
  "<!--<script>",
  "<img/src=x/onerror=document.title='run'>",
  "\"'><svg/onload=document.title='run'>",
  "\u2028</SCRIPT >",
];

function responseOf(status: Status): { head: string; body: string } {
  const headers = { ...HEADERS, "cache-control": "no-store", "x-content-type-options": "nosniff" };
  const lines = Object.entries({ ...headers, vary: "accept" }).map(([name, value]) =>
    `${name}: ${value}`
  );
  return { head: ["HTTP/1.1 200 OK", ...lines].join("\r\n"), body: formatPage(status) };
}

Deno.test("formatPage() contains the status, whatever clients and apps have put into it", async () => {
  for (const text of HOSTILE) {
    const status: Status = {
      ...STATUS,
      master: {
        ...STATUS.master,
        app: text,
        url: text,
        lastReload: { success: false, time: STATUS.master.started, reason: text },
      },
    };
    assertEquals(await checkPage(responseOf(status)), status);
  }
});

Deno.test("adminHandler() gives the page to browsers, and the table to others", async () => {
  const { file, scoreboard } = createScoreboard();
  try {
    scoreboard.master = Deno.pid;
    const handler = adminHandler(scoreboard, ({ url }) => !url.includes("evil"));
    const get = async (accept?: string, url = "http://localhost/") =>
      await handler(new Request(url, { headers: accept === undefined ? {} : { accept } }));
    for (const accept of [undefined, "*/*", "text/plain", "application/json", "text/htmlx"]) {
      const response = await get(accept);
      assertEquals(response.headers.get("content-type"), "text/plain; charset=utf-8", accept);
      assertEquals(response.headers.get("vary"), "accept");
      assertMatch(await response.text(), /^An app on /);
    }
    for (const accept of ["text/html", "text/html,*/*;q=0.8", "application/xml, text/html;q=0.9"]) {
      const response = await get(accept);
      assertEquals(response.headers.get("content-type"), "text/html; charset=utf-8", accept);
      assertMatch(await response.text(), /^<!doctype html>/);
    }
    const refused = await get("text/html", "http://evil/");
    assertEquals([refused.status, refused.headers.get("content-type")], [
      403,
      "text/plain; charset=utf-8",
    ]);
    const json = await get("text/html", "http://localhost/status.json");
    assertEquals(json.headers.get("content-type"), "application/json");
    assertEquals(json.headers.get("vary"), null);
  } finally {
    file.close();
  }
});

Deno.test("the page is no part of what a server loads when it starts", async () => {
  const admin = new URL("server/prefork/status/admin.ts", ROOT).pathname;
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json", admin] })
    .output();
  interface Module {
    specifier: string;
    dependencies?: { specifier: string; isDynamic?: boolean }[];
  }
  const { modules }: { modules: Module[] } = JSON.parse(new TextDecoder().decode(stdout));
  const importers = modules.flatMap(({ specifier, dependencies = [] }) =>
    dependencies
      .filter((one) => one.specifier.endsWith("/page.ts"))
      .map(({ isDynamic }) => [specifier.split("/").at(-1), isDynamic])
  );
  assertEquals(importers, [["admin.ts", true]]);
});

Deno.test("the admin socket of a real server has the page, which contains no queries", async () => {
  await using folder = scratch();
  const socket = `${folder.path}/admin.sock`;
  await using server = await startServer(["--admin", socket]);
  const path = "/</script><script>document.title='run'</script>";
  await ask(server.port, `${path}?token=secret`);
  const response = await until(() => askAsBrowser(socket).catch(() => undefined), "the page");
  const { master, admin, workers } = await checkPage(response);
  const now = readStatus(server.pid);
  assertEquals([master.pid, master.requests, admin?.pid], [server.pid, 1, now.admin!.pid]);
  assertEquals(workers.map(({ pid }) => pid), now.workers.map(({ pid }) => pid));
  const requests = workers.map(({ request }) => request).filter((request) => request !== "");
  assertEquals(requests, [`GET http://localhost${path}`]);
  assert(!response.body.includes("secret"));
  const { head, body } = await askAsBrowser(socket, { path: "/page.ts" });
  assertMatch(head, /^HTTP\/1\.1 404 /);
  assertStringIncludes(body, "There is no such page");
});

Deno.test("the page needs no permission, and answers for no foreign host", async () => {
  await using folder = scratch();
  const app = `${folder.path}/app.ts`;
  Deno.writeTextFileSync(app, "export default { fetch: () => new Response() };");
  await using server = await startServer(["--admin", "127.0.0.1:0"], {
    app,
    permissions: ["--allow-ffi", `--allow-read=${folder.path}`, "--allow-net=127.0.0.1"],
    cwd: folder.path,
  });
  const address = { hostname: "127.0.0.1", port: adminPort(server) };
  const response = await until(() => askAsBrowser(address).catch(() => undefined), "the page");
  assertEquals((await checkPage(response)).master.pid, server.pid);
  const refused = await askAsBrowser(address, { host: "evil.example" });
  assertMatch(refused.head, /^HTTP\/1\.1 403 /);
  assert(!refused.body.includes("<"), refused.body);
});

Deno.test("the copy for a command line that runs from a URL contains the page", async () => {
  await using folder = scratch();
  await using repository = serveRepository();
  const program = `const { localCopy } = await import(Deno.args[0]);
    const copy = await localCopy(Deno.args[1] + "server/prefork/status/admin.ts", Deno.args[1]);
    const { formatPage } = await import(new URL("page/page.ts", copy).href);
    console.log(copy, formatPage({ here: 1 }).includes('{"here":1}'));`;
  await using copier = new Program(DENO, [
    ...["eval", "--no-lock", program, new URL("server/cli/local_copy.ts", ROOT).href],
    repository.url,
  ], { env: { XDG_CACHE_HOME: folder.path } });
  assertEquals((await copier.ended()).code, 0, copier.stderr);
  assertMatch(copier.stdout, new RegExp(`^file://${folder.path}/.*/admin\\.ts true\n$`));
});

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
  .find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });

Deno.test({
  name: "a browser shows the processes, follows them, and runs nothing that clients have sent",
  ignore: CHROMIUM === undefined,
  fn: async () => {
    await using folder = scratch();
    await using server = await startServer(["--admin", "127.0.0.1:0"]);
    const pid = await until(() => readStatus(server.pid).admin?.pid, "the admin process");
    const url = `http://127.0.0.1:${adminPort(server)}/`;
    for (
      const path of [
        "<img/src=x/onerror=document.title='run'>",
        "</script><script>document.title='run'</script>",
      ]
    ) {
      await ask(server.port, `/${path}`);
    }
    const dom = await domOf(url, folder.path);
    const { workers } = readStatus(server.pid);
    assertMatch(dom, /<title>2\/2 ready, [^<]*app\.ts<\/title>/);
    assertMatch(dom, new RegExp(`<h3>master ${server.pid} <span class="state">running</span>`));
    for (const { number, pid } of workers) {
      assertMatch(dom, new RegExp(`<h3>worker ${number}, ${pid} <span class="state">ready</span>`));
    }
    assertMatch(dom, new RegExp(`<h3>admin socket, ${pid} `));
    assertStringIncludes(dom, "last request GET /&lt;");
    assertEquals(dom.match(/<img/g), null);
    // It needs three statuses for a line.
    assertMatch(dom, /<path id="rates" d="M[\d. ]+L/);
    assertMatch(dom, /<p id="message" role="status"><\/p>/);
  },
});

Deno.test({
  name: "a browser shows rates, percentiles, queues, and what requests take long",
  ignore: CHROMIUM === undefined,
  fn: async () => {
    await using folder = scratch();
    const app = writeApp(
      folder.path,
      `export default {
         fetch: async ({ url }) => {
           const { pathname } = new URL(url);
           if (pathname === "/hang") await new Promise(() => {});
           if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 150));
           return new Response(null, { status: pathname === "/fail" ? 503 : 200 });
         },
       };`,
    );
    await using server = await startServer(["--admin", "127.0.0.1:0", "--workers", "1"], { app });
    using hanging = await Deno.connect({ port: server.port });
    await hanging.write(
      new TextEncoder().encode("GET /hang?token=secret HTTP/1.1\r\nhost: a\r\n\r\n"),
    );
    for (const path of ["/slow?token=secret", "/fail", "/"]) await ask(server.port, path);
    await until(() => {
      const { workers: [worker], slow } = readStatus(server.pid);
      return worker!.current.length === 1 && slow.length === 1;
    }, "the requests in the status");
    const dom = await domOf(`http://127.0.0.1:${adminPort(server)}/`, folder.path);
    const texts = textsOf(dom);
    for (
      const expected of [
        / errors 1 /,
        / errors per second 0 /,
        / response times since the start p50 [\d.]+ m?s, p90 [\d.]+ m?s, p99 [\d.]+ m?s /,
        / worker starts start 1 /,
        / p99 [\d.]+ m?s in flight 1 /,
        / Listening sockets queue dropped address 0 of \d+ 0 http:\S+ Requests in/,
        / Requests in progress worker for request 1 \S+ GET http:\/\/a\/hang Slowest/,
        / worker took ago status request 1 [\d.]+ m?s \S+ 200 GET http:\/\/localhost\/slow /,
        / 1 active, \d idle, 0 upgraded\. /,
      ]
    ) assertMatch(texts, expected);
    assert(!dom.includes("secret"));
  },
});

Deno.test({
  name: "a browser shows what has changed while it looked, and text of clients as text",
  ignore: CHROMIUM === undefined,
  fn: async () => {
    await using folder = scratch();
    const [markup] = HOSTILE.slice(2);
    const statusAt = (look: number): Status => ({
      ...STATUS,
      master: {
        ...STATUS.master,
        uptime: 2 * look,
        errors: 4 * look,
        draining: look > 0,
        latency: {
          bounds: [0.1, 1],
          counts: [100 * look, 0, 100],
          sum: 0,
          count: 100 * look + 100,
        },
      },
      listeners: [{ url: "unix:x", queue: 2, backlog: 9, drops: look === 0 ? 7 : 10 }],
      slow: [{
        ...{ time: STATUS.master.started, duration: 0.25, status: 200, worker: 1 },
        ...{ method: "GET", url: `/${markup}` },
      }],
    });
    let looks = 0;
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      ({ url }) =>
        new URL(url).pathname === "/"
          ? new Response(formatPage(statusAt(0)), { headers: HEADERS })
          : Response.json(statusAt(++looks)),
    );
    const dom = await domOf(`http://127.0.0.1:${server.addr.port}/`, folder.path);
    for (
      const expected of [
        / errors per second 2\.0 /,
        / response times of the last \d+s p50 50 ms, p90 90 ms, p99 99 ms /,
        / master 1 stopping /,
        / address 2 of 9 3 unix:x Requests in progress worker for request none Slowest /,
      ]
    ) assertMatch(textsOf(dom), expected);
    assertStringIncludes(dom, "GET /&lt;img/src");
    assertMatch(dom, /<title>0\/0 ready/);
  },
});

/** The port of the admin socket. The process that serves it may have the app's, too, for a moment. */
function adminPort({ pid, port }: Server): number {
  return listeningPorts(pid).find((one) => one !== port)!;
}

/** What a reader sees of a document. */
function textsOf(dom: string): string {
  return dom.replace(/<style>.*?<\/style>|<script.*?<\/script>/gs, "")
    .replace(/<[^>]*>/g, " ").replace(/\s+/g, " ");
}

/** The document as the browser has it after some seconds. */
async function domOf(url: string, folder: string): Promise<string> {
  const flags = ["--headless", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"];
  flags.push(`--user-data-dir=${folder}/browser`, "--no-sandbox", "--disable-dev-shm-usage");
  const browser = new Deno.Command(CHROMIUM!, {
    args: [...flags, url],
    env: { HOME: folder },
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  try {
    const { stdout } = await within(browser.output(), 60_000, "the browser's document");
    return new TextDecoder().decode(stdout);
  } catch (error) {
    browser.kill("SIGKILL");
    throw error;
  }
}
