/** Compares what tine assumes about Deno with the running Deno. */
import { assertEquals } from "@std/assert";
import { ASSUMPTIONS } from "../ffi/runtime/assumptions.ts";
import * as tine from "../mod.ts";
import { certificate, DENO, Program, run, scratch, writeApp } from "./support.ts";

type Assumptions = typeof ASSUMPTIONS;

/** What there is instead of a value: the value itself, if Deno is as it says. */
type Look<Value> = (value: Value) => unknown;

const HEAP = new URL("../ffi/runtime/heap.ts", import.meta.url).href;
const LIBC = new URL("../ffi/libc.ts", import.meta.url).href;
const READ_ASYNC = new URL("../ffi/runtime/read_async.ts", import.meta.url).href;

/** What a program shows, in JSON. */
async function shown(
  program: () => unknown,
  args: string[] = [],
  flags: string[] = [],
): Promise<unknown> {
  const lines = (await run(program, args, { flags: ["-A", ...flags] })).trim().split("\n");
  return JSON.parse(lines.at(-1)!);
}

/** What Deno prints when it is given a program's text. */
async function printed(
  text: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  const process = new Deno.Command(Deno.execPath(), {
    args,
    env: { NO_COLOR: "1", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  const { stdout, stderr } = await process.output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/** The flag, where V8 does not complain of it. */
async function acceptedFlag(flag: string): Promise<string> {
  const text = await printed("", ["eval", `--v8-flags=${flag}`, "0"]);
  return text === "" ? flag : text;
}

/** The names of the threads of a program that holds something open. */
function threadsOf(what: "worker" | "kv"): Promise<string[]> {
  return shown(
    async () => {
      if (Deno.args[0] === "kv") await Deno.openKv(":memory:");
      else new Worker("data:text/javascript,", { type: "module" });
      const tasks = [...Deno.readDirSync("/proc/self/task")];
      const names = tasks.map(({ name }) =>
        Deno.readTextFileSync(`/proc/self/task/${name}/comm`).trim()
      );
      console.log(JSON.stringify(names));
      Deno.exit();
    },
    [what],
    ["--unstable-kv"],
  ) as Promise<string[]>;
}

/** Those files that a program with a KV database has open. */
async function openFiles(isWanted: (name: string) => boolean): Promise<string[]> {
  const links = await shown(
    async () => {
      await Deno.openKv();
      const fds = [...Deno.readDirSync("/proc/self/fd")];
      console.log(JSON.stringify(fds.flatMap(({ name }) => {
        try {
          return [Deno.readLinkSync(`/proc/self/fd/${name}`)];
        } catch {
          return []; // the folder's own
        }
      })));
      Deno.exit();
    },
    [],
    ["--unstable-kv", "--location=http://127.0.0.1/"],
  ) as string[];
  return links.filter((link) => isWanted(link.split("/").at(-1)!));
}

/** The names of the threads of a program that has done nothing yet. */
function threadNames(...flags: string[]): Promise<string[]> {
  return shown(
    () => {
      const tasks = [...Deno.readDirSync("/proc/self/task")];
      const names = tasks.map(({ name }) =>
        Deno.readTextFileSync(`/proc/self/task/${name}/comm`).trim()
      );
      console.log(JSON.stringify(names));
    },
    [],
    flags,
  ) as Promise<string[]>;
}

/** What the event loop watches, seen before and after a listener and a connection of `fetch`. */
async function watchEventLoop(): Promise<void> {
  const links = () => {
    const found = new Map<string, string>();
    for (const { name } of Deno.readDirSync("/proc/self/fd")) {
      try {
        found.set(name, Deno.readLinkSync(`/proc/self/fd/${name}`));
      } catch {
        // it was this folder's
      }
    }
    return found;
  };
  const watched = () => {
    const epolls = [...links().keys()].filter((fd) =>
      /^tfd:/m.test(Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`))
    );
    const info = Deno.readTextFileSync(`/proc/self/fdinfo/${epolls[0]}`);
    const parts = [...info.matchAll(/^tfd:\s*(\d+) events:\s*([0-9a-f]+)/gm)]
      .map(([, fd, events]) => ({ fd: fd!, events: parseInt(events!, 16) }));
    return { epolls, parts };
  };
  const before = links();
  const { epolls, parts } = watched();
  const sockets = parts.filter(({ fd }) => before.get(fd)!.startsWith("socket:"));
  const others = parts.filter((part) => !sockets.includes(part));
  const copies = (fd: string) => [...before.values()].filter((link) => link === before.get(fd));
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const isNew = ({ fd }: { fd: string }) => !parts.some((part) => part.fd === fd);
  const registered = watched().parts.filter(isNew);
  listener.close();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    () => new Response("ok"),
  );
  const connections = () =>
    Deno.readTextFileSync("/proc/self/net/tcp").split("\n")
      .filter((line) => {
        const [, , remote, state] = line.trim().split(/\s+/);
        return state === "01" && parseInt(remote!.split(":")[1]!, 16) === server.addr.port;
      }).length;
  await (await fetch(`http://127.0.0.1:${server.addr.port}/`)).text();
  const kept = connections() === 1;
  console.log(JSON.stringify({
    parts: {
      epolls: epolls.length,
      wakers: others.length,
      signalSockets: sockets.filter(({ fd }) => copies(fd).length === 2).length,
    },
    epoll: before.get(epolls[0]!),
    waker: before.get(others[0]!.fd),
    // Neither EPOLLOUT nor EPOLLRDHUP, EPOLLERR, EPOLLHUP.
    events: registered.map(({ events }) => (events & ~0x201c) >>> 0),
    kept,
  }));
  Deno.exit();
}

interface EventLoop {
  parts: unknown;
  epoll: string;
  waker: string;
  events: number[];
  kept: boolean;
}

/** Deno's timers, and Node's. */
async function lookAtTimers(): Promise<void> {
  // deno-lint-ignore no-explicit-any
  const anyDeno = Deno as any;
  const core = anyDeno[anyDeno.internal].core;
  const milliseconds = 54_321;
  const first = core.createTimer(() => {}, milliseconds, undefined, false, false);
  const second = core.createTimer(() => {}, milliseconds, undefined, false, false);
  const list = second._idlePrev;
  const duration = Object.entries(list).find(([, value]) => value === milliseconds)?.[0];
  const lists: typeof list[] = [];
  Object.defineProperty(Object.getPrototypeOf(list), duration!, {
    set(value) {
      Object.defineProperty(this, duration!, { value });
      lists.push(this);
    },
  });
  const timeout = setTimeout(() => {}, 30_000);
  const http = await import("node:http");
  const server = http.createServer((_, response) => response.end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const called: string[] = [];
  // More than once: the timer for the date may fire at once, at the end of a second.
  for (let i = 0; i < 3; i++) {
    await (await fetch(`http://127.0.0.1:${port}/`)).text();
    for (const list of lists) {
      for (let one = list._idleNext; one !== list; one = one._idleNext) {
        called.push(one._onTimeout?.name);
      }
    }
  }
  const node = Object.entries(Object.getOwnPropertyDescriptors(timeout));
  console.log(JSON.stringify({
    core: Object.keys(core),
    timer: Object.keys(first),
    numbers: [first._timerId, second._timerId],
    duration: lists.length > 0 ? duration : "no list told its duration",
    timeout: {
      timer: node.find(([, { value }]) => value?._timerId === Number(timeout))?.[0],
      symbols: Object.getOwnPropertySymbols(Object.getPrototypeOf(timeout))
        .map(({ description }) => description),
    },
    called,
  }));
  Deno.exit();
}

interface Timers {
  core: string[];
  timer: string[];
  numbers: [number, number];
  duration: string;
  timeout: { timer: string; symbols: string[] };
  called: string[];
}

/** What Deno's server has of a request and of responses. */
async function lookAtRequests(): Promise<void> {
  /** What lies under each symbol of an object, by its description. */
  const inside = (object: object) => {
    const symbols = Object.getOwnPropertySymbols(object);
    const values = object as unknown as Record<symbol, unknown>;
    return new Map(symbols.map((symbol) => [symbol.description!, values[symbol]]));
  };
  const names = (object: unknown) => {
    const found: string[] = [];
    for (let one = object; one && one !== Object.prototype; one = Object.getPrototypeOf(one)) {
      found.push(...Object.getOwnPropertyNames(one));
    }
    return found;
  };
  const seen: Record<string, unknown> = {};
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const bytes = new Response(new Uint8Array(3));
    const text = new Response("some text");
    const isKnown = (property: string) => (description: string, object: object) =>
      names(inside(object).get(description)).includes(property);
    const symbolsWith = (property: string, object: object) =>
      [...inside(object).keys()].filter((key) => isKnown(property)(key, object));
    const [requestKey] = symbolsWith("headerList", request);
    const [responseKey] = symbolsWith("headerList", bytes);
    const requestInside = inside(request).get(requestKey!);
    const responseInside = inside(bytes).get(responseKey!) as { body: unknown };
    seen.request = { symbol: requestKey, properties: names(requestInside) };
    seen.response = { symbol: responseKey, properties: names(responseInside) };
    seen.body = names(responseInside.body);
    seen.texts = [...inside(text)].filter(([, value]) => value === "some text")
      .map(([key]) => key);
    return text;
  });
  const url = `http://127.0.0.1:${server.addr.port}/`;
  await (await fetch(url, { method: "POST", body: "some body" })).text();
  console.log(JSON.stringify(seen));
  Deno.exit();
}

interface Requests {
  request: { symbol: string; properties: string[] };
  response: { symbol: string; properties: string[] };
  body: string[];
  texts: string[];
}

/** Shows the roles of both ends of a WebSocket. */
function roles(): void {
  const [description] = Deno.args;
  const roleOf = (socket: WebSocket) => {
    const symbol = Object.getOwnPropertySymbols(socket).find((one) =>
      one.description === description
    );
    return (socket as unknown as Record<symbol, unknown>)[symbol!];
  };
  let server: unknown;
  const { addr } = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    server = roleOf(socket);
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${addr.port}/`);
  socket.onopen = () => {
    console.log(JSON.stringify({ symbol: description, server, client: roleOf(socket) }));
    Deno.exit();
  };
}

/** Echoes a body that comes in two parts, and shows whether the second one came back. */
async function echo(): Promise<void> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const reader = request.body!.getReader();
    return new Response(
      new ReadableStream({
        async pull(controller) {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        },
      }, { highWaterMark: 1 }),
    );
  });
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
  const send = (text: string) => connection.write(new TextEncoder().encode(text));
  let received = "";
  const receive = async (part: string) => {
    const buffer = new Uint8Array(4096);
    while (!received.includes(part)) {
      const count = await connection.read(buffer);
      if (count === null) return false;
      received += new TextDecoder().decode(buffer.subarray(0, count));
    }
    return true;
  };
  await send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
  await receive("first");
  await send("6\r\nsecond\r\n");
  const isLost = await Promise.race([
    receive("second").then((came) => !came),
    new Promise<boolean>((resolve) => setTimeout(resolve, 5000, true)),
  ]);
  console.log(JSON.stringify(isLost));
  Deno.exit();
}

/** How many numbers of a source two processes share that part when it has just been drawn from. */
async function countShared(): Promise<void> {
  tine.becomeForkable();
  const { forkWithHeap } = await import(Deno.args[0]!);
  const { compile } = await import(Deno.args[1]!);
  compile(["madvise", "fork"]);
  const source = Deno.args[2]!;
  const draw = source === "uuid"
    ? () => crypto.randomUUID() as string
    : () => crypto.getRandomValues(new Uint8Array(4)).join();
  const child = (): string[] => {
    const [readEnd, writeEnd] = tine.pipe();
    const pid = forkWithHeap();
    if (pid === 0) {
      // The child's next numbers must differ from its sibling's.
      writeEnd.write(new TextEncoder().encode(Array.from({ length: 200 }, draw).join("\n")));
      tine._exit(0);
    }
    writeEnd.close();
    let text = "";
    for (;;) {
      const bytes = readEnd.read(65_536);
      if (bytes.length === 0) break;
      text += new TextDecoder().decode(bytes);
    }
    readEnd.close();
    tine.waitpid(pid);
    return text.split("\n");
  };
  let most = 0;
  // Somewhere among so many places a block has just begun.
  for (let i = 0; i < (source === "uuid" ? 1 : 70); i++) {
    draw();
    const [one, other] = [child(), child()];
    const end = one.findIndex((number, i) => number !== other[i]);
    most = Math.max(most, end === -1 ? one.length : end);
  }
  console.log(most + 1);
  tine._exit(0);
}

/** How the threads of the pool are named, how many there are and what they do when they idle. */
async function lookAtPool(): Promise<void> {
  const { readAsync } = await import(Deno.args[0]!);
  const names = () =>
    [...Deno.readDirSync("/proc/self/task")].flatMap(({ name: tid }) => {
      try {
        const file = (name: string) => Deno.readTextFileSync(`/proc/self/task/${tid}/${name}`);
        return [{ tid, name: file("comm").trim(), call: Number(file("syscall").split(" ")[0]) }];
      } catch {
        return []; // it has ended
      }
    });
  const main = Deno.readTextFileSync("/proc/self/comm").trim();
  // The others are Deno's main thread and those that it gives no name of their own; and V8's.
  const isOther = ({ name }: { name: string }) => name === main || name.startsWith("V8");
  const pool = () => names().filter((thread) => !isOther(thread));
  const [readEnd, writeEnd] = tine.pipe();
  const reads = Array.from({ length: 100 }, () => readAsync(readEnd.fileno(), 1));
  const settled = async (what: () => string) => {
    for (let last = "", same = 0; same < 10; await new Promise((go) => setTimeout(go, 20))) {
      same = last === what() ? same + 1 : 0;
      last = what();
    }
  };
  await settled(() => `${pool().length}`);
  const busy = pool();
  writeEnd.write(new Uint8Array(100));
  await Promise.all(reads);
  const start = performance.now();
  await settled(() => JSON.stringify(pool()));
  const idle = names().filter(({ name }) => name !== main);
  let seconds: number | undefined;
  if (Deno.args[1] === "idle") {
    while (pool().length > 0) await new Promise((go) => setTimeout(go, 20));
    seconds = (performance.now() - start) / 1000;
  }
  console.log(JSON.stringify({
    names: [...new Set(busy.map(({ name }) => name))],
    size: busy.length,
    idleCalls: [...new Set(idle.map(({ call }) => call))],
    seconds,
  }));
  Deno.exit();
}

interface Pool {
  names: string[];
  size: number;
  idleCalls: number[];
  seconds: number;
}

const lookOnce = <T>(look: () => Promise<unknown>): () => Promise<T> => {
  let seen: Promise<unknown> | undefined;
  return () => (seen ??= look()) as Promise<T>;
};

const eventLoop = lookOnce<EventLoop>(() => shown(watchEventLoop));
const timers = lookOnce<Timers>(() => shown(lookAtTimers));
const requests = lookOnce<Requests>(() => shown(lookAtRequests));
const pool = lookOnce<Pool>(() => shown(lookAtPool, [READ_ASYNC]));

const nodeServer = lookOnce<NodeServer>(() => shown(lookAtNodeServer));

interface NodeServer {
  events: number;
  loaded: string;
  names: Record<string, string>;
}

async function lookAtNodeServer(): Promise<void> {
  // deno-lint-ignore no-explicit-any
  const anyDeno = Deno as any;
  const loaded = "__bootstrapNodeProcess";
  const wasLoaded = loaded in anyDeno[anyDeno.internal];
  const { Server } = await import("node:net");
  const http = await import("node:http");
  // deno-lint-ignore no-explicit-any
  const prototype = Server.prototype as any;
  const { _listen2 } = prototype;
  const calls: unknown[] = [];
  prototype._listen2 = function (...args: unknown[]) {
    calls.push(args.slice(0, 2));
    _listen2.apply(this, args);
  };
  const registrations = () =>
    [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
      try {
        const info = Deno.readTextFileSync(`/proc/self/fdinfo/${name}`);
        return [...info.matchAll(/^tfd:.*events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)/gm)];
      } catch {
        return [];
      }
    });
  const before = registrations().map(([, , data]) => data);
  // deno-lint-ignore no-explicit-any
  const server = http.createServer() as any;
  const own = Object.hasOwn(server, "_usingWorkers") ? "_usingWorkers" : "";
  server.listen(0, "127.0.0.1");
  let events: number | undefined;
  while (events === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const found = registrations().find(([, , data]) => !before.includes(data));
    if (found !== undefined) events = parseInt(found[1]!, 16);
  }
  const EPOLLRDHUP = 0x2000;
  const handle = typeof server._handle?.getsockname === "function" ? "_handle" : "";
  const path = "_pipeName" in server ? "_pipeName" : "";
  const listen = JSON.stringify(calls) === '[["127.0.0.1",0]]' ? "_listen2" : "";
  console.log(JSON.stringify({
    events: (events & ~EPOLLRDHUP) >>> 0,
    loaded: !wasLoaded && loaded in anyDeno[anyDeno.internal] ? loaded : "",
    names: { own, listen, handle, path },
  }));
  Deno.exit();
}

/** Those of the names that are there. */
function present(names: readonly string[], there: readonly string[]): string[] {
  return names.filter((name) => there.includes(name));
}

const LOOKS: { [Name in keyof Assumptions]: Look<Assumptions[Name]["value"]> } = {
  heapFlag: () =>
    shown(() => {
      const flags = Deno.readTextFileSync("/proc/self/smaps").match(/^VmFlags:.*$/gm)!;
      // Whatever large mapping the heap consists of, it has the flag, and most others have not.
      const has = flags.filter((line) => / dc( |$)/.test(line)).length;
      console.log(JSON.stringify(has > 0 && has < flags.length ? "dc" : `${has} mappings`));
    }),
  v8WorkerName: async () => {
    const without = await threadNames("--v8-flags=--single-threaded");
    const others = (await threadNames()).filter((name) => !without.includes(name));
    const [first = ""] = others;
    let length = first.length;
    while (!others.every((name) => name.startsWith(first.slice(0, length)))) length--;
    return first.slice(0, length).replace(/(?<= ).*/, "");
  },
  fileWatcherName: async (beginning) => {
    const name = await shown(() => {
      const ids = () => [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
      const before = ids();
      Deno.watchFs("/proc/self/cwd");
      // It has its name a moment after it has begun.
      let names: string[];
      do {
        names = ids().filter((id) => !before.includes(id))
          .map((id) => Deno.readTextFileSync(`/proc/self/task/${id}/comm`).trim());
      } while (!names.some((name) => !/^(deno|tokio)/.test(name)));
      console.log(JSON.stringify(names.find((name) => !/^(deno|tokio)/.test(name))));
      Deno.exit();
    }) as string;
    return name.startsWith(beginning) ? beginning : name;
  },
  inotifyLink: () =>
    shown(() => {
      Deno.watchFs("/proc/self/cwd");
      const links = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
        try {
          return Deno.readLinkSync(`/proc/self/fd/${name}`);
        } catch {
          return ""; // the folder's own
        }
      });
      console.log(JSON.stringify(links.find((link) => /inotify/.test(link))));
      Deno.exit();
    }) as Promise<"anon_inode:inotify">,
  v8FlagsVariable: async (name) => {
    const text = await printed("console.log(typeof gc)", ["run", "-"], { [name]: "--expose-gc" });
    return text === "function\n" ? name : text;
  },
  singleThreaded: async (flag) => {
    const program = `
      let isAlive = false;
      const registry = new FinalizationRegistry(() => isAlive = true);
      (() => registry.register({}))();
      for (let i = 0; i < 100 && !isAlive; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      console.log(isAlive);`;
    const text = await printed(program, ["run", `--v8-flags=--expose-gc,${flag}`, "-"]);
    const help = await printed("", ["eval", "--v8-flags=--help", "0"]);
    const isKnown = help.includes(`${flag.replaceAll("_", "-").replace(/^--/, "  --")} `);
    return text === "true\n" && isKnown ? flag : text;
  },
  withoutWorkers: async (flag) => {
    const names = await threadNames(`--v8-flags=${flag}`);
    return names.some((name) => name.startsWith("V8 ")) ? names : flag;
  },
  threadRecord: () =>
    shown(
      async () => {
        const { libc } = await import(Deno.args[0]!);
        const head = new BigUint64Array(1);
        const number = Deno.build.arch === "x86_64" ? 274n : 100n;
        const tids = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => Number(name))
          .filter((tid) => Deno.readTextFileSync(`/proc/self/task/${tid}/comm`).startsWith("V8 "));
        const offsets = tids.map((tid) => {
          libc().get_robust_list(number, tid, head, new BigUint64Array(1));
          const record = new Deno.UnsafePointerView(Deno.UnsafePointer.create(head[0]!)!);
          for (let offset = 0; offset >= -64; offset -= 4) {
            if (record.getInt32(offset) === tid) return offset;
          }
          return undefined;
        });
        const all = [...new Set(offsets)];
        console.log(JSON.stringify(all.length === 1 ? all[0] : offsets));
      },
      [LIBC],
    ),
  noLazy: acceptedFlag,
  smallNursery: acceptedFlag,
  typedPrograms: async () => {
    const program = "console.log(Deno.mainModule)\n";
    const nameIn = (text: string) => text.match(/\/([^/.]+)\.\w+$/m)?.[1];
    const input = nameIn(await printed(program, ["run", "-A", "-"]));
    const repl = nameIn(await printed(program, ["repl", "-A", "--quiet"]));
    return { [input!]: "standard input", [repl!]: "the REPL" };
  },
  signalsAfter: async (seconds) => {
    // The event loop may be late, when the machine is busy, but it is never early.
    let seen: unknown;
    for (let attempt = 0; attempt < 20; attempt++) {
      const [first, started] = await shown(async () => {
        const caught = () => Deno.readTextFileSync("/proc/self/status").match(/^SigCgt:.*/m)![0];
        const before = caught();
        let start = 0;
        setTimeout(() => start = performance.now(), 0);
        let last = 0;
        while (caught() === before) {
          last = performance.now() - start;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        console.log(JSON.stringify([last / 1000, (performance.now() - start) / 1000]));
        Deno.exit();
      }) as [number, number];
      if (first > seconds - 0.1 && started >= seconds - 0.1 && started < seconds + 0.1) {
        return seconds;
      }
      seen = [first, started];
    }
    return seen;
  },

  poolThreadNames: async (beginnings) => {
    const { names } = await pool();
    const isKnown = (name: string) => beginnings.some((beginning) => name.startsWith(beginning));
    return names.length > 0 && names.every(isKnown) ? beginnings : names;
  },
  poolSize: async () => (await pool()).size,
  poolIdleSeconds: async (expected) => {
    // The look may be late, when the machine is busy.
    let seen: number | undefined;
    for (let attempt = 0; attempt < 3 && seen !== expected; attempt++) {
      const { seconds } = await shown(lookAtPool, [READ_ASYNC, "idle"]) as Pool;
      seen = Math.floor(seconds);
    }
    return seen;
  },
  poolEndsBeforeReport: async () => {
    const output = await run(
      async () => {
        tine.becomeForkable();
        const { forkWithHeap } = await import(Deno.args[0]!);
        const { compile } = await import(Deno.args[1]!);
        await Deno.readTextFile("/etc/passwd"); // the pool has an idle thread
        compile(["madvise", "fork"]);
        const pid = forkWithHeap();
        if (pid === 0) throw new Error("to be told of");
        tine.sleep(1);
        console.log(tine.waitpid(pid, tine.WNOHANG).status === undefined);
        tine.kill(pid, tine.SIGKILL);
        tine._exit(0);
      },
      [HEAP, LIBC],
      { flags: ["-A"] },
    );
    return JSON.parse(output);
  },

  eventLoop: async () => (await eventLoop()).parts,
  epollLink: async () => (await eventLoop()).epoll,
  wakerLink: async () => (await eventLoop()).waker,
  listenerEvents: async () => {
    const { events } = await eventLoop();
    return events.length === 1 ? events[0] : events;
  },
  nodeListenerEvents: async () => (await nodeServer()).events,
  nodeLoaded: async () => (await nodeServer()).loaded,
  nodeServer: async () => (await nodeServer()).names,
  nodeCluster: () =>
    shown(async () => {
      const { default: cluster } = await import("node:cluster");
      const names = Object.getOwnPropertyNames(cluster);
      const [own, fork] = ["SCHED_NONE", "fork"];
      const isThere = own in cluster && names.indexOf(own) < names.indexOf(fork!);
      console.log(JSON.stringify(isThere ? { own, fork } : names));
    }),
  nodeSubprocess: ({ loaded, channel }) =>
    shown(
      async () => {
        const [loaded, channel] = Deno.args as [string, string];
        const { internal } = Deno as unknown as { internal: symbol };
        const inside = (Deno as unknown as Record<symbol, object>)[internal]!;
        const before = Object.hasOwn(inside, loaded);
        const { ChildProcess } = await import("node:child_process");
        const { subscribe } = await import("node:diagnostics_channel");
        const told: unknown[] = [];
        subscribe(channel, (message) => told.push((message as { process: unknown }).process));
        const child = new ChildProcess();
        const isKnown = !before && Object.hasOwn(inside, loaded) && told[0] === child;
        console.log(JSON.stringify(isKnown ? { loaded, channel } : Object.keys(inside)));
      },
      [loaded, channel],
    ),
  fetchKeepsConnections: async () => (await eventLoop()).kept,
  idleCall: async () => {
    const names = new Map([[202, "x86_64 futex"], [98, "aarch64 futex"]]);
    const { idleCalls } = await pool();
    const calls = idleCalls.map((call) => names.get(call) ?? call);
    return calls.length === 1 && calls[0] === `${Deno.build.arch} futex` ? "futex" : calls;
  },
  waitingCalls: async (calls) => {
    const look = () =>
      shown(async () => {
        const worker = new Worker("data:text/javascript,setInterval(() => {}, 1e6)", {
          type: "module",
        });
        Deno.addSignalListener("SIGUSR1", () => {});
        await new Promise((resolve) => setTimeout(resolve, 300));
        const tasks = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
        const found = tasks.filter((tid) => Number(tid) !== Deno.pid)
          .map((tid) => Deno.readTextFileSync(`/proc/self/task/${tid}/syscall`).split(" ")[0]);
        console.log(JSON.stringify([...new Set(found)]));
        worker.terminate();
        Deno.exit();
      });
    const isKnown = (call: string) => calls.includes(Number(call) as typeof calls[number]);
    let seen: string[] = [];
    // A thread may be running just then.
    for (let attempt = 0; attempt < 10; attempt++) {
      seen = await look() as string[];
      if (seen.length > 1 && seen.every(isKnown)) return calls;
    }
    return seen;
  },

  uuidsAtOnce: () => shown(countShared, [HEAP, LIBC, "uuid"]),
  uuidsCounted: () => Promise.resolve(Deno.version.deno), // by the line above
  randomBlock: async () => 4 * Number(await shown(countShared, [HEAP, LIBC, "values"])),
  // Not in a program that loads tine, which replaces it.
  nativeRandom: async () => (await printed("", ["eval", "console.log(`${Math.random}`)"])).trim(),

  coreTimers: async (names) => present(names, (await timers()).core),
  coreTimer: async (names) => present(names, (await timers()).timer),
  firstTimer: async () => {
    const { numbers: [first, second] } = await timers();
    return second === first + 1 ? first : [first, second];
  },
  listDuration: async () => (await timers()).duration,
  nodeTimer: async ({ create, destroy }) => {
    const { timeout: { timer, symbols } } = await timers();
    const [first, second] = present([create, destroy], symbols);
    return { timer, create: first, destroy: second };
  },
  nodeTimerSet: ({ own, modules }) =>
    shown(
      async () => {
        const [own, modules] = Deno.args as [string, string];
        const { setInterval, setImmediate, setTimeout } = await import("node:timers");
        const { setTimeout: wait } = await import("node:timers/promises");
        const found: object[] = [];
        Object.defineProperty(Object.prototype, own, {
          configurable: true,
          set(this: object) {
            found.push(this);
          },
        });
        setImmediate(() => {});
        setTimeout(() => {}, 0);
        delete (Object.prototype as Record<string, unknown>)[own];
        const prototype = Object.getPrototypeOf(found[0]);
        const create = Object.getOwnPropertySymbols(prototype)
          .find(({ description }) => description === "createTimer")!;
        const original = prototype[create];
        const stacks: string[] = [];
        prototype[create] = function () {
          stacks.push(new Error().stack!);
          return original.call(this);
        };
        clearInterval(setInterval(() => {}, 0));
        await wait(0);
        clearTimeout(globalThis.setTimeout(() => {}, 0));
        const isSet = (stack: string) => {
          const [first, ...others] = stack.split("\n").slice(2);
          const callers = others.filter((line) => !line.includes("<anonymous>"));
          const at = callers.findIndex((line) => !new RegExp(modules).test(line));
          return new RegExp(modules).test(first!) && callers[at]!.includes("file:");
        };
        console.log(JSON.stringify({
          own: found.length === 1 ? own : found.length,
          modules: stacks.length === 3 && stacks.every(isSet) ? modules : stacks,
        }));
      },
      [own, modules],
    ),
  dateReset: async (name) => {
    const { called } = await timers();
    return called.includes(name) ? name : called;
  },
  resourceNames: async (kinds) => {
    await using folder = scratch();
    const { cert, key } = await certificate(folder.path);
    const names = await shown(
      async () => {
        const [folder, certFile, keyFile] = Deno.args as [string, string, string];
        const [cert, key] = [certFile, keyFile].map((file) => Deno.readTextFileSync(file));
        const [tcp, path] = [{ hostname: "127.0.0.1", port: 0 }, `${folder}/socket`];
        const tls = Deno.listenTls({ ...tcp, cert: cert!, key: key! });
        const accepted = tls.accept().then((connection) => connection.handshake());
        await Deno.connectTls({ ...tls.addr, hostname: "localhost", caCerts: [cert!] });
        await accepted;
        await Deno.connect({ ...tcp, port: Deno.listen(tcp).addr.port });
        Deno.listen({ transport: "unix", path });
        await Deno.connect({ transport: "unix", path });
        Deno.listenDatagram({ transport: "udp", ...tcp });
        Deno.listenDatagram({ transport: "unixpacket", path: `${path}2` });
        const { promise: bound, resolve } = Promise.withResolvers<void>();
        (await import("node:dgram")).createSocket("udp4").bind(0, resolve);
        await bound;
        const server = Deno.serve({ ...tcp, onListen() {} }, (request) => {
          if (request.headers.get("upgrade") === null) return new Response("unread");
          return Deno.upgradeWebSocket(request).response;
        });
        await fetch(`http://127.0.0.1:${server.addr.port}/`);
        const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
        await new Promise((resolve) => socket.onopen = resolve);
        new Deno.Command("cat", { stdin: "piped" }).spawn();
        await Deno.openKv(":memory:");
        Deno.cron("job", "* * * * *", () => {});
        Deno.watchFs(folder);
        Deno.addSignalListener("SIGUSR2", () => {});
        new BroadcastChannel("news");
        // deno-lint-ignore no-explicit-any
        const { internal } = Deno as any;
        // deno-lint-ignore no-explicit-any
        console.log(JSON.stringify(Object.values((Deno as any)[internal].core.resources())));
        Deno.exit();
      },
      [folder.path, cert, key],
      ["--unstable-kv", "--unstable-cron", "--unstable-net"],
    );
    const open = (names as string[]).map((name) => name.slice(name.lastIndexOf(":") + 1));
    return Object.fromEntries(
      Object.entries(kinds).map(([kind, names]) => [kind, present(names, open)]),
    );
  },
  certificateChoice: async (property) => {
    await using folder = scratch();
    const { cert, key } = await certificate(folder.path);
    const names = await shown(
      async () => {
        const [certFile, keyFile, property] = Deno.args as [string, string, string];
        const [cert, key] = [certFile, keyFile].map((file) => Deno.readTextFileSync(file));
        const names: string[] = [];
        const choose = (name: string) => {
          names.push(name);
          return { cert, key };
        };
        // deno-lint-ignore no-explicit-any
        const { internal } = Deno as any;
        // deno-lint-ignore no-explicit-any
        const symbol = (Deno as any)[internal][property];
        Object.defineProperty(Object.prototype, symbol, { value: choose, configurable: true });
        const options = { hostname: "127.0.0.1", port: 0, cert: cert!, key: key!, onListen() {} };
        const { addr } = Deno.serve(options, () => new Response());
        Reflect.deleteProperty(Object.prototype, symbol);
        const connection = await Deno.connect({ hostname: "127.0.0.1", port: addr.port });
        const tls = await Deno.startTls(connection, { hostname: "localhost", caCerts: [cert!] });
        await tls.handshake();
        console.log(JSON.stringify(names));
        Deno.exit();
      },
      [cert, key, property],
    );
    return String(names) === "localhost" ? property : names;
  },
  webWorkerName: async (beginning) =>
    present([beginning], (await threadsOf("worker")).map((name) => name.replace(/\d+$/, "")))[0],
  kvThreadName: async (beginning) =>
    present([beginning], (await threadsOf("kv")).map((name) => name.replace(/\d+$/, "")))[0],
  kvFile: async () => {
    const [file] = await openFiles((name) => /kv/.test(name) && !/-(wal|shm)$/.test(name));
    return file?.split("/").at(-1);
  },
  cacheName: async (end) => {
    const [file] = await openFiles((name) => /cache.*\d$/.test(name) && !/kv/.test(name));
    return file?.match(/_cache_v(?=\d+$)/)?.[0] ?? [end, file];
  },
  nodeSocket: ({ own, connect }) =>
    shown(
      async () => {
        const [own, connect] = Deno.args as [string, string];
        const { default: net } = await import("node:net");
        const { default: stream } = await import("node:stream");
        const found: unknown[] = [];
        Object.defineProperty(Object.prototype, own, {
          configurable: true,
          set(this: object) {
            found.push(this instanceof net.Socket);
          },
        });
        new stream.Duplex();
        new net.Server();
        new net.Socket();
        console.log(JSON.stringify({
          own: found.join() === "true" ? own : found,
          connect: Object.hasOwn(net.Socket.prototype, connect) && connect,
        }));
      },
      [own, connect],
    ),
  nodeAgent: ({ event, request }) =>
    shown(
      async () => {
        const [event, request] = Deno.args as [string, string];
        const { default: http } = await import("node:http");
        const server = Deno.serve({ port: 0, onListen() {} }, () => new Response());
        await new Promise<void>((resolve) =>
          http.get(`http://127.0.0.1:${server.addr.port}/`, (response) => {
            response.on("end", resolve).resume();
          })
        );
        // deno-lint-ignore no-explicit-any
        const free = () => Object.values((http.globalAgent as any).freeSockets) as any;
        for (let i = 0; i < 500 && free().length === 0; i++) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        const [[socket]] = free();
        console.log(JSON.stringify({
          event: socket.listenerCount(event) > 0 && event,
          request: socket[request] === null && request,
        }));
        Deno.exit();
      },
      [event, request],
    ),
  nodeHandles: (name) =>
    shown(
      async () => {
        const [name] = Deno.args as [string];
        const { default: process } = await import("node:process");
        const { default: net } = await import("node:net");
        const server = net.createServer().listen(0, "127.0.0.1");
        await new Promise((resolve) => server.on("listening", resolve));
        const { port } = server.address() as { port: number };
        const socket = net.connect(port, "127.0.0.1");
        await new Promise((resolve) => socket.on("connect", resolve));
        // deno-lint-ignore no-explicit-any
        const handles: unknown[] = (process as any)[name]();
        console.log(JSON.stringify(handles.includes(socket) && name));
        Deno.exit();
      },
      [name],
    ),
  nodeProcess: (names) =>
    shown(async () => {
      await import("node:process");
      // deno-lint-ignore no-explicit-any
      const anyDeno = Deno as any;
      const internals = anyDeno[anyDeno.internal];
      const entries = Object.entries(JSON.parse(Deno.args[0]!) as Record<string, string>);
      const types: Record<string, string> = {
        start: "function",
        hasStarted: "boolean",
        with: "object",
      };
      const found = entries.map(([use, name]) => {
        const type: string = typeof internals[name];
        return [use, type === types[use] ? name : type];
      });
      console.log(JSON.stringify(Object.fromEntries(found)));
    }, [JSON.stringify(names)]),
  connectionDescriptor: (name) =>
    shown(
      async () => {
        const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
        using _ = await Deno.connect({ port: (listener.addr as Deno.NetAddr).port });
        const connection = await listener.accept();
        const symbol = Object.getOwnPropertySymbols(connection)
          .find(({ description }) => description === Deno.args[0]);
        const fd = (connection as unknown as Record<symbol, unknown>)[symbol!];
        const isSocket = /^socket:/.test(Deno.readLinkSync(`/proc/self/fd/${fd}`));
        console.log(JSON.stringify(isSocket ? symbol!.description : fd));
        Deno.exit();
      },
      [name],
    ),
  autoServe: async ({ name, value }) => {
    await using folder = scratch();
    const { path } = folder;
    writeApp(path, `export default { fetch: () => new Response() };`);
    writeApp(
      path,
      `const calls = [];
       const replace = (name, value) => Object.defineProperty(Deno, name, { value });
       replace("serve", (options) => {
         const symbols = Object.getOwnPropertySymbols(options).map(({ description }) => description);
         calls.push(options.hostname, ...symbols);
         queueMicrotask(() => calls.push("later"));
       });
       replace("addSignalListener", (signal) => calls.push(signal));
       addEventListener("load", () => console.log(JSON.stringify(calls)));`,
      "before.js",
    );
    await using program = new Program(
      DENO,
      ["run", "-A", `--preload=${path}/before.js`, `${path}/app.ts`],
      { env: { [name]: value } },
    );
    await program.ended();
    const [host, found, ...listeners] = JSON.parse(program.stdout);
    const later = listeners.slice(listeners.indexOf("later") + 1);
    assertEquals(later, []);
    return { name, value, symbol: found, hostname: host };
  },

  requestInside: async ({ properties }) => {
    const { request } = await requests();
    return { symbol: request.symbol, properties: present(properties, request.properties) };
  },
  responseInside: async ({ properties }) => {
    const { response } = await requests();
    return { symbol: response.symbol, properties: present(properties, response.properties) };
  },
  bodyInside: async (names) => present(names, (await requests()).body),
  fastBody: async (symbol) => {
    const { texts } = await requests();
    return texts.includes(symbol) ? symbol : texts;
  },
  webSocketRole: ({ symbol }) => shown(roles, [symbol]),
  lostReads: async (versions) => {
    const isLost = await shown(echo);
    const isListed = (versions as readonly string[]).includes(Deno.version.deno);
    return isLost === isListed
      ? versions
      : `Deno ${Deno.version.deno} ${isLost ? "loses" : "does not lose"} reads`;
  },
};

for (const name of Object.keys(ASSUMPTIONS) as (keyof Assumptions)[]) {
  Deno.test(`assumption: ${name}`, async () => {
    const { value } = ASSUMPTIONS[name];
    assertEquals(await (LOOKS[name] as Look<unknown>)(value), value);
  });
}
