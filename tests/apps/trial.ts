/** Serves one app: first by plain Deno, then by tine in each mode, which must make no difference. */
import {
  DENO,
  isPortFree,
  processState,
  Program,
  ROOT,
  Server,
  until,
  within,
} from "../support.ts";
import { readStatus, StatusError, type WorkerStatus } from "../../server/prefork/status/status.ts";
import {
  answer,
  ask,
  bytesOf,
  connect,
  converse,
  Crowd,
  difference,
  foldNames,
  normalize,
  type Target,
  write,
} from "./exchange.ts";
import { filesIn, prepare, QUIET } from "./folder.ts";
import type { App, Mode } from "./list.ts";
import { type Environment, Missing, type Services } from "./services.ts";

/** The modes, in the order of the table's columns. */
export const MODES: readonly Mode[] = ["preload", "--no-preload"];

/** What became of an app in a mode. */
export interface Outcome {
  readonly app: App;
  readonly mode: Mode;
  readonly verdict: "yes" | "refused" | "no";
  /** What failed, and why. */
  readonly failures: readonly { check: string; why: string }[];
  /** The end of the server's log, if something failed. */
  readonly log?: readonly string[];
}

/** Where apps are tried. */
export interface Place {
  /** The folder that the apps are prepared in. */
  readonly prepared: string;
  /** A folder for temporary files. */
  readonly temporary: string;
  readonly services: Services;
  /** The installed command. */
  readonly installed: string;
}

/** How long a server may take to start, in milliseconds. */
const START = 30_000;

/** How long it may take to end. */
const END = 20_000;

/** A variable in the environment of each process of a server, with a value of its own. */
const MARK = "TINE_APP";

/** An app that is ready to be served, and what it answers. */
interface Prepared {
  readonly app: App;
  readonly folder: string;
  readonly target: Target;
  readonly env: Environment;
  readonly temporary: string;
  /** What it answers to each of its requests under plain Deno. */
  readonly expected: readonly string[];
  readonly conversation: string;
  /** The files that are there after plain Deno has run. */
  readonly files: readonly string[];
}

/** Tries an app in all modes. */
export async function tryApp(app: App, place: Place): Promise<Outcome[]> {
  let prepared;
  try {
    prepared = await prepareApp(app, place);
  } catch (error) {
    const check = error instanceof Missing ? "not here" : "plain Deno";
    const failures = [{ check, why: (error as Error).message }];
    return MODES.map((mode) => ({ app, mode, verdict: "no", failures }));
  }
  const outcomes: Outcome[] = [];
  for (const mode of MODES) outcomes.push(await tryMode(prepared, mode, place.installed));
  return outcomes;
}

async function prepareApp(app: App, place: Place): Promise<Prepared> {
  const folder = await prepare(app, place.prepared);
  const env: Environment = { ...QUIET, TMPDIR: `${place.temporary}/${app.name}` };
  Deno.mkdirSync(env.TMPDIR!, { recursive: true });
  for (const need of app.needs ?? []) {
    Object.assign(env, await place.services.provide(need, folder));
  }
  const port = app.port ?? freePort();
  const target = app.needs?.includes("certificate")
    ? { port, certificate: Deno.readTextFileSync(`${folder}/cert.pem`) }
    : { port };
  await until(() => isPortFree(port), `port ${port}, which another program has`, 60_000);
  const command = app.by === "run" ? ["run"] : ["serve", "--port", `${port}`];
  const args = [...command, "-A", ...app.flags ?? [], app.main, ...app.args ?? []];
  await using plain = new Program(DENO, args, { cwd: folder, env });
  await until(
    () => isReachable(target) || ended(plain.pid),
    `deno ${args.join(" ")} to listen`,
    START,
  );
  if (ended(plain.pid)) throw new Error(`deno ${args.join(" ")} ended: ${firstLine(plain.stderr)}`);
  // A program may listen for a moment first, to see whether the port is free.
  const [first] = app.requests;
  await until(() => ask(app, target, first!).catch(() => undefined), "the first answer", START);
  const expected: string[] = [];
  for (const asked of app.requests) {
    expected.push(await ask(app, target, asked));
    const again = await ask(app, target, asked);
    if (again !== expected.at(-1)) {
      const how = difference(expected.at(-1)!, again);
      throw new Error(`${asked.line} does not always answer the same: ${how}`);
    }
  }
  const conversation = app.webSocket ? await converse(target) : "";
  plain.kill("SIGKILL");
  await plain.status;
  empty(env.TMPDIR!);
  const files = filesIn(folder);
  return { app, folder, target, env, temporary: env.TMPDIR!, expected, conversation, files };
}

/** Serves an app in a mode, and tries what an operator does. */
async function tryMode(prepared: Prepared, mode: Mode, installed: string): Promise<Outcome> {
  const { app, folder, target } = prepared;
  const failures: { check: string; why: string }[] = [];
  const check = async (name: string, what: () => Promise<void>) => {
    try {
      await what();
    } catch (error) {
      failures.push({ check: name, why: firstLine((error as Error).message) });
    }
  };
  const mark = crypto.randomUUID();
  const env = { ...prepared.env, [MARK]: mark };
  const command = app.byInstalled
    ? [installed]
    : [DENO, "run", "-A", ...app.flags ?? [], `${ROOT.pathname}server/cli.ts`];
  const refusal = app.refused?.[mode];
  const options = [
    ...["--workers", "2"],
    ...mode === "preload" ? [] : [mode],
    ...app.by === "run" ? [] : ["--port", `${target.port}`],
    ...refusal?.options ?? [],
  ];
  const own = app.args === undefined ? [] : ["--", ...app.args];
  const [file, ...args] = [...command, "serve", ...options, app.main, ...own];
  await until(
    () => isPortFree(target.port),
    `port ${target.port}, which another program has`,
    60_000,
  );
  await using server = new Server(file!, args, { cwd: folder, env });
  const begin = performance.now();

  if (refusal !== undefined) {
    await check("refused", async () => {
      const { code } = await server.ended(START);
      if (code === 1 && refusal.says.test(server.stderr)) return;
      throw new Error(`It ends with ${code}: ${firstLine(server.stderr)}`);
    });
    await check("nothing left", () => leftNothing(prepared, server, mark));
    return { app, mode, verdict: failures.length === 0 ? "refused" : "no", failures };
  }

  await check("start", async () => {
    await until(
      () => ended(server.pid) || (statusOf(server).length === 2 && isReachable(target)),
      "two workers that are ready",
      START,
    ).catch((error) => {
      throw new Error(`${error.message}: ${lastLine(server.stderr)}`);
    });
    if (ended(server.pid)) {
      const { code } = await server.ended();
      const after = ((performance.now() - begin) / 1000).toFixed(1);
      throw new Error(`It ends with ${code} after ${after} s: ${firstLine(server.stderr)}`);
    }
  });
  if (failures.length === 0) {
    await check("answers", () => compare(prepared));
    await check("both workers", () => bothAnswer(prepared, server));
    await check("HUP", () => restart(prepared, server));
    await check("kill -9", () => killOne(prepared, server));
    await check("TERM", () => stop(prepared, server));
  }
  if (!ended(server.pid)) server.kill("SIGTERM");
  await check("end", async () => {
    const { code, signal } = await server.ended(END);
    if (code !== 0 && !failures.some(({ check }) => check === "start")) {
      throw new Error(`It ended with ${signal ?? code}: ${lastLine(server.stderr)}`);
    }
  });
  await check("nothing left", () => leftNothing(prepared, server, mark));
  if (failures.length === 0) return { app, mode, verdict: "yes", failures };
  return { app, mode, verdict: "no", failures, log: server.stderr.trimEnd().split("\n").slice(-8) };
}

/** Asks all, and compares with what plain Deno answered. */
async function compare({ app, target, expected, conversation }: Prepared): Promise<void> {
  for (const [i, asked] of app.requests.entries()) {
    const got = await ask(app, target, asked);
    if (got !== expected[i]) throw new Error(`${asked.line}: ${difference(expected[i]!, got)}`);
  }
  if (!app.webSocket) return;
  const heard = await converse(target);
  if (heard !== conversation) throw new Error(`WebSocket: ${difference(conversation, heard)}`);
}

/** Asks until both workers have answered. */
async function bothAnswer(prepared: Prepared, server: Server): Promise<void> {
  const crowd = crowdOf(prepared);
  try {
    await until(
      () => statusOf(server).filter(({ requests }) => requests > 0).length === 2,
      `requests to both workers, of ${crowd.ok}`,
      10_000,
    );
  } finally {
    await crowd.stop();
  }
  assertNone(crowd.failures);
}

/** Has the server load its code again, with clients that must not notice. */
async function restart(prepared: Prepared, server: Server): Promise<void> {
  const old = server.workers;
  const crowd = crowdOf(prepared);
  try {
    server.kill("SIGHUP");
    await server.replaced(old, 2, START);
  } finally {
    await crowd.stop();
  }
  assertNone(crowd.failures);
  await compare(prepared);
}

/** Kills a worker: another takes its place. */
async function killOne(prepared: Prepared, server: Server): Promise<void> {
  const [victim] = server.workers;
  if (victim === undefined) throw new Error("There is no worker");
  Deno.kill(victim, "SIGKILL");
  await server.replaced([victim], 2, START);
  await compare(prepared);
}

/** Stops the server while it answers: clients get all of what they were promised. */
async function stop(prepared: Prepared, server: Server): Promise<void> {
  const { app, target, expected } = prepared;
  const slow = app.slow === undefined ? undefined : await begin(app.slow, target);
  if (slow !== undefined) {
    await until(
      () => statusOf(server).some(({ inFlight }) => inFlight > 0),
      "a request under way",
    );
  }
  const crowd = crowdOf(prepared);
  await until(() => crowd.ok + crowd.failures.length >= 8, "some requests");
  const told = performance.now();
  server.kill("SIGTERM");
  try {
    await until(() => !isReachable(target), "an end to new connections", END);
    if (slow !== undefined) {
      const at = app.requests.findIndex(({ line, body }) =>
        line === app.slow!.line && body?.[1] === app.slow!.body![1]
      );
      const got = normalize(await slow(), app);
      if (foldNames(got) !== foldNames(expected[at]!)) {
        throw new Error(`Under way: ${difference(expected[at]!, got)}`);
      }
    }
    await server.ended(END);
  } finally {
    await crowd.stop();
  }
  // What waits to be accepted when the last worker closes the socket is reset by the kernel.
  assertNone(
    crowd.failures.filter(({ at, why }) =>
      at < told || !/refused|reset by peer.*after 0 bytes|[Bb]roken pipe/.test(why)
    ),
  );
}

/** Sends a request but for the end of its body. Returns what sends that and gives the answer. */
async function begin(
  asked: NonNullable<App["slow"]>,
  target: Target,
): Promise<() => Promise<string>> {
  const connection = await connect(target);
  const [head, body] = bytesOf(asked, target.port);
  await write(connection, head);
  await write(connection, body.subarray(0, 5));
  return async () => {
    try {
      await write(connection, body.subarray(5));
      return await answer(connection, asked.line);
    } finally {
      connection.close();
    }
  };
}

/** Makes sure that no process, no listening socket and no file is left. */
async function leftNothing(
  { folder, target, temporary, files }: Prepared,
  server: Server,
  mark: string,
): Promise<void> {
  const processes = () => markedBy(mark).map((pid) => `${pid} ${commandOf(pid)}`);
  await within(
    until(() => processes().length === 0, "", 3000).catch(() => {
      throw new Error(`Processes are left: ${processes().join(", ")}`);
    }),
    END,
    "the end of all processes",
  );
  if (!isPortFree(target.port)) throw new Error(`Port ${target.port} is still taken`);
  const added = [...filesIn(temporary), ...filesIn(folder).filter((file) => !files.includes(file))];
  empty(temporary);
  if (added.length > 0) throw new Error(`Files are left: ${added.join(", ")}`);
  if (!ended(server.pid)) throw new Error("The master has not ended");
}

function crowdOf({ app, target, expected }: Prepared): Crowd {
  return new Crowd(app, target, app.requests[0]!, expected[0]!);
}

function assertNone(failures: readonly { why: string }[]): void {
  if (failures.length === 0) return;
  throw new Error(`${failures.length} requests failed: ${failures[0]!.why}`);
}

/** The workers that are ready; none if the server has not come that far. */
function statusOf(server: Server): WorkerStatus[] {
  try {
    return readStatus(server.pid).workers.filter(({ state }) => state === "ready");
  } catch (error) {
    if (error instanceof StatusError) return [];
    throw error;
  }
}

function markedBy(mark: string): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((pid) => {
    try {
      return pid > 0 &&
        Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").includes(`${MARK}=${mark}`);
    } catch {
      return false; // it has ended, or is another user's
    }
  });
}

function commandOf(pid: number): string {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ").slice(0, 80);
  } catch {
    return "";
  }
}

function ended(pid: number): boolean {
  return /^[ZX]?$/.test(processState(pid)?.state ?? "");
}

/** Whether something listens. No connection is made: a server would count it. */
function isReachable({ port }: Target): boolean {
  return !isPortFree(port);
}

function freePort(): number {
  using listener = Deno.listen({ port: 0 });
  return listener.addr.port;
}

function empty(folder: string): void {
  Deno.removeSync(folder, { recursive: true });
  Deno.mkdirSync(folder);
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0]!;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)!;
}
