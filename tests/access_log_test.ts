import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import * as tine from "../mod.ts";
import type { Entry } from "../server/prefork/logs/access_entry.ts";
import { compileFormat } from "../server/prefork/logs/access_line.ts";
import { openAccessLog } from "../server/prefork/logs/access_log.ts";
import { LONGEST_LINE, openLogFile } from "../server/prefork/logs/log_file.ts";
import { responseBytes } from "../server/prefork/logs/response_bytes.ts";
import { freePort, mkfifo, Program, ROOT, run, scratch, startFunction, until } from "./support.ts";

const ACCESS_LOG = new URL("server/prefork/logs/access_log.ts", ROOT).href;
const LOG_FILE = new URL("server/prefork/logs/log_file.ts", ROOT).href;
const ERROR_LOG = new URL("server/prefork/logs/error_log.ts", ROOT).href;

const EBADF = 9;
const EAGAIN = 11;
const EPIPE = 32;

const encoder = new TextEncoder();

/** Encodes one line, including the newline, for {@linkcode openLogFile}. */
function line(text: string): [Uint8Array<ArrayBuffer>, number] {
  const bytes = encoder.encode(`${text}\n`);
  return [bytes, bytes.length];
}

/** An entry, with fields of the request's header. */
type NamedEntry = Omit<Entry, "requestFields"> & {
  readonly referer: string | null;
  readonly agent: string | null;
};

const ENTRY: NamedEntry = {
  pid: 4712,
  worker: 3,
  time: Date.UTC(2026, 10, 20, 13, 0, 1, 23),
  remote: "192.0.2.1",
  method: "GET",
  url: "/index.html?a=b",
  status: 200,
  bytes: 2326,
  duration: 12.34567,
  referer: "http://example.org/start",
  agent: "Mozilla/5.0",
  id: "f00d-1",
  trace: undefined,
  remotePort: 50123,
  peer: undefined,
  local: { transport: "tcp", hostname: "0.0.0.0", port: 8000 },
  host: null,
  protocol: "HTTP/1.1",
  responseFields: [],
};

function formatEntry(format: string, { referer, agent, ...rest }: NamedEntry): string {
  const { uses, line } = compileFormat(format);
  const requestFields = uses.requestFields.map((name) => name === "referer" ? referer : agent);
  return line({ ...rest, requestFields });
}

/** A line of Apache's, without its time, which is local. */
function apacheLine(format: "common" | "combined", entry: NamedEntry): string {
  const text = formatEntry(format, entry);
  const time = /\[\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]/;
  assertMatch(text, time);
  return text.replace(time, "[time]");
}

/** Splits a line as programs that read Apache's logs do. */
const COMBINED =
  /^(\S+) - - \[[^\]]+\] "((?:[^"\\]|\\.)*)" (\d+) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n$/;

Deno.test("`compileFormat()` writes the Common and Combined formats as Apache does", () => {
  const common = '192.0.2.1 - - [time] "GET /index.html?a=b HTTP/1.1" 200 2326';
  assertEquals(apacheLine("common", ENTRY), `${common}\n`);
  assertEquals(
    apacheLine("combined", ENTRY),
    `${common} "http://example.org/start" "Mozilla/5.0"\n`,
  );
  assertEquals(
    apacheLine("combined", { ...ENTRY, remote: undefined, bytes: null, referer: null, agent: "" }),
    '- - - [time] "GET /index.html?a=b HTTP/1.1" 200 - "-" ""\n',
  );
});

Deno.test("`compileFormat()` writes the local time with its offset from UTC", async () => {
  const program = `
    import { compileFormat } from "${new URL("server/prefork/logs/access_line.ts", ROOT).href}";
    for (const month of [0, 6]) {
      console.log(compileFormat("common").line({
        time: Date.UTC(2026, month, 20, 23, 30, 1), method: "GET", url: "/", status: 200,
      }).match(/\\[.*\\]/)[0]);
    }`;
  for (
    const [TZ, ...times] of [
      ["Europe/Berlin", "[21/Jan/2026:00:30:01 +0100]", "[21/Jul/2026:01:30:01 +0200]"],
      ["America/St_Johns", "[20/Jan/2026:20:00:01 -0330]", "[20/Jul/2026:21:00:01 -0230]"],
    ]
  ) {
    await using printed = new Program(Deno.execPath(), ["eval", program], { env: { TZ: TZ! } });
    await printed.ended();
    assertEquals(printed.stdout.trim().split("\n"), times, printed.stderr);
  }
});

Deno.test("`compileFormat()` writes one JSON object", () => {
  assertEquals(
    formatEntry("json", ENTRY),
    '{"time":"2026-11-20T13:00:01.023Z","remote":"192.0.2.1","method":"GET",' +
      '"url":"/index.html?a=b","status":200,"bytes":2326,"duration_ms":12.346,' +
      '"referer":"http://example.org/start","user_agent":"Mozilla/5.0","pid":4712,"worker":3,' +
      '"request_id":"f00d-1","trace_id":null,"span_id":null}\n',
  );
  assertEquals(
    JSON.parse(
      formatEntry("json", {
        ...ENTRY,
        remote: undefined,
        bytes: null,
        referer: null,
        agent: null,
        worker: null,
        id: undefined,
        trace: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" },
      }),
    ),
    {
      time: "2026-11-20T13:00:01.023Z",
      remote: null,
      method: "GET",
      url: "/index.html?a=b",
      status: 200,
      bytes: null,
      duration_ms: 12.346,
      referer: null,
      user_agent: null,
      pid: 4712,
      worker: null,
      request_id: null,
      trace_id: "0af7651916cd43dd8448eb211c80319c",
      span_id: "b7ad6b7169203331",
    },
  );
});

Deno.test("`compileFormat()` does not let a client forge a line", () => {
  const evil = '"\\ \r\n127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1\t\x00\x1b[2J\x7f\xe4';
  const entry = { ...ENTRY, url: `/${evil}`, referer: evil, agent: evil };
  const escaped = '\\"\\\\ \\r\\n127.0.0.1 - - [x] \\"GET / HTTP/1.1\\" 200 1\\t\\x00\\x1b[2J' +
    "\\x7f";
  assertEquals(
    apacheLine("combined", entry),
    `192.0.2.1 - - [time] "GET /${escaped}\\xc3\\xa4 HTTP/1.1" 200 2326 ` +
      `"${escaped}\\xe4" "${escaped}\\xe4"\n`,
  );
  // A server of node:http accepts any host.
  assertEquals(
    formatEntry('"%V"', { ...entry, host: `A"\\\t${evil}` }),
    `"a\\"\\\\\\t${escaped.toLowerCase()}\\xe4"\n`,
  );
  const json = formatEntry("json", entry);
  assertMatch(json, /^[ -~]*\n$/);
  assertEquals(JSON.parse(json).user_agent, evil);
  assertEquals(JSON.parse(json).url, `/${evil}`);
});

Deno.test("`compileFormat()` rounds down how long a request took", () => {
  const format = "%T %{s}T %{ms}T %{us}T %D %{sec}t %{end:msec}t";
  const entry = { ...ENTRY, time: 1_000_999, duration: 1999.9996 };
  assertEquals(formatEntry(format, entry), "1 1 1999 1999999 1999999 1000 1002998\n");
});

Deno.test("`compileFormat()` truncates a line to a valid line", () => {
  const pieces = ['"', "\\", "\n", "\x00", "\x7f", "ä", "\u{1f600}", "a", "x", "u", "/", "\ud800"];
  // The same in each run, and different enough.
  let seed = 1;
  const random = (limit: number) => (seed = seed * 48271 % 0x7fffffff) % limit;
  const text = () => {
    const own = pieces.slice(random(pieces.length));
    return Array.from({ length: random(6000) }, () => own[random(own.length)]).join("");
  };
  for (let i = 0; i < 300; i++) {
    const entry = {
      ...ENTRY,
      method: "M".repeat(random(5) === 0 ? 5000 : 3),
      url: `/${text()}`,
      referer: random(3) === 0 ? null : text().replace(/[^\0-\xff]/g, "ÿ"),
      agent: random(3) === 0 ? null : text().replace(/[^\0-\xff]/g, "ÿ"),
    };
    for (const format of ["common", "combined", "json"] as const) {
      const made = formatEntry(format, entry);
      assert(made.length <= LONGEST_LINE, `${made.length}`);
      assertMatch(made, /^[ -~]*\n$/);
    }
    assertMatch(formatEntry("combined", entry), COMBINED);
    const { url, pid } = JSON.parse(formatEntry("json", entry));
    assert(entry.url.startsWith(url.replace(/\.\.\.$/, "")), "the start of the URL");
    assertEquals(pid, 4712);
  }
  // What is short stays whole, and the room is used.
  const [, , request, , , referer, agent] = formatEntry("combined", {
    ...ENTRY,
    agent: "a".repeat(10_000),
  }).match(COMBINED)!;
  assertEquals([request, referer], ["GET /index.html?a=b HTTP/1.1", "http://example.org/start"]);
  assertMatch(agent!, /^a{3900,}\.\.\.$/);
  // No escape is cut, wherever the line ends.
  for (let before = 0; before < 6; before++) {
    const entry = { ...ENTRY, agent: "a".repeat(before) + "\0".repeat(5000) };
    assertMatch(formatEntry("combined", entry), /"a*(\\x00)+\.\.\."\n$/);
    assertMatch(formatEntry("json", entry), /"user_agent":"a*(\\u0000)+\.\.\."/);
  }
});

Deno.test("`compileFormat()` escapes what Apache accepts as Apache does", {
  ignore: !isFile("/usr/sbin/apache2"),
}, async () => {
  const requests = [
    "GET /a?b=c HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8",
    'GET /a"b\\c HTTP/1.1\r\nHost: x\r\nReferer: \r\nUser-Agent: say "hi" \\ back\tslash',
    "GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\nReferer: \xe4\x80\xff",
    "GET /a?<b>[]{}|^` HTTP/1.1\r\nHost: x",
    "HEAD / HTTP/1.1\r\nHost: x",
    "DELETE //double/../x%20y HTTP/1.1\r\nHost: x",
  ];
  await using folder = scratch();
  const port = freePort();
  await using apache = startApache(folder.path, port);
  await until(() => connects(port), "Apache to listen");
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request, info) => {
    const end = log.begin(request, info);
    end(404, 0);
    return new Response(null, { status: 404 });
  });
  const log = openAccessLog({ target: `${folder.path}/ours`, format: "combined", log: assert });
  for (const request of requests) {
    for (const to of [port, server.addr.port]) await send(to, request);
  }
  // Apache logs the size of its own error page.
  const read = (name: string) =>
    Deno.readTextFileSync(`${folder.path}/${name}`).trim().split("\n")
      .map((line) => line.replace(/\[.*?\]/, "[time]").replace(/ 40[45] (\d+|-) /, " 404 - "));
  await until(() => read("theirs").length === requests.length, "Apache's log");
  assertEquals(read("ours"), read("theirs"));
  log.close();
  await server.shutdown();
  apache.kill("SIGTERM");
});

Deno.test("`compileFormat()` understands a format string as Apache does", {
  ignore: !isFile("/usr/sbin/apache2"),
}, async () => {
  // What follows the # has other numbers in each line.
  const format = String.raw`%% %h|%a|%{c}a|%A|%l|%u|%>s|%s|%<s|%b|%B|"%r"|%m|%H|%U|%q|%V|` +
    String.raw`%{X-A}i|%{x-none}i|"%{Referer}i"|%{a}C|%{B}C|%{none}C|%{Content-Type}o|%{X-Out}o|` +
    String
      .raw`%{X-None}o|%{TINE_TEST}e|%{NONE_SUCH}e|%404{X-A}i|%!404{X-A}i|%200,301h|%!200,301h|` +
    String.raw`%!404r|%!500>r|%{X-A}404i|{}\\ \t\a %400,404,500s ` +
    String.raw`#%t|%{%d/%b/%Y %T %z}t|%{begin:%s}t|%{end:%F}t|%{sec}t|%{end:msec}t|%{usec}t|` +
    String
      .raw`%{msec_frac}t|%{usec_frac}t|%{begin}t|%{end}t|%D|%T|%{s}T|%{ms}T|%{us}T|%P|%{pid}P|` +
    String.raw`%{local}p|%{remote}p|%{}t`;
  const requests = [
    "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-A: 2\r\nCookie: A = 1; b=two words ;c=3",
    'GET /%41%20%c3%a4%22"\\ HTTP/1.1\r\nHost: EXAMPLE.org:80\r\nReferer: say "hi"\\\t\xe4',
    "GET /\xc3\xa4%41? HTTP/1.1\r\nHost: [::1]:80\r\nCookie: a=",
    `POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nAuthorization: Basic ${
      btoa('o"\xe4:p:q')
    }`,
    `GET /p HTTP/1.1\r\nHost: h\r\nAuthorization: basic  ${btoa("nobody")}`,
    `GET /p HTTP/1.1\r\nHost: h\r\nAuthorization: Basic ${btoa(":p")}`,
    "HEAD / HTTP/1.1\r\nHost: x\r\nX-A: \xff\x80",
    "GET /q?a?b&%20 HTTP/1.1\r\nHost: h\r\nX-A: ",
  ];
  await using folder = scratch();
  const port = freePort();
  await using apache = startApache(
    folder.path,
    port,
    format,
    `LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authn_anon_module /usr/lib/apache2/modules/mod_authn_anon.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
ErrorDocument 404 hello
Header always set X-Out "one \\"two\\""
SetEnv TINE_TEST "three \\"four\\""
<Location /p>
AuthType Basic
AuthName p
AuthBasicProvider anon
Anonymous *
Anonymous_NoUserID On
Anonymous_MustGiveEmail Off
Require valid-user
</Location>
`,
  );
  await until(() => connects(port), "Apache to listen");
  const headers = { "x-out": 'one "two"', "content-type": "text/html" };
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request, info) => {
      const end = log.begin(request, info, server.addr);
      const response = new Response("hello", { status: 404, headers });
      end(404, 5, response);
      return response;
    },
  );
  Deno.env.set("TINE_TEST", 'three "four"');
  const log = openAccessLog({ target: `${folder.path}/ours`, format, log: assert });
  Deno.env.delete("TINE_TEST");
  for (const request of requests) {
    for (const to of [port, server.addr.port]) await send(to, request);
  }
  const read = (name: string) =>
    Deno.readTextFileSync(`${folder.path}/${name}`).trim().split("\n").map((line) => {
      const [same, different] = line.split("#");
      return [same, different!.replace(/[A-Z][a-z]{2}/g, "Mon").replace(/\d+/g, "0")];
    });
  await until(() => read("theirs").length === requests.length, "Apache's log");
  assertEquals(read("ours"), read("theirs"));
  log.close();
  apache.kill("SIGTERM");
});

Deno.test("`responseBytes()` recognizes a body that is not a stream, and does not read it", async () => {
  const text = "hällo \u{1f600}";
  const headers = { "x-a": "1", "x-b": "2" };
  const cases: [Response, number | null][] = [
    [new Response("hello"), 5],
    [new Response(""), 0],
    [new Response(text), 11],
    [new Response(text.repeat(1000)), 11_000],
    [new Response(text, { headers }), 11],
    [Response.json({ a: 1 }), 7],
    [Response.redirect("http://example.org/"), 0],
    [new Response(null, { status: 404, headers }), 0],
    [new Response(new Uint8Array(7)), 7],
    [new Response(new Uint8Array(7), { headers }), 7],
    [new Response(new Blob(["abc"])), 3],
    [new Response(new Response("wrapped").body, { headers }), 7],
    [new Response(new Blob(["abc"]).stream()), null],
    [new Response(new Blob(["abc"]).stream(), { headers: { "content-length": "3" } }), 3],
  ];
  for (const [response, bytes] of cases) {
    assertEquals(responseBytes(response), bytes);
    assertEquals(response.bodyUsed, false);
    if (bytes !== null) assertEquals((await response.arrayBuffer()).byteLength, bytes);
    else await response.body?.cancel();
  }
});

Deno.test("`openAccessLog()` logs each kind of request when it ends", async () => {
  await using folder = scratch();
  const target = `${folder.path}/log`;
  const log = openAccessLog({ target, format: "json", log: assert });
  await using server = Deno.serve({ port: 0, onListen() {} }, (request, info) => {
    const end = log.begin(request, info);
    const response = respond(request);
    const finish = () => end(response.status, responseBytes(response));
    info.completed.then(finish, finish);
    return response;
  });
  function respond(request: Request): Response {
    const { pathname } = new URL(request.url);
    if (pathname === "/websocket") return Deno.upgradeWebSocket(request).response;
    if (pathname === "/stream") {
      return new Response(
        new ReadableStream({
          async start(controller) {
            controller.enqueue(encoder.encode("first"));
            await new Promise((resolve) => setTimeout(resolve, 30));
            controller.close();
          },
        }),
      );
    }
    return new Response("hello", { status: 201 });
  }
  const url = `http://127.0.0.1:${server.addr.port}`;
  await (await fetch(`${url}/text?x=1`, { headers: { referer: "http://a/" } })).text();
  await (await fetch(`${url}/text`, { method: "HEAD" })).body?.cancel();
  await (await fetch(`${url}/stream`, { method: "POST", body: "x" })).text();
  const socket = new WebSocket(`${url}/websocket`);
  await new Promise((resolve) => socket.onopen = resolve);
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await closed;
  const lines = await until(() => {
    const lines = Deno.readTextFileSync(target).split("\n").slice(0, -1);
    return lines.length === 4 && lines.map((line) => JSON.parse(line));
  }, "four lines");
  assertEquals(
    lines.map(({ method, url, status, bytes }) => [method, url, status, bytes]),
    [
      ["GET", "/text?x=1", 201, 5],
      ["HEAD", "/text", 201, 0],
      ["POST", "/stream", 200, null],
      ["GET", "/websocket", 101, 0],
    ],
  );
  for (const one of lines) {
    assertEquals([one.remote, one.pid], ["127.0.0.1", Deno.pid]);
    assertMatch(one.user_agent ?? "", one.method === "GET" || one.method ? /Deno|^$/ : /x/);
    assert(Math.abs(Date.parse(one.time) - Date.now()) < 60_000, one.time);
  }
  assertEquals(lines[0].referer, "http://a/");
  assert(lines[2].duration_ms >= 25, `${lines[2].duration_ms} ms`);
  log.close();
});

Deno.test("`openAccessLog()` shows a client of IPv4 in its usual form, whatever the socket", async () => {
  await using folder = scratch();
  const target = `${folder.path}/log`;
  const log = openAccessLog({ target, format: "%h %a %{c}a %A %p %{remote}p", log: assert });
  const tcp = (hostname: string, port: number) => ({ transport: "tcp" as const, hostname, port });
  const local = tcp("::", 443);
  const client = tcp("::ffff:192.0.2.1", 1);
  const node = { headers: {} };
  const completed = Promise.resolve();
  log.begin(new Request("http://x/"), { remoteAddr: client, completed }, local)(200, 1);
  log.beginNode(node, client, local, tcp("::ffff:127.0.0.1", 2))(200, 1);
  log.beginNode(node, tcp("::ffff:1:2", 0), local, tcp("::1", 2))(200, 1);
  const unix = { transport: "unix" as const, path: "/x" };
  log.beginNode(node, unix, unix, unix)(200, 1);
  log.close();
  assertEquals(
    Deno.readTextFileSync(target),
    "192.0.2.1 192.0.2.1 192.0.2.1 :: 443 1\n192.0.2.1 192.0.2.1 127.0.0.1 :: 443 1\n" +
      "::ffff:1:2 ::ffff:1:2 ::1 :: 443 0\n- - - - - -\n",
  );
});

/** Eight children write 2000 lines each to a target; dropped lines are reported on stderr. */
function startWriters(target: string): Program {
  return startFunction(
    async () => {
      tine.becomeForkable();
      const { openAccessLog } = await import(Deno.args[0]!);
      const children = Array.from({ length: 8 }, (_, child) =>
        tine.forkChild(() => {
          const log = openAccessLog({ target: Deno.args[1], format: "json", log: console.error });
          for (let i = 0; i < 2000; i++) {
            // From short ones to such as have to be cut.
            const length = i % 100 === 0 ? 5000 : i * 7 % 300;
            const url = `http://x/${child}/${i}/${String(child).repeat(length)}`;
            log.begin({ method: "GET", url, headers: new Headers() }, { remoteAddr: {} })(200, i);
          }
          log.close();
        }));
      for (const pid of children) tine.waitpid(pid);
    },
    [ACCESS_LOG, target],
    { flags: ["--allow-all"] },
  );
}

/** Fails if a line is not whole; gives how many there are. */
function countLines(text: string): number {
  const lines = text.split("\n");
  assertEquals(lines.pop(), "", "the end of the last line");
  const next = new Array(8).fill(0);
  for (const one of lines) {
    const { url, bytes } = JSON.parse(one);
    const [, child, i, filler] = url.match(/^\/(\d)\/(\d+)\/(\d*)(?:\.\.\.)?$/);
    assertEquals(Number(i), bytes);
    assert(Number(i) >= next[Number(child)], "in the order in which they were written");
    next[Number(child)] = Number(i) + 1;
    const length = bytes % 100 === 0 ? filler.length : bytes * 7 % 300;
    assertEquals(filler, child.repeat(length));
    assert(one.length < LONGEST_LINE);
  }
  return lines.length;
}

Deno.test("`openAccessLog()` does not mix the lines of eight processes in one file", async () => {
  await using folder = scratch();
  await using writers = startWriters(`${folder.path}/log`);
  assertEquals((await writers.ended()).code, 0, writers.stderr);
  assertEquals(writers.stderr, "");
  assertEquals(countLines(Deno.readTextFileSync(`${folder.path}/log`)), 16_000);
});

Deno.test("`openAccessLog()` does not mix the lines of eight processes in one pipe", async () => {
  await using writers = startWriters("-");
  assertEquals((await writers.ended()).code, 0, writers.stderr);
  // Where this test is slow to read, lines are dropped, and counted.
  const dropped = [...writers.stderr.matchAll(/^(\d+) lines of .* were dropped$/gm)]
    .reduce((sum, [, count]) => sum + Number(count), 0);
  assertEquals(countLines(writers.stdout) + dropped, 16_000, writers.stderr);
});

Deno.test("`openAccessLog()` continues in a new file when the old one has been moved", async () => {
  await using folder = scratch();
  const target = `${folder.path}/log`;
  const said: string[] = [];
  const log = openAccessLog({ target, format: "common", log: (line) => said.push(line) });
  const write = (path: string) =>
    log.begin(new Request(`http://x${path}`), {
      remoteAddr: { transport: "tcp", hostname: "192.0.2.1", port: 1 },
      completed: Promise.resolve(),
    })(200, 1);
  const paths = (file: string) =>
    [...Deno.readTextFileSync(file).matchAll(/"GET (\S+) /g)].map(([, path]) => path);
  write("/1");
  Deno.renameSync(target, `${target}.1`);
  write("/2");
  log.reopen();
  write("/3");
  assertEquals([paths(`${target}.1`), paths(target)], [["/1", "/2"], ["/3"]]);
  // A folder is in the way: the open file is kept.
  Deno.renameSync(target, `${target}.2`);
  Deno.mkdirSync(target);
  log.reopen();
  write("/4");
  assertEquals(paths(`${target}.2`), ["/3", "/4"]);
  assertEquals(said.length, 1);
  assertMatch(
    said[0]!,
    /^Cannot open .*log: EISDIR .* still written to the file that was open before$/,
  );
  log.close();
});

Deno.test("`openAccessLog()` drops, counts and reports lines when the disk is full", () => {
  const said: string[] = [];
  const log = openAccessLog({
    target: "/dev/full",
    format: "common",
    log: (line) => said.push(line),
  });
  for (let i = 0; i < 5; i++) {
    log.begin(new Request("http://x/"), {
      remoteAddr: { transport: "tcp", hostname: "192.0.2.1", port: 1 },
      completed: Promise.resolve(),
    })(200, 1);
  }
  assertEquals(said, [
    "Cannot write access log /dev/full: ENOSPC (No space left on device). Lines are dropped " +
    "until it can be written again",
  ]);
  log.close();
  assertEquals(said[1], "5 lines of access log /dev/full were dropped");
});

Deno.test("`openAccessLog()` leaves no partial line when a file accepts only a part", async () => {
  await using folder = scratch();
  const target = `${folder.path}/log`;
  const output = await run(
    async () => {
      const { openAccessLog } = await import(Deno.args[0]!);
      tine.signal(tine.SIGXFSZ, tine.SIG_IGN);
      const said: string[] = [];
      const log = openAccessLog({
        target: Deno.args[1],
        format: "common",
        log: (line: string) => said.push(line),
      });
      const write = (i: number) =>
        log.begin(
          { method: "GET", url: `http://x/${i}`, headers: new Headers() },
          { remoteAddr: {} },
        )(200, 1);
      const limit = tine.getrlimit(tine.RLIMIT_FSIZE);
      tine.setrlimit(tine.RLIMIT_FSIZE, { soft: 1000, hard: limit.hard });
      for (let i = 0; i < 100; i++) write(i);
      tine.setrlimit(tine.RLIMIT_FSIZE, limit);
      write(100);
      log.close();
      console.log(said.join("\n"));
    },
    [ACCESS_LOG, target],
    { flags: ["--allow-all"] },
  );
  const text = Deno.readTextFileSync(target);
  const lines = text.split("\n");
  assertEquals(lines.pop(), "");
  const written = lines.map((line) =>
    Number(line.match(/^- - - \[.*\] "GET \/(\d+) H.*" 200 1$/)![1])
  );
  assert(written.length > 10 && written.length < 20, `${written.length} lines`);
  assertEquals(written.slice(0, -1), written.slice(0, -1).map((_, i) => i));
  assertEquals(written.at(-1), 100);
  assertMatch(output, /Cannot write access log .*\n/);
  assertStringIncludes(output, `${101 - written.length} lines of access log`);
});

Deno.test("`openLogFile()` ends a partial line that it cannot remove", async () => {
  await using folder = scratch();
  const target = `${folder.path}/log`;
  await run(
    async () => {
      const { openLogFile } = await import(Deno.args[0]!);
      tine.signal(tine.SIGXFSZ, tine.SIG_IGN);
      // Standard output that is a file is shared: nothing is cut off at its end.
      const fd = tine.open(Deno.args[1]!, tine.O_WRONLY | tine.O_CREAT | tine.O_APPEND);
      fd.dup2(1);
      const file = openLogFile(1);
      const line = new TextEncoder().encode("0123456789\n");
      const limit = tine.getrlimit(tine.RLIMIT_FSIZE);
      tine.setrlimit(tine.RLIMIT_FSIZE, { soft: 27, hard: limit.hard });
      const results = [1, 2, 3, 4].map(() => file.write(line, line.length));
      tine.setrlimit(tine.RLIMIT_FSIZE, limit);
      results.push(file.write(line, line.length));
      console.error(JSON.stringify(results));
    },
    [LOG_FILE, target],
    { flags: ["--allow-all"] },
  );
  assertEquals(Deno.readTextFileSync(target), "0123456789\n0123456789\n01234\n0123456789\n");
});

Deno.test("`openLogFile()` waits briefly for a reader, once, and then drops lines", () => {
  const [readEnd, writeEnd] = tine.pipe(tine.O_CLOEXEC);
  const file = openLogFile(`/proc/self/fd/${writeEnd.fileno()}`);
  const [bytes, length] = line("x".repeat(999));
  let written = 0;
  while (file.write(bytes, length) === 0) written++;
  assert(written >= 16, `${written} lines fit`);
  const start = performance.now();
  for (let i = 0; i < 1000; i++) assertEquals(file.write(bytes, length), EAGAIN);
  const each = (performance.now() - start) / 1000;
  assert(each < 5, `${each} ms each`);
  // It reads again: nothing is broken.
  let text = "";
  for (let i = 0; i < written; i++) {
    text += new TextDecoder().decode(readEnd.read(length));
  }
  assertEquals(text, `${"x".repeat(999)}\n`.repeat(written));
  assertEquals(file.write(bytes, length), 0);
  // It has gone away.
  readEnd.close();
  assertEquals(file.write(bytes, length), EPIPE);
  assertEquals(file.write(bytes, length), EPIPE);
  file.close();
  file.close();
  assertEquals(file.write(bytes, length), EBADF);
  writeEnd.close();
});

Deno.test("`openLogFile()` rejects a FIFO without a reader, and does not wait for one", async () => {
  await using folder = scratch();
  const path = `${folder.path}/fifo`;
  await mkfifo(path);
  let message = "";
  try {
    openLogFile(path);
  } catch (error) {
    message = (error as Error).message;
  }
  assertMatch(message, /^Cannot open .*fifo: ENXIO /);
});

Deno.test("`openLogFile()` does not wait on a socket, such as the journal's", async () => {
  const output = await run(
    async () => {
      const { openLogFile } = await import(Deno.args[0]!);
      const [ours, theirs] = tine.socketpair(tine.SOCK_STREAM);
      tine.dup2(theirs.fileno(), 1);
      const file = openLogFile(1);
      const line = new TextEncoder().encode("x".repeat(3999) + "\n");
      let written = 0;
      while (file.write(line, line.length) === 0) written++;
      const error = file.write(line, line.length);
      let received = 0;
      while (received < written * 4000) received += ours.recv(65536).length;
      const again = file.write(line, line.length);
      ours.close();
      const gone = file.write(line, line.length);
      console.error(JSON.stringify({ written, error, again, gone }));
      tine.dup2(2, 1);
      console.log(JSON.stringify({ some: written > 1, error, again, gone }));
    },
    [LOG_FILE],
    { flags: ["--allow-all"], shell: "exec 2>&1;" },
  );
  assertStringIncludes(
    output,
    JSON.stringify({ some: true, error: EAGAIN, again: 0, gone: EPIPE }),
  );
});

Deno.test("`openLogFile()` does not wait on a pipe that belongs to another user", {
  ignore: Deno.uid() !== 0,
}, async () => {
  const output = await run(
    async () => {
      const { openLogFile } = await import(Deno.args[0]!);
      const [readEnd, writeEnd] = tine.pipe();
      writeEnd.dup2(1);
      tine.setuid(65534);
      const file = openLogFile(1);
      const line = new TextEncoder().encode("x".repeat(3999) + "\n");
      let written = 0;
      while (file.write(line, line.length) === 0) written++;
      const error = file.write(line, line.length);
      readEnd.read(65536);
      const again = file.write(line, line.length);
      tine.dup2(2, 1);
      console.log(JSON.stringify({ some: written > 1, error, again }));
    },
    [LOG_FILE],
    { flags: ["--allow-all"], shell: "exec 2>&1;" },
  );
  assertStringIncludes(output, JSON.stringify({ some: true, error: EAGAIN, again: 0 }));
});

Deno.test("`openAccessLog()` survives the end of standard output's reader", async () => {
  const source = `
    import { openAccessLog } from "${ACCESS_LOG}";
    const log = openAccessLog({ target: "-", format: "common", log: console.error });
    const write = () => log.begin(new Request("http://x/"), { remoteAddr: {} })(200, 1);
    write();
    Deno.stdin.readSync(new Uint8Array(1));
    for (let i = 0; i < 10; i++) write();
    log.close();
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", source],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const reader = child.stdout.getReader();
  assertStringIncludes(new TextDecoder().decode((await reader.read()).value), "GET / HTTP/1.1");
  await reader.cancel();
  const input = child.stdin.getWriter();
  await input.write(encoder.encode("x"));
  await input.close();
  const stderr = await new Response(child.stderr).text();
  const status = await child.status;
  assertEquals([status.code, status.signal], [0, null], stderr);
  assertMatch(stderr, /^Cannot write the access log on standard output: EPIPE \(Broken pipe\)/);
  assertMatch(stderr, /^10 lines of the access log on standard output were dropped$/m);
});

Deno.test("`stderrLog()` writes any text as one line", async () => {
  await using program = startFunction(
    async () => {
      const { stderrLog } = await import(Deno.args[0]!);
      const log = stderrLog("master");
      log("Serving http://127.0.0.1:8000/ with 2 workers");
      log("two\n    at lines\x1b[2J\r");
      log("ä".repeat(5000));
      log("last");
      console.log(Deno.pid);
    },
    [ERROR_LOG],
    { flags: ["--allow-all"] },
  );
  await program.ended();
  const lines = program.stderr.split("\n");
  assertEquals(lines.length, 5, program.stderr);
  const start = `^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z \\[master ${program.pid}\\] `;
  assertMatch(lines[0]!, new RegExp(`${start}Serving http://127.0.0.1:8000/ with 2 workers$`));
  assertMatch(lines[1]!, new RegExp(`${start}two \\| at lines\\\\x1b\\[2J$`));
  assertMatch(lines[2]!, new RegExp(`${start}ä+$`));
  assert(encoder.encode(lines[2]!).length >= LONGEST_LINE - 3);
  assertMatch(lines[3]!, new RegExp(`${start}last$`));
});

Deno.test("`redirectStderr()` redirects all output to the file, and reopens it", async () => {
  await using folder = scratch();
  const target = `${folder.path}/error.log`;
  await using program = startFunction(
    async () => {
      tine.becomeForkable();
      const { redirectStderr, reopenStderr, stderrLog } = await import(Deno.args[0]!);
      const path = Deno.args[1]!;
      redirectStderr(path);
      const log = stderrLog("master");
      log("one");
      tine.waitpid(tine.forkChild(() => {
        stderrLog("worker 1")("two");
        console.error("three");
        throw new Error("four");
      }));
      Deno.renameSync(path, `${path}.1`);
      log("five");
      reopenStderr(path, log);
      log("six");
      tine.waitpid(tine.forkChild(() => stderrLog("worker 2")("seven")));
      reopenStderr("/nowhere/error.log", log);
      throw new Error("eight");
    },
    [ERROR_LOG, target],
    { flags: ["--allow-all"] },
  );
  await program.ended();
  assertEquals(program.stderr, "");
  const old = Deno.readTextFileSync(`${target}.1`);
  assertMatch(
    old,
    /^\S+ \[master \d+\] one\n\S+ \[worker 1 \d+\] two\nthree\nerror: Uncaught Error: four\n[^]*\S+ \[master \d+\] five\n$/,
  );
  const fresh = Deno.readTextFileSync(target);
  assertMatch(
    fresh,
    /^\S+ \[master \d+\] six\n\S+ \[worker 2 \d+\] seven\n\S+ \[master \d+\] Cannot open \/nowhere\/error.log: ENOENT .* still written to the file that was open before\nerror: Uncaught[^]*Error: eight\n/,
  );
});

Deno.test("`stderrLog()` reports how many lines were lost once it can be written again", async () => {
  const output = await run(
    async () => {
      const { redirectStderr, stderrLog } = await import(Deno.args[0]!);
      redirectStderr("/dev/full");
      const log = stderrLog("master");
      log("one");
      log("two");
      redirectStderr("/dev/stdout");
      log("three");
      log("four");
    },
    [ERROR_LOG],
    { flags: ["--allow-all"] },
  );
  assertMatch(
    output,
    /^\S+ \[master \d+\] 2 lines of this log could not be written\n\S+ \[master \d+\] three\n\S+ \[master \d+\] four\n$/,
  );
});

Deno.test("`keepConsoleQuiet()` keeps an app from failing because its log is full", async () => {
  const output = await run(
    async () => {
      const { keepConsoleQuiet, redirectStderr } = await import(Deno.args[0]!);
      console.warn("seen", 1);
      keepConsoleQuiet();
      console.warn("seen", 2);
      redirectStderr("/dev/full");
      console.error("lost");
      console.log("still here");
    },
    [ERROR_LOG],
    { flags: ["--allow-all"], shell: "exec 2>&1;" },
  );
  assertEquals(output, "seen 1\nseen 2\nstill here\n");
});

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function connects(port: number): boolean {
  using socket = new tine.Socket(tine.AF_INET, tine.SOCK_STREAM);
  try {
    socket.connect(["127.0.0.1", port]);
    return true;
  } catch {
    return false;
  }
}

const COMBINED_FORMAT = '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"';

function startApache(folder: string, port: number, format = COMBINED_FORMAT, more = ""): Program {
  Deno.mkdirSync(`${folder}/logs`);
  Deno.writeTextFileSync(
    `${folder}/httpd.conf`,
    `ServerRoot ${folder}
ServerName localhost
Listen 127.0.0.1:${port}
PidFile ${folder}/pid
User #${Deno.uid() || 65534}
Group #${Deno.gid() || 65534}
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ErrorLog ${folder}/errors
LogFormat "${format.replace(/[\\"]/g, "\\$&")}" this
CustomLog ${folder}/theirs this
${more}`,
  );
  return new Program("/usr/sbin/apache2", ["-X", "-d", folder, "-f", `${folder}/httpd.conf`]);
}

/** Sends a request whose characters are bytes, and waits for the end of the answer. */
async function send(port: number, request: string): Promise<void> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const bytes = Uint8Array.from(
    `${request}\r\nConnection: close\r\n\r\n`,
    (character) => character.charCodeAt(0),
  );
  await connection.write(bytes);
  await new Response(connection.readable).text();
}
