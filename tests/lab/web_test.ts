import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import {
  childrenOf,
  DENO,
  descendants,
  descriptorsOf,
  isRunning,
  processState,
  Program,
  ROOT,
  startServer,
  until,
  zombiesOf,
} from "../support.ts";

/** A running lab. */
class Lab extends Program {
  url = "";

  static async start(...args: string[]): Promise<Lab> {
    const lab = new Lab(DENO, [
      "run",
      "--no-lock",
      "--allow-all",
      new URL("examples/lab/web.ts", ROOT).pathname,
      ...args,
    ]);
    lab.url = (await lab.printed(/http:\S+:\d+\//))[0];
    return lab;
  }

  get origin(): string {
    return new URL(this.url).origin;
  }

  /** The processes of all sessions, by the sessions' own ones. */
  get sessions(): number[] {
    return childrenOf(this.pid).flatMap(childrenOf);
  }

  request(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(new URL(path, this.url), {
      ...init,
      headers: { origin: this.origin, ...init.headers },
    });
  }
}

// deno-lint-ignore no-explicit-any
type Json = any;

/** A reader: a session, and its events as they come. */
class Reader implements AsyncDisposable {
  readonly events: Json[] = [];
  /** What the deltas and snapshots make up. */
  readonly now = {
    processes: new Map<number, Json>(),
    sockets: new Map<string, Json>(),
    clients: new Map<number, Json>(),
  };
  isOver = false;
  readonly #lab: Lab;
  readonly id: string;
  #controller = new AbortController();
  #reading: Promise<void>;

  private constructor(lab: Lab, id: string) {
    this.#lab = lab;
    this.id = id;
    this.#reading = this.#read();
  }

  static async enter(lab: Lab): Promise<Reader> {
    const response = await lab.request("/sessions", { method: "POST", body: "{}" });
    const { id } = await response.json();
    assertEquals(response.status, 201);
    return new Reader(lab, id);
  }

  async #read(): Promise<void> {
    try {
      const { signal } = this.#controller;
      const response = await this.#lab.request(`/sessions/${this.id}/events`, { signal });
      assertEquals(response.headers.get("content-type"), "text/event-stream");
      let rest = "";
      for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
        const messages = `${rest}${text}`.split("\n\n");
        rest = messages.pop()!;
        for (const message of messages) {
          const data = message.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
          if (data !== undefined) this.#receive(JSON.parse(data));
        }
      }
    } catch {
      // aborted, or the server has ended
    }
    this.isOver = true;
  }

  #receive(event: Json): void {
    this.events.push(event);
    const { processes, sockets, clients } = this.now;
    const snapshot = event.type === "snapshot" ? event.snapshot : event;
    if (event.type !== "snapshot" && event.type !== "delta") return;
    if (event.type === "snapshot") { for (const map of Object.values(this.now)) map.clear(); }
    const keyOf = ({ kind, inode, local, remote }: Json) =>
      `${kind}:${inode === 0 ? `${local}>${remote}` : inode}`;
    for (const one of snapshot.processes ?? []) processes.set(one.pid, one);
    for (const one of snapshot.sockets ?? []) sockets.set(keyOf(one), one);
    for (const one of snapshot.clients ?? []) clients.set(one.number, one);
    for (const pid of snapshot.gone?.processes ?? []) assert(processes.delete(pid));
    for (const key of snapshot.gone?.sockets ?? []) assert(sockets.delete(key), key);
    for (const number of snapshot.gone?.clients ?? []) assert(clients.delete(number));
  }

  async act(action: Json): Promise<{ status: number; body: Json }> {
    const response = await this.#lab.request(`/sessions/${this.id}/actions`, {
      method: "POST",
      body: typeof action === "string" ? action : JSON.stringify(action),
    });
    return { status: response.status, body: await response.json() };
  }

  /** Does what must be granted. */
  async does(action: Json): Promise<Json> {
    const { status, body } = await this.act(action);
    assertEquals([status, body.error], [200, undefined]);
    return body;
  }

  async refused(action: Json, wanted: number, reason: RegExp): Promise<void> {
    const { status, body } = await this.act(action);
    assertEquals([status, typeof body.error], [wanted, "string"], JSON.stringify(action));
    assertMatch(body.error, reason);
    assert(!body.error.includes("\n"));
  }

  /** Waits for an event. */
  hears(type: string, is: (event: Json) => boolean = () => true): Promise<Json> {
    return until(
      () => this.events.find((event) => event.type === type && is(event)),
      `the event ${type} in ${JSON.stringify(this.events.map(({ type }) => type))}`,
    );
  }

  /** Waits for something in the snapshots. */
  sees<T>(what: string, find: (now: Reader["now"]) => T): Promise<NonNullable<T>> {
    return until(() => find(this.now), what) as Promise<NonNullable<T>>;
  }

  /** Closes the page, and says nothing. */
  async leave(): Promise<void> {
    this.#controller.abort();
    await this.#reading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }
}

const STAGE_3D = "examples/part3/webserver3d.ts";
const STAGE_3G = "examples/part3/webserver3g.ts";

async function allEnd(pids: readonly number[]): Promise<void> {
  await until(() => !pids.some(isRunning), `the end of ${pids}`);
}

Deno.test("the lab serves its page, the catalogue, sources and differences", async () => {
  await using lab = await Lab.start("--port", "0");
  for (const { name, isFile } of Deno.readDirSync(new URL("examples/lab/web/page/", ROOT))) {
    if (!isFile) continue;
    const response = await lab.request(name === "index.html" ? "/" : `/${name}`);
    assertMatch(response.headers.get("content-type")!, PAGE_TYPES[name.split(".").at(-1)!]!);
    const text = await response.text();
    assertEquals(text, Deno.readTextFileSync(new URL(`examples/lab/web/page/${name}`, ROOT)));
    const headers = { "if-none-match": response.headers.get("etag")! };
    assertEquals(await lab.request(`/${name}`, { headers }).then(statusOf), 304);
  }
  const { lessons, programs, limits } = await (await lab.request("/lessons.json")).json();
  assert(lessons.some(({ name, answer }: Json) => name === "3b" && answer === undefined));
  assert(limits.clients >= 128);
  for (const { file, title, serves, differsFrom } of programs) {
    const source = await (await lab.request(`/source?file=${file}`)).json();
    assertEquals(source.text, Deno.readTextFileSync(new URL(file, ROOT)));
    assert(title !== file && typeof serves === "boolean");
    if (differsFrom === undefined) continue;
    const path = `/diff?from=${differsFrom}&to=${file}`;
    const { lines } = await (await lab.request(path)).json();
    const textOf = (kinds: string) =>
      lines.filter(({ kind }: Json) => kinds.includes(kind))
        .map(({ text }: Json) => `${text}\n`).join("");
    assertEquals(textOf(" -"), Deno.readTextFileSync(new URL(differsFrom, ROOT)));
    assertEquals(textOf(" +"), source.text);
    assert(lines.some(({ kind, from, to }: Json) => kind === " " && from > 0 && to > 0));
  }
  const { text, decisive } = await (await lab.request(
    "/source?file=examples/part3/webserver3b.ts",
  )).json();
  const [line] = decisive;
  assertMatch(text.split("\n")[line - 1], /sleep\(SECONDS\);/);
  const hidden = [
    "/source?file=deno.json",
    "/source",
    "/source?file=../../etc/passwd",
    "/session.ts",
    "/..%2fsession.ts",
    "/%2e%2e/web.ts",
    "/.git",
    "/nothing.js",
  ];
  for (const path of hidden) {
    const response = await lab.request(path);
    assertEquals([path, response.status], [path, 404]);
    assertEquals(typeof (await response.json()).error, "string");
  }
  const response = await lab.request("/lessons.json", { method: "HEAD" });
  assertEquals(await response.text(), "");
  assertMatch(response.headers.get("content-security-policy")!, /^default-src 'none';/);
  assertEquals(response.headers.get("x-content-type-options"), "nosniff");
  const { servers } = await (await lab.request("/servers.json")).json();
  assertEquals(servers.map(({ pid }: Json) => pid), [lab.pid]);
  const { workers } = await (await lab.request(`/servers/${lab.pid}/status.json`)).json();
  assertEquals(workers.length, 1);
  assertEquals(
    await lab.request(`/servers/${Deno.pid}/status.json`).then(read).then(statusOf),
    404,
  );
});

const PAGE_TYPES: Readonly<Record<string, RegExp>> = {
  css: /^text\/css/,
  html: /^text\/html/,
  js: /^text\/javascript/,
  svg: /^image\/svg\+xml/,
};

/** Sends a request with headers that fetch() does not let one choose. */
async function raw(lab: Lab, method: string, path: string, headers: string[]): Promise<number> {
  const { port } = new URL(lab.url);
  const connection = await Deno.connect({ port: Number(port) });
  const lines = [
    `${method} ${path} HTTP/1.1`,
    ...headers,
    "Content-Length: 0",
    "Connection: close",
  ];
  await connection.write(new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`));
  const text = await new Response(connection.readable).text();
  return Number(text.split(" ")[1]);
}

async function read(response: Response): Promise<Response> {
  await response.body?.cancel();
  return response;
}

Deno.test("the lab refuses foreign hosts and origins", async () => {
  await using lab = await Lab.start("--port", "0");
  const { host, port } = new URL(lab.url);
  const page = `Origin: http://${host}`;
  for (const name of [host, `localhost:${port}`, `[::1]:${port}`]) {
    assertEquals(await raw(lab, "GET", "/lessons.json", [`Host: ${name}`]), 200, name);
    const own = [`Host: ${name}`, `Origin: http://${name}`];
    assertEquals(await raw(lab, "POST", "/sessions/none/actions", own), 404, name);
  }
  // A name that someone lets resolve to this machine, or another address of it.
  for (
    const name of ["evil.example", `evil.example:${port}`, "localhost.evil.example", "10.0.0.1"]
  ) {
    assertEquals(await raw(lab, "GET", "/lessons.json", [`Host: ${name}`]), 403, name);
    assertEquals(await raw(lab, "POST", "/sessions", [`Host: ${name}`, page]), 403, name);
  }
  const absolute = "http://evil.example/lessons.json";
  assertEquals(await raw(lab, "GET", absolute, [`Host: ${host}`]), 403);
  // A page elsewhere; a page of another server on this machine; a sandboxed frame.
  for (const origin of ["http://evil.example", "http://localhost:1", `http://${host}1`, "null"]) {
    for (const [method, path] of [["POST", "/sessions"], ["GET", "/lessons.json"]] as const) {
      const status = await raw(lab, method, path, [`Host: ${host}`, `Origin: ${origin}`]);
      assertEquals([origin, method, status], [origin, method, 403]);
    }
  }
  for (const method of ["POST", "DELETE", "PUT"]) {
    assertEquals(await raw(lab, method, "/sessions", [`Host: ${host}`]), 403, method);
  }
  assertEquals(await raw(lab, "DELETE", "/sessions", [`Host: ${host}`, page]), 405);
  assertEquals(lab.sessions, []);
});

Deno.test("a lab that listens on all addresses refuses names, which can be rebound", async () => {
  await using lab = await Lab.start("--port", "0", "--host", "0.0.0.0");
  for (const name of ["10.0.0.1", "[fe80::1]:80", "localhost", Deno.hostname()]) {
    assertEquals(await raw(lab, "GET", "/lessons.json", [`Host: ${name}`]), 200, name);
  }
  const foreign = "evil.example";
  assertEquals(await raw(lab, "GET", "/lessons.json", [`Host: ${foreign}`]), 403);
});

Deno.test("the lab shows preforking servers: its own, given ones, and a session's", async () => {
  await using server = await startServer();
  await using lab = await Lab.start("--port", "0", "--server", `${server.pid}`);
  await using reader = await Reader.enter(lab);
  const { pid } = await reader.does({ action: "start", program: "examples/apps/hello.ts" });
  await reader.does({ action: "start", program: STAGE_3G });
  const pidsAt = async (path: string) => {
    const { servers } = await (await lab.request(path)).json();
    return servers.map(({ pid }: Json) => pid);
  };
  assertEquals(await pidsAt("/servers.json"), [lab.pid, server.pid]);
  const query = `?session=${reader.id}`;
  assertEquals(await pidsAt(`/servers.json${query}`), [lab.pid, server.pid, pid]);
  const status = await (await lab.request(`/servers/${pid}/status.json${query}`)).json();
  assertEquals(status.workers.length, 2);
  assertEquals(
    status.workers.map(({ pid }: Json) => pid).sort(),
    childrenOf(pid).sort(),
  );
  assertEquals(await lab.request(`/servers/${pid}/status.json`).then(read).then(statusOf), 404);
  assertEquals(await lab.request("/servers.json?session=x").then(read).then(statusOf), 404);
});

function statusOf({ status }: Response): number {
  return status;
}

Deno.test("a reader starts a stage and sees what the kernel says", async () => {
  await using lab = await Lab.start("--port", "0");
  await using reader = await Reader.enter(lab);
  const { pid, port } = await reader.does({
    action: "start",
    program: STAGE_3D,
    limits: { nofile: 200 },
  });
  const started = await reader.hears("started");
  assertEquals([started.pid, started.file], [pid, STAGE_3D]);
  const { limits } = await reader.hears("limits");
  assertEquals(limits.nofile, [200, 200]);
  await reader.hears("output", ({ text }) => text.includes(`PID: ${pid}`));
  const { numbers } = await reader.does({ action: "clients", pid, count: 3 });
  assertEquals(numbers, [1, 2, 3]);
  await reader.sees(
    "three hung clients and zombies",
    ({ clients, processes }) =>
      [...clients.values()].filter(({ state }) => state === "hung").length === 3 &&
      [...processes.values()].filter(({ state }) => state === "zombie").length === 3,
  );
  assertEquals(
    [...reader.now.processes.values()].filter(({ state }) => state === "zombie")
      .map(({ pid }) => pid).sort(),
    zombiesOf(pid).sort(),
  );
  const server = reader.now.processes.get(pid);
  assertEquals(server.call, "ppoll");
  assertMatch(
    Deno.readTextFileSync(new URL(server.line.file, ROOT)).split("\n")[server.line.line - 1]!,
    /\.accept\(\)/,
  );
  assertEquals(
    new Map(server.descriptors.map(({ fd, target }: Json) => [fd, target])),
    descriptorsOf(pid),
  );
  const accepted = [...reader.now.sockets.values()].filter(({ local, state }) =>
    local.endsWith(`:${port}`) && state === "ESTABLISHED"
  );
  assertEquals(accepted.map(({ holders }) => holders.map((one: Json) => one.pid)), [
    [pid],
    [pid],
    [pid],
  ]);
  // What is unchanged is not sent.
  const before = reader.events.length;
  await reader.does({ action: "wait", seconds: 0.5 });
  assertEquals(reader.events.slice(before).filter(({ type }) => type === "delta"), []);
  await reader.does({ action: "close", clients: [2] });
  await reader.sees("a closed client", ({ clients }) => clients.get(2).state === "closed");
  assertEquals(reader.now.clients.get(1).state, "hung");
  await reader.does({ action: "limit", pid, name: "nofile", value: 64 });
  assertMatch(Deno.readTextFileSync(`/proc/${pid}/limits`), /^Max open files +64 +200 /m);
  await reader.does({ action: "clients", pid, count: 60 });
  const exit = await reader.hears("exit");
  assertEquals([exit.pid, exit.code, exit.signal], [pid, 1, null]);
  await reader.hears("output", ({ text }) => text.includes("EMFILE"));
  await reader.does({ action: "stop" });
  await reader.hears("stopped");
  assertEquals([...reader.now.processes, ...reader.now.sockets, ...reader.now.clients], []);
  // The session can be used again.
  const again = await reader.does({ action: "start", program: STAGE_3G });
  await reader.does({ action: "clients", pid: again.pid, kind: "silent", count: 2 });
  await reader.sees("two children", ({ processes }) => processes.size === 3);
  const child = [...reader.now.processes.values()].find(({ ppid }) => ppid === again.pid);
  await reader.does({ action: "kill", pid: child.pid, signal: "SIGKILL" });
  await reader.sees("one child", ({ processes }) => processes.size === 2);
  assert(processState(child.pid) === undefined);
});

Deno.test("the lab starts nothing but what is listed, and within limits", async () => {
  await using lab = await Lab.start("--port", "0");
  await using reader = await Reader.enter(lab);
  const start = { action: "start", program: STAGE_3G };
  const refusals: [Json, number, RegExp][] = [
    ["{", 400, /JSON/],
    ["null", 400, /object/],
    [`{"action":"${"x".repeat(20_000)}"}`, 413, /long/],
    [{ action: "sh" }, 400, /"sh" is not an action/],
    [{ action: "start", program: "examples/part3/client3.ts" }, 400, /not a program of the lab/],
    [{ action: "start", program: "../../etc/passwd" }, 400, /not a program/],
    [{ ...start, arguments: { seconds: 1 } }, 400, /no argument "seconds"/],
    [
      { ...start, program: "examples/part3/webserver3b.ts", arguments: { seconds: "1; sh" } },
      400,
      /number/,
    ],
    [{ ...start, limits: { nofile: "1; sh" } }, 400, /number/],
    [{ ...start, limits: { core: 1 } }, 400, /not a limit/],
    [{ action: "play", lesson: "none" }, 400, /no lesson/],
    [{ action: "clients", pid: 1 }, 409, /Nothing is running/],
    [{ action: "kill", pid: Deno.pid, signal: "SIGKILL" }, 409, /Nothing is running/],
    [{ action: "next" }, 409, /Nothing waits/],
  ];
  for (const [action, status, reason] of refusals) await reader.refused(action, status, reason);
  const { pid } = await reader.does(start);
  for (const other of [Deno.pid, lab.pid, lab.sessions[0], 0, -1, -pid, "1"]) {
    await reader.refused({ action: "kill", pid: other, signal: "SIGTERM" }, 400, /not a process/);
    const limit = { action: "limit", pid: other, name: "nofile", value: 10 };
    await reader.refused(limit, 400, /not a process/);
  }
  await reader.refused({ action: "kill", pid, signal: "SIGSEGV" }, 400, /not a signal/);
  await reader.refused({ action: "limit", pid, name: "as", value: 10 }, 400, /not a limit/);
  await reader.refused({ action: "clients", pid, count: 129 }, 400, /from 1 to 128/);
  await reader.refused({ action: "clients", pid: 1 }, 400, /not a server that you started/);
  await reader.refused({ action: "wait", seconds: 61 }, 400, /from 0 to 60/);
  await reader.refused({ action: "play", lesson: "3b" }, 409, /stop it first/);
  await reader.does({ action: "clients", pid, count: 128, kind: "silent" });
  await reader.does({ action: "clients", pid, count: 128, kind: "silent" });
  await reader.refused({ action: "clients", pid }, 429, /256 are allowed/);
  await reader.does({ action: "close" });
  for (let i = 1; i < 4; i++) await reader.does(start);
  await reader.refused(start, 429, /4 programs/);
  const others: Reader[] = [];
  for (let i = 1; i < 8; i++) others.push(await Reader.enter(lab));
  const ninth = await lab.request("/sessions", { method: "POST", body: "{}" });
  assertEquals([ninth.status, (await ninth.json()).error], [
    429,
    "8 readers are here already: try again later",
  ]);
  await Promise.all(others.map((other) => other.leave()));
  assertEquals((await lab.request(`/sessions/${"0".repeat(32)}/events`).then(read)).status, 404);
});

Deno.test("a lesson is played, step by step if the reader wants to think", async () => {
  await using lab = await Lab.start("--port", "0");
  await using reader = await Reader.enter(lab);
  await using other = await Reader.enter(lab);
  await reader.does({ action: "play", lesson: "3b", steps: true });
  await other.does({ action: "play", lesson: "3b" });
  const has = (type: string) => reader.events.filter((event) => event.type === type).length;
  // The other reader's whole lesson passes while this one thinks about the question.
  const verdict = await other.hears("verdict");
  assertEquals([verdict.holds, verdict.text.slice(0, 11)], [true, "As expected"]);
  await other.hears("done");
  assertEquals([...other.now.processes], []);
  assertEquals([has("lesson"), has("waiting"), has("command"), has("say")], [1, 1, 0, 0]);
  await reader.refused({ action: "start", program: STAGE_3G }, 409, /lesson/);
  for (let steps = 1; has("done") === 0; steps++) {
    await reader.does({ action: "next" });
    await until(() => has("waiting") > steps || has("done") > 0, "the end of a step");
    // A step ends with a sentence, and there is something to be seen.
    if (has("done") > 0) break;
    assertEquals([has("waiting"), has("say")], [steps + 1, steps]);
    assertEquals(reader.now.processes.size, 1);
  }
  assertEquals((await reader.hears("verdict")).holds, true);
  assertGreater(has("say"), 1);
  assertEquals(has("waiting"), 1 + has("say"));
  // Commands of both came from processes of their own.
  const pids = [reader, other].map(({ events }) => events.find((e) => e.type === "started").pid);
  assert(pids[0] !== pids[1]);
  // Stopped in the middle, at the question, and when all has been handed over.
  await reader.does({ action: "play", lesson: "3b", steps: true });
  const before = descendants(lab.pid);
  let isStopped = false;
  const stopping = reader.does({ action: "stop" }).then(() => isStopped = true);
  await until(() => {
    assertEquals(descendants(lab.pid), before); // the experiment does not begin
    return isStopped;
  }, "the lesson's end");
  await stopping;
  await reader.does({ action: "play", lesson: "3b" });
  const { pid } = await until(
    () => reader.events.findLast(({ type, pid }) => type === "started" && !pids.includes(pid)),
    "a third start",
  );
  await reader.does({ action: "stop" });
  assert(!isRunning(pid));
  assertEquals(has("verdict"), 1);
});

Deno.test("two readers do not disturb each other, and what one started ends with him", async () => {
  await using lab = await Lab.start("--port", "0");
  await using first = await Reader.enter(lab);
  await using second = await Reader.enter(lab);
  const [one, two] = await Promise.all(
    [first, second].map((reader) => reader.does({ action: "start", program: STAGE_3G })),
  );
  assert(one.port !== two.port);
  for (const [reader, { pid }] of [[first, one], [second, two]] as const) {
    await reader.does({ action: "clients", pid, count: 2, kind: "silent" });
    await reader.sees("three processes", ({ processes }) => processes.size === 3);
    assertEquals([...reader.now.clients.keys()], [1, 2]);
  }
  await first.refused({ action: "kill", pid: two.pid, signal: "SIGKILL" }, 400, /not a process/);
  await first.refused({ action: "clients", pid: two.pid }, 400, /not a server that you started/);
  assertEquals([first, second].map(({ now }) => now.processes.has(two.pid)), [false, true]);
  const family = (pid: number) => [pid, ...descendants(pid)];
  const own = lab.sessions.filter((pid) => descendants(pid).includes(one.pid)).flatMap(family);
  assertGreater(own.length, 4);
  const response = await lab.request(`/sessions/${first.id}`, { method: "DELETE" });
  assertEquals(response.status, 204);
  await first.hears("ended");
  await allEnd(own);
  await until(() => first.isOver, "the end of the events");
  assertEquals((await lab.request(`/sessions/${first.id}/events`).then(read)).status, 404);
  // A page that is reloaded comes back in time, and gets what it missed, and what is there now.
  await second.leave();
  const events = await lab.request(`/sessions/${second.id}/events`, {
    headers: { "last-event-id": "1" },
  });
  const reading = events.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!/"snapshot":\{.*\n/.test(text)) text += (await reading.read()).value;
  assertMatch(text, /"resumed":true/);
  assertMatch(text, /"type":"started"/);
  assert(!text.includes("id: 1\n"));
  assertEquals([...text.matchAll(/"ppid":/g)].length, 3);
  // Then the page is closed.
  const rest = lab.sessions.flatMap(family);
  assert(rest.includes(two.pid) && rest.every(isRunning));
  await reading.cancel();
  await allEnd(rest);
  assertEquals(lab.sessions, []);
});

for (const how of ["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(`nothing is left of the lab after ${how}`, async () => {
    await using lab = await Lab.start("--port", "0");
    await using reader = await Reader.enter(lab);
    const { pid } = await reader.does({ action: "start", program: STAGE_3G });
    await reader.does({ action: "clients", pid, count: 3, kind: "silent" });
    await reader.sees("four processes", ({ processes }) => processes.size === 4);
    const all = descendants(lab.pid);
    assertGreater(all.length, 6); // a worker, a session with its guard, the stage with children
    lab.kill(how);
    await lab.ended();
    await allEnd(all);
    await until(() => reader.isOver, "the end of the events");
  });
}

Deno.test("what a session started ends when its process is killed, and the page is told", async () => {
  await using lab = await Lab.start("--port", "0");
  await using reader = await Reader.enter(lab);
  const { pid } = await reader.does({ action: "start", program: STAGE_3G });
  await reader.does({ action: "clients", pid, count: 3, kind: "silent" });
  await reader.sees("four processes", ({ processes }) => processes.size === 4);
  const [session] = lab.sessions;
  const all = descendants(session!);
  assert(all.includes(pid));
  Deno.kill(session!, "SIGKILL");
  await allEnd(all);
  assertMatch((await reader.hears("ended")).reason, /SIGKILL/);
  await using next = await Reader.enter(lab);
  await next.does({ action: "start", program: STAGE_3G });
});

Deno.test("looking at 128 children takes less than a tenth of a processor", async () => {
  await using lab = await Lab.start("--port", "0");
  await using reader = await Reader.enter(lab);
  const { pid } = await reader.does({ action: "start", program: STAGE_3G });
  await reader.does({ action: "clients", pid, count: 128, kind: "silent" });
  await reader.sees("129 processes", ({ processes }) => processes.size === 129);
  const [session] = lab.sessions;
  const worker = childrenOf(lab.pid)[0]!;
  const cpu = () => cpuTime(session!) + cpuTime(worker);
  const [begin, since] = [cpu(), performance.now()];
  const looks = reader.events.length;
  // Children come and go meanwhile.
  for (let i = 0; i < 6; i++) {
    await reader.does({ action: "clients", pid, count: 2 });
    await reader.does({ action: "wait", seconds: 0.5 });
  }
  const share = (cpu() - begin) / ((performance.now() - since) / 1000);
  assertLess(share, 0.1);
  const { length } = reader.events.slice(looks).filter(({ type }) => type === "delta");
  assertGreater(length, 2);
  const rate = await reader.hears("rate", ({ processes }) => processes >= 129);
  assertLess(rate.share, 0.1);
  // Nobody looks: nothing is looked at.
  await reader.leave();
  await until(async () => {
    const before = cpuTime(session!);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return cpuTime(session!) - before < 0.02;
  }, "an idle session");
});

/** Seconds of processor time. */
function cpuTime(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

Deno.test("the lab says in one line why it does not start", async () => {
  await using lab = await Lab.start("--port", "0");
  const { port } = new URL(lab.url);
  const cases: [string[], number, RegExp][] = [
    [["--port", port], 1, /^error: Cannot bind 127\.0\.0\.1:\d+: EADDRINUSE/],
    [["--port", "x"], 2, /^error: Cannot listen on port "x": expected a number from 0 to 65535\n$/],
    [["--port", "65536"], 2, /65535/],
    [["--host", "no.such.host.invalid", "--port", "0"], 1, /^error: .*no\.such\.host\.invalid/],
    [["--server", "x"], 2, /"x" is not a pid/],
    [["--nothing"], 2, /unknown argument --nothing/],
    [["word"], 2, /unknown argument word/],
  ];
  await Promise.all(cases.map(async ([args, code, reason]) => {
    await using program = new Program(DENO, [
      "run",
      "--no-lock",
      "--allow-all",
      new URL("examples/lab/web.ts", ROOT).pathname,
      ...args,
    ]);
    assertEquals([args, await program.ended()], [args, { code, signal: null }]);
    assertMatch(program.stderr, reason);
    assertEquals(program.stderr.trimEnd().split("\n").length, 1);
  }));
});
