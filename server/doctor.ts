/**
 * Checks all that tine relies on: the system, permissions, limits, and the six facts that
 * docs/fork.md explains, each in a child.
 */
import { AF_INET } from "../ffi/address.ts";
import { O_CLOEXEC, pipe } from "../ffi/descriptor.ts";
import { becomeForkable, isForkable } from "../ffi/forking/become_forkable.ts";
import { testFork } from "../ffi/forking/fork.ts";
import { forkRuntimeChild } from "../ffi/forking/fork_child.ts";
import { FACTS, UnsupportedRuntimeError } from "../ffi/forking/self_check.ts";
import { libc } from "../ffi/libc.ts";
import { architecture, checkDeno } from "../ffi/platform.ts";
import { readlink, readNumbers, readText } from "../ffi/proc.ts";
import { getpid, getrlimit, kill, RLIMIT_NOFILE, RLIMIT_NPROC } from "../ffi/process.ts";
import { acceptFrom } from "../ffi/runtime/acceptor.ts";
import { readAsync } from "../ffi/runtime/read_async.ts";
import { serveAt, throwAwayAddress } from "../ffi/runtime/throw_away_address.ts";
import { after, delay } from "../ffi/runtime/timers.ts";
import { signal } from "../ffi/signal.ts";
import { SIGCHLD, SIGKILL, signalName } from "../ffi/signals.ts";
import { SOCK_STREAM, Socket } from "../ffi/socket.ts";
import { sleep } from "../ffi/time.ts";
import { waitpid, WNOHANG } from "../ffi/wait.ts";

/** What one check found. */
export interface Finding {
  /** What was checked, such as `"glibc"` or `"4 the event loop"`. */
  readonly name: string;
  /** `"not tried"` if another check failed that this one needs. */
  readonly outcome: "ok" | "failed" | "not tried";
  /** What was found. */
  readonly detail: string;
  /** What to do, if it failed. */
  readonly advice?: string;
}

/** What {@linkcode doctor} found. */
export interface Diagnosis {
  /** Whether no check failed. */
  readonly ok: boolean;
  /** The version of Deno. */
  readonly deno: string;
  /** The version of V8. */
  readonly v8: string;
  /** The findings, in the order of the checks. */
  readonly findings: readonly Finding[];
}

/** A check that throws if it fails. */
interface Check {
  readonly name: string;
  /** The names of checks that must have succeeded. */
  readonly needs: readonly string[];
  /** Returns what was found. */
  readonly look: () => string | Promise<string>;
  readonly advice: string;
}

/** A server needs some for itself, and one for each connection. */
const LEAST_DESCRIPTORS = 256;
/** The threads of each process count, too: up to 40. */
const LEAST_PROCESSES = 128;
/** How long a child may take, in milliseconds. */
const PATIENCE = 5000;

/**
 * Checks that this system and this Deno have what tine relies on. Some of the checks fork: the
 * program is run again from its start if it cannot fork yet, as by {@linkcode becomeForkable}.
 *
 * @returns What was found.
 *
 * @example
 * ```ts ignore
 * import { doctor } from "@tine/tine/server";
 *
 * const { ok, findings } = await doctor();
 * if (!ok) console.log(findings.filter(({ outcome }) => outcome === "failed"));
 * ```
 */
export async function doctor(): Promise<Diagnosis> {
  const findings: Finding[] = [];
  for (const check of CHECKS) findings.push(await find(check, findings));
  const isReady = findings.every(({ name, outcome }) => name !== "forkable" || outcome === "ok");
  const broken = isReady ? selfCheck() : undefined;
  for (const check of FACT_CHECKS) {
    const { name, advice } = check;
    if (broken === undefined) {
      findings.push(await find(check, findings));
    } else if (name === nameOf(broken.fact)) {
      findings.push({ name, outcome: "failed", detail: broken.message, advice });
    } else {
      findings.push({ name, outcome: "not tried", detail: `needs: ${nameOf(broken.fact)}` });
    }
  }
  const ok = findings.every(({ outcome }) => outcome !== "failed");
  const { deno, v8 } = Deno.version;
  return { ok, deno, v8, findings };
}

/** Makes the self-check of `fork()`. */
function selfCheck(): UnsupportedRuntimeError | undefined {
  try {
    testFork();
    testFork({ runtime: true });
  } catch (error) {
    if (error instanceof UnsupportedRuntimeError) return error;
    throw error;
  }
}

async function find(
  { name, needs, look, advice }: Check,
  before: readonly Finding[],
): Promise<Finding> {
  const missing = needs.find((need) =>
    before.some((finding) => finding.name === need && finding.outcome !== "ok")
  );
  if (missing !== undefined) return { name, outcome: "not tried", detail: `needs: ${missing}` };
  try {
    return { name, outcome: "ok", detail: await look() };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { name, outcome: "failed", detail, advice };
  }
}

const CHECKS: readonly Check[] = [
  {
    name: "system",
    needs: [],
    look: () => `Linux on ${architecture()}`,
    advice: "Use Linux on x86-64 or aarch64",
  },
  {
    name: "Deno",
    needs: [],
    look: () => {
      checkDeno();
      return `${Deno.version.deno}, V8 ${Deno.version.v8}`;
    },
    advice: "Upgrade Deno",
  },
  permission("ffi", { name: "ffi" }, "everything", "--allow-ffi"),
  permission("read", { name: "read" }, "serve, to load an app", "--allow-read"),
  permission(
    "net",
    { name: "net", host: "127.0.0.1" },
    "serve, which listens there first",
    "--allow-net=127.0.0.1",
  ),
  {
    name: "glibc",
    needs: ["system", "permission ffi"],
    look: () => {
      libc();
      const path = readText("/proc/self/maps").match(/\/\S*libc[.-]\S*/)?.[0];
      return path ?? "opened";
    },
    advice: "Use a distribution with glibc (Debian, Ubuntu, Fedora, ...) instead of musl (Alpine)",
  },
  {
    name: "/proc",
    needs: ["glibc"],
    look: checkProc,
    advice: "Mount /proc, and let the process read what it has about itself (hidepid, a sandbox)",
  },
  limit("descriptors", RLIMIT_NOFILE, LEAST_DESCRIPTORS, "ulimit -n 4096"),
  limit("processes", RLIMIT_NPROC, LEAST_PROCESSES, "ulimit -u 4096"),
  {
    name: "forkable",
    needs: ["Deno", "glibc", "/proc"],
    look: () => {
      becomeForkable();
      if (!isForkable()) throw new Error("V8 waits for threads of its own");
      return "V8 waits for no thread, and every thread blocks SIGCHLD";
    },
    advice: "Start the program from a file, and without --v8-flags that overrule tine's",
  },
];

/** The six facts. */
const FACT_CHECKS: readonly Check[] = ([
  [1, useHeap],
  [2, collectGarbage],
  [3, handleSignal],
  [4, runEventLoop],
  [5, compareNumbers],
  [6, serveSharedSocket],
] as const).map(([number, look]) => ({
  name: nameOf(number),
  needs: number === 6 ? ["forkable", "permission net"] : ["forkable"],
  look,
  advice: "Use a version of Deno that docs/measured.md of tine lists, or a newer tine",
}));

function nameOf(fact: keyof typeof FACTS): string {
  return `${fact} ${FACTS[fact]}`;
}

function permission(
  name: string,
  descriptor: Deno.PermissionDescriptor,
  use: string,
  flag: string,
): Check {
  return {
    name: `permission ${name}`,
    needs: [],
    look: () => {
      const { state } = Deno.permissions.querySync(descriptor);
      if (state !== "granted") {
        throw new Error(`${state === "prompt" ? "not granted" : state}, for ${use}`);
      }
      return "granted";
    },
    advice: `Start Deno with ${flag}, or -A`,
  };
}

function limit(name: string, resource: number, least: number, command: string): Check {
  return {
    name,
    needs: ["glibc"],
    look: () => {
      const { soft } = getrlimit(resource);
      if (soft < least) throw new Error(`at most ${soft}, where ${least} are few`);
      return `at most ${soft}`;
    },
    advice: `Raise the limit: ${command}`,
  };
}

function checkProc(): string {
  const tid = getpid();
  for (const file of ["comm", "status", "syscall"]) readText(`/proc/self/task/${tid}/${file}`);
  for (const file of ["cmdline", "environ", "smaps"]) readText(`/proc/self/${file}`);
  const [fd] = readNumbers("/proc/self/fd");
  readText(`/proc/self/fdinfo/${fd}`);
  readlink(`/proc/self/fd/${fd}`);
  return `${readlink("/proc/self/exe")}, ${readNumbers("/proc/self/task").length} threads`;
}

/**
 * Runs a function in a child with a runtime.
 *
 * @returns What it returned.
 * @throws {Error} If it threw an error, or the child crashed or hung.
 */
async function inChild(child: () => Promise<string>): Promise<string> {
  const [readEnd, writeEnd] = pipe(O_CLOEXEC);
  using _ = readEnd;
  const pid = await forkRuntimeChild(async () => {
    const write = (text: string) => void writeEnd.write(new TextEncoder().encode(text));
    try {
      write(await child());
    } catch (error) {
      write(error instanceof Error ? error.message : String(error));
      return 1;
    }
  });
  writeEnd.close();
  const late = after(PATIENCE, () => kill(pid, SIGKILL));
  try {
    const text = new TextDecoder().decode(await readAsync(readEnd.fileno(), 4096));
    for (;;) {
      const { status } = waitpid(pid, WNOHANG);
      if (status === undefined) await delay(1);
      else if (status.kind === "exited" && status.code === 0) return text;
      else if (status.kind === "exited") throw new Error(text);
      else if (status.kind === "signaled" && status.signal === SIGKILL) {
        throw new Error(`a child hung for ${PATIENCE / 1000} s`);
      } else if (status.kind === "signaled") {
        throw new Error(`a child was ended by ${signalName(status.signal)}`);
      }
    }
  } finally {
    late.cancel();
  }
}

/** A child reads its parent's memory, and allocates more. */
async function useHeap(): Promise<string> {
  const numbers = Array.from({ length: 100_000 }, (_, i) => ({ i }));
  const expected = numbers.reduce((sum, { i }) => sum + i, 0);
  return await inChild(() => {
    const more = numbers.map(({ i }) => ({ i, text: `${i}` }));
    const sum = more.reduce((sum, { text }) => sum + Number(text), 0);
    if (sum !== expected) throw new Error("a child reads other values than its parent wrote");
    return Promise.resolve("a child reads its parent's objects, and makes more");
  });
}

/** A child makes garbage, which is collected, and compiles WebAssembly. */
async function collectGarbage(): Promise<string> {
  const empty = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0);
  return await inChild(async () => {
    for (let i = 0; i < 50; i++) {
      Array.from({ length: 20_000 }, (_, j) => ({ j }));
      await delay(0);
    }
    await WebAssembly.compile(empty);
    return "a child collects garbage and compiles WebAssembly";
  });
}

/** A child handles a signal, and not before it waits. */
async function handleSignal(): Promise<string> {
  const handled: number[] = [];
  const before = signal(SIGCHLD, (signum) => handled.push(signum));
  try {
    return await inChild(() => {
      kill(getpid(), SIGCHLD);
      const early = handled.length;
      sleep(0);
      if (early > 0) throw new Error("a handler runs where a child does not wait");
      if (handled.length !== 1) throw new Error("a handler does not run where a child waits");
      return Promise.resolve("a handler runs in a child when it waits, and not before");
    });
  } finally {
    signal(SIGCHLD, before);
  }
}

/** A child has timers, a pool and sockets, and its parent's go on. */
async function runEventLoop(): Promise<string> {
  const mayListen = isGranted({ name: "net", host: "127.0.0.1" });
  const parents = mayListen ? Deno.listen({ hostname: "127.0.0.1", port: 0 }) : undefined;
  const ticks = delay(1);
  const what = await inChild(async () => {
    await delay(1);
    await crypto.subtle.digest("SHA-256", new Uint8Array(1));
    if (!mayListen) return "timers and the pool";
    const own = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await connectTo(own);
    return "timers, the pool and sockets";
  });
  await ticks;
  if (parents !== undefined) await connectTo(parents);
  return `${what} work in a child, and go on in its parent`;
}

async function connectTo(listener: Deno.TcpListener): Promise<void> {
  const { port } = listener.addr;
  const [client, server] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port }),
    listener.accept(),
  ]);
  client.close();
  server.close();
  listener.close();
}

// Not imported: mod.ts has no imports but its own files.
const node = globalThis as unknown as {
  readonly process: {
    getBuiltinModule(name: "node:crypto"): { randomBytes(size: number): Uint8Array };
  };
};

/** Siblings and their parent draw numbers from every source. */
async function compareNumbers(): Promise<string> {
  const { randomBytes } = node.process.getBuiltinModule("node:crypto");
  const draw = () =>
    Array.from({ length: 10 }, () => [
      crypto.randomUUID(),
      crypto.getRandomValues(new Uint32Array(2)).join(),
      Math.random(),
      randomBytes(8).join(),
    ]).flat().join(" ");
  draw();
  const children = [await inChild(() => Promise.resolve(draw()))];
  children.push(await inChild(() => Promise.resolve(draw())));
  const numbers = [...children, draw()].flatMap((text) => text.split(" "));
  const doubled = numbers.filter((number, i) => numbers.indexOf(number) !== i);
  if (doubled.length > 0) throw new Error(`two processes draw the same numbers: ${doubled[0]}`);
  return "two children and their parent draw different ones, from four sources";
}

/** A child's HTTP server answers on a socket that its parent listens on. */
async function serveSharedSocket(): Promise<string> {
  using socket = new Socket(AF_INET, SOCK_STREAM);
  socket.bind(["127.0.0.1", 0]);
  socket.listen(1);
  const [, port] = socket.getsockname() as [string, number];
  return await inChild(async () => {
    const { server, acceptor } = acceptFrom(
      socket.fileno(),
      () => serveAt(throwAwayAddress(AF_INET), undefined, () => new Response("served")),
    );
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    const request = "GET / HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n";
    await connection.write(new TextEncoder().encode(request));
    const response = await new Response(connection.readable).text();
    acceptor.close();
    await server.shutdown();
    if (!response.endsWith("served")) throw new Error(`a child's server answers: ${response}`);
    return "a child's Deno.serve() answers on its parent's socket";
  });
}

function isGranted(descriptor: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(descriptor).state === "granted";
}
